//! A kind that a cluster may have or not: it is looked for at the start, and then every so often, so that whoever installs it need not restart anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::{Client, api::ListParams};
use tokio::sync::oneshot;

use super::{Children, Wake, WatchedChild, watch_children};
use crate::runtime::advice;

/// What the API server answers where there is nothing.
const NOT_FOUND: u16 = 404;
/// How often a kind that was not there is looked for again.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// How soon, where nobody knows whether it is there.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Whether the cluster has a kind.
#[derive(Debug, Clone, Default)]
pub struct Offer(Arc<AtomicBool>);

impl Offer {
    /// Whether it has it.
    pub fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps `children` as the API server has them from when it has their kind at all, for ever. Where it does not have it, or may not be asked for it, there
/// are none, which `synced` learns at once.
pub async fn watch_offered<W: WatchedChild>(
    client: Client,
    api: kube::Api<W>,
    offer: Offer,
    children: Children<W::Facts>,
    wake: impl Fn(Wake),
    synced: oneshot::Sender<()>,
) {
    let mut synced = Some(synced);
    loop {
        match find(&client, &api).await {
            Ok(Found::Readable) => break,
            Ok(found) => {
                if found == Found::Forbidden {
                    tracing::warn!(
                        "the cluster has {} objects, and the operator may not list them: are its rights of an earlier release?",
                        W::kind(&())
                    );
                }
                if let Some(synced) = synced.take() {
                    // Nobody waits any more where the process is ending.
                    let _ = synced.send(());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => {
                tracing::warn!(
                    "whether the cluster has {} objects cannot be found out: {}",
                    W::kind(&()),
                    advice::chain(&error)
                );
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
    offer.0.store(true, Ordering::Relaxed);
    let synced = synced.unwrap_or_else(|| oneshot::channel().0);
    // What waits for the kind gets a pass when the first list is whole.
    watch_children(api, None, children, wake, synced).await;
}

/// What has been found of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The API server does not have it.
    Nowhere,
    /// It does, and nobody gave the operator the right to read it.
    Forbidden,
    /// It does, and it can be read.
    Readable,
}

/// Looks for the kind.
async fn find<W: WatchedChild>(client: &Client, api: &kube::Api<W>) -> Result<Found, kube::Error> {
    match client.list_api_group_resources(&W::api_version(&())).await {
        Ok(found) if found.resources.iter().any(|resource| resource.kind == W::kind(&())) => {}
        Ok(_) => return Ok(Found::Nowhere),
        // Of a group that is not there the API server says so in plain text, without a reason.
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => return Ok(Found::Nowhere),
        Err(error) => return Err(error),
    }
    match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(Found::Readable),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Found::Forbidden),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::{Api, client::Body};
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;
    use crate::cache::WatchedGroups;

    /// What is found where the API server says this of the group, and this of the objects.
    async fn found(group: (u16, &str), objects: (u16, Value)) -> Result<Found, kube::Error> {
        let group = (group.0, group.1.to_owned());
        let answer = service_fn(move |request: Request<Body>| {
            let is_group = request.uri().path().ends_with("/v1");
            let (code, body) = if is_group { group.clone() } else { (objects.0, objects.1.to_string()) };
            async move { Response::builder().status(code).body(Body::from(body.into_bytes())) }
        });
        let client = Client::new(answer, "ml");
        find::<WatchedGroups>(&client, &Api::all(client.clone())).await
    }

    #[tokio::test]
    async fn a_kind_is_there_only_where_it_can_be_read_too() {
        let resource = json!({"name": "leaderworkersets", "singularName": "", "namespaced": true, "kind": "LeaderWorkerSet", "verbs": []});
        let group =
            json!({"kind": "APIResourceList", "groupVersion": "leaderworkerset.x-k8s.io/v1", "resources": [resource]});
        let group = group.to_string();
        let list =
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": []});
        let refused = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code}),
            )
        };
        assert_eq!(found((200, &group), (200, list.clone())).await.unwrap(), Found::Readable);
        assert_eq!(found((200, &group), refused(403, "Forbidden")).await.unwrap(), Found::Forbidden);
        assert!(found((200, &group), refused(500, "InternalError")).await.is_err(), "nobody knows");
        assert_eq!(found((404, "404 page not found\n"), (200, list.clone())).await.unwrap(), Found::Nowhere);
        let other = group.replace("LeaderWorkerSet", "Other");
        assert_eq!(found((200, &other), (200, list)).await.unwrap(), Found::Nowhere);
        assert!(found((503, "busy"), refused(500, "InternalError")).await.is_err());
    }
}
