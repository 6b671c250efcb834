//! What attempts are worth: how much of the task's change each found again, where it looked, and how it ended.

use std::collections::BTreeMap;

use bytes::Bytes;
use sera_crds::contract::{Fraction, Interval, ModelResult, RetriedTurns, RolloutOutcome, RolloutRecord, Usage};

use super::statistics::mean;
use super::tasks::Task;
use crate::index::is_near;
use crate::verify::{changed_files, measure};

/// The share of changed lines from which on a change counts as found (the paper's threshold of soft verification).
const HALF: u64 = 2;

/// An attempt that was made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) record: RolloutRecord,
    pub(super) patch: Bytes,
    /// What it took, calls that led to nothing included.
    pub(super) usage: Usage,
}

/// What an attempt is worth.
#[expect(clippy::struct_excessive_bools, reason = "each is a share of its own in the report")]
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Score {
    /// The strict F1; 0 where nothing was submitted.
    pub(super) f1: f64,
    recall: f64,
    half_found: bool,
    submitted: bool,
    file_found: bool,
    place_found: bool,
}

impl Score {
    /// Measures an attempt. One that ended without submitting found nothing, whatever its patch was by then.
    pub(super) fn of(task: &Task, made: &Made) -> Self {
        if made.record.outcome != RolloutOutcome::Submitted {
            return Self::default();
        }
        let measures = measure(&task.patch, &made.patch).0;
        let share = |fraction: Option<Fraction>| fraction.map_or(0.0, Fraction::value);
        let wanted = changed_files(&task.patch);
        let text = |patch: &Bytes| String::from_utf8_lossy(patch).into_owned();
        Self {
            f1: share(measures.strict.f1()),
            recall: share(measures.recall),
            half_found: measures.recall.is_some_and(|recall| recall.matched * HALF >= recall.total),
            submitted: true,
            file_found: changed_files(&made.patch).iter().any(|file| wanted.contains(file)),
            place_found: is_near(&text(&task.patch), &text(&made.patch)),
        }
    }
}

/// The mean F1 of submitted patches against the changes of the next tasks: what chance and habit come to. 0 with fewer than two tasks.
pub(super) fn floor(tasks: &[Task], attempts: &[(usize, Made)]) -> f64 {
    if tasks.len() < 2 {
        return 0.0;
    }
    mean(attempts.iter().map(|(task, made)| Score::of(&tasks[(task + 1) % tasks.len()], made).f1))
}

/// What a model made of all tasks.
pub(super) fn result(model: String, f1: Interval, attempts: &[(usize, Made)], scores: &[Score]) -> ModelResult {
    let share = |is: fn(&Score) -> bool| mean(scores.iter().map(|score| f64::from(u8::from(is(score)))));
    let mut outcomes = BTreeMap::new();
    let mut usage = Usage::default();
    for (_, made) in attempts {
        *outcomes.entry(made.record.outcome).or_default() += 1;
        usage += made.usage;
    }
    ModelResult {
        model,
        attempts: attempts.len() as u64,
        f1,
        recall: mean(scores.iter().map(|score| score.recall)),
        half_found: share(|score| score.half_found),
        submitted: share(|score| score.submitted),
        file_found: share(|score| score.file_found),
        place_found: share(|score| score.place_found),
        outcomes,
        reasked: attempts.iter().map(|(_, made)| reasked(&made.record.retried)).sum(),
        usage,
    }
}

fn reasked(retried: &RetriedTurns) -> u64 {
    let RetriedTurns { no_call, many_calls, malformed, unknown_tool, empty } = *retried;
    [no_call, many_calls, malformed, unknown_tool, empty].into_iter().map(u64::from).sum()
}

#[cfg(test)]
mod tests {
    use sera_crds::contract::{
        CONTRACT_VERSION, FileDigest, FunctionRef, PullRequest, RolloutKind, SampleOutcome, TeacherMark,
    };

    use super::*;

    fn patch(file: &str, line: u32, old: &str, new: &str) -> Bytes {
        format!(
            "diff --git a/{file} b/{file}\nindex 1111111..2222222 100644\n--- a/{file}\n+++ b/{file}\n@@ -{line} +{line} @@\n-{old}\n+{new}\n"
        )
        .into()
    }

    fn digest() -> FileDigest {
        FileDigest { name: "p".into(), bytes: 0, sha256: String::new() }
    }

    fn function() -> FunctionRef {
        FunctionRef { snapshot: 0, file: "src/a.py".into(), name: "f".into(), lines: (10, 20) }
    }

    fn mark() -> TeacherMark {
        TeacherMark { model: "m".into(), rehearsal: false }
    }

    fn task(patch: Bytes) -> Task {
        let pull_request = PullRequest { text: digest(), tries: 1, leaks: false };
        Task {
            outcome: SampleOutcome {
                version: CONTRACT_VERSION,
                sample: 0,
                folder: "x".into(),
                function: function(),
                bug_kinds: Vec::new(),
                first: RolloutOutcome::Submitted,
                pull_request: Some(pull_request.clone()),
                second: None,
                usage: Usage::default(),
                teacher: mark(),
            },
            pull_request,
            patch,
        }
    }

    fn made(outcome: RolloutOutcome, patch: Bytes) -> Made {
        let record = RolloutRecord {
            version: CONTRACT_VERSION,
            sample: 0,
            rollout: RolloutKind::Second,
            folder: "x".into(),
            outcome,
            problem: None,
            function: function(),
            bug_kind: None,
            trajectory: digest(),
            patch: digest(),
            usage: Usage::default(),
            retried: RetriedTurns { malformed: 2, ..RetriedTurns::default() },
            teacher: mark(),
            prompts: String::new(),
            protections: Vec::new(),
        };
        Made { record, patch, usage: Usage { calls: 3, ..Usage::default() } }
    }

    #[test]
    fn an_attempt_is_worth_what_it_found_and_nothing_if_it_did_not_submit() {
        let wanted = patch("src/a.py", 12, "    if a > 1:", "    if a >= 1:");
        let task = task(wanted.clone());
        let whole = Score::of(&task, &made(RolloutOutcome::Submitted, wanted.clone()));
        assert_eq!(
            whole,
            Score { f1: 1.0, recall: 1.0, half_found: true, submitted: true, file_found: true, place_found: true }
        );
        assert_eq!(Score::of(&task, &made(RolloutOutcome::StepLimit, wanted)), Score::default());
        let half = Score::of(
            &task,
            &made(RolloutOutcome::Submitted, patch("src/a.py", 12, "    if a > 1:", "    if a != 1:")),
        );
        assert!((half.f1 - 0.5).abs() < 1e-12 && half.half_found, "{half:?}");
    }

    #[test]
    fn where_an_attempt_looked_is_told_apart_from_what_it_found() {
        let task = task(patch("src/a.py", 12, "    if a > 1:", "    if a >= 1:"));
        let at = |file: &str, line: u32| {
            let score = Score::of(&task, &made(RolloutOutcome::Submitted, patch(file, line, "    x = 1", "    x = 2")));
            (score.f1 > 0.0, score.file_found, score.place_found)
        };
        assert_eq!(at("src/a.py", 15), (false, true, true));
        assert_eq!(at("src/a.py", 40), (false, true, false));
        assert_eq!(at("src/b.py", 15), (false, false, false));
    }

    #[test]
    fn the_floor_is_measured_against_other_tasks() {
        let [a, b] = [12, 14].map(|line| patch("src/a.py", line, &format!("    a{line}"), &format!("    b{line}")));
        let tasks = [task(a.clone()), task(b.clone())];
        let right = [(0, made(RolloutOutcome::Submitted, a.clone())), (1, made(RolloutOutcome::Submitted, b.clone()))];
        assert!(floor(&tasks, &right).abs() < 1e-12);
        let crossed = [(0, made(RolloutOutcome::Submitted, b)), (1, made(RolloutOutcome::Submitted, a))];
        assert!((floor(&tasks, &crossed) - 1.0).abs() < 1e-12 && floor(&tasks[..1], &crossed[..1]).abs() < 1e-12);
    }

    #[test]
    fn a_model_s_result_counts_every_attempt() {
        let wanted = patch("src/a.py", 12, "    if a > 1:", "    if a >= 1:");
        let task = task(wanted.clone());
        let attempts =
            [(0, made(RolloutOutcome::Submitted, wanted)), (0, made(RolloutOutcome::ContextLimit, Bytes::new()))];
        let scores: Vec<Score> = attempts.iter().map(|(_, made)| Score::of(&task, made)).collect();
        let found = result("m".into(), Interval { mean: 0.5, low: 0.0, high: 1.0 }, &attempts, &scores);
        assert_eq!((found.attempts, found.reasked, found.usage.calls), (2, 4, 6));
        assert!((found.submitted - 0.5).abs() < 1e-12 && (found.place_found - 0.5).abs() < 1e-12);
        assert_eq!(found.outcomes[&RolloutOutcome::ContextLimit], 1);
    }
}
