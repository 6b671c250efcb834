//! What an API server that refuses makes of a removal.

use clap::Parser;
use http::{Request, Response};
use kube::client::Body;
use sera_crds::defaults::RunDefaults;
use tower::service_fn;

use super::*;
use crate::{config::Config, names::Kind};

/// An applier whose API server answers everything with this code.
fn applier(code: u16, reason: &'static str) -> Applier {
    let answer = service_fn(move |_: Request<Body>| async move {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code, "message": "no",
            "details": {"causes": [{"reason": "NamespaceTerminating"}]},
        });
        Response::builder().status(code).body(Body::from(status.to_string().into_bytes()))
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
async fn what_cannot_be_made_because_the_namespace_goes_is_told_from_what_is_refused() {
    let owner = Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: "3f2c9".into() };
    assert_eq!(applier(403, "Forbidden").fix_defaults(&owner).await.unwrap(), Made::NamespaceGoing);
    assert!(matches!(applier(422, "Invalid").fix_defaults(&owner).await.unwrap(), Made::Refused { .. }));
}
