//! The kind `RolloutBatch`: samples of one teacher on one repository, for a run or alone.
#![expect(clippy::doc_markdown, reason = "doc comments are what `kubectl explain` shows to users")]
#![expect(clippy::duplicated_attributes, reason = "each printer column has a name and a type of its own")]

mod rules;
mod status;

use kube::{CustomResource, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::LocalRef,
    run::{Output, Pods, RolloutSettings, Source, Teacher},
    values::StoreUri,
};

pub(crate) use rules::root_rules;
pub use status::{BatchStatus, VerificationRecord};

/// The longest name of a batch: the host names of its pods are made from it and must fit 63 characters.
pub const MAX_BATCH_NAME: usize = 46;

/// What a batch is asked to do: either `runRef`, or a teacher and a repository of its own. Only
/// `generation.verification`, `pods`, `suspend` and `retry` can be changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sera.dev",
    version = "v1alpha1",
    kind = "RolloutBatch",
    plural = "rolloutbatches",
    shortname = "rbatch",
    category = "sera",
    namespaced,
    status = "BatchStatus",
    derive = "PartialEq",
    doc = "A RolloutBatch is a number of samples, each two rollouts of a teacher and a verdict. Runs make batches for themselves; a batch can also be created alone, to try a teacher or a threshold: changing generation.verification of a finished batch verifies again without a single model call.",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the batch stands, in one word"
    ),
    printcolumn(
        name = "Progress",
        type_ = "integer",
        json_path = ".status.progress.percent",
        description = "How much of the stage at work is done, in percent"
    ),
    printcolumn(
        name = "Attempted",
        type_ = "integer",
        json_path = ".status.generation.attempted",
        description = "How many samples were made"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "integer",
        json_path = ".status.generation.accepted",
        description = "How many trajectories were accepted"
    ),
    printcolumn(
        name = "Recall",
        type_ = "string",
        json_path = ".status.generation.recall",
        description = "The mean measure of the verified second rollouts"
    ),
    printcolumn(
        name = "Cost",
        type_ = "string",
        json_path = ".status.generation.cost",
        description = "What the teacher's tokens have cost, in US dollars"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long ago the batch was created"
    ),
    printcolumn(
        name = "Run",
        type_ = "string",
        json_path = ".spec.runRef.name",
        priority = 1,
        description = "The run that the batch works for"
    ),
    printcolumn(
        name = "ETA",
        type_ = "string",
        format = "date-time",
        json_path = ".status.progress.eta",
        priority = 1,
        description = "When the stage will be done at this pace"
    ),
    printcolumn(
        name = "Teacher",
        type_ = "string",
        json_path = ".status.teacher",
        priority = 1,
        description = "The teacher's model, or rehearsal"
    ),
    selectable = ".spec.runRef.name",
    selectable = ".status.phase"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("!has(self.runRef) || !(has(self.source) || has(self.snapshot) || has(self.teacher) || has(self.generation) || has(self.output))")
        .message("with runRef, a batch takes source, snapshot, teacher, generation and output from its run: leave them out"),
    rules::way_out_is_the_runs(),
    Rule::new("has(self.runRef) || has(self.source) != has(self.snapshot)").message("a batch without runRef needs exactly one of source and snapshot"),
    Rule::new("has(self.runRef) || has(self.teacher)").message("a batch without runRef needs teacher").field_path(".teacher"),
    Rule::new("has(self.runRef) || has(self.generation)")
        .message("a batch without runRef needs generation; {} takes every default")
        .field_path(".generation"),
    Rule::new("!has(self.generation) || !has(self.generation.budget) || !has(self.generation.budget.maxCost) || (has(self.teacher) && has(self.teacher.price))")
        .message("generation.budget.maxCost needs teacher.price: without a price nothing is known to cost anything")
        .field_path(".generation.budget.maxCost"),
]))]
pub struct BatchSpec {
    /// The run that the batch works for; everything but `samples` comes from it. Absent: the batch is one of its own,
    /// and `teacher`, `generation` and one of `source` and `snapshot` are needed. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_ref: Option<LocalRef>,
    /// The repository that samples are made from; a snapshot is taken first. Not with `runRef` or `snapshot`. Cannot be
    /// changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// A snapshot that an earlier run or batch has taken. Not with `runRef` or `source`. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotRef>,
    /// The model that makes the trajectories. Not with `runRef`. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Teacher>,
    /// How rollouts are made and judged; `{}` takes every default. Needed without `runRef`, not allowed with it. Only
    /// `verification` can be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<RolloutSettings>,
    /// Where the batch keeps its data. Not with `runRef`, where what it makes is kept. Absent: the platform's
    /// `runDefaults`. Only `reclaimPolicy` can be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// Which samples are made. Cannot be changed.
    pub samples: SampleRange,
    /// What is said about pods, by role. Absent: what the run, the platform and the operator's chart say. Can be
    /// changed at any time, for the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Pods>,
    /// Whether the batch is held: its pods end after a SIGTERM, and finished rollouts are kept. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// An opaque token of at most 63 characters: change it, and what failed is tried again. Default: "".
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub retry: String,
}

/// A snapshot in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRef {
    /// The folder of the run or batch that took it: `<store>/<namespace>/<name>/<uid>`, as its `status.store` says.
    pub uri: StoreUri,
}

/// A range of samples. Sample i of a seed is the same commit, function and bug kind on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SampleRange {
    /// The number of the first sample, 0 to 20000000. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20_000_000))]
    pub from: u32,
    /// How many samples, 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub count: u32,
}
