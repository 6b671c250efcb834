//! What is read of a `LeaderWorkerSet`: a teacher whose copies are spread over nodes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::{controller, generation, light_metadata};
use crate::{
    build::LeaderWorkerSet,
    facts::{ServerFacts, ServerForm, ServerRole},
    names::{GENERATION, RUN_GENERATION},
};

/// A `LeaderWorkerSet` of ours, as far as we read it.
#[derive(Debug, Clone, Deserialize, Resource)]
#[resource(inherit = LeaderWorkerSet)]
pub struct WatchedGroups {
    #[serde(deserialize_with = "light_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: GroupsSpec,
    #[serde(default)]
    status: GroupsStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct GroupsSpec {
    #[serde(default)]
    replicas: u32,
}

/// Counts are of groups, not of pods.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupsStatus {
    replicas: u32,
    updated_replicas: u32,
    ready_replicas: u32,
    /// Releases before 0.9 do not say it.
    observed_generation: Option<i64>,
}

impl WatchedGroups {
    /// The facts of this server. It never says itself what keeps its pods away.
    pub fn facts(self) -> ServerFacts {
        let Self { metadata, spec, status } = self;
        let is_seen = status.observed_generation.is_none_or(|seen| seen >= metadata.generation.unwrap_or_default());
        ServerFacts {
            form: ServerForm::LeaderWorkerSet,
            controller: controller(&metadata),
            role: ServerRole::Teacher,
            deleting: metadata.deletion_timestamp.is_some(),
            generation: generation(&metadata, GENERATION),
            run_generation: generation(&metadata, RUN_GENERATION),
            ready: status.ready_replicas,
            complete: is_seen
                && [status.replicas, status.updated_replicas, status.ready_replicas] == [spec.replicas; 3],
            trouble: None,
            name: metadata.name.unwrap_or_default().into(),
            uid: metadata.uid.unwrap_or_default().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts(status: &Value) -> ServerFacts {
        let set = json!({
            "metadata": {
                "name": "billing-3f2c9-t", "uid": "u1", "generation": 3, "labels": {"sera.dev/generation": "7"},
                "ownerReferences": [{
                    "apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun", "name": "billing", "uid": "r1",
                    "controller": true,
                }],
            },
            "spec": {"replicas": 2}, "status": status,
        });
        serde_json::from_value::<WatchedGroups>(set).unwrap().facts()
    }

    #[test]
    fn groups_are_complete_when_all_of_them_are_of_the_newest_template_and_answer() {
        let told = facts(&json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}));
        assert_eq!((told.ready, told.complete, told.generation), (1, false, Some(7)));
        assert_eq!((told.controller, told.form), (Some("r1".into()), ServerForm::LeaderWorkerSet));
        assert!(facts(&json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2})).complete, "an older release");
        let seen = |generation: i64| json!({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": generation});
        assert!(facts(&seen(3)).complete && !facts(&seen(2)).complete);
        assert!(!facts(&json!({})).complete);
    }
}
