//! What the operator hands the rollout, verification and dataset programs beside addresses: the spec's settings, free of Kubernetes. By hand they are a
//! file (YAML or JSON) or flags; every field has the API's default.

use serde::{Deserialize, Serialize};

use crate::values::{
    BugKind, ContainerPath, LandlockMode, Measure, NetworkMode, Ratio, Timeout, ToolCallFormat, Usd, literal,
};

/// How rollouts are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RolloutPlan {
    /// What sampling is drawn from.
    pub seed: u64,
    /// How many samples may be made from one function.
    pub instances_per_function: u32,
    /// The kinds of bugs that first rollouts look for; empty: the whole catalogue.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bug_kinds: Vec<BugKind>,
    /// The limits of one rollout.
    pub agent: AgentLimits,
    /// What commands find around them.
    pub environment: EnvironmentPlan,
    /// What commands may do.
    pub sandbox: SandboxPlan,
    /// How the teacher samples.
    pub sampling: SamplingPlan,
    /// What this process may spend; fixed when its Job is made.
    #[serde(skip_serializing_if = "BudgetSlice::is_unlimited")]
    pub budget: BudgetSlice,
}

/// The limits of one rollout: `spec.generation.agent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentLimits {
    /// The most model calls.
    pub max_steps: u32,
    /// The longest answer of an agent's call, in tokens; none: as long as the context allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// The longest time one command may take.
    pub command_timeout: Timeout,
    /// The longest time that all commands may take together.
    pub execution_timeout: Timeout,
    /// The longest time that a rollout may take.
    pub rollout_timeout: Timeout,
    /// The most characters of a command's output that the model is shown.
    pub max_observation_chars: u32,
    /// The most characters of a file that the editor shows at once.
    pub max_editor_chars: u32,
}

/// What commands find around them: `spec.generation.environment`, without what only pods need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EnvironmentPlan {
    /// Where the repository lies in every sandbox.
    pub working_dir: ContainerPath,
    /// Variables of every command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// A shell script that is run once in each fresh sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
    /// Further directories that commands may write to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writable_paths: Vec<ContainerPath>,
}

/// What commands may do: `spec.generation.sandbox`, without what only pods need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SandboxPlan {
    /// What they may reach.
    pub network: NetworkMode,
    /// Whether they run only under Landlock.
    pub landlock: LandlockMode,
    /// The most bytes that a slot's files may take; none: a sandbox of its own choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// The most bytes of memory that a slot's processes may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The most processes and threads of a slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
}

/// How the teacher samples: `spec.teacher.{sampling,contextLength}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SamplingPlan {
    /// The temperature, a decimal string.
    pub temperature: String,
    /// The longest answer of self-reviews and pull requests, in tokens.
    pub max_output_tokens: u32,
    /// How many tokens the teacher's context holds.
    pub context_length: u32,
}

/// What one process may spend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BudgetSlice {
    /// The most that tokens may cost; needs `price`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<Usd>,
    /// The most tokens, cached ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// What tokens cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<TokenPrice>,
    /// From when on no call is made any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
}

/// What a million tokens cost, in US dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenPrice {
    /// Tokens read that were not cached.
    pub input_per_million: Usd,
    /// Tokens read from the cache.
    pub cached_input_per_million: Usd,
    /// Tokens written.
    pub output_per_million: Usd,
}

/// When a trajectory counts: `spec.generation.{verification,filters}`, and of `spec.dataset` what decides about length. In pods it is the variable
/// `SERA_VERIFICATION`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VerificationPlan {
    /// Which measure decides.
    pub measure: Measure,
    /// The lowest measure that is accepted.
    pub threshold: Ratio,
    /// The most changed lines of a trajectory's own patch.
    pub max_patch_lines: u32,
    /// The most tokens that tool outputs have on average.
    pub max_mean_tool_tokens: u32,
    /// How lines for the student are made; none for a batch alone, which has no student.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student: Option<StudentPlan>,
}

/// How lines for the student are made: of `spec.dataset` what decides whether a trajectory fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StudentPlan {
    /// How tool calls are written.
    pub tool_call_format: ToolCallFormat,
    /// The longest line, in tokens.
    pub context_length: u32,
    /// The smallest share of messages that must be left.
    pub min_kept_ratio: Ratio,
}

/// Which verified trajectories are left out, and how they become lines: `spec.generation.{verification,filters}` and `spec.dataset`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatasetPlan {
    /// How many trajectories are wanted, both kinds together.
    pub accepted_trajectories: u32,
    /// The share of first rollouts among them.
    pub first_rollout_share: Ratio,
    /// The share of lines that is kept from training.
    pub eval_fraction: Ratio,
}

impl BudgetSlice {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.max_cost.is_none() && self.max_tokens.is_none() && self.until.is_none()
    }
}

impl Default for RolloutPlan {
    fn default() -> Self {
        Self {
            seed: 42,
            instances_per_function: 1,
            bug_kinds: Vec::new(),
            agent: AgentLimits::default(),
            environment: EnvironmentPlan::default(),
            sandbox: SandboxPlan::default(),
            sampling: SamplingPlan::default(),
            budget: BudgetSlice::default(),
        }
    }
}

impl Default for VerificationPlan {
    /// The paper's: half of the lines, patches of up to 40 lines, tool outputs of up to 600 tokens on average.
    fn default() -> Self {
        Self {
            measure: Measure::Recall,
            threshold: literal("0.5"),
            max_patch_lines: 40,
            max_mean_tool_tokens: 600,
            student: None,
        }
    }
}

impl Default for AgentLimits {
    /// The paper's limits, and two hours for the whole of a rollout.
    fn default() -> Self {
        Self {
            max_steps: 115,
            max_output_tokens: None,
            command_timeout: literal("300s"),
            execution_timeout: literal("30m"),
            rollout_timeout: literal("2h"),
            max_observation_chars: 100_000,
            max_editor_chars: 16_000,
        }
    }
}

impl Default for EnvironmentPlan {
    fn default() -> Self {
        Self { working_dir: literal("/testbed"), env: Vec::new(), setup: None, writable_paths: Vec::new() }
    }
}

impl Default for SandboxPlan {
    fn default() -> Self {
        Self {
            network: NetworkMode::None,
            landlock: LandlockMode::Required,
            disk_bytes: None,
            memory_bytes: None,
            processes: None,
        }
    }
}

impl Default for SamplingPlan {
    fn default() -> Self {
        Self { temperature: "0.6".to_owned(), max_output_tokens: 4096, context_length: 131_072 }
    }
}
