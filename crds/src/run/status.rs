//! `status` of a run: what the operator reports. Counts and the last few failures, never lists of samples, so that it
//! stays below 32 KiB whatever the run's size.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Artifacts, EvaluationStatus, GenerationStatus, ServingStatus, TrainingStatus};
use crate::{
    contract::FailureClass,
    values::{Sha256, Stage, choice},
};

choice! {
    /// Where a run or batch stands, in one word.
    Phase: "a phase" {
        /// Nothing has been started: it was not looked at yet, or its spec is not valid.
        Pending = "Pending",
        /// A stage is at work or waits for its turn.
        Running = "Running",
        /// `spec.suspend` holds it.
        Suspended = "Suspended",
        /// It cannot go on by itself: somebody must change something, and it goes on when that is done.
        Stalled = "Stalled",
        /// Every stage is done.
        Succeeded = "Succeeded",
        /// A stage has failed for good; `spec.retry` tries it again.
        Failed = "Failed",
    }
}

impl Phase {
    /// Whether it is left only after a change of the spec.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What the operator reports of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("!has(oldSelf.artifacts) || has(self.artifacts)").message("artifacts cannot be taken back").field_path(".artifacts"),
    Rule::new("!has(oldSelf.generation) || has(self.generation)").message("generation cannot be taken back").field_path(".generation"),
    Rule::new("!has(oldSelf.lockedStages) || oldSelf.lockedStages.all(s, (has(self.lockedStages) && s in self.lockedStages) || (s == 'Snapshot' && !(has(self.artifacts) && has(self.artifacts.snapshot))) || (s == 'Generation' && !(has(self.generation) && has(self.generation.folded) && self.generation.folded.through > 0))) || (has(self.observedRetry) ? self.observedRetry : '') != (has(oldSelf.observedRetry) ? oldSelf.observedRetry : '')")
        .message("lockedStages only grows, but by a retry, by Snapshot while there is no snapshot, or by Generation while no batch is counted").field_path(".lockedStages"),
    Rule::new("!has(oldSelf.attempts) || (has(self.attempts) && oldSelf.attempts.all(s, s in self.attempts && self.attempts[s] >= oldSelf.attempts[s]))")
        .message("attempts never fall").field_path(".attempts"),
    Rule::new("!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed']) || (has(self.phase) && self.phase == oldSelf.phase) || (has(self.observedGeneration) && has(oldSelf.observedGeneration) && self.observedGeneration > oldSelf.observedGeneration)")
        .message("the phases Succeeded and Failed are left only after a change of the spec").field_path(".phase"),
]))]
pub struct RunStatus {
    /// Where the run stands, in one word: Pending, Running, Suspended, Stalled, Succeeded or Failed.
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
    /// What holds and what does not, by type: Ready; Reconciling and Stalled only while True; Validated; and one for
    /// each stage (Snapshotted, Generated, DatasetBuilt, Trained, Evaluated, Serving); Reclaimed while its data is being
    /// deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::common::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The stages that have started, and whose part of the spec therefore cannot be changed any more. So that what is
    /// wrong can be put right, Snapshot is unlocked between attempts that left nothing, and Generation while every batch
    /// at work is stalled and none is counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub locked_stages: Vec<Stage>,
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
    /// What generation has made so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<GenerationStatus>,
    /// How training goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingStatus>,
    /// What evaluation has found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluationStatus>,
    /// Where the student is served. Absent: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<ServingStatus>,
    /// What the stages have left in the store. Each is written once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Artifacts>,
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
    /// The run's own folder in its store; another run can adopt its stages by this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 768))]
    pub store: Option<String>,
    /// The teacher: its model's name or address, or `rehearsal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub teacher: Option<String>,
}

/// What is going on now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The stage at work.
    pub stage: Stage,
    /// How much of the stage is done, in percent, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u32,
    /// When the stage will be done at this pace, which is said of generation and of training. Absent: too early to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<Time>,
}

/// When a stage started and finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageTime {
    /// Which stage this is about.
    pub stage: Stage,
    /// When its first attempt was made.
    pub started: Time,
    /// When it was done or had failed for good. Absent: it is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
}

choice! {
    /// What came of an attempt.
    AttemptOutcome: "an outcome of an attempt" {
        /// The stage is done.
        Succeeded = "Succeeded",
        /// It failed; `recentFailures` says why.
        Failed = "Failed",
        /// Its Job, or what its program said, is gone; the next attempt finds out from the store.
        Lost = "Lost",
        /// It was ended because its owner suspended or changed the object.
        Withdrawn = "Withdrawn",
        /// Its pods were taken away, by preemption or with their node, or found no room together; this is no failure.
        Disrupted = "Disrupted",
    }
}

/// The latest attempt of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRecord {
    /// Which stage this is about.
    pub stage: Stage,
    /// The attempt's number, from 1; its Job is named after it.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub number: u32,
    /// The `metadata.generation` that it works from.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub generation: i64,
    /// Of a batch that takes its word from a run: the `metadata.generation` of that run that it works from. Absent: it
    /// takes its word from no run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub run_generation: Option<i64>,
    /// When it was written down here, which is before anything is made for it.
    pub recorded: Time,
    /// The uid of its Job. Absent: not made yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job: Option<String>,
    /// A sha256 of what it works from beside the repository, where that may change: a verification's policy; and of the
    /// batches that it takes in, where those grow. Absent: nothing of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Sha256>,
    /// How many attempts in a row have failed, this one included; a change of the spec starts anew.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub failures: u32,
    /// When its end was noticed. Absent: it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// What came of it: Succeeded, Failed, Lost, Withdrawn or Disrupted. Absent: it is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
    /// Whose turn it is after it failed: Configuration or Conflict (somebody must change something), Unavailable or
    /// Internal (it is tried again). Absent: it has not failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("enum" = ["Configuration", "Unavailable", "Conflict", "Internal"]))]
    pub failure_class: Option<FailureClass>,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureRecord {
    /// The stage that failed.
    pub stage: Stage,
    /// The number of the attempt.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub attempt: u32,
    /// When it was noticed.
    pub time: Time,
    /// Why, as one CamelCase word.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// The field of the spec that must change, where one can be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = FailureRecord::MAX_FIELD_CHARS))]
    pub field: Option<String>,
    /// Why, as a sentence: what is wrong and what to do.
    #[schemars(length(max = FailureRecord::MAX_MESSAGE_CHARS))]
    pub message: String,
}

impl FailureRecord {
    /// The most characters of `field`.
    pub const MAX_FIELD_CHARS: usize = 128;
    /// The most characters of `message`.
    pub const MAX_MESSAGE_CHARS: usize = 384;
}
