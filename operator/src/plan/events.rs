//! Events, read off the difference between two statuses: one happens when its status was written, and never twice for the same write.

use sera_crds::{run::Phase, values::Stage};

use super::{
    conditions::ConditionType,
    record::{Attempt, AttemptOutcome, Record},
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
    [begun(before, after), ended(before, after), held(before, after), stalled(before, after)]
        .into_iter()
        .flatten()
        .collect()
}

fn begun(before: &Record, after: &Record) -> Option<Note> {
    let attempt = after.attempts.get(&Stage::Snapshot)?;
    let is_known = before.attempts.get(&Stage::Snapshot).is_some_and(|known| known.number == attempt.number);
    (!is_known).then(|| Note {
        warning: false,
        reason: "SnapshotStarted",
        action: Stage::Snapshot.as_str(),
        text: format!("attempt {} of the snapshot begins", attempt.number),
    })
}

fn ended(before: &Record, after: &Record) -> Option<Note> {
    let attempt = after.attempts.get(&Stage::Snapshot)?;
    let end = attempt.end.as_ref()?;
    let is_known = before
        .attempts
        .get(&Stage::Snapshot)
        .is_some_and(|known| known.number == attempt.number && known.end.is_some());
    let said = after.conditions.get(ConditionType::Snapshotted).map_or("", |condition| &condition.message);
    let (warning, reason, text) = match &end.outcome {
        AttemptOutcome::Succeeded => (false, "SnapshotSucceeded", said.to_owned()),
        AttemptOutcome::Failed(failure) => (true, "SnapshotFailed", format!("{}: {said}", failure.reason)),
        AttemptOutcome::Lost => (true, "SnapshotLost", said.to_owned()),
        AttemptOutcome::Withdrawn => {
            (false, "SnapshotWithdrawn", format!("attempt {} of the snapshot is ended for its owner", attempt.number))
        }
    };
    (!is_known).then_some(Note { warning, reason, action: Stage::Snapshot.as_str(), text })
}

fn held(before: &Record, after: &Record) -> Option<Note> {
    let is_held = |record: &Record| record.phase == Some(Phase::Suspended);
    let (reason, text) = match (is_held(before), is_held(after)) {
        (false, true) => ("Suspended", "spec.suspend is set"),
        (true, false) => ("Resumed", "spec.suspend is no longer set"),
        _ => return None,
    };
    Some(Note { warning: false, reason, action: WHOLE, text: text.to_owned() })
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
