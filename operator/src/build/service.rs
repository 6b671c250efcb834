//! The headless Services by which the pods of a stage's Job are found one by one: by the operator that asks how far they are, and by each other.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use sera_crds::values::Stage;

use super::{metadata, program::PROGRESS_PORT};
use crate::names::{OWNER_UID, Owner, STAGE};

/// The Service that the Jobs of a stage need, whichever attempt they are of; none of stages whose pods nobody looks for.
pub fn service_of(owner: &Owner, stage: Stage) -> Option<Service> {
    match stage {
        Stage::Rollouts | Stage::Evaluation => Some(headless(owner, owner.drivers_name(), stage)),
        Stage::Training => Some(headless(owner, owner.ranks_name(), stage)),
        _ => None,
    }
}

fn headless(owner: &Owner, name: String, stage: Stage) -> Service {
    let mut labels = owner.labels();
    labels.insert(STAGE.to_owned(), stage.as_str().to_owned());
    let selector = [OWNER_UID, STAGE].into_iter().filter_map(|key| Some((key.to_owned(), labels.get(key)?.clone())));
    Service {
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector.collect()),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: PROGRESS_PORT.into(),
                ..ServicePort::default()
            }]),
            // A driver may have much to tell before all of its sandboxes are ready, and ranks must find each other before any of them is.
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        metadata: metadata(owner, name, labels),
        status: None,
    }
}
