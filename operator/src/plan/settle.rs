//! What applying a plan came to, folded into the status that it was going to write: what was made, what was refused. As pure as the plan.

use jiff::{SignedDuration, Timestamp};
use sera_crds::{contract::Failure, values::Stage};

use super::{
    Intent, Observed, Plan,
    conditions::{Pen, Reason, Standing, Why},
    record::AttemptOutcome,
    stage,
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
    /// An object of that name exists, and somebody else controls it.
    NameTaken {
        /// `Job` or `ConfigMap`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The API server refuses to make the Job: it is invalid, or not allowed.
    JobRefused {
        /// Its stage.
        stage: Stage,
        /// Why.
        failure: Failure,
    },
    /// The API server refuses to make the ConfigMap.
    DefaultsRefused {
        /// Why, in its words.
        message: String,
    },
}

/// The plan as it is after applying it.
pub fn settle(mut plan: Plan, made: Vec<Made>, observed: &Observed, now: Timestamp) -> Plan {
    let pen = Pen { generation: observed.generation, now };
    for made in made {
        match made {
            Made::Defaults => {}
            Made::Job { stage, uid } => {
                if let Some(attempt) = plan.record.attempts.get_mut(&stage) {
                    attempt.job = Some(uid);
                }
            }
            Made::NameTaken { kind, name } => {
                let message = format!(
                    "there is a {kind} '{name}' that this object does not control: delete it, nothing of it is touched"
                );
                plan.stand(pen, &Standing::Stalled(Why::new(Reason::NameConflict, message)));
                plan.look_again_at(later(now, CONFLICT_PATIENCE));
            }
            Made::JobRefused { stage, failure } => {
                if let (Some(attempt), Some(intent)) = (plan.record.attempts.get(&stage).cloned(), &observed.intent) {
                    let standing = refuse(&mut plan, attempt, failure, intent, pen);
                    plan.stand(pen, &standing);
                }
            }
            Made::DefaultsRefused { message } => {
                let why = Why::new(
                    Reason::ConfigurationError,
                    format!("the ConfigMap for the platform's defaults cannot be made: {message}"),
                );
                plan.stand(pen, &Standing::Stalled(why));
                plan.look_again_at(later(now, CONFLICT_PATIENCE));
            }
        }
    }
    plan
}

fn refuse(plan: &mut Plan, attempt: super::record::Attempt, failure: Failure, intent: &Intent, pen: Pen) -> Standing {
    let standing = stage::end(plan, attempt, AttemptOutcome::Failed(failure), intent, pen);
    super::validate(&mut plan.record, intent, pen);
    standing
}

fn later(time: Timestamp, span: SignedDuration) -> Timestamp {
    time.saturating_add(span).unwrap_or(Timestamp::MAX)
}
