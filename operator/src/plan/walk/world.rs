//! The world of a walk: an object and its children as the API server has them, two leaders that see them late, and what can happen to them all.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use sera_crds::{
    contract::{FailureClass, Termination},
    run::Phase,
    values::Stage,
};

use super::invariants::{assert_conditions, assert_counts, assert_history};
use crate::facts::{BatchFacts, BatchResult, JobFacts, PodFacts, PodPhase, TeacherFacts, Uid};
use crate::plan::{
    Finding, Intent, Make, Observed, Plan, Removable, Work,
    conditions::ConditionType,
    plan,
    record::Record,
    settle::{Made, settle},
    sight::Evidence,
    tests::{
        at, child, counts, dataset, digest, ended, failure, job_of, owner, pod, policy, success, teacher, totals,
        verified,
    },
};

/// What each batch of the walk's run gives: three of them are enough for ten first and six second trajectories.
pub(super) const FIRST: u64 = 4;
pub(super) const SECOND: u64 = 3;
/// How many samples a batch has.
pub(super) const SAMPLES: u64 = 8;

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub(super) enum Happening {
    /// A leader reads the object's newest version into its cache.
    SeesObject(usize),
    /// A leader reads the newest Jobs, pods, batches and teachers into its cache.
    SeesChildren(usize),
    /// A leader plans from its cache.
    Plans(usize),
    /// A leader carries out what it planned last, and writes status.
    Acts(usize),
    /// A leader carries out what it planned last, and dies before it writes status.
    Dies(usize),
    /// The Job at work ends well; with or without its last words.
    Succeeds { silently: bool },
    /// The Job at work fails.
    Fails(FailureClass),
    /// Somebody deletes the Job at work; its pods take their time.
    IsDeleted,
    /// A batch is done: the one at this place among those that are not.
    BatchIsDone(usize),
    /// Somebody deletes a batch.
    BatchIsDeleted(usize),
    /// What is being deleted is gone.
    Vanishes,
    /// The teacher answers.
    TeacherAnswers,
    /// Somebody deletes the teacher.
    TeacherIsDeleted,
    /// The owner suspends or resumes.
    TogglesSuspend,
    /// The owner breaks or repairs the spec.
    TogglesMistake,
    /// The owner asks for another try.
    Retries,
    /// The owner edits the policy, as far as it is not locked.
    EditsPolicy,
    /// Time passes.
    Waits(i64),
}

pub(super) fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let leader = 0..2_usize;
    let class =
        prop_oneof![Just(FailureClass::Configuration), Just(FailureClass::Unavailable), Just(FailureClass::Internal)];
    prop_oneof![
        8 => leader.clone().prop_map(SeesObject),
        8 => leader.clone().prop_map(SeesChildren),
        12 => leader.clone().prop_map(Plans),
        12 => leader.clone().prop_map(Acts),
        2 => leader.prop_map(Dies),
        4 => any::<bool>().prop_map(|silently| Succeeds { silently }),
        2 => class.prop_map(Fails),
        2 => Just(IsDeleted),
        6 => (0..3_usize).prop_map(BatchIsDone),
        1 => (0..4_usize).prop_map(BatchIsDeleted),
        4 => Just(Vanishes),
        4 => Just(TeacherAnswers),
        1 => Just(TeacherIsDeleted),
        2 => Just(TogglesSuspend),
        2 => Just(TogglesMistake),
        2 => Just(Retries),
        1 => Just(EditsPolicy),
        4 => (1_i64..400).prop_map(Waits),
    ]
}

/// An object as the API server has it.
#[derive(Debug, Clone)]
pub(super) struct Object {
    version: u64,
    generation: i64,
    intent: Intent,
    pub(super) record: Record,
}

/// The children as the API server has them.
#[derive(Debug, Clone, Default)]
struct Children {
    jobs: BTreeMap<Box<str>, JobAndPods>,
    batches: BTreeMap<Box<str>, BatchFacts>,
    teacher: Option<TeacherFacts>,
}

/// A Job, and its pods that do not run.
type JobAndPods = (Arc<JobFacts>, Vec<Arc<PodFacts>>);

#[derive(Debug, Clone)]
struct Leader {
    object: Object,
    children: Children,
    planned: Option<(u64, Observed, Plan)>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: i64,
    pub(super) object: Object,
    children: Children,
    leaders: [Leader; 2],
    /// How often a child of each name was made.
    pub(super) made: BTreeMap<Box<str>, u32>,
    deleted_by_hand: u32,
    /// Whether the owner ever held the object.
    pub(super) was_held: bool,
    edits: u32,
}

impl Children {
    fn at_work(&self) -> impl Iterator<Item = &Arc<JobFacts>> {
        self.jobs.values().map(|(job, _)| job).filter(|job| job.end.is_none())
    }

    fn end(&mut self, failure: Option<&str>, said: Option<&Termination>) {
        let Some(job) = self.at_work().find(|job| !job.deleting).cloned() else { return };
        let phase = if failure.is_none() { PodPhase::Succeeded } else { PodPhase::Failed };
        let pod = PodFacts { job: job.uid.clone(), ..pod(phase, said) };
        self.jobs.insert(job.name.clone(), (Arc::new(ended(JobFacts::clone(&job), failure)), vec![Arc::new(pod)]));
    }

    fn delete_job(&mut self, name: &str) {
        if let Some((job, _)) = self.jobs.get_mut(name) {
            *job = Arc::new(JobFacts { deleting: true, ..JobFacts::clone(job) });
        }
    }

    fn vanish(&mut self) {
        self.jobs.retain(|_, (job, _)| !job.deleting);
        self.batches.retain(|_, batch| !batch.deleting);
        self.teacher = self.teacher.take().filter(|teacher| !teacher.deleting);
    }
}

impl World {
    pub(super) fn of(intent: Intent) -> Self {
        let object = Object { version: 1, generation: 1, intent, record: Record::default() };
        let leader = Leader { object: object.clone(), children: Children::default(), planned: None };
        Self {
            now: 0,
            children: Children::default(),
            leaders: [leader.clone(), leader],
            made: BTreeMap::new(),
            deleted_by_hand: 0,
            was_held: false,
            edits: 0,
            object,
        }
    }

    pub(super) fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::SeesObject(leader) => self.leaders[leader].object = self.object.clone(),
            Happening::SeesChildren(leader) => self.leaders[leader].children = self.children.clone(),
            Happening::Plans(leader) => self.plans(leader),
            Happening::Acts(leader) => self.acts(leader, true),
            Happening::Dies(leader) => self.acts(leader, false),
            Happening::Succeeds { silently } => {
                let said = self.last_words();
                self.children.end(None, said.filter(|_| !silently).as_ref());
            }
            Happening::Fails(class) => {
                self.children.end(Some("FailedIndexes"), Some(&Termination::failed(failure(class))));
            }
            Happening::IsDeleted => {
                let at_work = self.children.at_work().next().map(|job| job.name.clone());
                if let Some(name) = at_work {
                    self.children.delete_job(&name);
                    self.deleted_by_hand += 1;
                }
            }
            Happening::BatchIsDone(place) => self.batch_is_done(place),
            Happening::BatchIsDeleted(place) => {
                if let Some(batch) = self.children.batches.values_mut().nth(place).filter(|batch| !batch.deleting) {
                    batch.deleting = true;
                    self.deleted_by_hand += 1;
                }
            }
            Happening::Vanishes => self.children.vanish(),
            Happening::TeacherAnswers => {
                if let Some(teacher) = &mut self.children.teacher {
                    teacher.ready = 1;
                }
            }
            Happening::TeacherIsDeleted => self.children.teacher = None,
            Happening::TogglesSuspend => {
                self.was_held = true;
                self.edit(|intent| intent.suspend = !intent.suspend);
            }
            Happening::TogglesMistake => {
                self.was_held = true;
                self.edit(|intent| {
                    intent.findings = if intent.findings.is_empty() {
                        vec![Finding { field: "spec.output.store".into(), message: "is required".into() }]
                    } else {
                        Vec::new()
                    };
                });
            }
            Happening::Retries => self.edit(|intent| intent.retry.push('x')),
            Happening::EditsPolicy => self.edits_policy(),
            Happening::Waits(seconds) => self.now += seconds,
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Intent)) {
        change(&mut self.object.intent);
        self.object.generation += 1;
        self.object.version += 1;
    }

    /// The API server refuses it once the dataset is begun.
    fn edits_policy(&mut self) {
        if self.object.record.locked.contains(&Stage::Dataset) {
            return;
        }
        self.edits += 1;
        let (one, other) = if self.edits.is_multiple_of(2) { ('1', 'd') } else { ('2', 'e') };
        self.edit(|intent| match &mut intent.work {
            Some(Work::Run(work)) => (work.policy, work.dataset) = (policy(one), digest(other)),
            Some(Work::Batch(work)) => work.policy = policy(one),
            None => {}
        });
    }

    /// A batch is verified by the policy of the moment.
    fn batch_is_done(&mut self, place: usize) {
        let Some(Work::Run(work)) = &self.object.intent.work else { return };
        let settings = work.policy.settings.clone();
        let under_way = self.children.batches.values_mut().filter(|batch| batch.result.is_none() && !batch.deleting);
        if let Some(batch) = under_way.into_iter().nth(place) {
            batch.result = Some(BatchResult { settings, totals: totals(FIRST, SECOND) });
        }
    }

    /// What the program of the Job at work says, which counts what is in the store.
    fn last_words(&self) -> Option<Termination> {
        let job = self.children.at_work().find(|job| !job.deleting)?;
        let folded = self.object.record.generation.as_ref().map_or(0, |known| u64::from(known.folded.through));
        let (first, second) = (FIRST * folded, SECOND * folded);
        Some(match owner().job_of(&job.name)?.0 {
            Stage::Verification if folded > 0 => verified(counts(first, second)),
            Stage::Verification => verified(counts(6, 4)),
            Stage::Generation => dataset(first.min(10), second.min(6), first >= 10 && second >= 6, true),
            Stage::Dataset => dataset(10, 6, true, false),
            _ => success(),
        })
    }

    /// As `observe` gathers: from the cache, and from the API server where a child that was made is missing there, or its last words are.
    fn plans(&mut self, leader: usize) {
        let Leader { object, children, .. } = &self.leaders[leader];
        let mut evidence = BTreeMap::new();
        for (stage, attempt) in object.record.attempts.iter().filter(|(_, attempt)| attempt.end.is_none()) {
            let name = owner().job_name(*stage, attempt.number);
            let live = || self.children.jobs.get(&*name).filter(|_| attempt.job.is_some());
            if let Some((job, pods)) = children.jobs.get(&*name).or_else(live) {
                let job = Some(Arc::clone(job));
                evidence.insert(*stage, Evidence { job, pods: pods.clone(), refused_pod: None });
            }
        }
        let mut batches = children.batches.clone();
        for known in object.record.generation.iter().flat_map(|known| &known.batches) {
            let name = owner().batch_name(known.number);
            if let (Some(_), false, Some(live)) =
                (&known.uid, batches.contains_key(&*name), self.children.batches.get(&*name))
            {
                batches.insert(name.into(), live.clone());
            }
        }
        let observed = Observed {
            owner: owner(),
            generation: object.generation,
            deleting: false,
            record: object.record.clone(),
            intent: Some(object.intent.clone()),
            defaults_problem: None,
            jobs: children.jobs.values().map(|(job, _)| Arc::clone(job)).collect(),
            evidence,
            live: None,
            teacher: children.teacher.clone().map(Arc::new),
            batches: batches.into_values().map(Arc::new).collect(),
            lingering: Vec::new(),
        };
        let planned = plan(&observed, at(self.now));
        self.leaders[leader].planned = Some((object.version, observed, planned));
    }

    /// As `apply` and `report` do it.
    fn acts(&mut self, leader: usize, reports: bool) {
        let Some((version, observed, planned)) = self.leaders[leader].planned.take() else { return };
        for removal in &planned.remove {
            self.removes(removal.kind, &removal.name, &removal.uid);
        }
        let mut made = Vec::new();
        for make in &planned.make {
            if self.object.version != version {
                return;
            }
            made.push(match *make {
                Make::Defaults => Made::Defaults,
                Make::Teacher => {
                    self.children.teacher.get_or_insert_with(|| teacher(0));
                    Made::Applied
                }
                Make::Job { stage, attempt } => {
                    let name: Box<str> = owner().job_name(stage, attempt).into();
                    if self.children.at_work().any(|job| job.name != name) {
                        return;
                    }
                    Made::Job { stage, uid: self.makes_job(name, stage, attempt) }
                }
                Make::Batch { number, .. } => Made::Batch { number, uid: self.makes_batch(number) },
            });
        }
        let settled = settle(planned, made, &observed, at(self.now));
        if reports && self.object.version == version && settled.record != self.object.record {
            assert_history(&self.object.record, &settled.record);
            self.object.record = settled.record;
            self.object.version += 1;
        }
    }

    fn removes(&mut self, kind: Removable, name: &str, uid: &Uid) {
        match kind {
            Removable::Job => {
                if self.children.jobs.get(name).is_some_and(|(job, _)| job.uid == *uid) {
                    self.children.delete_job(name);
                }
            }
            Removable::Batch => {
                let through = self.object.record.generation.as_ref().map_or(0, |known| known.folded.through);
                let number = owner().batch_number(name).unwrap();
                assert!(number + 2 <= through, "batch {number} is removed, and {through} are folded in");
                if let Some(batch) = self.children.batches.get_mut(name).filter(|batch| batch.uid == *uid) {
                    batch.deleting = true;
                }
            }
            Removable::Teacher => {
                if let Some(teacher) = self.children.teacher.as_mut().filter(|teacher| teacher.uid == *uid) {
                    teacher.deleting = true;
                }
            }
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "as the plan hands it over")]
    fn makes_job(&mut self, name: Box<str>, stage: Stage, attempt: u32) -> Uid {
        if !self.children.jobs.contains_key(&name) {
            let times = self.made.entry(name.clone()).or_default();
            *times += 1;
            let uid = Uid::from(format!("{name}-{times}"));
            let job = JobFacts { uid, created: at(self.now), started: Some(at(self.now)), ..job_of(stage, attempt) };
            self.children.jobs.insert(name.clone(), (Arc::new(job), Vec::new()));
        }
        self.children.jobs[&name].0.uid.clone()
    }

    fn makes_batch(&mut self, number: u32) -> Uid {
        let known = self.object.record.generation.as_ref().unwrap();
        assert!(known.batches.iter().any(|batch| batch.number == number), "batch {number} is made before it is named");
        let name: Box<str> = owner().batch_name(number).into();
        if !self.children.batches.contains_key(&name) {
            let times = self.made.entry(name.clone()).or_default();
            *times += 1;
            let uid = Uid::from(format!("{name}-{times}"));
            self.children.batches.insert(name.clone(), BatchFacts { uid, ..child(number) });
        }
        self.children.batches[&name].uid.clone()
    }

    pub(super) fn assert_invariants(&self) {
        assert!(self.children.at_work().count() <= 1, "two Jobs at work: {:#?}", self.children);
        for (name, times) in &self.made {
            assert!(*times <= 1 + self.deleted_by_hand, "{name} was made {times} times");
        }
        let record = &self.object.record;
        let Some(observed) = record.observed_generation else { return };
        assert!(observed <= self.object.generation);
        assert_conditions(record, observed);
        if record.attempts.get(&Stage::Snapshot).is_some_and(|attempt| attempt.end.is_none()) {
            assert!(record.locked.contains(&Stage::Snapshot), "an attempt is under way, and its part is not locked");
        }
        let comes_after = |stage: Stage, before: ConditionType| {
            assert!(
                !record.attempts.contains_key(&stage) || record.conditions.holds(before),
                "{stage} has begun before {before} holds"
            );
        };
        comes_after(Stage::Rollouts, ConditionType::Snapshotted);
        if matches!(self.object.intent.work, Some(Work::Batch(_))) {
            comes_after(Stage::Verification, ConditionType::RolledOut);
        }
        comes_after(Stage::Dataset, ConditionType::Generated);
        if let Some(generation) = &record.generation {
            assert_counts(generation);
        }
    }

    fn is_through(&self) -> bool {
        match self.object.intent.work {
            Some(Work::Batch(_)) => self.object.record.phase == Some(Phase::Succeeded),
            _ => self.object.record.dataset.is_some(),
        }
    }

    /// A time in which nothing goes wrong any more: one leader whose cache is fresh, and programs that succeed.
    pub(super) fn calms_down(&mut self) {
        let was_held = self.was_held;
        if self.object.intent.suspend {
            self.happens(Happening::TogglesSuspend);
        }
        if !self.object.intent.findings.is_empty() {
            self.happens(Happening::TogglesMistake);
        }
        self.was_held = was_held;
        for _ in 0..256 {
            for happening in [Happening::SeesObject(0), Happening::SeesChildren(0), Happening::Plans(0)] {
                self.happens(happening);
            }
            let (look_again, has_work) = {
                let (_, observed, planned) = self.leaders[0].planned.as_ref().unwrap();
                let has_work =
                    planned.record != observed.record || !planned.make.is_empty() || !planned.remove.is_empty();
                (planned.look_again, has_work)
            };
            self.happens(Happening::Acts(0));
            self.assert_invariants();
            if self.is_through() {
                return;
            }
            let is_at_work = self.children.at_work().next().is_some()
                || self.children.batches.values().any(|batch| batch.result.is_none())
                || self.children.teacher.as_ref().is_some_and(|teacher| teacher.ready == 0 || teacher.deleting);
            if !has_work && !is_at_work {
                let look = look_again
                    .expect("nothing to do, nothing at work, and no time to look again: it would sleep for ever");
                self.now = self.now.max(look.duration_since(at(0)).as_secs());
            }
            for happening in [
                Happening::Vanishes,
                Happening::TeacherAnswers,
                Happening::Succeeds { silently: false },
                Happening::BatchIsDone(0),
            ] {
                self.happens(happening);
            }
        }
        panic!("not through after a quiet time: {:#?}", self.object.record);
    }
}
