//! Random walks through everything that can happen to a run in any order: two leaders with caches that are behind, crashes between any two steps,
//! Jobs that end, hang, vanish or lose their last words, and an owner who changes their mind. After every step the invariants must hold; and from
//! wherever a walk ends, a quiet time must lead to a snapshot.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use sera_crds::{
    contract::{FailureClass, Termination},
    values::Stage,
};

use super::{
    Finding, Intent, Make, Observed, Plan,
    conditions::{ConditionType, Truth},
    plan,
    record::Record,
    settle::{Made, settle},
    sight::Evidence,
    tests::{at, ended, failure, intent, job, owner, pod, success},
};
use crate::facts::{JobFacts, PodFacts, PodPhase, Uid};

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// A leader reads the run's newest version into its cache.
    SeesRun(usize),
    /// A leader reads the newest Jobs and pods into its cache.
    SeesJobs(usize),
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
    /// What is being deleted is gone.
    Vanishes,
    /// The owner suspends or resumes.
    TogglesSuspend,
    /// The owner breaks or repairs the spec.
    TogglesMistake,
    /// The owner asks for another try.
    Retries,
    /// Time passes.
    Waits(i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let leader = 0..2_usize;
    prop_oneof![
        4 => leader.clone().prop_map(SeesRun),
        4 => leader.clone().prop_map(SeesJobs),
        6 => leader.clone().prop_map(Plans),
        6 => leader.clone().prop_map(Acts),
        1 => leader.prop_map(Dies),
        1 => any::<bool>().prop_map(|silently| Succeeds { silently }),
        1 => prop_oneof![Just(FailureClass::Configuration), Just(FailureClass::Unavailable), Just(FailureClass::Internal)].prop_map(Fails),
        1 => Just(IsDeleted),
        2 => Just(Vanishes),
        1 => Just(TogglesSuspend),
        1 => Just(TogglesMistake),
        1 => Just(Retries),
        2 => (1_i64..400).prop_map(Waits),
    ]
}

/// A run as the API server has it.
#[derive(Debug, Clone)]
struct Run {
    version: u64,
    generation: i64,
    intent: Intent,
    record: Record,
}

/// The Jobs and pods as the API server has them, by name.
#[derive(Debug, Clone, Default)]
struct Jobs(BTreeMap<Box<str>, JobAndPods>);

/// A Job, and its pods that do not run.
type JobAndPods = (Arc<JobFacts>, Vec<Arc<PodFacts>>);

#[derive(Debug, Clone)]
struct Leader {
    run: Run,
    jobs: Jobs,
    planned: Option<(u64, Observed, Plan)>,
}

#[derive(Debug)]
struct World {
    now: i64,
    run: Run,
    jobs: Jobs,
    leaders: [Leader; 2],
    /// How often a Job of each name was made.
    made: BTreeMap<Box<str>, u32>,
    deleted_by_hand: u32,
}

impl Jobs {
    fn at_work(&self) -> impl Iterator<Item = &Arc<JobFacts>> {
        self.0.values().map(|(job, _)| job).filter(|job| job.end.is_none())
    }

    fn end(&mut self, failure: Option<&str>, said: Option<&Termination>) {
        let Some(job) = self.at_work().find(|job| !job.deleting).cloned() else { return };
        let phase = if failure.is_none() { PodPhase::Succeeded } else { PodPhase::Failed };
        let pod = PodFacts { job: job.uid.clone(), ..pod(phase, said) };
        self.0.insert(job.name.clone(), (Arc::new(ended(JobFacts::clone(&job), failure)), vec![Arc::new(pod)]));
    }

    fn delete(&mut self, name: &str) {
        if let Some((job, _)) = self.0.get_mut(name) {
            *job = Arc::new(JobFacts { deleting: true, ..JobFacts::clone(job) });
        }
    }
}

impl World {
    fn new() -> Self {
        let run = Run { version: 1, generation: 1, intent: intent(), record: Record::default() };
        let leader = Leader { run: run.clone(), jobs: Jobs::default(), planned: None };
        Self {
            now: 0,
            jobs: Jobs::default(),
            leaders: [leader.clone(), leader],
            made: BTreeMap::new(),
            deleted_by_hand: 0,
            run,
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::SeesRun(leader) => self.leaders[leader].run = self.run.clone(),
            Happening::SeesJobs(leader) => self.leaders[leader].jobs = self.jobs.clone(),
            Happening::Plans(leader) => self.plans(leader),
            Happening::Acts(leader) => self.acts(leader, true),
            Happening::Dies(leader) => self.acts(leader, false),
            Happening::Succeeds { silently } => self.jobs.end(None, (!silently).then(success).as_ref()),
            Happening::Fails(class) => self.jobs.end(Some("FailedIndexes"), Some(&Termination::failed(failure(class)))),
            Happening::IsDeleted => {
                let at_work = self.jobs.at_work().next().map(|job| job.name.clone());
                if let Some(name) = at_work {
                    self.jobs.delete(&name);
                    self.deleted_by_hand += 1;
                }
            }
            Happening::Vanishes => self.jobs.0.retain(|_, (job, _)| !job.deleting),
            Happening::TogglesSuspend => self.edit(|intent| intent.suspend = !intent.suspend),
            Happening::TogglesMistake => self.edit(|intent| {
                intent.findings = if intent.findings.is_empty() {
                    vec![Finding { field: "spec.output.store".into(), message: "is required".into() }]
                } else {
                    Vec::new()
                };
            }),
            Happening::Retries => self.edit(|intent| intent.retry.push('x')),
            Happening::Waits(seconds) => self.now += seconds,
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Intent)) {
        change(&mut self.run.intent);
        self.run.generation += 1;
        self.run.version += 1;
    }

    /// As `observe` gathers: from the cache, and from the API server where a Job that was made is missing there, or its last words are.
    fn plans(&mut self, leader: usize) {
        let Leader { run, jobs, .. } = &self.leaders[leader];
        let mut evidence = Evidence::default();
        if let Some(attempt) = run.record.attempts.get(&Stage::Snapshot).filter(|attempt| attempt.end.is_none()) {
            let name = owner().job_name(Stage::Snapshot, attempt.number);
            let live = || self.jobs.0.get(&*name).filter(|_| attempt.job.is_some());
            if let Some((job, pods)) = jobs.0.get(&*name).or_else(live) {
                evidence = Evidence { job: Some(Arc::clone(job)), pods: pods.clone(), refused_pod: None };
            }
        }
        let observed = Observed {
            owner: owner(),
            generation: run.generation,
            deleting: false,
            record: run.record.clone(),
            intent: Some(run.intent.clone()),
            defaults_problem: None,
            jobs: jobs.0.values().map(|(job, _)| Arc::clone(job)).collect(),
            evidence,
        };
        let planned = plan(&observed, at(self.now));
        self.leaders[leader].planned = Some((run.version, observed, planned));
    }

    /// As `apply` and `report` do it.
    fn acts(&mut self, leader: usize, reports: bool) {
        let Some((version, observed, planned)) = self.leaders[leader].planned.take() else { return };
        for removal in &planned.remove {
            let is_the_one = self.jobs.0.get(&removal.name).is_some_and(|(job, _)| job.uid == removal.uid);
            if is_the_one {
                self.jobs.delete(&removal.name);
            }
        }
        let mut made = Vec::new();
        for make in &planned.make {
            let Make::Job { stage, attempt } = make else { continue };
            let name: Box<str> = owner().job_name(*stage, *attempt).into();
            if self.run.version != version || self.jobs.at_work().any(|job| job.name != name) {
                return;
            }
            if !self.jobs.0.contains_key(&name) {
                let times = self.made.entry(name.clone()).or_default();
                *times += 1;
                let uid = Uid::from(format!("job-{attempt}-{times}"));
                let job = JobFacts { uid, created: at(self.now), started: Some(at(self.now)), ..job(*attempt) };
                self.jobs.0.insert(name.clone(), (Arc::new(job), Vec::new()));
            }
            made.push(Made::Job { stage: *stage, uid: self.jobs.0[&name].0.uid.clone() });
        }
        let settled = settle(planned, made, &observed, at(self.now));
        if reports && self.run.version == version && settled.record != self.run.record {
            assert_history(&self.run.record, &settled.record);
            self.run.record = settled.record;
            self.run.version += 1;
        }
    }

    fn assert_invariants(&self) {
        assert!(self.jobs.at_work().count() <= 1, "two Jobs at work: {:#?}", self.jobs);
        for (name, times) in &self.made {
            assert!(*times <= 1 + self.deleted_by_hand, "{name} was made {times} times");
        }
        let record = &self.run.record;
        let Some(observed) = record.observed_generation else { return };
        assert!(observed <= self.run.generation);
        let conditions = &record.conditions;
        for kind in [ConditionType::Reconciling, ConditionType::Stalled] {
            assert!(
                conditions.get(kind).is_none_or(|condition| condition.truth == Truth::True),
                "{kind} is there, and not true"
            );
        }
        let (reconciling, stalled) =
            (conditions.holds(ConditionType::Reconciling), conditions.holds(ConditionType::Stalled));
        assert!(!(reconciling && stalled), "both reconciling and stalled");
        let ready = conditions.get(ConditionType::Ready).expect("Ready is always there");
        assert!(!ready.reason.is_empty() && !ready.message.is_empty(), "it does not say why it is not ready");
        assert_eq!(ready.generation, observed, "Ready speaks of another generation than the status as a whole");
        let is_under_way = record.attempts.values().any(|attempt| attempt.end.is_none());
        if is_under_way {
            assert!(
                record.locked.contains(&Stage::Snapshot),
                "an attempt is under way, and its part of the spec is not locked"
            );
        }
    }

    /// A time in which nothing goes wrong any more: one leader whose cache is fresh, and programs that succeed.
    fn calms_down(&mut self) {
        if self.run.intent.suspend {
            self.happens(Happening::TogglesSuspend);
        }
        if !self.run.intent.findings.is_empty() {
            self.happens(Happening::TogglesMistake);
        }
        for _ in 0..64 {
            for happening in [Happening::SeesRun(0), Happening::SeesJobs(0), Happening::Plans(0)] {
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
            if self.run.record.snapshot.is_some() {
                return;
            }
            let is_at_work = self.jobs.at_work().next().is_some();
            if !has_work && !is_at_work {
                let look = look_again
                    .expect("nothing to do, nothing at work, and no time to look again: it would sleep for ever");
                self.now = self.now.max(look.duration_since(at(0)).as_secs());
            }
            self.happens(Happening::Vanishes);
            self.happens(Happening::Succeeds { silently: false });
        }
        panic!("no snapshot after a quiet time: {:#?}", self.run.record);
    }
}

/// What a status may never unlearn.
fn assert_history(before: &Record, after: &Record) {
    let (old, new) = (before.attempts.get(&Stage::Snapshot), after.attempts.get(&Stage::Snapshot));
    if let Some(old) = old {
        let new = new.expect("an attempt was forgotten");
        assert!(new.number >= old.number && new.number <= old.number + 1, "attempts are counted one by one");
        assert!(
            new.number == old.number || old.end.is_some(),
            "an attempt began before the last one's end was written down"
        );
        assert!(old.end.is_none() || new.number > old.number || old.end == new.end, "an attempt ended twice");
    }
    if before.snapshot.is_some() {
        assert_eq!(before.snapshot, after.snapshot, "a snapshot is written once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_one_job_is_at_work_and_a_quiet_time_ends_in_a_snapshot(
        happenings in proptest::collection::vec(happening(), 1..120)
    ) {
        let mut world = World::new();
        for happening in happenings {
            world.happens(happening);
            world.assert_invariants();
        }
        world.calms_down();
    }
}

#[test]
fn a_run_that_nothing_disturbs_has_its_snapshot_after_one_attempt() {
    let mut world = World::new();
    world.calms_down();
    assert_eq!(world.run.record.attempts[&Stage::Snapshot].number, 1);
    assert_eq!(world.made.values().sum::<u32>(), 1);
    assert_eq!(world.now, 0, "and without waiting for a clock");
}
