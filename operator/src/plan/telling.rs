//! What is said of an attempt, in sentences and in percent: while it starts and works, and between its end and the next one's beginning.

use jiff::Timestamp;
use sera_crds::contract::Failure;

use super::{
    conditions::{Reason, Standing, Why},
    record::{Attempt, AttemptOutcome, Record, is_the_owners},
    sight::Evidence,
    task::Task,
};
use crate::facts::Live;

/// Where an object stands between an attempt that ended without a result and the next.
pub(super) fn after_end(task: &Task, attempt: &Attempt, due: Timestamp) -> Standing {
    let number = attempt.number;
    match attempt.end.as_ref().map(|end| &end.outcome) {
        Some(AttemptOutcome::Failed(failure)) if is_the_owners(failure) => Standing::Stalled(Why::said(
            &failure.reason,
            format!("{} (attempt {number}; tried again after a change, and by itself within minutes)", words(failure)),
        )),
        Some(AttemptOutcome::Failed(failure)) => Standing::Reconciling(Why::new(
            Reason::BackingOff,
            format!("attempt {number} failed: {}; the next begins at {due:.0}", words(failure)),
        )),
        Some(AttemptOutcome::Lost) => Standing::Reconciling(Why::new(
            Reason::BackingOff,
            format!("what became of attempt {number} is not known; the next finds out, at {due:.0}"),
        )),
        Some(AttemptOutcome::Withdrawn) => Standing::Reconciling(Why::new(
            Reason::Suspended,
            format!("attempt {number} was ended for its owner; the next follows"),
        )),
        Some(AttemptOutcome::Succeeded) | None => Standing::Reconciling(starting_at(task, attempt)),
    }
}

/// How many samples are done: those of shards that have ended, by their mean size, and those that drivers at work tell of.
pub(super) fn samples_done(task: &Task, evidence: &Evidence, live: Option<Live>) -> u64 {
    let ended = u64::from(evidence.job.as_ref().map_or(0, |job| job.succeeded));
    let of_ended = (ended * u64::from(task.samples)).checked_div(task.shards.into()).unwrap_or_default();
    of_ended.saturating_add(live.map_or(0, |live| live.done)).min(task.samples.into())
}

/// How far rollouts are; what other stages make is there when they are done.
pub(super) fn note_progress(record: &mut Record, task: &Task, done: u64) {
    let percent = (done * 100).checked_div(task.samples.into()).unwrap_or_default();
    record.progress = Some((task.stage, u32::try_from(percent).unwrap_or(100)));
}

pub(super) fn starting_at(task: &Task, attempt: &Attempt) -> Why {
    Why::new(Reason::Progressing, format!("attempt {} of {} is being started", attempt.number, task.noun))
}

pub(super) fn running(task: &Task, attempt: &Attempt, done: u64, live: Option<Live>, earlier: Option<&Failure>) -> Why {
    let (number, noun) = (attempt.number, task.noun);
    match earlier {
        None if task.samples > 0 => {
            let tokens = live.map(|live| format!(", {} tokens at work", live.tokens)).unwrap_or_default();
            let done = format!("{done} of {} samples are done{tokens}", task.samples);
            Why::new(Reason::Progressing, format!("attempt {number} of {noun} is at work: {done}"))
        }
        None => Why::new(Reason::Progressing, format!("attempt {number} of {noun} is at work")),
        Some(failure) => Why::said(
            &failure.reason,
            format!("a pod of attempt {number} failed and Kubernetes tries again: {}", words(failure)),
        ),
    }
}

/// A failure in a sentence that names the field first, where there is one.
pub(super) fn words(failure: &Failure) -> String {
    match &failure.field {
        Some(field) => format!("{field}: {}", failure.message),
        None => failure.message.clone(),
    }
}
