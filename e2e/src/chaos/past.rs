//! Reads from the past: what a replica of the API server would answer that lags behind the others. The API server itself keeps what was, for some minutes,
//! and tells it when it is asked for an exact version.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Uri};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use super::call::Call;
use super::course::{Course, lock};
use super::rights;

/// Between two looks at the version that is the newest.
const LOOK: Duration = Duration::from_millis(100);
/// How many versions are remembered: all of the last half minute.
const REMEMBERED: usize = 300;
/// What asks for the metadata of an object alone.
const ONE: &str = "as=PartialObjectMetadata;";
/// What asks for those of a list.
const MANY: &str = "as=PartialObjectMetadataList;";

/// Which version of all objects was the newest when.
#[derive(Debug, Default)]
pub(super) struct Past(Mutex<VecDeque<(Instant, String)>>);

impl Past {
    fn remember(&self, now: Instant, version: String) {
        let mut versions = lock(&self.0);
        versions.push_back((now, version));
        if versions.len() > REMEMBERED {
            versions.pop_front();
        }
    }

    /// The version that was the newest at a time; none where that is not known any more, or not known yet.
    pub(super) fn at(&self, time: Instant) -> Option<String> {
        let versions = lock(&self.0);
        let version = versions.iter().rev().find(|(then, _)| *then <= time)?;
        Some(version.1.clone())
    }
}

/// Notes the newest version again and again, for as long as it is polled.
pub(super) async fn follow(course: Arc<Course>, client: Client) {
    let namespaces: Api<Namespace> = Api::all(client);
    loop {
        // While the API server is being restarted it has no newest version.
        if let Ok(list) = namespaces.list_metadata(&ListParams::default().limit(1)).await {
            let version = list.metadata.resource_version.filter(|version| !version.is_empty());
            version.into_iter().for_each(|version| course.past.remember(Instant::now(), version));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The request that asks for what this read would have been answered at a version. One object is asked for as a list, since only those have a past.
/// None where the read itself says how old its answer may be, or goes on with a list that was begun.
pub(super) fn request(
    call: &Call,
    read: &Request<Bytes>,
    version: &str,
) -> Result<Option<Request<Bytes>>, http::Error> {
    let query = read.uri().query().unwrap_or_default();
    if ["resourceVersion=", "continue="].iter().any(|word| query.contains(word)) || call.part.is_some() {
        return Ok(None);
    }
    let mut path = read.uri().path();
    let mut words = vec![query.to_owned(), format!("resourceVersion={version}&resourceVersionMatch=Exact")];
    if let Some(name) = &call.name {
        path = path.strip_suffix(name.as_str()).unwrap_or(path).trim_end_matches('/');
        words.push(format!("fieldSelector=metadata.name%3D{name}"));
    }
    words.retain(|words| !words.is_empty());
    let uri: Uri = format!("{path}?{}", words.join("&")).parse()?;
    let mut request = Request::builder().method(read.method()).uri(uri).body(Bytes::new())?;
    *request.headers_mut() = read.headers().clone();
    if call.name.is_some() {
        let accept = read.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        if let Some(accept) = accept {
            request.headers_mut().insert(header::ACCEPT, HeaderValue::try_from(accept.replace(ONE, MANY))?);
        }
        // Who may read an object need not be allowed to list them.
        request.headers_mut().remove(rights::TAKEN_FOR);
    }
    Ok(Some(request))
}

/// The one object of a list, as a read of it alone is answered; none where it was not there.
pub(super) fn only(mut list: Value) -> Option<Value> {
    let mut object = list["items"].get_mut(0)?.take();
    let kind = list["kind"].as_str().unwrap_or_default();
    object["kind"] = json!(kind.strip_suffix("List").unwrap_or(kind));
    object["apiVersion"] = list["apiVersion"].take();
    Some(object)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn asked(uri: &str, accept: &'static str) -> Option<(String, String)> {
        let call = Call::of(&Method::GET, &uri.parse().unwrap());
        let read = Request::get(uri).header(header::ACCEPT, accept).body(Bytes::new()).unwrap();
        let request = request(&call, &read, "7").unwrap()?;
        Some((request.uri().to_string(), request.headers()[header::ACCEPT].to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_list_is_asked_for_as_it_was_and_an_object_as_a_list_of_one() {
        let (uri, accept) =
            asked("/apis/batch/v1/namespaces/ml/jobs?&labelSelector=a&limit=50", "application/json").unwrap();
        assert_eq!(
            (uri.as_str(), accept.as_str()),
            (
                "/apis/batch/v1/namespaces/ml/jobs?&labelSelector=a&limit=50&resourceVersion=7&resourceVersionMatch=Exact",
                "application/json"
            )
        );
        let (uri, accept) = asked(
            "/apis/sera.dev/v1alpha1/namespaces/ml/rolloutbatches/quick-1",
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        )
        .unwrap();
        assert_eq!(
            uri,
            "/apis/sera.dev/v1alpha1/namespaces/ml/rolloutbatches?resourceVersion=7&resourceVersionMatch=Exact&fieldSelector=metadata.name%3Dquick-1"
        );
        assert_eq!(accept, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    }

    #[test]
    fn a_read_that_says_of_which_version_it_is_has_no_other_past() {
        for query in ["resourceVersion=0", "limit=50&continue=abc"] {
            assert_eq!(asked(&format!("/api/v1/namespaces/ml/pods?{query}"), "application/json"), None);
        }
    }

    #[test]
    fn the_object_of_a_list_of_one_has_the_kind_that_it_has_alone() {
        let list = json!({"kind": "JobList", "apiVersion": "batch/v1", "items": [{"metadata": {"name": "a"}}]});
        let alone = json!({"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": "a"}});
        assert_eq!(only(list), Some(alone));
        assert_eq!(only(json!({"kind": "JobList", "apiVersion": "batch/v1", "items": []})), None);
    }

    #[test]
    fn the_version_of_a_time_is_the_newest_that_was_known_by_then() {
        let (past, begin) = (Past::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        past.remember(after(1), "11".to_owned());
        past.remember(after(2), "12".to_owned());
        assert_eq!(past.at(begin), None);
        assert_eq!(past.at(after(1)).as_deref(), Some("11"));
        assert_eq!(past.at(after(5)).as_deref(), Some("12"));
        (0..REMEMBERED as u64).for_each(|more| past.remember(after(10 + more), more.to_string()));
        assert_eq!(past.at(after(5)), None, "it is forgotten");
    }
}
