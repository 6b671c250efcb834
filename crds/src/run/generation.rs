//! `spec.generation`: how many trajectories are wanted, and how the teacher makes and the operator judges them.

use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Agent, Environment, Sandbox};
use crate::common::rule::number;
use crate::values::{BugKind, Measure, Ratio, Timeout, Usd, literal};

/// How many trajectories are wanted, and how they are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("self.batchSize < 1 || self.shardSize <= self.batchSize").message("shardSize must not be above batchSize").field_path(".shardSize"),
    Rule::new("!has(self.maxSamples) || self.maxSamples * 2 >= self.acceptedTrajectories")
        .message("maxSamples must be at least half of acceptedTrajectories: a sample gives at most two")
        .field_path(".maxSamples"),
]))]
pub struct Generation {
    /// How many trajectories the dataset shall have, both kinds together, counted after every filter: 1 to 1000000.
    /// Generation ends when both kinds have their share of it.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accepted_trajectories: u32,
    /// After how many samples the run stalls instead of spending for ever, 1 to 20000000. Absent: 20 ×
    /// `acceptedTrajectories`; status says what applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20_000_000))]
    pub max_samples: Option<u32>,
    /// How many samples a batch has, 1 to 100000. Default: 256.
    #[serde(default = "batch_size")]
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_size: u32,
    /// How many batches run side by side, 1 to 16. Can be changed at any time. Default: 2.
    #[serde(default = "parallel_batches")]
    #[schemars(range(min = 1, max = 16))]
    pub parallel_batches: u32,
    /// How rollouts are made and judged; on the wire these are fields of `generation`.
    #[serde(flatten)]
    pub rollouts: RolloutSettings,
}

/// How rollouts are made and judged: what a run and a batch of its own have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutSettings {
    /// How many samples one rollout pod works on, 1 to 10000. Default: 32.
    #[schemars(range(min = 1, max = 10_000))]
    pub shard_size: u32,
    /// How many samples may be made from one function, 1 to 100. Default: 1.
    #[schemars(range(min = 1, max = 100))]
    pub instances_per_function: u32,
    /// The kinds of bugs that first rollouts are told to look for. Default (empty): all 51 of the built-in catalogue.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 51), extend("x-kubernetes-list-type" = "set"))]
    pub bug_kinds: Vec<BugKind>,
    /// What sampling is drawn from, 0 to 9007199254740991: the same seed gives the same commits, functions and bug
    /// kinds on every machine. Default: 42.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub seed: u64,
    /// The limits of one rollout.
    pub agent: Agent,
    /// The container image and files that commands see.
    pub environment: Environment,
    /// What the commands of a model may do.
    pub sandbox: Sandbox,
    /// When a second rollout counts as having found the first one's change.
    pub verification: Verification,
    /// Which trajectories are left out although they were verified.
    pub filters: Filters,
    /// Where spending ends. Absent: no limit but `maxSamples`. Can be changed at any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// How long a pod may take from being made to working, at least 1s; then the attempt is deleted, its cause
    /// reported, and made again later. Default: "15m".
    pub start_deadline: Timeout,
}

/// When a second rollout counts as having found the first one's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Verification {
    /// The measure: Recall (the paper's line recall), StrictRecall (per file and hunk, without whitespace and generated
    /// files) or F1. Default: Recall.
    pub measure: Measure,
    /// The lowest measure that is accepted, a decimal string from "0" to "1". "0" still asks for a second patch that is
    /// not empty. Default: "0.5".
    pub threshold: Ratio,
}

/// Which verified trajectories are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Filters {
    /// The most changed lines of a trajectory's own patch, 1 to 1000000. Default: 40.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_patch_lines: u32,
    /// The most tokens that a trajectory's tool outputs have on average, 1 to 1000000. Default: 600.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_mean_tool_tokens: u32,
}

/// Where spending ends. The run stalls at the first limit that is reached, and goes on when it is raised.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new(format!("!has(self.maxCost) || {}", number("maxCost", "> 0.0"))).message("maxCost must be above \"0\"").field_path(".maxCost"),
]))]
pub struct Budget {
    /// The most that the teacher's tokens may cost, in US dollars, a decimal string above "0". Needs `teacher.price`.
    /// Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<Usd>,
    /// The most tokens that the teacher may read and write, cached ones included, 1 to 9007199254740991. Absent: no
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_u64))]
    pub max_total_tokens: Option<u64>,
    /// The longest time that generation may take from its first batch on, suspended time not counted, at least 1s: no
    /// further batch begins after it. Of a batch on its own, the longest time that its rollouts may take: no call is made
    /// after it, and each rollout ends as it stands. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Timeout>,
}

impl Generation {
    /// The number of samples after which the run stalls: what is asked for, or 20 for each trajectory wanted.
    pub fn effective_max_samples(&self) -> u32 {
        self.max_samples.unwrap_or_else(|| self.accepted_trajectories.saturating_mul(20))
    }
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self {
            shard_size: 32,
            instances_per_function: 1,
            bug_kinds: Vec::new(),
            seed: 42,
            agent: Agent::default(),
            environment: Environment::default(),
            sandbox: Sandbox::default(),
            verification: Verification::default(),
            filters: Filters::default(),
            budget: None,
            start_deadline: literal("15m"),
        }
    }
}

impl Default for Verification {
    /// The paper's specialisation runs: recall of at least one half.
    fn default() -> Self {
        Self { measure: Measure::Recall, threshold: literal("0.5") }
    }
}

impl Default for Filters {
    /// The paper's: patches of up to 40 lines, tool outputs of up to 600 tokens on average.
    fn default() -> Self {
        Self { max_patch_lines: 40, max_mean_tool_tokens: 600 }
    }
}

fn batch_size() -> u32 {
    256
}

fn parallel_batches() -> u32 {
    2
}
