//! What is read of the Deployment of a teacher or a student.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::Deserialize;

use super::{JobCondition, controller, cut, generation, light_metadata};
use crate::{
    build::REHEARSAL_MODEL,
    facts::{ServerFacts, ServerForm, ServerRole, Trouble},
    names::{GENERATION, RUN_GENERATION, STUDENT, TEACHER},
};

/// The Deployment of a teacher or a student, as far as we read it.
#[derive(Debug, Clone, Deserialize, Resource)]
#[resource(inherit = Deployment)]
pub struct WatchedServer {
    #[serde(deserialize_with = "light_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ServerSpec,
    #[serde(default)]
    status: ServerStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct ServerSpec {
    #[serde(default)]
    replicas: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServerStatus {
    observed_generation: i64,
    replicas: u32,
    updated_replicas: u32,
    ready_replicas: u32,
    available_replicas: u32,
    conditions: Vec<JobCondition>,
}

impl WatchedServer {
    /// The facts of this server.
    pub fn facts(self) -> ServerFacts {
        let Self { metadata, spec, status } = self;
        let labels = metadata.labels.as_ref();
        let is_complete = status.observed_generation >= metadata.generation.unwrap_or_default()
            && [status.replicas, status.updated_replicas, status.available_replicas] == [spec.replicas; 3];
        ServerFacts {
            form: match labels.and_then(|labels| labels.get(TEACHER)) {
                Some(kind) if kind == REHEARSAL_MODEL => ServerForm::Rehearsal,
                _ => ServerForm::Deployment,
            },
            controller: controller(&metadata),
            role: match labels.and_then(|labels| labels.get(STUDENT)) {
                Some(_) => ServerRole::Student,
                None => ServerRole::Teacher,
            },
            deleting: metadata.deletion_timestamp.is_some(),
            generation: generation(&metadata, GENERATION),
            run_generation: generation(&metadata, RUN_GENERATION),
            ready: status.ready_replicas,
            complete: is_complete,
            trouble: status.trouble(),
            name: metadata.name.unwrap_or_default().into(),
            uid: metadata.uid.unwrap_or_default().into(),
        }
    }
}

impl ServerStatus {
    /// That pods are refused, which says why; or else that none of them has become ready for too long.
    fn trouble(&self) -> Option<Trouble> {
        let found = |kind: &str, status: &str| {
            self.conditions.iter().find(|condition| &*condition.kind == kind && &*condition.status == status)
        };
        let condition = found("ReplicaFailure", "True").or_else(|| found("Progressing", "False"))?;
        Some(Trouble { reason: condition.reason.clone(), message: cut(&condition.message) })
    }
}
