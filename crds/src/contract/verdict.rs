//! What verification and the dataset stage commit: `verified/<batch>/<policy-digest>.jsonl`, a verdict a line; `dataset/{train,eval}.jsonl` and
//! `dataset/manifest.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DatasetPlan, FileDigest, FunctionRef, Recalls, RolloutKind, RolloutOutcome, Usage};
use crate::values::{BugKind, Measure, Ratio, ToolCallFormat};

/// What sums of shares are counted in.
pub(super) const MILLION: u64 = 1_000_000;

/// What decides: its digest names the file of verdicts. Another policy gives another file, and no model is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// Which measure decides.
    pub measure: Measure,
    /// The lowest measure that is accepted.
    pub threshold: Ratio,
    /// The most changed lines of a trajectory's own patch.
    pub max_patch_lines: u32,
    /// The most tokens that tool outputs have on average.
    pub max_mean_tool_tokens: u32,
    /// How lines for the student are made; none where there is no student (a batch alone): the kept ratio is not looked at then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student: Option<StudentPolicy>,
}

/// What of the student decides about trajectories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StudentPolicy {
    /// The sha256 of its `tokenizer.json`, in lower-case hexadecimal.
    pub tokenizer: String,
    /// The sha256 of its chat template, in lower-case hexadecimal.
    pub chat_template: String,
    /// How tool calls are written.
    pub tool_call_format: ToolCallFormat,
    /// The longest line, in tokens.
    pub context_length: u32,
    /// The smallest share of messages that must be left.
    pub min_kept_ratio: Ratio,
}

/// A line of verdicts: what becomes of one sample's two trajectories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verdict {
    /// The sample's number in its run.
    pub sample: u64,
    /// The function that it is about; none where nothing of the sample is in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionRef>,
    /// The bug kind that led to the first patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug_kind: Option<BugKind>,
    /// The first rollout.
    pub first: Judgement,
    /// The second.
    pub second: Judgement,
    /// How the second patch compares with the first; none where one of them is empty or missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measures: Option<Measures>,
    /// Whether the pull request gave an added line away.
    #[serde(default)]
    pub leaks: bool,
    /// All calls that the sample took.
    pub usage: Usage,
    /// Whether a rehearsal teacher made any of the sample.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
}

/// What becomes of one trajectory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Judgement {
    /// How the rollout ended; none where it did not take place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RolloutOutcome>,
    /// Why it is left out; none where it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejection>,
    /// The changed lines of its own patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_lines: Option<u32>,
    /// The sha256 of its own patch, for duplicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_sha256: Option<String>,
    /// The mean length of its tool outputs, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_tool_tokens: Option<u32>,
    /// The length of what is left of it after the cut, in the student's tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// How many of its messages are left after the cut, and how many there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<(u32, u32)>,
    /// A sketch of what the assistant wrote in those (`MinHash`: 128 little-endian 16-bit values in base64), for near-duplicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sketch: Option<String>,
}

/// Why a trajectory is left out of the dataset; the first reason that applies, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rejection {
    /// It did not take place, or its files are gone.
    Missing,
    /// It ended at a limit or by a fault.
    NotSubmitted,
    /// The self-review said no.
    RefusedByReview,
    /// Its patch is empty.
    EmptyPatch,
    /// It touches a function that was set aside for evaluation.
    HeldOut,
    /// Its patch equals that of an earlier sample.
    DuplicatePatch,
    /// The measure is below the threshold, or not defined.
    BelowThreshold,
    /// Its patch has more lines than `filters.maxPatchLines`.
    PatchTooLong,
    /// Its tool outputs are longer on average than `filters.maxMeanToolTokens`.
    ToolOutputTooLong,
    /// It has not the shape that the student is trained on.
    Malformed,
    /// Not even its first exchange fits, or less of it than `dataset.minKeptRatio`.
    TooLong,
    /// It has something in it that looks like a secret.
    Secret,
    /// It is nearly the same as an earlier one.
    NearDuplicate,
}

/// Both measures of one pair of patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Measures {
    /// The paper's line recall; none where the first patch has no line to recall.
    pub recall: Option<Fraction>,
    /// The strict measure.
    pub strict: StrictMeasures,
}

/// A share in whole numbers, so that 1/2 meets "0.5".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fraction {
    /// How many were found.
    pub matched: u64,
    /// Of how many; above 0.
    pub total: u64,
}

/// The strict measure: per file and hunk, whitespace normalised, lock and generated files and left-over scripts not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StrictMeasures {
    /// How many changed lines both patches have.
    pub matched: u64,
    /// How many the first has.
    pub first: u64,
    /// How many the second has.
    pub second: u64,
    /// Whether the patches could be parsed; where not, plain lines were compared.
    pub parsed: bool,
}

impl Fraction {
    /// The nearest double, for people and histograms. Nothing is decided by it.
    #[expect(clippy::cast_precision_loss, reason = "lines of a patch are far from 2^52")]
    pub fn value(self) -> f64 {
        self.matched as f64 / self.total as f64
    }

    /// The same in millionths, rounded down.
    pub fn millionths(self) -> u64 {
        self.matched.saturating_mul(MILLION) / self.total.max(1)
    }

    /// Whether it is at least `threshold`, in whole numbers.
    pub fn meets(self, threshold: &Ratio) -> bool {
        let threshold = threshold.value();
        let scale = 10_u128.pow(threshold.scale());
        u128::from(self.matched) * scale >= threshold.mantissa().unsigned_abs() * u128::from(self.total)
    }
}

impl StrictMeasures {
    /// How many of the first patch's lines the second has; none where the first has no line that counts.
    pub fn recall(&self) -> Option<Fraction> {
        (self.first > 0).then_some(Fraction { matched: self.matched, total: self.first })
    }

    /// How many of the second patch's lines the first has; none where the second has no line that counts.
    pub fn precision(&self) -> Option<Fraction> {
        (self.second > 0).then_some(Fraction { matched: self.matched, total: self.second })
    }

    /// The harmonic mean of both: twice the lines in common, of all lines. None where the first patch has no line that counts, as then there is
    /// nothing to be found.
    pub fn f1(&self) -> Option<Fraction> {
        (self.first > 0).then_some(Fraction { matched: 2 * self.matched, total: self.first + self.second })
    }
}

impl Measures {
    /// What a measure says; none where it is not defined.
    pub fn by(&self, measure: Measure) -> Option<Fraction> {
        match measure {
            Measure::Recall => self.recall,
            Measure::StrictRecall => self.strict.recall(),
            Measure::F1 => self.strict.f1(),
        }
    }
}

/// What the verification of a batch found, small enough for a termination message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VerificationCounts {
    /// Samples that were looked at.
    pub attempted: u64,
    /// First trajectories that are accepted.
    pub accepted_first: u64,
    /// Second trajectories that are.
    pub accepted_second: u64,
    /// Trajectories that are not, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Samples by recall: ten bins of a tenth each; 1 belongs to the last.
    pub recall_histogram: [u64; 10],
    /// The sum of their recalls, in millionths: what the mean is made from.
    pub recall_millionths: u64,
    /// Those of them whose pull request gives a line away.
    pub leaked: u64,
    /// The part of the sum that is theirs, in millionths.
    pub leaked_millionths: u64,
    /// Samples whose pull request gives a line away, with a recall or without.
    pub leaks: u64,
    /// All calls to the teacher.
    pub usage: Usage,
}

/// A training line: what axolotl and our trainer read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetLine {
    /// `<run or batch>-<sample>-<t1|t2>`.
    pub instance_id: String,
    /// The conversation.
    pub messages: Vec<DatasetMessage>,
    /// The tools, as one JSON text; none where the format writes them into the system message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_json: Option<String>,
}

/// One message of a training line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DatasetMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text, thinking and calls included.
    pub content: String,
    /// Whether its tokens carry loss.
    pub train: bool,
    /// The thinking, in the format Raw only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Structured calls, in the format Raw only; their arguments are JSON texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<serde_json::Value>>,
    /// The call that a tool's message answers, in the format Raw only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// `dataset/manifest.json`, written last. It carries no time of its own making: the same verdicts give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatasetManifest {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// The lines to train on.
    pub train: FileDigest,
    /// The lines to watch the loss on.
    pub eval: FileDigest,
    /// How many lines there are to train on.
    pub train_lines: u64,
    /// How many there are to watch.
    pub eval_lines: u64,
    /// How many lines of each kind were taken, training and evaluation together.
    pub taken: BTreeMap<RolloutKind, u64>,
    /// How many would have been there.
    pub eligible: BTreeMap<RolloutKind, u64>,
    /// Trajectories that were left out, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// How much was found again, over all verdicts.
    #[serde(default)]
    pub recall: Recalls,
    /// How many lines each bug kind gave: what the mix is.
    pub bug_kinds: BTreeMap<String, u64>,
    /// Lines by length: bins of 4,096 tokens.
    pub token_histogram: Vec<u64>,
    /// Lines by the share of their messages that was kept: ten bins of a tenth each; 1 belongs to the last.
    pub kept_histogram: [u64; 10],
    /// What was asked for.
    pub plan: DatasetPlan,
    /// The policy that decided.
    pub policy: Policy,
    /// Whether a rehearsal teacher made any of it.
    pub rehearsal: bool,
    /// The files of verdicts that it was made from, in order.
    pub verdicts: Vec<FileDigest>,
    /// The snapshot's manifest, by its sha256.
    pub snapshot: String,
    /// What the repository says about its licence, for whoever trains on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Where each line is from (`lineage.jsonl`): a [`Lineage`] a line, in the order of the lines, training first.
    pub lineage: FileDigest,
}

/// Where one line is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lineage {
    /// The line's `instance_id`.
    pub instance_id: String,
    /// The batch.
    pub batch: String,
    /// The sample.
    pub sample: u64,
    /// Which rollout.
    pub rollout: RolloutKind,
    /// The sha256 of the patch that it ends in.
    pub patch_sha256: String,
    /// The sha256 of the trajectory's file.
    pub trajectory_sha256: String,
    /// How many of its messages are left, and how many there were.
    pub kept: (u32, u32),
    /// Its length in the student's tokens.
    pub tokens: u32,
    /// Whether a rehearsal teacher made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(matched: u64, total: u64, threshold: &str) -> bool {
        Fraction { matched, total }.meets(&threshold.parse().unwrap())
    }

    #[test]
    fn shares_are_compared_in_whole_numbers() {
        assert!(meets(1, 2, "0.5") && meets(1, 2, "0.50") && meets(3, 3, "1") && meets(0, 7, "0"));
        assert!(!meets(1, 2, "0.500000001") && !meets(499_999_999, 1_000_000_000, "0.5") && !meets(2, 3, "1.0"));
        // As a double, 0.1 is above a tenth, and 3 × 0.1 above 0.3.
        assert!(meets(3, 30, "0.1") && meets(u64::MAX, u64::MAX, "1") && !meets(u64::MAX - 1, u64::MAX, "1"));
    }

    #[test]
    fn each_measure_has_its_own_numbers_and_none_where_there_is_nothing_to_find() {
        let strict = |matched, first, second| StrictMeasures { matched, first, second, parsed: true };
        let measures = Measures { recall: Some(Fraction { matched: 5, total: 7 }), strict: strict(1, 2, 3) };
        let by = |measure| measures.by(measure).map(|fraction| (fraction.matched, fraction.total));
        assert_eq!(by(Measure::Recall), Some((5, 7)));
        assert_eq!(by(Measure::StrictRecall), Some((1, 2)));
        assert_eq!(by(Measure::F1), Some((2, 5)));
        assert_eq!(measures.strict.precision(), Some(Fraction { matched: 1, total: 3 }));
        let (nothing, empty) = (strict(0, 0, 3), strict(0, 2, 0));
        assert_eq!((nothing.recall(), nothing.f1()), (None, None));
        assert_eq!((empty.precision(), empty.f1().unwrap().matched), (None, 0));
    }
}
