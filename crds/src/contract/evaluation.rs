//! The evaluation: how the student fares beside its base and its teacher, on functions that were set aside before anything was generated.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{FileDigest, FunctionRef, RolloutOutcome, Usage};
use crate::values::{Ratio, Verdict};

/// One of the three models that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Contestant {
    /// Whose trajectories were trained on, and who poses the tasks.
    Teacher,
    /// What was trained.
    Student,
    /// What it was trained from.
    Base,
}

impl Contestant {
    /// All three, in the order in which they are asked.
    pub const ALL: [Self; 3] = [Self::Teacher, Self::Student, Self::Base];

    /// The word for it in flags, and the name of its folder in the store.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
            Self::Base => "base",
        }
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is asked of an evaluation: `spec.evaluation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvaluationPlan {
    /// How many held-out functions are tried at most.
    pub samples: u32,
    /// How often each model tries each task.
    pub seeds: u32,
    /// The smallest difference of mean F1 that matters.
    pub min_effect: Ratio,
}

/// `report/report.json`: what an evaluation has found. It claims nothing about bugs that are fixed: F1 says how much of one known change was found again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvaluationReport {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// Whether one of the models was a rehearsal: nothing follows from the figures then.
    pub rehearsal: bool,
    /// What was asked.
    pub plan: EvaluationPlan,
    /// How many held-out functions were tried.
    pub tried: u64,
    /// How many of them led to a task: their first rollout passed its self-review, and a text came of it.
    pub tasks: u64,
    /// In how many files these functions are: what the intervals rest on, since functions of one file are alike.
    pub files: u64,
    /// What came of each task (`tasks.jsonl`): a [`TaskResult`] a line.
    pub details: FileDigest,
    /// What each model made of them.
    pub models: BTreeMap<Contestant, ModelResult>,
    /// The student beside its base.
    pub over_base: Comparison,
    /// The student beside its teacher.
    pub over_teacher: Comparison,
    /// The mean F1 of the student's patches against the changes of other tasks: what mere chance and habit come to.
    pub floor: f64,
    /// How many trajectories that were trained on touch a function that was set aside. With any there is no verdict.
    pub contaminated: u64,
    /// How many trajectories that were trained on could not be looked at for that, because their patches are not in this store: those of a dataset
    /// that was adopted without its rollouts, which were looked at when they were verified.
    pub unchecked: u64,
    /// What all that says; none where training had seen what was asked, or there were no tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// A line of `report/tasks.jsonl`: a task, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskResult {
    /// The sample's number among those for evaluation.
    pub sample: u64,
    /// The function that it is about.
    pub function: FunctionRef,
    /// The strict F1 of each model's patches, one for each decoding seed; 0 for an attempt that did not submit any.
    pub f1: BTreeMap<Contestant, Vec<f64>>,
}

/// What one model made of the tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelResult {
    /// The model's name.
    pub model: String,
    /// How many attempts it made.
    pub attempts: u64,
    /// The mean strict F1 a function, every attempt counted.
    pub f1: Interval,
    /// The mean of the paper's line recall.
    pub recall: f64,
    /// The share of attempts that find at least half of the changed lines again.
    pub half_found: f64,
    /// The share of attempts that submitted a patch.
    pub submitted: f64,
    /// The share of attempts whose patch changes a file that had to be changed.
    pub file_found: f64,
    /// The share of attempts whose patch changes something within three lines of what had to be changed.
    pub place_found: f64,
    /// How the attempts ended.
    pub outcomes: BTreeMap<RolloutOutcome, u64>,
    /// How many answers could not be used and were asked again.
    pub reasked: u64,
    /// What the attempts took.
    pub usage: Usage,
}

/// A mean, with its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// The student beside another model, task by task.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Comparison {
    /// By how much the student's mean F1 is higher, with the interval that holds for both comparisons together (Holm).
    pub difference: Interval,
    /// How likely a difference as large is without any, by the bootstrap and before Holm's correction.
    pub p: f64,
    /// The smallest difference that as many tasks would have found eight times in ten.
    pub detects: f64,
    /// The difference over its standard deviation between decoding seeds, as the paper reports it; nothing is decided by it. None with one seed, or
    /// where the seeds agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr: Option<f64>,
}
