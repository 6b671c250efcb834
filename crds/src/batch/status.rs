//! `status` of a batch: what the operator reports. Counts, never lists of samples.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    run::{AttemptRecord, FailureRecord, GenerationStatus, Phase, Progress, SnapshotArtifact, StageTime},
    values::{Measure, Ratio, Sha256, Stage},
};

/// What the operator reports of a batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("!has(oldSelf.generation) || has(self.generation)").message("generation cannot be taken back").field_path(".generation"),
    Rule::new("!has(oldSelf.snapshot) || (has(self.snapshot) && self.snapshot == oldSelf.snapshot)")
        .message("the snapshot is written once").field_path(".snapshot"),
    Rule::new("!has(oldSelf.attempts) || (has(self.attempts) && oldSelf.attempts.all(s, s in self.attempts && self.attempts[s] >= oldSelf.attempts[s]))")
        .message("attempts never fall").field_path(".attempts"),
    Rule::new("!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed']) || (has(self.phase) && self.phase == oldSelf.phase) || (has(self.observedGeneration) && has(oldSelf.observedGeneration) && self.observedGeneration > oldSelf.observedGeneration)")
        .message("the phases Succeeded and Failed are left only after a change of the spec").field_path(".phase"),
]))]
pub struct BatchStatus {
    /// Where the batch stands, in one word: Pending, Running, Suspended, Stalled, Succeeded or Failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The `metadata.generation` that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub observed_generation: Option<i64>,
    /// The value of `spec.retry` that was acted on last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub observed_retry: Option<String>,
    /// What holds and what does not, by type: Ready; Reconciling and Stalled only while True; Validated; Snapshotted,
    /// RolledOut and Verified; Reclaimed while its data is being deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::common::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// How many attempts each stage has had, by stage.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::common::schema::attempts")]
    pub attempts: BTreeMap<Stage, u32>,
    /// The latest attempt of each stage that was begun: what the operator goes on from after a restart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["stage"]))]
    pub latest_attempts: Vec<AttemptRecord>,
    /// What is going on now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the batch has made so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<GenerationStatus>,
    /// The snapshot that the batch has taken for itself. Written once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotArtifact>,
    /// The verification that the counts come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationRecord>,
    /// The images by which stages were done that have a result of their own, with their digests, by the role of their pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::common::schema::texts")]
    pub images: BTreeMap<String, String>,
    /// When each stage started and finished.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["stage"]))]
    pub stage_times: Vec<StageTime>,
    /// The last few failures, newest first; at most 3.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "atomic"))]
    pub recent_failures: Vec<FailureRecord>,
    /// The folder in the store that the batch works in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 768))]
    pub store: Option<String>,
    /// The teacher: its model's name or address, or `rehearsal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub teacher: Option<String>,
}

/// A verification that has been done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationRecord {
    /// The measure that was asked for.
    pub measure: Measure,
    /// The threshold that was asked for, a decimal string.
    pub threshold: Ratio,
    /// A sha256 of all that the spec says about it, filters and the student's part included.
    pub settings: Sha256,
    /// The digest of the whole policy, which names the file of verdicts in the store: 64 hexadecimal digits.
    pub policy: Sha256,
    /// When it was done.
    pub finished: Time,
}
