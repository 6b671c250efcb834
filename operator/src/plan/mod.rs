//! The pure heart of a pass: what was observed and the time go in; what must be made, what must go, what status says and when to look again come
//! out. No clock, no network, no randomness, and no Kubernetes type lives here.

pub mod cause;
pub mod conditions;
pub mod events;
pub mod record;
pub mod settle;
pub mod sight;
mod stage;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sera_crds::{contract::Failure, run::Phase, values::Stage};

use self::{
    conditions::{ConditionType, Pen, Reason, Standing, Truth, Why},
    record::{Record, is_the_owners},
    sight::Evidence,
};
use crate::{
    facts::{JobFacts, Uid},
    names::Owner,
};

/// What an object's owner wants: its effective spec, as far as this release acts on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// What is wrong with the spec, though the API server admitted it.
    pub findings: Vec<Finding>,
    /// What the spec asks for and this release cannot do, in words.
    pub unsupported: Option<String>,
    /// Whether to hold.
    pub suspend: bool,
    /// The token that asks for another try when it changes.
    pub retry: String,
    /// Where the snapshot comes from.
    pub snapshot: SnapshotIntent,
    /// The teacher, in a word, for status.
    pub teacher: Option<String>,
    /// How long the Job of a stage that is done is kept.
    pub keep_succeeded: SignedDuration,
    /// How long the Job of an attempt that failed is kept, unless the next one begins before.
    pub keep_failed: SignedDuration,
}

/// Something wrong with the spec that only looking at all of it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field, from the root: `spec.source.include[0]`.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub message: String,
}

/// Where a snapshot comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotIntent {
    /// From the repository, by a Job of ours.
    Take {
        /// The object's own folder in the store.
        folder: String,
    },
    /// From the store, where somebody else put it.
    Adopt {
        /// The folder that it lies in.
        folder: String,
    },
    /// From a run of the same namespace.
    OfRun {
        /// The run's name.
        run: String,
        /// How far it is.
        progress: RunSnapshot,
    },
}

/// How far the snapshot of another run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunSnapshot {
    /// There is no run of that name.
    NoSuchRun,
    /// It has none yet.
    NotYet,
    /// Its manifest lies here.
    Ready(String),
}

/// All that a plan is made from.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Whose pass it is.
    pub owner: Owner,
    /// The generation of its spec.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What status says.
    pub record: Record,
    /// What the owner wants; none while the platform's defaults are not fixed for this object, or cannot be read.
    pub intent: Option<Intent>,
    /// Why the defaults that were fixed for this object cannot be read.
    pub defaults_problem: Option<String>,
    /// Every Job that this object controls.
    pub jobs: Vec<Arc<JobFacts>>,
    /// What was found of the current attempt.
    pub evidence: Evidence,
}

/// What a pass shall bring about.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What status shall say.
    pub record: Record,
    /// What must be made.
    pub make: Vec<Make>,
    /// Which Jobs must go.
    pub remove: Vec<Removal>,
    /// When to look again though nothing has changed.
    pub look_again: Option<Timestamp>,
}

/// A child to be made. It is made once: what exists already by that name is compared by its controller, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// The ConfigMap with the platform's defaults.
    Defaults,
    /// The Job of an attempt that status has named before.
    Job {
        /// The stage.
        stage: Stage,
        /// The attempt's number.
        attempt: u32,
    },
}

/// A Job to be deleted, and only this one: another of the same name stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Its name.
    pub name: Box<str>,
    /// Its uid.
    pub uid: Uid,
}

/// Decides what is to be done.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan { record: observed.record.clone(), make: Vec::new(), remove: Vec::new(), look_again: None };
    if observed.deleting {
        // Owner references take the children along; a word in the status of what is going away helps nobody.
        return plan;
    }
    let pen = Pen { generation: observed.generation, now };
    plan.record.observed_generation = Some(observed.generation);
    let standing = match &observed.intent {
        None => first_sight(&mut plan, observed, pen),
        Some(intent) => {
            acknowledge_retry(&mut plan.record, &intent.retry);
            plan.record.teacher.clone_from(&intent.teacher);
            let standing = stage::advance(&mut plan, observed, intent, pen);
            validate(&mut plan.record, intent, pen);
            stage::clear_away(&mut plan, observed, intent, now);
            standing
        }
    };
    plan.stand(pen, &standing);
    plan
}

impl Plan {
    /// Writes what the object as a whole is doing.
    fn stand(&mut self, pen: Pen, standing: &Standing) {
        self.record.conditions.stand(pen, standing);
        self.record.phase = Some(match standing {
            Standing::Stalled(_) => Phase::Stalled,
            Standing::Suspended(_) => Phase::Suspended,
            Standing::Reconciling(_) if self.record.attempts.is_empty() => Phase::Pending,
            Standing::Reconciling(_) => Phase::Running,
        });
    }

    /// Looks again at `time`, or earlier where something else asks for it.
    fn look_again_at(&mut self, time: Timestamp) {
        self.look_again = Some(self.look_again.map_or(time, |planned| planned.min(time)));
    }
}

/// What is said at once, before anything is known: an object without conditions reads as done to kstatus.
fn first_sight(plan: &mut Plan, observed: &Observed, pen: Pen) -> Standing {
    if let Some(problem) = &observed.defaults_problem {
        return Standing::Stalled(Why::new(Reason::DefaultsInvalid, problem.clone()));
    }
    plan.make.push(Make::Defaults);
    let why = Why::new(
        Reason::Pending,
        format!("the platform's defaults are being fixed for this {}", observed.owner.kind.noun()),
    );
    if plan.record.conditions.get(ConditionType::Validated).is_none() {
        plan.record.conditions.set(pen, ConditionType::Validated, Truth::Unknown, why.clone());
    }
    Standing::Reconciling(why)
}

/// A changed token forgets the failures of what has ended, so that the next attempt is due at once; it is acted upon once.
fn acknowledge_retry(record: &mut Record, token: &str) {
    if record.retry != token {
        token.clone_into(&mut record.retry);
        for attempt in record.attempts.values_mut().filter(|attempt| attempt.end.is_some()) {
            attempt.failures = 0;
        }
    }
}

/// Writes the condition `Validated`: false for what the spec's own words show, and for a field that a stage's program found wrong.
fn validate(record: &mut Record, intent: &Intent, pen: Pen) {
    if let Some(why) = finding(intent) {
        record.conditions.set(pen, ConditionType::Validated, Truth::False, why);
        return;
    }
    let named = record.attempts.values().find_map(|attempt| {
        // A host that is not found names the URL too, but may be found tomorrow.
        let is_certain = |failure: &&Failure| is_the_owners(failure) && attempt.generation == pen.generation;
        let failure = attempt.failure().filter(is_certain)?;
        let field = failure.field.as_ref()?;
        Some(Why::said(&failure.reason, format!("{field}: {}", failure.message)))
    });
    let (truth, why) = match named {
        Some(why) => (Truth::False, why),
        // A new attempt has not found the field to be right before it has succeeded or failed otherwise.
        None if record.attempts.values().any(|attempt| attempt.end.is_none() && attempt.failures > 0) => return,
        None => (Truth::True, Why::new(Reason::SpecValid, "the spec makes sense, and no stage has found otherwise")),
    };
    record.conditions.set(pen, ConditionType::Validated, truth, why);
}

/// What is wrong with the spec, in one sentence: the first finding, and how many more there are.
fn finding(intent: &Intent) -> Option<Why> {
    let (first, more) = intent.findings.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!(" (and {} more)", more.len()) };
    Some(Why::new(Reason::SpecInvalid, format!("{}: {}{more}", first.field, first.message)))
}
