//! The pure heart of a pass: what was observed and the time go in; what must be made, what must go, what status says and when to look again come
//! out. No clock, no network, no randomness, and no Kubernetes type lives here.

mod adoption;
mod batch;
pub mod cause;
mod conclusion;
pub mod conditions;
mod dataset;
mod evaluation;
pub mod events;
mod forecast;
mod generation;
mod intent;
mod reclaim;
pub mod record;
mod serving;
pub mod settle;
pub mod sight;
mod snapshot;
mod spending;
mod task;
mod teacher;
mod telling;
#[cfg(test)]
mod tests;
mod totals;
mod training;
#[cfg(test)]
mod walk;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use sera_crds::{contract::Failure, run::Phase, values::Stage};

pub use self::intent::{
    BatchWork, EvaluationWork, Finding, Hosted, Intent, Policy, RunSnapshot, RunWork, ServingWork, SnapshotIntent,
    TrainingWork, Work,
};
pub use self::reclaim::Reclaim;
pub use self::spending::last_moment;
pub use self::task::{crew, role};
pub use self::teacher::unhostable;
pub use self::training::untrainable;
use self::{
    conditions::{ConditionType, Pen, Reason, Standing, Truth, Why},
    record::{AttemptOutcome, Edition, Record, is_the_owners},
    sight::Evidence,
};
use crate::{
    facts::{BatchFacts, JobFacts, Live, ServerFacts, ServerForm, ServerRole, Trouble, Uid},
    names::Owner,
};

/// How soon a server that does not answer is looked at again.
const SERVER_PATIENCE: SignedDuration = SignedDuration::from_secs(30);
/// How soon it is looked again whether the pods of a batch are gone that is gone itself.
const LINGERING: SignedDuration = SignedDuration::from_secs(5);

/// What keeps servers from answering, as far as their pods say so.
#[derive(Debug, Clone, Default)]
pub struct Holdups {
    /// Of the teacher.
    pub teacher: Option<Trouble>,
    /// Of the student.
    pub student: Option<Trouble>,
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
    /// What becomes of its data then.
    pub reclaim: Reclaim,
    /// What status says.
    pub record: Record,
    /// What the owner wants; none while the platform's defaults are not fixed for this object, or cannot be read.
    pub intent: Option<Intent>,
    /// Why the defaults that were fixed for this object cannot be read.
    pub defaults_problem: Option<String>,
    /// Every Job that this object controls.
    pub jobs: Vec<Arc<JobFacts>>,
    /// What was found of the attempts that are under way, by stage.
    pub evidence: BTreeMap<Stage, Evidence>,
    /// What the programs of the Job at work said when they were asked last, where they were.
    pub live: Option<Live>,
    /// The teacher that the operator runs for this object, or for the run that made it.
    pub teacher: Option<Arc<ServerFacts>>,
    /// The student that is served for this object.
    pub student: Option<Arc<ServerFacts>>,
    /// What keeps a pod of the one or the other from answering, where one does not.
    pub holdups: Holdups,
    /// Every batch that this object controls.
    pub batches: Vec<Arc<BatchFacts>>,
    /// The batches that are gone and whose Jobs are not, by their uids.
    pub lingering: Vec<Uid>,
}

impl Observed {
    /// Which generations of the specs a plan is made from.
    fn edition(&self) -> Edition {
        Edition { own: self.generation, runs: self.intent.as_ref().and_then(|intent| intent.run_generation) }
    }
}

/// What a pass shall bring about.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What status shall say.
    pub record: Record,
    /// What must be made.
    pub make: Vec<Make>,
    /// What must go.
    pub remove: Vec<Removal>,
    /// When to look again though nothing has changed.
    pub look_again: Option<Timestamp>,
    /// What it was made from, and what is made by it says so.
    pub edition: Edition,
    /// Whether the object shall have our finalizer. Where that is another than it has, nothing else is to be done.
    pub hold: bool,
}

/// A child to be made. It is made once: what exists already by that name is compared by its controller, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// The ConfigMap with the platform's defaults.
    Defaults,
    /// The teacher: a Deployment and its Service, made or changed.
    Teacher,
    /// The student that is served: a Deployment and its Service, made or changed.
    Student,
    /// The Job of an attempt that status has named before.
    Job {
        /// The stage.
        stage: Stage,
        /// The attempt's number.
        attempt: u32,
    },
    /// A batch that status has named before.
    Batch {
        /// Its number.
        number: u32,
        /// Its first sample.
        from: u32,
        /// How many samples it has.
        count: u32,
    },
}

/// A child to be deleted, and only this one: another of the same name stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// What it is.
    pub kind: Removable,
    /// Its name.
    pub name: Box<str>,
    /// Its uid.
    pub uid: Uid,
}

impl Removal {
    /// A teacher's or a student's, with its Service.
    fn of_server(server: &ServerFacts) -> Self {
        let kind = match (server.role, server.form) {
            (ServerRole::Student, _) => Removable::Student,
            (ServerRole::Teacher, ServerForm::Deployment | ServerForm::Rehearsal) => Removable::Teacher,
            (ServerRole::Teacher, ServerForm::LeaderWorkerSet) => Removable::TeacherGroups,
        };
        Self { kind, name: server.name.clone(), uid: server.uid.clone() }
    }
}

/// What is deleted while its owner stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removable {
    /// A Job, and its pods.
    Job,
    /// A batch, and its Jobs.
    Batch,
    /// A teacher's Deployment, and its Service.
    Teacher,
    /// A teacher's `LeaderWorkerSet`, and its Service.
    TeacherGroups,
    /// A student's Deployment, and its Service.
    Student,
    /// What is left of the pods of a Job that is being deleted: soon, whatever time they were given.
    PodsOfJob,
}

/// What all of a plan's parts look at.
#[derive(Debug, Clone, Copy)]
struct Given<'a> {
    observed: &'a Observed,
    intent: &'a Intent,
    pen: Pen,
}

/// Decides what is to be done.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let Reclaim { wanted, held, .. } = observed.reclaim;
    let record = observed.record.clone();
    let edition = observed.edition();
    let mut plan = Plan { record, make: Vec::new(), remove: Vec::new(), look_again: None, edition, hold: held };
    if observed.deleting {
        return reclaim::before_it_goes(plan, observed, now);
    }
    if wanted != held {
        // Before anything is made: what is written meanwhile must not be left behind.
        plan.hold = wanted;
        return plan;
    }
    let pen = Pen { generation: observed.generation, now };
    plan.record.observed_generation = Some(observed.generation);
    let standing = match &observed.intent {
        None => first_sight(&mut plan, observed, pen),
        Some(intent) => {
            acknowledge_retry(&mut plan.record, intent);
            plan.record.teacher.clone_from(&intent.teacher);
            let given = Given { observed, intent, pen };
            let standing = advance(&mut plan, given);
            validate(&mut plan.record, given, &standing);
            task::clear_away(&mut plan, given);
            generation::clear_away(&mut plan, given);
            teacher::look_after(&mut plan, given);
            serving::look_after(&mut plan, given);
            standing
        }
    };
    plan.stand(pen, &standing, &observed.record);
    plan
}

/// Brings the object as far as it can go now, and says where it stands.
fn advance(plan: &mut Plan, given: Given<'_>) -> Standing {
    if let Some(standing) = snapshot::get(plan, given) {
        return standing;
    }
    match &given.intent.work {
        Some(Work::Batch(work)) => batch::get(plan, given, work),
        Some(Work::Run(work)) => generation::get(plan, given, work)
            .or_else(|| dataset::get(plan, given))
            .or_else(|| training::get(plan, given, &work.training))
            .unwrap_or_else(|| conclusion::reach(plan, given, work)),
        None => batch::without_its_run(plan, given),
    }
}

impl Plan {
    /// Writes what the object as a whole is doing, after what its status said `before`.
    fn stand(&mut self, pen: Pen, standing: &Standing, before: &Record) {
        self.record.conditions.stand(pen, standing);
        // What has succeeded has, until its owner changes it: where it is served, that may break and mend again, and `Ready` tells.
        let has_succeeded =
            before.phase == Some(Phase::Succeeded) && before.observed_generation == Some(pen.generation);
        self.record.phase = Some(match standing {
            _ if has_succeeded => Phase::Succeeded,
            Standing::Done(_) => Phase::Succeeded,
            Standing::Stalled(_) => Phase::Stalled,
            Standing::Failed(_) => Phase::Failed,
            Standing::Suspended(_) => Phase::Suspended,
            Standing::Reconciling(_) if self.record.attempts.is_empty() && self.record.generation.is_none() => {
                Phase::Pending
            }
            Standing::Reconciling(_) => Phase::Running,
        });
    }

    /// Looks again at a server that does not answer: what holds its pods up is told by no watch of ours.
    fn look_again_at_server(&mut self, pen: Pen) {
        self.look_again_at(pen.now.saturating_add(SERVER_PATIENCE).unwrap_or(Timestamp::MAX));
    }

    /// Looks again soon where a batch is gone and its Jobs are not: their end wakes nobody of ours.
    fn look_again_at_lingering(&mut self, observed: &Observed, pen: Pen) {
        if !observed.lingering.is_empty() {
            self.look_again_at(settle::later(pen.now, LINGERING));
        }
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

/// A changed token forgets the failures of what has ended, so that the next attempt is due at once, and unlocks what came to nothing; it is acted upon
/// once, and by one that is being suspended when what was at work has ended.
fn acknowledge_retry(record: &mut Record, intent: &Intent) {
    let is_ending = intent.suspend && record.attempts.values().any(|attempt| attempt.end.is_none());
    if record.retry == intent.retry || is_ending {
        return;
    }
    record.retry.clone_from(&intent.retry);
    for (stage, attempt) in &mut record.attempts {
        if attempt.end.as_ref().is_none_or(|end| end.outcome == AttemptOutcome::Succeeded) {
            continue;
        }
        attempt.failures = 0;
        // Attempts of Generation are dry runs: what is locked by that name is what batches are made of.
        if *stage != Stage::Generation {
            record.locked.remove(stage);
        }
        if *stage == Stage::Training {
            record.training.get_or_insert_default().since_attempt = Some(attempt.number.saturating_add(1));
        }
    }
}

/// Writes the condition `Validated`: false for what the spec's own words show, and for a field that a stage's program found wrong.
fn validate(record: &mut Record, given: Given<'_>, standing: &Standing) {
    if let Some(why) = finding(given.intent) {
        record.conditions.set(given.pen, ConditionType::Validated, Truth::False, why);
        return;
    }
    let named = record.attempts.values().find_map(|attempt| {
        // A host that is not found names the URL too, but may be found tomorrow.
        let is_certain =
            |failure: &&Failure| is_the_owners(failure) && !attempt.edition.differs(given.observed.edition());
        let failure = attempt.failure().filter(is_certain)?;
        let field = failure.field.as_ref()?;
        Some(Why::said(&failure.reason, format!("{field}: {}", failure.message)))
    });
    let (truth, why) = match named {
        Some(why) => (Truth::False, why),
        // A new attempt has not found the field to be right before it has succeeded, gets on or failed otherwise.
        None if matches!(standing, Standing::Stalled(_)) && is_trying_again(record) => return,
        None => (Truth::True, Why::new(Reason::SpecValid, "the spec makes sense, and no stage has found otherwise")),
    };
    record.conditions.set(given.pen, ConditionType::Validated, truth, why);
}

fn is_trying_again(record: &Record) -> bool {
    record.attempts.values().any(|attempt| attempt.end.is_none() && attempt.failures > 0)
}

/// What is wrong with the spec, in one sentence: the first finding, and how many more there are.
fn finding(intent: &Intent) -> Option<Why> {
    let (first, more) = intent.findings.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!(" (and {} more)", more.len()) };
    Some(Why::new(Reason::SpecInvalid, format!("{}: {}{more}", first.field, first.message)))
}
