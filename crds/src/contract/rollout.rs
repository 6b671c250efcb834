//! What the rollout stage commits: `rollouts/<batch>/<sample>/{t1,pr,t2,outcome}.json`, each naming the folder that counts, and in that folder the
//! trajectories, patches and the synthetic pull request. First rollouts that were made again with another bug kind lie beside them, as `t1-1.json`
//! and `t1-2.json` (and `t1-1.json.zst`, `p1-1.diff`, …): they count for nothing but what they cost.

use serde::{Deserialize, Serialize};

use super::FunctionRef;
use crate::values::BugKind;

/// Which of a sample's two rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RolloutKind {
    /// The teacher gets a function and a vague kind of bug (T1, P1).
    First,
    /// The teacher gets only the synthetic pull request, and a fresh checkout (T2, P2).
    Second,
}

impl RolloutKind {
    /// The stem of its files: `t1` or `t2`.
    pub const fn stem(self) -> &'static str {
        match self {
            Self::First => "t1",
            Self::Second => "t2",
        }
    }
}

/// How a rollout ended. Whatever it is, the patch as it stood is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RolloutOutcome {
    /// The teacher submitted its work, and (in a first rollout) the self-review took it for a valid fix.
    Submitted,
    /// `agent.maxSteps` model calls were made.
    StepLimit,
    /// The conversation no longer fits the teacher's context.
    ContextLimit,
    /// An answer was cut off at the output limit.
    OutputLimit,
    /// `agent.rolloutTimeout` or `agent.executionTimeout` was reached, or three commands in a row timed out.
    TimeLimit,
    /// The slice of the budget was spent.
    Budget,
    /// The teacher could not be reached, or kept answering with what cannot be used.
    TeacherError,
    /// It submitted, and nothing had changed.
    EmptyPatch,
    /// The sandbox failed: setup, space, or a slot that would not come clean.
    EnvironmentError,
    /// The self-review said no, for every bug kind of the sample.
    RefusedByReview,
    /// The teacher said that it found nothing to change, for every bug kind of the sample.
    Abstained,
}

/// Token counts of calls to the teacher, as its server reports them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Usage {
    /// How many calls were answered.
    pub calls: u64,
    /// Tokens read, cached ones included.
    pub prompt_tokens: u64,
    /// Those of them that came from the prefix cache.
    pub cached_tokens: u64,
    /// Tokens written, thinking included.
    pub completion_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

impl std::ops::SubAssign for Usage {
    /// What is left; nothing where more is taken than there is.
    fn sub_assign(&mut self, other: Self) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.prompt_tokens = self.prompt_tokens.saturating_sub(other.prompt_tokens);
        self.cached_tokens = self.cached_tokens.saturating_sub(other.cached_tokens);
        self.completion_tokens = self.completion_tokens.saturating_sub(other.completion_tokens);
    }
}

/// A file in the folder that a record names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileDigest {
    /// Its name in the folder.
    pub name: String,
    /// Its size in bytes, as it is stored.
    pub bytes: u64,
    /// Its sha256, in lower-case hexadecimal, as it is stored.
    pub sha256: String,
}

/// `t1.json` and `t2.json`: a finished rollout. Created once; what it does not name does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutRecord {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// The sample's number in its run.
    pub sample: u64,
    /// Which of the two.
    pub rollout: RolloutKind,
    /// The folder beside this file that holds the files: the uid of the pod that made them.
    pub folder: String,
    /// How it ended.
    pub outcome: RolloutOutcome,
    /// What was in the way, in a sentence, where the outcome is a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The function that the sample is about.
    pub function: FunctionRef,
    /// The bug kind that led to this trajectory; none in a second rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug_kind: Option<BugKind>,
    /// The trajectory (`t1.json.zst`): a [`Trajectory`].
    pub trajectory: FileDigest,
    /// The patch as it stood at the end (`p1.diff`), empty where nothing had changed.
    pub patch: FileDigest,
    /// The calls of this rollout, the self-reviews included.
    pub usage: Usage,
    /// Turns that were asked again, by why.
    pub retried: RetriedTurns,
    /// Which teacher, and whether it was a rehearsal.
    pub teacher: TeacherMark,
    /// The digest of the prompts that were used: sha256 over the template files, in lower-case hexadecimal.
    pub prompts: String,
    /// What kept the commands apart, as the sandbox achieved it: `seccomp`, `landlock-v7`, `pid-limit`…
    pub protections: Vec<String>,
}

/// Answers that could not be used and were asked again; they never enter the history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetriedTurns {
    /// Answers without a tool call.
    pub no_call: u32,
    /// Answers with more than one.
    pub many_calls: u32,
    /// Calls whose arguments are no JSON, or miss something.
    pub malformed: u32,
    /// Calls of a tool that does not exist.
    pub unknown_tool: u32,
    /// Answers with nothing in them.
    pub empty: u32,
}

/// Which teacher made something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeacherMark {
    /// The model's name, as it was asked for.
    pub model: String,
    /// Whether it was the rehearsal teacher: a program, and no model.
    pub rehearsal: bool,
}

/// `outcome.json`: the end of a sample. It is written when nothing more will be done about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SampleOutcome {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// The sample's number in its run.
    pub sample: u64,
    /// The folder that holds the files of this end (`pr.md`).
    pub folder: String,
    /// The function, and the bug kinds in the order in which they were to be tried.
    pub function: FunctionRef,
    /// See `function`.
    pub bug_kinds: Vec<BugKind>,
    /// How the first rollout ended.
    pub first: RolloutOutcome,
    /// The synthetic pull request; none where the first rollout left no patch, or no acceptable text came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequest>,
    /// How the second rollout ended; none where there was nothing to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<RolloutOutcome>,
    /// All calls that this sample took, reviews, texts and rollouts that were cut off included.
    pub usage: Usage,
    /// Which teacher, and whether it was a rehearsal.
    pub teacher: TeacherMark,
}

/// `pr.json`: the search for a sample's pull request has ended. Created once, before the second rollout begins: whoever takes a sample over asks for
/// no other text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullRequestRecord {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// The sample's number in its run.
    pub sample: u64,
    /// The folder beside this file that holds the text.
    pub folder: String,
    /// The text; none where no acceptable one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequest>,
    /// The calls that it took.
    pub usage: Usage,
    /// Whether a rehearsal teacher wrote it, or what it tells of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
}

/// `<folder>/spent.json`: calls that were answered and whose results are in no other record: those of a rollout that was at work when its process was
/// stopped, or that another process had committed first. [`SampleOutcome::usage`] has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpentRecord {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// The sample's number in its run.
    pub sample: u64,
    /// What they took.
    pub usage: Usage,
    /// Whether a rehearsal teacher answered them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
}

/// The synthetic pull request of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullRequest {
    /// The text (`pr.md`).
    pub text: FileDigest,
    /// How often it was asked for.
    pub tries: u32,
    /// Whether it gives away an added line of the first patch (of at least 12 characters) in spite of the checks.
    pub leaks: bool,
}

/// `t1.json.zst`, `t2.json.zst`: a whole conversation, as the teacher saw it. Nothing in it was ever rewritten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trajectory {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// The sample's number in its run.
    pub sample: u64,
    /// Which of the two.
    pub rollout: RolloutKind,
    /// Whether a rehearsal teacher had it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
    /// The tools that were offered, as the `tools` of the protocol.
    pub tools: Vec<serde_json::Value>,
    /// The conversation: system, user, then assistant and tool in turns.
    pub messages: Vec<Message>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Message {
    /// The rules of the game.
    System {
        /// The text.
        content: String,
    },
    /// The task.
    User {
        /// The text.
        content: String,
    },
    /// A turn of the teacher: thinking, text and exactly one tool call.
    Assistant {
        /// Text outside of thinking and calls.
        content: String,
        /// The thinking, without its tags, whichever field it came in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reasoning: Option<String>,
        /// The call.
        tool_call: ToolCall,
        /// What this call took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
    },
    /// What the tool answered.
    Tool {
        /// The call that it answers.
        tool_call_id: String,
        /// The observation, as the teacher saw it.
        content: String,
        /// Whether this is the review that the first submit shows, and not an observation.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        review: bool,
    },
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolCall {
    /// The call's id, as it was given.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments, in the order in which they were given.
    pub arguments: serde_json::Map<String, serde_json::Value>,
}
