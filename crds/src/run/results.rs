//! What the stages of a run report: counts of generation, the course of training, evaluation's verdict, and what lies in the store.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::rule::number;
use crate::values::{Decimal, Precision, Rate, Ratio, Sha256, Usd, Verdict};

/// What generation has made so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("!has(oldSelf.attempted) || (has(self.attempted) && self.attempted >= oldSelf.attempted)")
        .message("attempted never falls").field_path(".attempted"),
    Rule::new("!has(oldSelf.tokens) || (has(self.tokens) && self.tokens >= oldSelf.tokens)")
        .message("tokens never fall").field_path(".tokens"),
    Rule::new("!has(oldSelf.cachedTokens) || (has(self.cachedTokens) && self.cachedTokens >= oldSelf.cachedTokens)")
        .message("cachedTokens never fall").field_path(".cachedTokens"),
    Rule::new("!has(oldSelf.outputTokens) || (has(self.outputTokens) && self.outputTokens >= oldSelf.outputTokens)")
        .message("outputTokens never fall").field_path(".outputTokens"),
    Rule::new(format!("!has(oldSelf.cost) || (has(self.cost) && ({}))", number("cost", ">= double(oldSelf.cost)")))
        .message("cost never falls").field_path(".cost"),
    Rule::new("!has(oldSelf.folded) || (has(self.folded) && self.folded.through >= oldSelf.folded.through)")
        .message("folded never goes back").field_path(".folded"),
]))]
pub struct GenerationStatus {
    /// What has been counted, folded batches included; on the wire these are fields of `generation`.
    #[serde(flatten)]
    pub totals: GenerationTotals,
    /// The number of samples after which the run stalls: `spec.generation.maxSamples`, or its default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20_000_000))]
    pub max_samples: Option<u32>,
    /// What was counted of the batches that are folded in and may be gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folded: Option<Folded>,
    /// The batches that are not folded in yet, in order; each stands here before it is made. At most as many as
    /// `spec.generation.parallelBatches` has ever asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["number"]))]
    pub batches: Vec<BatchRecord>,
    /// How many seconds the run was suspended in this stage, which do not count against `spec.generation.budget.maxDuration`.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub paused_seconds: u64,
    /// Since when it is suspended. Absent: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<Time>,
    /// The last dry run of the dataset: what `accepted` comes from once the verified trajectories are as many as wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
    /// What the rest will take at this pace. Absent: too early to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
}

/// What verification Jobs have counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GenerationTotals {
    /// How many samples were made. It never falls.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub attempted: u64,
    /// How many trajectories, of both kinds, the dataset would have now. It may fall when verification or filters are
    /// changed.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub accepted: u64,
    /// How many of the accepted are first rollouts.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub accepted_first: u64,
    /// How many of the accepted are second rollouts.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub accepted_second: u64,
    /// How many trajectories were rejected, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::common::schema::counts")]
    pub rejected: BTreeMap<String, u64>,
    /// How many second rollouts had which recall: ten counts, for [0, 0.1), [0.1, 0.2), … [0.9, 1].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(range(min = 0, max = 9_007_199_254_740_991_u64)), extend("x-kubernetes-list-type" = "atomic"))]
    pub recall_histogram: Vec<u64>,
    /// The mean recall of the second rollouts that the histogram counts, a decimal string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<Ratio>,
    /// How many tokens the teacher has read and written, cached ones included. It never falls.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub tokens: u64,
    /// How many of `tokens` were read from the prefix cache. It never falls.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub cached_tokens: u64,
    /// How many of `tokens` were written. It never falls.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub output_tokens: u64,
    /// What the tokens have cost, in US dollars, a decimal string. It never falls. Absent: `teacher.price` is not
    /// given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Usd>,
}

/// A batch that is not folded in yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchRecord {
    /// Its number, from 1: its name is `<run>-<number>`.
    #[schemars(range(min = 1, max = 20_000_000))]
    pub number: u32,
    /// The number of its first sample.
    #[schemars(range(min = 0, max = 20_000_000))]
    pub from: u32,
    /// How many samples it has.
    #[schemars(range(min = 1, max = 100_000))]
    pub count: u32,
    /// Its uid. Absent: not made yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub uid: Option<String>,
    /// The most that its tokens may cost, in US dollars, a decimal string: its part of `spec.generation.budget`. Absent:
    /// no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<Usd>,
    /// The most tokens that it may take: its part of `spec.generation.budget`. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub max_tokens: Option<u64>,
}

/// A dry run of the dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// A sha256 of what it was made by: the policy, and what is asked of the dataset.
    pub inputs: Sha256,
    /// The number of the last batch that it took in; all before it too.
    #[schemars(range(min = 0, max = 20_000_000))]
    pub through: u32,
    /// How many first rollouts the dataset would have.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub accepted_first: u64,
    /// How many second rollouts it would have.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub accepted_second: u64,
    /// Whether both kinds have their share of `spec.generation.acceptedTrajectories`.
    pub complete: bool,
}

/// What was counted of batches that are folded in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Folded {
    /// The number of the last batch that is folded in; all before it are too.
    #[schemars(range(min = 0, max = 20_000_000))]
    pub through: u32,
    /// How many samples they were to have.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_000_000_000))]
    pub samples: u32,
    /// How many of these an earlier run has made, which took this one neither time nor money.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_000_000_000))]
    pub adopted: u32,
    /// A sha256 of the policy that all of them were verified by. Absent: not all by the same, so that they are verified
    /// again before they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Sha256>,
    /// What they counted together.
    #[serde(default)]
    pub totals: GenerationTotals,
}

/// What the rest of generation will take at the pace and yield so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Forecast {
    /// How many samples there will be in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub samples: Option<u64>,
    /// What generation will have cost in all, in US dollars, a decimal string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Usd>,
    /// When generation will be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<Time>,
}

/// How training goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainingStatus {
    /// The optimizer step that was done last.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub step: u32,
    /// How many steps there are in all.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub total_steps: u32,
    /// The loss of the last step, a decimal string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Decimal>,
    /// How many tokens all ranks together work through in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub tokens_per_second: Option<u64>,
    /// The number of the attempt that is at work or was the last.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub attempt: u32,
    /// The first attempt after `spec.retry` has unlocked `spec.training`, the last time that it did: checkpoints of earlier
    /// attempts count where they were made by the same section, and are passed over where that was another. Absent: it
    /// never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub since_attempt: Option<u32>,
    /// The highest learning rate that applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<Rate>,
    /// The number of warm-up steps that applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub warmup_steps: Option<u32>,
    /// The precision that applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

/// What evaluation has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EvaluationStatus {
    /// The student's score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student: Option<Score>,
    /// The score of the model that the student was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Score>,
    /// The teacher's score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Score>,
    /// What that says: Improved, Regressed, MatchesTeacher, ExceedsTeacher or Inconclusive. Absent: not finished, or
    /// training had seen what it was tested on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// A mean over functions, with its 95% confidence interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// The mean strict F1 a function, a decimal string; an attempt that crashed or submitted nothing counts as 0.
    pub mean: Ratio,
    /// The interval's lower end, a decimal string.
    pub low: Ratio,
    /// The interval's upper end, a decimal string.
    pub high: Ratio,
}

/// The student that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServingStatus {
    /// The API's base address within the cluster, as OpenAI's clients take it.
    #[schemars(length(max = 256))]
    pub url: String,
    /// What clients call the model.
    #[schemars(length(max = 63))]
    pub model: String,
    /// How many copies are wanted; 0 while the run is suspended.
    #[schemars(range(min = 0, max = 256))]
    pub replicas: u32,
    /// How many copies answer.
    #[schemars(range(min = 0, max = 1_024))]
    pub ready_replicas: u32,
}

/// What the stages have left in the store. Each is written once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("!has(oldSelf.snapshot) || (has(self.snapshot) && self.snapshot == oldSelf.snapshot)")
        .message("the artifact snapshot is written once").field_path(".snapshot"),
    Rule::new("!has(oldSelf.dataset) || (has(self.dataset) && self.dataset == oldSelf.dataset)")
        .message("the artifact dataset is written once").field_path(".dataset"),
    Rule::new("!has(oldSelf.model) || (has(self.model) && self.model == oldSelf.model)")
        .message("the artifact model is written once").field_path(".model"),
    Rule::new("!has(oldSelf.report) || (has(self.report) && self.report == oldSelf.report)")
        .message("the artifact report is written once").field_path(".report"),
]))]
pub struct Artifacts {
    /// The snapshot's manifest, and the commit that it resolved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotArtifact>,
    /// The dataset's manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<StoredArtifact>,
    /// The model: a directory in Hugging Face's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<StoredArtifact>,
    /// The evaluation's report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<StoredArtifact>,
}

/// A snapshot in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotArtifact {
    /// Where its manifest lies.
    #[schemars(length(max = 768))]
    pub uri: String,
    /// The manifest's sha256, in lower-case hexadecimal.
    pub sha256: Sha256,
    /// The newest commit that was taken: what `spec.source.git.revision` was resolved to.
    #[schemars(length(min = 4, max = 64), regex(pattern = "^[0-9a-f]+$"))]
    pub commit: String,
    /// How many commits were taken.
    #[schemars(range(min = 0, max = 64))]
    pub commits: u32,
}

/// A file or directory in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredArtifact {
    /// Where it lies.
    #[schemars(length(max = 768))]
    pub uri: String,
    /// The sha256 of the file, or of the directory's manifest, in lower-case hexadecimal.
    pub sha256: Sha256,
}
