//! What is said of an attempt, in sentences and in percent: while it starts and works, and between its end and the next one's beginning.

use jiff::Timestamp;
use sera_crds::{
    contract::Failure,
    values::{Decimal, Stage},
};

use super::{
    conditions::{Reason, Standing, Why},
    record::{Attempt, AttemptOutcome, Record, is_the_owners},
    sight::{Crew, Evidence},
    task::Task,
};
use crate::facts::{Live, LiveRollouts, LiveTraining};

/// What is to be done about a pod that should have ended, as the end of a sentence: Kubernetes waits for the word of its node, for ever.
pub(super) const OF_A_LOST_NODE: &str =
    "if its node is gone, delete the Node, or give it the taint node.kubernetes.io/out-of-service";

/// Where an object stands between an attempt that ended without a result and the next.
pub(super) fn after_end(task: &Task, attempt: &Attempt, due: Timestamp) -> Standing {
    let number = attempt.number;
    if task.is_given_up_after(attempt) {
        return Standing::Failed(given_up(task, attempt));
    }
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
        Some(AttemptOutcome::Disrupted) => Standing::Reconciling(Why::new(
            Reason::Disrupted,
            format!("attempt {number} was disrupted, which is no failure; the next begins at {due:.0}"),
        )),
        Some(AttemptOutcome::Succeeded) | None => Standing::Reconciling(starting_at(task, attempt)),
    }
}

/// How many samples are done: those of shards that have ended, by their mean size, and those that drivers at work tell of.
fn samples_done(task: &Task, evidence: &Evidence, live: Option<LiveRollouts>) -> u64 {
    let ended = u64::from(evidence.job.as_ref().map_or(0, |job| job.succeeded));
    let of_ended = (ended * u64::from(task.samples)).checked_div(task.shards.into()).unwrap_or_default();
    of_ended.saturating_add(live.map_or(0, |live| live.done)).min(task.samples.into())
}

/// How far rollouts are; training says so itself, and what other stages make is there when they are done.
pub(super) fn note_progress(record: &mut Record, task: &Task, evidence: &Evidence, live: Option<Live>) {
    if task.crew == Crew::Gang {
        return;
    }
    let heard = live.and_then(Live::rollouts);
    let (done, of) = match heard {
        // How many attempts an evaluation makes is known by its driver alone.
        Some(live) if task.stage == Stage::Evaluation => (live.done.min(live.samples), live.samples),
        _ => (samples_done(task, evidence, heard), task.samples.into()),
    };
    let percent = (u128::from(done.min(of)) * 100).checked_div(of.into()).unwrap_or_default();
    record.progress = Some((task.stage, u32::try_from(percent).unwrap_or(100)));
}

/// Why a stage has failed for good.
fn given_up(task: &Task, attempt: &Attempt) -> Why {
    let last = attempt.failure().map_or_else(|| "what became of it is not known".to_owned(), words);
    Why::new(
        Reason::AttemptsExhausted,
        format!(
            "{} attempts of {} have failed, the last, attempt {}: {last} (change spec.retry to try again)",
            attempt.failures, task.noun, attempt.number
        ),
    )
}

pub(super) fn starting_at(task: &Task, attempt: &Attempt) -> Why {
    Why::new(Reason::Progressing, format!("attempt {} of {} is being started", attempt.number, task.noun))
}

pub(super) fn running(
    task: &Task,
    attempt: &Attempt,
    evidence: &Evidence,
    live: Option<Live>,
    earlier: Option<&Failure>,
) -> Why {
    let (number, noun) = (attempt.number, task.noun);
    let at_work = format!("attempt {number} of {noun} is at work");
    match earlier {
        Some(failure) if task.crew == Crew::Gang => Why::said(
            &failure.reason,
            format!("a pod of attempt {number} has ended, and the others follow: {}", words(failure)),
        ),
        Some(failure) => Why::said(
            &failure.reason,
            format!("a pod of attempt {number} failed and Kubernetes tries again: {}", words(failure)),
        ),
        None => {
            let told = format!("{at_work}{}", how_far(task, evidence, live));
            match live.and_then(Live::rollouts).and_then(|live| live.silence) {
                Some(silence) => {
                    Why::said("TeacherUnavailable", format!("{told}; the teacher answers nobody: {silence}"))
                }
                None => Why::new(Reason::Progressing, told),
            }
        }
    }
}

/// How far an attempt at work is, as the end of a sentence; nothing of stages whose programs do not say.
fn how_far(task: &Task, evidence: &Evidence, live: Option<Live>) -> String {
    if task.samples > 0 {
        let live = live.and_then(Live::rollouts);
        let done = samples_done(task, evidence, live);
        let tokens = live.map(|live| format!(", {} tokens at work", live.tokens)).unwrap_or_default();
        return format!(": {done} of {} samples are done{tokens}", task.samples);
    }
    if let Some(live) = live.and_then(Live::rollouts) {
        return format!(": {} of {} attempts are done", live.done, live.samples);
    }
    let Some(LiveTraining { step, total_steps, loss, .. }) = live.and_then(Live::training) else {
        return String::new();
    };
    let loss = loss.and_then(Decimal::measured).map(|loss| format!(", loss {loss}")).unwrap_or_default();
    format!(": step {step} of {total_steps}{loss}")
}

/// A failure in a sentence that names the field first, where there is one.
pub(super) fn words(failure: &Failure) -> String {
    match &failure.field {
        Some(field) => format!("{field}: {}", failure.message),
        None => failure.message.clone(),
    }
}
