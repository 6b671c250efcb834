//! Events, read off the difference between two statuses: one happens when its status was written, and never twice for the same write.

use sera_crds::{run::Phase, values::Stage};

use super::{
    conditions::{ConditionType, Reason},
    record::{Attempt, AttemptOutcome, Record},
    task::noun,
};

/// An Event to be published. Its reason is one of a closed set (`docs/conditions.md` lists them); what a program or Kubernetes calls the cause
/// opens the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should look.
    pub warning: bool,
    /// A CamelCase word.
    pub reason: &'static str,
    /// What the operator was about: a stage, or the object as a whole.
    pub action: &'static str,
    /// A sentence.
    pub text: String,
}

/// What an Event says it was about, where that is no stage.
const WHOLE: &str = "Reconcile";

/// What happened between two statuses.
pub fn between(before: &Record, after: &Record) -> Vec<Note> {
    let of_attempts = after.attempts.iter().flat_map(|(stage, attempt)| {
        let known = before.attempts.get(stage).filter(|known| known.number == attempt.number);
        [begun(*stage, attempt, known), ended(*stage, attempt, known, after)]
    });
    of_attempts
        .chain([
            folded(before, after),
            generated(before, after),
            held(before, after),
            kept(before, after),
            stalled(before, after),
        ])
        .flatten()
        .collect()
}

/// The reasons of a stage's Events; none of one that has no attempts.
const fn reasons(stage: Stage) -> Option<Reasons> {
    Some(match stage {
        Stage::Snapshot => Reasons {
            started: "SnapshotStarted",
            succeeded: "SnapshotSucceeded",
            failed: "SnapshotFailed",
            lost: "SnapshotLost",
            withdrawn: "SnapshotWithdrawn",
        },
        Stage::Rollouts => Reasons {
            started: "RolloutsStarted",
            succeeded: "RolloutsSucceeded",
            failed: "RolloutsFailed",
            lost: "RolloutsLost",
            withdrawn: "RolloutsWithdrawn",
        },
        Stage::Verification => Reasons {
            started: "VerificationStarted",
            succeeded: "VerificationSucceeded",
            failed: "VerificationFailed",
            lost: "VerificationLost",
            withdrawn: "VerificationWithdrawn",
        },
        Stage::Generation => Reasons {
            started: "DryRunStarted",
            succeeded: "DryRunSucceeded",
            failed: "DryRunFailed",
            lost: "DryRunLost",
            withdrawn: "DryRunWithdrawn",
        },
        Stage::Dataset => Reasons {
            started: "DatasetStarted",
            succeeded: "DatasetSucceeded",
            failed: "DatasetFailed",
            lost: "DatasetLost",
            withdrawn: "DatasetWithdrawn",
        },
        Stage::Training => Reasons {
            started: "TrainingStarted",
            succeeded: "TrainingSucceeded",
            failed: "TrainingFailed",
            lost: "TrainingLost",
            withdrawn: "TrainingWithdrawn",
        },
        Stage::Reclaim => Reasons {
            started: "ReclaimStarted",
            succeeded: "ReclaimSucceeded",
            failed: "ReclaimFailed",
            lost: "ReclaimLost",
            withdrawn: "ReclaimWithdrawn",
        },
        Stage::Evaluation => Reasons {
            started: "EvaluationStarted",
            succeeded: "EvaluationSucceeded",
            failed: "EvaluationFailed",
            lost: "EvaluationLost",
            withdrawn: "EvaluationWithdrawn",
        },
        Stage::Serving => return None,
    })
}

struct Reasons {
    started: &'static str,
    succeeded: &'static str,
    failed: &'static str,
    lost: &'static str,
    withdrawn: &'static str,
}

fn begun(stage: Stage, attempt: &Attempt, known: Option<&Attempt>) -> Option<Note> {
    let reason = reasons(stage)?.started;
    let text = format!("attempt {} of {} begins", attempt.number, noun(stage));
    known.is_none().then(|| Note { warning: false, reason, action: stage.as_str(), text })
}

fn ended(stage: Stage, attempt: &Attempt, known: Option<&Attempt>, after: &Record) -> Option<Note> {
    let end = attempt.end.as_ref()?;
    let Reasons { succeeded, failed, lost, withdrawn, .. } = reasons(stage)?;
    let (number, noun) = (attempt.number, noun(stage));
    let said = said_of(stage, after);
    let (warning, reason, text) = match &end.outcome {
        AttemptOutcome::Succeeded => {
            let said = if said.is_empty() { said } else { format!(": {said}") };
            (false, succeeded, format!("attempt {number} of {noun} is done{said}"))
        }
        AttemptOutcome::Failed(failure) => {
            let field = failure.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
            (true, failed, format!("{}: {field}{}", failure.reason, failure.message))
        }
        AttemptOutcome::Lost => (true, lost, format!("what became of attempt {number} of {noun} is not known")),
        AttemptOutcome::Withdrawn => (false, withdrawn, format!("attempt {number} of {noun} is ended for its owner")),
        // Of other stages Kubernetes starts a disrupted pod again within the attempt.
        AttemptOutcome::Disrupted => (false, "TrainingDisrupted", said),
    };
    let is_known = known.is_some_and(|known| known.end.is_some());
    (!is_known).then_some(Note { warning, reason, action: stage.as_str(), text })
}

/// What status says of a stage. Of a dry run it is what that has found: the condition speaks of the generation as a whole.
fn said_of(stage: Stage, after: &Record) -> String {
    let found = after.generation.as_ref().and_then(|generation| generation.dry_run.as_ref());
    match (stage, found) {
        (Stage::Generation, Some(found)) => found.words(),
        _ => after.conditions.get(stage.into()).map(|condition| condition.message.clone()).unwrap_or_default(),
    }
}

fn folded(before: &Record, after: &Record) -> Option<Note> {
    let through = |record: &Record| record.generation.as_ref().map_or(0, |generation| generation.folded.through);
    let generation = after.generation.as_ref().filter(|_| through(after) > through(before))?;
    let text = format!(
        "{} batches are counted: {} samples, {} trajectories accepted",
        through(after),
        generation.totals.attempted,
        generation.totals.accepted
    );
    Some(Note { warning: false, reason: "BatchFolded", action: Stage::Generation.as_str(), text })
}

fn generated(before: &Record, after: &Record) -> Option<Note> {
    let is_so = |record: &Record| record.conditions.holds(ConditionType::Generated);
    let said = after.conditions.get(ConditionType::Generated).map(|condition| condition.message.clone())?;
    (is_so(after) && !is_so(before)).then_some(Note {
        warning: false,
        reason: "GenerationSucceeded",
        action: Stage::Generation.as_str(),
        text: said,
    })
}

fn held(before: &Record, after: &Record) -> Option<Note> {
    let is_held = |record: &Record| record.phase == Some(Phase::Suspended);
    let (reason, text) = match (is_held(before), is_held(after)) {
        (false, true) => ("Suspended", "spec.suspend is set"),
        (true, false) if !after.conditions.contains(ConditionType::Reclaimed) => {
            ("Resumed", "spec.suspend is no longer set")
        }
        _ => return None,
    };
    Some(Note { warning: false, reason, action: WHOLE, text: text.to_owned() })
}

/// Where the API server takes no Event any more because the namespace is going, the log has it.
fn kept(before: &Record, after: &Record) -> Option<Note> {
    let said = |record: &Record| {
        let said = record.conditions.get(ConditionType::Reclaimed)?;
        (said.reason == Reason::NamespaceTerminating.as_str()).then(|| said.message.clone())
    };
    let text = said(after).filter(|_| said(before).is_none())?;
    Some(Note { warning: true, reason: "DataKept", action: Stage::Reclaim.as_str(), text })
}

/// Only for what no attempt's end has said already.
fn stalled(before: &Record, after: &Record) -> Option<Note> {
    let why = after.conditions.get(ConditionType::Stalled)?;
    let is_known = before.conditions.get(ConditionType::Stalled).is_some_and(|known| known.reason == why.reason);
    let is_an_attempts =
        after.attempts.values().filter_map(Attempt::failure).any(|failure| failure.reason == why.reason);
    (!is_known && !is_an_attempts).then(|| Note {
        warning: true,
        reason: "Stalled",
        action: WHOLE,
        text: format!("{}: {}", why.reason, why.message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_a_condition_and_every_reason_of_one_or_of_an_event_is_documented() {
        let page = include_str!("../../../docs/conditions.md");
        let of_stages = Stage::ALL.iter().filter_map(|stage| reasons(*stage));
        let of_stages = of_stages.flat_map(|Reasons { started, succeeded, failed, lost, withdrawn }| {
            [started, succeeded, failed, lost, withdrawn]
        });
        let others =
            ["TrainingDisrupted", "BatchFolded", "GenerationSucceeded", "Suspended", "Resumed", "DataKept", "Stalled"];
        let of_conditions = Reason::ALL.iter().map(|reason| reason.as_str());
        let types = ConditionType::ALL.iter().map(|kind| kind.as_str());
        let missing: Vec<&str> = of_stages
            .chain(others)
            .chain(of_conditions)
            .chain(types)
            .filter(|word| !page.contains(&format!("`{word}`")))
            .collect();
        assert!(missing.is_empty(), "docs/conditions.md has nothing of {missing:?}");
    }
}
