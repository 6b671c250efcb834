//! What is made of a plan: whole Kubernetes objects, from the effective spec alone. Pure: no client, no clock.

mod batch;
mod blueprint;
mod contenders;
mod defaults;
mod engine;
mod gang;
mod gpus;
mod groups;
mod job;
mod meshes;
mod network;
mod pod;
mod program;
mod request;
mod sandboxes;
mod server;
mod service;
mod student;
mod teacher;
#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub use batch::batch;
pub use blueprint::{
    AdoptionParts, Blueprint, CountingParts, EvaluationParts, GitHubParts, HostedTeacher, Images, RehearsalParts,
    SampleParts, SecretField, ServedModel, SnapshotParts, TeacherParts, TrainingParts,
};
pub use defaults::{DEFAULTS_KEY, defaults_config_map};
pub use groups::LeaderWorkerSet;
pub use job::job;
pub use network::{NetworkRules, stage_policy, student_policy, teacher_policy};
pub use program::PROGRESS_PORT;
pub use request::requests;
pub use service::service_of;
pub use student::{student, student_service, student_url};
pub use teacher::{MODEL as REHEARSAL_MODEL, TeacherServer, teacher, teacher_service, teacher_url};

use crate::names::Owner;

/// The metadata of a child: its owner controls it and takes it along when it goes.
fn metadata(owner: &Owner, name: String, labels: std::collections::BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(owner.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![owner_reference(owner)]),
        ..ObjectMeta::default()
    }
}

fn owner_reference(owner: &Owner) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/{}", sera_crds::common::GROUP, sera_crds::common::VERSION),
        kind: owner.kind.as_str().to_owned(),
        name: owner.name.clone(),
        uid: owner.uid.as_str().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
