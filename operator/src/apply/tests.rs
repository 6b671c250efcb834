//! What an API server that refuses makes of a removal, and what is asked before a Job is made.

use clap::Parser;
use http::{Request, Response};
use kube::client::Body;
use sera_crds::defaults::RunDefaults;
use serde_json::Value;
use tower::service_fn;

use super::*;
use crate::{
    config::Config,
    names::Kind,
    plan::{Removable, Removal},
};

/// An applier whose API server answers everything with this code.
fn applier(code: u16, reason: &'static str) -> Applier {
    answered_by(move |_| {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code, "message": "no",
            "details": {"causes": [{"reason": "NamespaceTerminating"}]},
        });
        (code, status)
    })
}

/// An applier whose API server answers a request by its address.
fn answered_by(answer: impl Fn(&str) -> (u16, Value) + Clone + Send + 'static) -> Applier {
    asked_by(move |request| answer(&request.uri().to_string()))
}

/// An applier whose API server answers so.
fn asked_by(answer: impl Fn(&Request<Body>) -> (u16, Value) + Clone + Send + 'static) -> Applier {
    let answer = service_fn(move |request: Request<Body>| {
        let (code, body) = answer(&request);
        async move { Response::builder().status(code).body(Body::from(body.to_string().into_bytes())) }
    });
    let config = Config::try_parse_from(["sera-operator", "--rollout-image=localhost/rollout:1"]).unwrap();
    let defaults = Arc::new(FixedDefaults::new(RunDefaults::default()));
    Applier::new(Client::new(answer, "ml"), defaults, Arc::new(config.images.images()), None)
}

async fn removed(code: u16, reason: &'static str) -> Result<(), Error> {
    let owner = Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: "3f2c9".into() };
    let removal = Removal { kind: Removable::Job, name: "billing-3f2c9-s1".into(), uid: "77aa1".into() };
    applier(code, reason).remove(&owner, &removal).await
}

#[tokio::test]
async fn what_is_gone_is_removed_and_what_is_refused_is_tried_again() {
    assert!(removed(404, "NotFound").await.is_ok());
    assert!(matches!(removed(409, "Conflict").await, Err(Error::OutOfDate { .. })));
    assert!(matches!(removed(500, "InternalError").await, Err(Error::Request { .. })));
}

#[tokio::test]
async fn the_pods_of_a_suspended_objects_job_get_less_time_and_those_of_others_keep_theirs() {
    let deleted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&deleted);
    let pod = |name: &str, controller: &str, left: Option<i64>| {
        let owner =
            json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": controller, "controller": true});
        json!({"metadata": {"name": name, "uid": name, "ownerReferences": [owner], "deletionGracePeriodSeconds": left}})
    };
    let pods = [
        pod("slow", "77aa1", Some(600)),
        pod("new", "77aa1", None),
        pod("soon", "77aa1", Some(30)),
        pod("foreign", "x", None),
    ];
    let applier = asked_by(move |request| {
        if request.method() == http::Method::DELETE {
            seen.lock().unwrap().push(request.uri().path().rsplit('/').next().unwrap().to_owned());
            return (200, pod("gone", "77aa1", None));
        }
        (200, list("PartialObjectMetadataList", "meta.k8s.io/v1", &pods))
    });
    let owner = Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: "3f2c9".into() };
    let removal = Removal { kind: Removable::PodsOfJob, name: "billing-3f2c9-t1".into(), uid: "77aa1".into() };
    applier.remove(&owner, &removal).await.unwrap();
    assert_eq!(*deleted.lock().unwrap(), ["slow", "new"]);
}

#[tokio::test]
async fn what_cannot_be_made_because_the_namespace_goes_is_told_from_what_is_refused() {
    let owner = Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: "3f2c9".into() };
    assert_eq!(applier(403, "Forbidden").fix_defaults(&owner).await.unwrap(), Made::NamespaceGoing);
    assert!(matches!(applier(422, "Invalid").fix_defaults(&owner).await.unwrap(), Made::Refused { .. }));
}

#[tokio::test]
async fn what_a_webhook_denies_is_refused_in_its_words_with_whatever_code_and_what_may_pass_is_an_error() {
    let owner = Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: "3f2c9".into() };
    let service = build::student_service(&owner);
    let words = r#"admission webhook "validate.kyverno.svc-fail" denied the request: no owner label"#;
    for (code, reason) in [(400, ""), (403, "Forbidden"), (413, ""), (418, ""), (422, "Invalid")] {
        let applier = denying(code, reason, words);
        let made = Made::Refused { what: "the ConfigMap for the platform's defaults", message: words.to_owned() };
        assert_eq!(applier.fix_defaults(&owner).await.unwrap(), made, "{code}");
        let applied = applier.apply_child(&owner, &service, "Service").await.unwrap();
        assert_eq!(applied, Made::Refused { what: "Service", message: words.to_owned() }, "{code}");
    }
    for code in [401, 404, 408, 409, 410, 429, 500, 503] {
        let applier = denying(code, "", words);
        assert!(matches!(applier.fix_defaults(&owner).await, Err(Error::Request { .. })), "{code}");
        assert!(matches!(applier.apply_child(&owner, &service, "Service").await, Err(Error::Request { .. })), "{code}");
    }
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_is_told_of_and_nothing_has_failed() {
    let owner = Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: "3f2c9".into() };
    let words =
        r#"Internal error occurred: failed calling webhook "validate.policy.example": context deadline exceeded"#;
    let applier = denying(500, "InternalError", words);
    let unanswered = |what| Made::Unanswered { what, message: words.to_owned() };
    assert_eq!(applier.fix_defaults(&owner).await.unwrap(), unanswered("ConfigMap"));
    let service = build::student_service(&owner);
    assert_eq!(applier.apply_child(&owner, &service, "Service").await.unwrap(), unanswered("Service"));
}

/// An applier whose API server has nothing, and answers whatever is sent so.
fn denying(code: u16, reason: &'static str, message: &'static str) -> Applier {
    asked_by(move |request| {
        let (code, reason) = if request.method() == http::Method::GET { (404, "NotFound") } else { (code, reason) };
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code, "message": message});
        (code, status)
    })
}

fn list(kind: &str, version: &str, items: &[Value]) -> Value {
    json!({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items})
}

/// What keeps a Job from being made for `owner` where these Jobs and pods are found, and which selectors they were asked for by.
async fn held_up_by(owner: &Owner, jobs: &[&str], pods: &[&str]) -> (Option<String>, Vec<String>) {
    let named = |names: &[&str]| names.iter().map(|name| json!({"metadata": {"name": name, "uid": name}})).collect();
    let (jobs, pods): (Vec<Value>, Vec<Value>) = (named(jobs), named(pods));
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let applier = answered_by(move |address| {
        heard
            .lock()
            .unwrap()
            .push(address.replace("%2C", ",").replace("%3D", "=").replace("%2F", "/").replace("%21", "!"));
        (200, if address.contains("/jobs") { list("JobList", "batch/v1", &jobs) } else { list("PodList", "v1", &pods) })
    });
    let child = applier.preflight_jobs(owner, "billing-7-3f2c9-r1").await.unwrap();
    let asked = asked.lock().unwrap().clone();
    (child, asked)
}

#[tokio::test]
async fn a_batch_waits_for_the_jobs_and_pods_of_a_deleted_batch_of_its_name() {
    let batch = Owner { kind: Kind::Batch, namespace: "ml".into(), name: "billing-7".into(), uid: "3f2c9".into() };
    let (child, asked) = held_up_by(&batch, &[], &[]).await;
    assert_eq!(child, None);
    let of_name = "labelSelector=sera.dev/kind=RolloutBatch,sera.dev/owner=billing-7,sera.dev/stage";
    assert!(asked.len() == 2 && asked.iter().all(|address| address.contains(of_name)), "{asked:?}");
    assert!(asked[1].contains("/pods") && asked[1].contains("sera.dev/owner-uid!=3f2c9"), "{asked:?}");

    let (own, _) = held_up_by(&batch, &["billing-7-3f2c9-r1"], &[]).await;
    assert_eq!(own, None, "its own Job, of which it has not heard yet");
    let (job, _) = held_up_by(&batch, &["billing-7-77aa1-r1"], &[]).await;
    assert_eq!(job.as_deref(), Some("Job billing-7-77aa1-r1"), "of the batch before it");
    let (pod, _) = held_up_by(&batch, &[], &["billing-7-77aa1-r1-0-x2x4z"]).await;
    assert_eq!(pod.as_deref(), Some("pod billing-7-77aa1-r1-0-x2x4z"), "its Job is gone already");
}

#[tokio::test]
async fn a_run_of_a_deleted_runs_name_has_a_folder_of_its_own_and_waits_for_nobody() {
    let run = Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: "3f2c9".into() };
    let (child, asked) = held_up_by(&run, &[], &["billing-77aa1-t1-0-x2x4z"]).await;
    assert!(
        child.is_none() && asked.len() == 1 && asked[0].contains("labelSelector=sera.dev/owner-uid=3f2c9"),
        "{asked:?}"
    );
}
