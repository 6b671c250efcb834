//! What sera-operator's programs hand each other: exit codes, termination messages and the manifests in the store.
//! Versioned, and free of Kubernetes: a person who runs a stage by hand sees the same files and codes as the operator
//! does.

mod batches;
mod evaluation;
mod exit;
mod functions;
mod progress;
mod recall;
mod rollout;
mod settings;
mod snapshot;
mod termination;
mod training;
mod verdict;

pub use batches::{BatchNames, BatchNamesError};
pub use evaluation::{Comparison, Contestant, EvaluationPlan, EvaluationReport, Interval, ModelResult, TaskResult};
pub use exit::ExitCode;
pub use functions::{
    CallEdge, FunctionKind, FunctionRef, IndexCounts, IndexedFunction, SkipReason, StyleExample, StyleOrigin,
};
pub use progress::{Progress, Silence};
pub use recall::Recalls;
pub use rollout::{
    FileDigest, Message, PullRequest, PullRequestRecord, RetriedTurns, RolloutKind, RolloutOutcome, RolloutRecord,
    SampleOutcome, SpentRecord, TeacherMark, ToolCall, Trajectory, Usage,
};
pub use settings::{
    AgentLimits, BudgetSlice, DatasetPlan, EnvironmentPlan, RolloutPlan, SamplingPlan, SandboxPlan, StudentPlan,
    TokenPrice, VerificationPlan,
};
pub use snapshot::{FunctionSelection, SnapshotFile, SnapshotManifest, SnapshotSource, SnapshottedCommit};
pub use termination::{
    AdoptedDataset, AdoptedRollouts, Artifact, Failure, FailureClass, Outcome, StageResult, Termination,
    TerminationError,
};
pub use training::{LoraPlan, MethodPlan, ModelManifest, TrainingPlan, TrainingProgress};
pub use verdict::{
    DatasetLine, DatasetManifest, DatasetMessage, Fraction, Judgement, Lineage, Measures, Policy, Rejection,
    StrictMeasures, StudentPolicy, Verdict, VerificationCounts,
};

/// The version of every document in this module. A reader refuses a document of another version by name; a field may be
/// added without a new one.
pub const CONTRACT_VERSION: u32 = 1;
