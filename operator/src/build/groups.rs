//! A `LeaderWorkerSet`: a server whose copies are spread over several nodes each, a leader that answers and workers that it computes with. The types are
//! those parts of its API that are written and read here (`leaderworkerset.x-k8s.io/v1`); clusters have it only where it was installed.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// What is asked of the groups.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(group = "leaderworkerset.x-k8s.io", version = "v1", kind = "LeaderWorkerSet", namespaced, schema = "disabled")]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerSetSpec {
    /// How many groups there are.
    pub replicas: i32,
    /// The pods of each.
    pub leader_worker_template: LeaderWorkerTemplate,
    /// When workers are made.
    pub startup_policy: StartupPolicy,
}

/// The pods of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerTemplate {
    /// How many, the leader included.
    pub size: i32,
    /// What happens to a group that loses a pod.
    pub restart_policy: RestartPolicy,
    /// The pod that answers.
    pub leader_template: PodTemplateSpec,
    /// The others.
    pub worker_template: PodTemplateSpec,
}

/// When workers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartupPolicy {
    /// As soon as their leader is there: it is ready only once they are.
    LeaderCreated,
}

/// What happens to a group that loses a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// All of it is made anew: processes that compute together do not take in one that begins later.
    RecreateGroupOnPodRestart,
}

/// The label by which pods know their place in a group; the leader's is 0.
pub(super) const WORKER_INDEX: &str = "leaderworkerset.sigs.k8s.io/worker-index";

/// The variables that every container of a group has, as its arguments name them.
pub(super) mod variable {
    /// The leader's host name.
    pub(in crate::build) const LEADER_ADDRESS: &str = "$(LWS_LEADER_ADDRESS)";
    /// The pod's place.
    pub(in crate::build) const WORKER_INDEX: &str = "$(LWS_WORKER_INDEX)";
}
