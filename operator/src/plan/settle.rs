//! What applying a plan came to, folded into the status that it was going to write: what was made, what was refused. As pure as the plan.

use jiff::{SignedDuration, Timestamp};
use sera_crds::{contract::Failure, values::Stage};

use super::{
    Given, Intent, LINGERING, Observed, Plan,
    conditions::{Pen, Reason, Standing, Why},
    reclaim::{keep, unheld},
    record::{Attempt, AttemptOutcome},
    task::{self, Task},
    telling::OF_A_LOST_NODE,
};
use crate::facts::Uid;

/// How soon a name that somebody else uses is looked at again: its Job is not ours, so no watch tells when it goes.
const CONFLICT_PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// What came of one thing that was to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    /// The defaults are fixed.
    Defaults,
    /// The Job exists and is ours.
    Job {
        /// Its stage.
        stage: Stage,
        /// Its uid.
        uid: Uid,
    },
    /// The batch exists and is ours.
    Batch {
        /// Its number.
        number: u32,
        /// Its uid.
        uid: Uid,
    },
    /// A Service or a Deployment is as it should be.
    Applied,
    /// An object of that name exists, and somebody else controls it.
    NameTaken {
        /// `Job`, `ConfigMap`, `RolloutBatch`, `Deployment` or `Service`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The Job is not made while this is there of a deleted batch of the owner's name.
    Awaits {
        /// Its stage.
        stage: Stage,
        /// What is there, with its name.
        child: String,
    },
    /// The API server refuses to make the Job: it is invalid, or not allowed.
    JobRefused {
        /// Its stage.
        stage: Stage,
        /// Why.
        failure: Failure,
    },
    /// Nothing can be made in the namespace any more, which is being deleted.
    NamespaceGoing,
    /// The API server could not ask a webhook whether a child may be made.
    Unanswered {
        /// The child's kind.
        what: &'static str,
        /// What failed, in the API server's words.
        message: String,
    },
    /// The API server refuses to make a child that no attempt is about.
    Refused {
        /// What it is, in a sentence.
        what: &'static str,
        /// Why, in its words.
        message: String,
    },
}

/// The plan as it is after applying it.
pub fn settle(mut plan: Plan, made: Vec<Made>, observed: &Observed, now: Timestamp) -> Plan {
    let pen = Pen { generation: observed.generation, now };
    for made in made {
        match made {
            Made::Defaults | Made::Applied => {}
            Made::Batch { number, uid } => {
                let batches = plan.record.generation.iter_mut().flat_map(|generation| &mut generation.batches);
                if let Some(batch) = batches.into_iter().find(|batch| batch.number == number) {
                    batch.uid = Some(uid);
                }
            }
            Made::Job { stage, uid } => {
                if let Some(attempt) = plan.record.attempts.get_mut(&stage) {
                    attempt.job = Some(uid);
                }
            }
            Made::NameTaken { kind, name } => {
                let message = format!(
                    "there is a {kind} '{name}' that this object does not control: delete it, nothing of it is touched"
                );
                plan.stand(pen, &Standing::Stalled(Why::new(Reason::NameConflict, message)), &observed.record);
                plan.look_again_at(later(now, CONFLICT_PATIENCE));
            }
            Made::Awaits { stage, child } => {
                if let Some((attempt, intent)) = at_hand(&plan, observed, stage) {
                    let given = Given { observed, intent: &intent, pen };
                    let task = Task::of(stage, &intent);
                    let standing = task::under_way(&mut plan.record, &task, &attempt, awaits(&child), given);
                    plan.stand(pen, &standing, &observed.record);
                }
                plan.look_again_at(later(now, LINGERING));
            }
            Made::JobRefused { stage, failure } => {
                if let Some((attempt, intent)) = at_hand(&plan, observed, stage) {
                    let given = Given { observed, intent: &intent, pen };
                    let standing = refuse(&mut plan, given, stage, attempt, failure);
                    plan.stand(pen, &standing, &observed.record);
                }
            }
            Made::NamespaceGoing => {
                let standing = if observed.deleting { keep(&mut plan, pen) } else { go_along(&mut plan, pen) };
                plan.stand(pen, &standing, &observed.record);
            }
            Made::Unanswered { what, message } => {
                let why = format!("the API server cannot make the {what}; it is tried again every 30 s: {message}");
                plan.stand(pen, &Standing::Reconciling(Why::new(Reason::Waiting, why)), &observed.record);
                plan.look_again_at(later(now, CONFLICT_PATIENCE));
            }
            Made::Refused { what, message } => {
                let why = Why::new(Reason::ConfigurationError, format!("{what} cannot be made: {message}"));
                plan.stand(pen, &Standing::Stalled(why), &observed.record);
                plan.look_again_at(later(now, CONFLICT_PATIENCE));
            }
        }
    }
    plan
}

/// The attempt whose Job was to be made, and the intent that it follows.
fn at_hand(plan: &Plan, observed: &Observed, stage: Stage) -> Option<(Attempt, Intent)> {
    let intent = observed.intent.as_ref()?;
    let intent = if observed.deleting { unheld(intent) } else { intent.clone() };
    Some((plan.record.attempts.get(&stage)?.clone(), intent))
}

/// Why a batch does not begin that was made again: no watch of ours tells when what it waits for goes.
fn awaits(child: &str) -> Why {
    Why::new(
        Reason::Waiting,
        format!(
            "{child} of a deleted batch of this name is still there, and works at the same samples; {OF_A_LOST_NODE}"
        ),
    )
}

fn refuse(plan: &mut Plan, given: Given<'_>, stage: Stage, attempt: Attempt, failure: Failure) -> Standing {
    let task = Task::of(stage, given.intent);
    let standing = task::end(plan, given, &task, attempt, AttemptOutcome::Failed(failure));
    super::validate(&mut plan.record, given, &standing);
    standing
}

/// The namespace is going, and soon its objects are: until then nothing is made, which is nobody's failure.
fn go_along(plan: &mut Plan, pen: Pen) -> Standing {
    plan.look_again_at(later(pen.now, CONFLICT_PATIENCE));
    Standing::Reconciling(Why::new(
        Reason::NamespaceTerminating,
        "the namespace is being deleted: nothing can be made in it any more",
    ))
}

pub(super) fn later(time: Timestamp, span: SignedDuration) -> Timestamp {
    time.saturating_add(span).unwrap_or(Timestamp::MAX)
}
