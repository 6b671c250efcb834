//! The kind `SpecializationRun`: a repository becomes a coding agent specialised to it.
#![expect(clippy::doc_markdown, reason = "doc comments are what `kubectl explain` shows to users")]
#![expect(clippy::duplicated_attributes, reason = "each printer column has a name and a type of its own")]

mod generation;
mod output;
mod pods;
mod results;
mod rules;
mod sandbox;
mod source;
mod status;
mod teacher;
mod training;

use kube::{CustomResource, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::rule::number;

pub(crate) use rules::root_rules;

pub use generation::{Budget, Filters, Generation, RolloutSettings, Verification};
pub use output::{Evaluation, Output, Serve, Ttl};
pub use pods::{PodRole, PodSettings, Pods, Proxy};
pub(crate) use pods::{RUNS_OWN, roles};
pub use results::{
    Artifacts, BatchRecord, DryRun, EvaluationStatus, Folded, Forecast, GenerationStatus, GenerationTotals, Score,
    ServingStatus, SnapshotArtifact, StoredArtifact, TrainingStatus,
};
pub use sandbox::{Agent, Environment, Sandbox, User};
pub use source::{Adoption, Commits, GitHubSource, GitSource, Source};
pub use status::{AttemptOutcome, AttemptRecord, FailureRecord, Phase, Progress, RunStatus, StageTime};
pub use teacher::{
    ModelSource, Price, Rehearsal, RehearsalShares, Sampling, Teacher, TeacherBackend, TeacherEndpoint, TeacherService,
};
pub use training::{Dataset, FullFineTuning, Lora, Method, Training};

/// The longest name of a run: the host names of its pods are made from it and must fit 63 characters.
pub const MAX_RUN_NAME: usize = 40;

/// What a run is asked to do. Each part can be changed until the stage that works from it has started; `suspend`,
/// `retry`, `ttl`, `serve` and `pods` can be changed at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sera.dev",
    version = "v1alpha1",
    kind = "SpecializationRun",
    plural = "specializationruns",
    shortname = "srun",
    category = "sera",
    namespaced,
    status = "RunStatus",
    derive = "PartialEq",
    doc = "A SpecializationRun turns a private code repository into a coding agent specialised to it: a teacher model makes trajectories in the repository, they are verified, and a student model is trained on them.",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the run stands, in one word"
    ),
    printcolumn(
        name = "Progress",
        type_ = "integer",
        json_path = ".status.progress.percent",
        description = "How much of the stage at work is done, in percent"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "integer",
        json_path = ".status.generation.accepted",
        description = "How many trajectories the dataset would have now"
    ),
    printcolumn(
        name = "Recall",
        type_ = "string",
        json_path = ".status.generation.recall",
        description = "The mean measure of the verified second rollouts"
    ),
    printcolumn(
        name = "Loss",
        type_ = "string",
        json_path = ".status.training.loss",
        description = "The loss of the last training step"
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
        description = "How long ago the run was created"
    ),
    printcolumn(
        name = "Stage",
        type_ = "string",
        json_path = ".status.progress.stage",
        priority = 1,
        description = "The stage at work"
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
    printcolumn(
        name = "Student",
        type_ = "string",
        json_path = ".spec.training.student.uri",
        priority = 1,
        description = "The model that is specialised"
    ),
    selectable = ".spec.suspend",
    selectable = ".status.phase"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("!has(self.generation.budget) || !has(self.generation.budget.maxCost) || has(self.teacher.price)")
        .message("generation.budget.maxCost needs teacher.price: without a price nothing is known to cost anything")
        .field_path(".generation.budget.maxCost"),
    Rule::new(format!("!self.evaluation.enabled || {}", number("source.heldOutFraction", "> 0.0")))
        .message("evaluation needs functions that were set aside: raise source.heldOutFraction above \"0\", or set evaluation.enabled to false")
        .field_path(".source.heldOutFraction"),
]))]
pub struct RunSpec {
    /// The repository that the student is specialised to. Locked when Snapshot starts.
    pub source: Source,
    /// Stages of an earlier run that are taken over instead of being done again. Absent: every stage is done. Locked
    /// when Snapshot starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Adoption>,
    /// The model that makes the trajectories: exactly one of `endpoint`, `serve` and `rehearsal`. Locked when
    /// Generation starts, but for `price` and `serve.replicas`.
    pub teacher: Teacher,
    /// How many trajectories are wanted, and how they are made and judged. Locked when Generation starts, but for
    /// `parallelBatches` and `budget` (never locked) and `acceptedTrajectories`, `maxSamples`, `verification` and
    /// `filters` (locked when Dataset starts).
    pub generation: Generation,
    /// How accepted trajectories become training lines. Locked when Dataset starts.
    #[serde(default)]
    pub dataset: Dataset,
    /// How the student is trained. Locked when Training starts, `student` when Generation does.
    pub training: Training,
    /// How the student is compared with its base and its teacher; the first two are served for it as `serve` says, whether
    /// or not that is enabled. Locked when Evaluation starts.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// Where the run keeps its data. Locked when Snapshot starts, but for `reclaimPolicy`.
    #[serde(default)]
    pub output: Output,
    /// Whether and how the student is served when it is done. Can be changed at any time.
    #[serde(default)]
    pub serve: Serve,
    /// Whether the run is held: its attempt ends after a checkpoint, what it serves is scaled to zero, and it goes on
    /// when this is false again. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// An opaque token of at most 63 characters: change it, and a failed stage is tried again. Default: "".
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub retry: String,
    /// How long the children of a run that is over stay. Can be changed at any time.
    #[serde(default)]
    pub ttl: Ttl,
    /// What is said about pods, by role. Absent: what the platform and the operator's chart say. Can be changed at any
    /// time, for the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Pods>,
}
