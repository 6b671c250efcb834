//! The world of a walk: an object and its children as the API server has them, two leaders that see them late, and what can happen to them all.

use std::{collections::BTreeMap, sync::Arc};

use sera_crds::{
    contract::Termination,
    run::Phase,
    values::{Stage, Verdict},
};

use super::{children::Children, deletion::Deletion, happening::Happening, invariants::assert_history};
use crate::facts::{
    BatchFacts, BatchResult, JobFacts, Live, LiveTraining, PodFacts, PodPhase, ServerFacts, Trouble, Uid,
};
use crate::plan::{
    Finding, Intent, Make, Observed, Plan, Reclaim, Removable, Work, plan,
    record::{AttemptOutcome, Record},
    settle::{Made, settle},
    sight::Evidence,
    tests::{
        at, child, counts, dataset, digest, erased, evaluated, failure, job_of, owner, pod, policy, serving, student,
        success, teacher, totals, trained, verified,
    },
};

/// What each batch of the walk's run gives: three of them are enough for ten first and six second trajectories.
pub(super) const FIRST: u64 = 4;
pub(super) const SECOND: u64 = 3;
/// How many samples a batch has.
pub(super) const SAMPLES: u64 = 8;
/// How many attempts of the training may fail.
const MAX_ATTEMPTS: u32 = 3;

/// An object as the API server has it.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) version: u64,
    pub(super) generation: i64,
    pub(super) intent: Intent,
    pub(super) record: Record,
    pub(super) deleting: bool,
    pub(super) reclaim: Reclaim,
}

#[derive(Debug, Clone)]
pub(super) struct Leader {
    pub(super) object: Object,
    pub(super) children: Children,
    pub(super) planned: Option<(u64, Observed, Plan)>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: i64,
    pub(super) object: Object,
    pub(super) children: Children,
    pub(super) leaders: [Leader; 2],
    /// How often a child of each name was made.
    pub(super) made: BTreeMap<Box<str>, u32>,
    pub(super) deleted_by_hand: u32,
    /// Whether the owner ever held the object.
    pub(super) was_held: bool,
    pub(super) edits: u32,
    /// What rank 0 said last.
    pub(super) live: Option<Live>,
    /// How many attempts of the training have failed since its owner last asked for another try.
    pub(super) failed: u32,
    /// How its deletion goes.
    pub(super) deletion: Deletion,
}

impl World {
    pub(super) fn of(intent: Intent) -> Self {
        let (record, reclaim) = (Record::default(), Reclaim::default());
        let object = Object { version: 1, generation: 1, intent, record, deleting: false, reclaim };
        let leader = Leader { object: object.clone(), children: Children::default(), planned: None };
        Self {
            now: 0,
            children: Children::default(),
            leaders: [leader.clone(), leader],
            made: BTreeMap::new(),
            deleted_by_hand: 0,
            was_held: false,
            edits: 0,
            live: None,
            failed: 0,
            deletion: Deletion::default(),
            object,
        }
    }

    pub(super) fn happens(&mut self, happening: Happening) {
        if self.deletion.is_over {
            return;
        }
        match happening {
            Happening::SeesObject(leader) => self.leaders[leader].object = self.object.clone(),
            Happening::SeesChildren(leader) => self.leaders[leader].children = self.children.clone(),
            Happening::Plans(leader) => self.plans(leader),
            Happening::Acts(leader) => self.acts(leader, true),
            Happening::Dies(leader) => self.acts(leader, false),
            Happening::Succeeds { silently } => {
                let said = self.last_words();
                self.may_have_erased();
                self.children.end(None, said.filter(|_| !silently).as_ref());
            }
            Happening::Fails(class) => {
                self.children.end(Some("FailedIndexes"), Some(&Termination::failed(failure(class))));
            }
            // Of other stages Kubernetes ignores a pod that is taken away, and starts another.
            Happening::IsDisrupted(how) if self.trains() => self.children.disrupt(how),
            Happening::IsDisrupted(_) => {}
            Happening::IsHeldUp { for_want_of_room } => self.is_held_up(for_want_of_room),
            Happening::Starts => self.children.change_gang(|job| {
                job.ready = job.active;
                Vec::new()
            }),
            Happening::TogglesQueue => self.toggles_queue(),
            Happening::Tells(step) => {
                let live = LiveTraining { step, total_steps: 96, loss: Some(1.5), ..LiveTraining::default() };
                self.live = Some(Live::Training(live));
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
            Happening::StudentAnswers(answers) => {
                let is_held = self.object.intent.suspend;
                if let Some(student) = self.children.student.as_mut().filter(|_| !is_held) {
                    (student.ready, student.complete) = (u32::from(answers), answers);
                }
            }
            Happening::StudentIsDeleted => self.children.student = None,
            Happening::TogglesServing => self.edit(|intent| {
                if let Some(Work::Run(work)) = &mut intent.work {
                    work.serving = if work.serving.is_none() { Some(serving()) } else { None };
                }
            }),
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
            Happening::TogglesReclaim => {
                self.object.reclaim.wanted = !self.object.reclaim.wanted;
                self.edit(|_| {});
            }
            Happening::IsToGo { collected } => self.is_to_go(collected),
            Happening::IsCollected => self.is_collected(),
            Happening::NamespaceGoes => self.namespace_goes(),
        }
    }

    /// Whether a gang is at work.
    fn trains(&self) -> bool {
        let stage = |job: &Arc<JobFacts>| owner().job_of(&job.name).map(|(stage, _)| stage);
        self.children.at_work().any(|job| stage(job) == Some(Stage::Training))
    }

    fn is_held_up(&mut self, for_want_of_room: bool) {
        let created = at(self.now);
        self.children.change_gang(|job| {
            if job.suspended {
                return Vec::new();
            }
            job.ready = 1;
            let reason = if for_want_of_room { "Unschedulable" } else { "ImagePullBackOff" };
            let trouble = Some(Trouble { reason: reason.into(), message: "words".into() });
            vec![PodFacts { index: 1, job: job.uid.clone(), created, trouble, ..pod(PodPhase::Pending, None) }]
        });
    }

    fn toggles_queue(&mut self) {
        let now = at(self.now);
        self.children.change_gang(|job| {
            job.suspended = !job.suspended;
            (job.active, job.ready) = if job.suspended { (0, 0) } else { (2, 2) };
            job.started = (!job.suspended).then_some(now);
            Vec::new()
        });
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Intent)) {
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
            Stage::Training => trained(96, 0.25),
            Stage::Evaluation => evaluated(0.4, Some(Verdict::Improved), 64),
            Stage::Reclaim => erased(),
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
                evidence.insert(*stage, Evidence { job, pods: pods.clone(), ..Evidence::default() });
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
            deleting: object.deleting,
            reclaim: object.reclaim,
            record: object.record.clone(),
            intent: Some(object.intent.clone()),
            defaults_problem: None,
            jobs: children.jobs.values().map(|(job, _)| Arc::clone(job)).collect(),
            evidence,
            live: self.live.filter(|_| self.trains()),
            teacher: children.teacher.clone().map(Arc::new),
            student: children.student.clone().map(Arc::new),
            holdup: None,
            batches: batches.into_values().map(Arc::new).collect(),
            lingering: Vec::new(),
        };
        let planned = plan(&observed, at(self.now));
        self.leaders[leader].planned = Some((object.version, observed, planned));
    }

    /// As `apply` and `report` do it.
    fn acts(&mut self, leader: usize, reports: bool) {
        let Some((version, observed, planned)) = self.leaders[leader].planned.take() else { return };
        if planned.hold != observed.reclaim.held {
            self.holds(version, planned.hold);
            return;
        }
        for removal in &planned.remove {
            self.removes(removal.kind, &removal.name, &removal.uid);
        }
        let mut made = Vec::new();
        for make in &planned.make {
            if self.object.version != version {
                return;
            }
            self.assert_held(make);
            if self.deletion.namespace_is_going {
                made.push(Made::NamespaceGoing);
                continue;
            }
            made.push(match *make {
                Make::Defaults => Made::Defaults,
                Make::Student => {
                    assert!(self.object.record.model.is_some(), "a student is served before it is there");
                    let generation = Some(self.object.generation);
                    let held = self.object.intent.suspend;
                    let student = self.children.student.get_or_insert_with(|| student(0));
                    *student = ServerFacts { generation, complete: held, ready: 0, ..student.clone() };
                    Made::Applied
                }
                Make::Teacher => {
                    let generation = Some(self.object.generation);
                    self.children.teacher.get_or_insert_with(|| teacher(0)).generation = generation;
                    Made::Applied
                }
                Make::Job { stage, attempt } => {
                    let name: Box<str> = owner().job_name(stage, attempt).into();
                    if self.children.at_work().any(|job| job.name != name) {
                        return;
                    }
                    if stage == Stage::Reclaim && (self.children.teacher.is_some() || !self.children.batches.is_empty())
                    {
                        return;
                    }
                    if stage == Stage::Evaluation {
                        let answers = observed.teacher.as_ref().is_some_and(|teacher| teacher.ready > 0);
                        assert!(answers, "models are loaded while there is no teacher to ask");
                    }
                    if stage == Stage::Training {
                        if self.children.teacher.is_some() {
                            return;
                        }
                        assert!(
                            self.object.record.locked.contains(&stage),
                            "a gang is made of what can still be edited"
                        );
                    }
                    Made::Job { stage, uid: self.makes_job(name, stage, attempt) }
                }
                Make::Batch { number, .. } => Made::Batch { number, uid: self.makes_batch(number) },
            });
        }
        let settled = settle(planned, made, &observed, at(self.now));
        if reports && self.object.version == version && settled.record != self.object.record {
            assert_history(&self.object.record, &settled.record);
            self.counts_failures(&settled.record);
            self.object.record = settled.record;
            self.object.version += 1;
        }
    }

    /// Counts the attempts of the training that failed since its owner last asked for another try when none was under way, and holds the plan to
    /// what may fail. What is disrupted or withdrawn is not counted.
    fn counts_failures(&mut self, after: &Record) {
        let before = &self.object.record;
        let (old, new) = (before.attempts.get(&Stage::Training), after.attempts.get(&Stage::Training));
        if before.retry != after.retry && old.is_none_or(|attempt| attempt.end.is_some()) {
            self.failed = 0;
        }
        let Some(new) = new else { return };
        let is_another = old.is_none_or(|old| old.number < new.number);
        assert!(
            !is_another || self.failed < MAX_ATTEMPTS,
            "attempt {} begins after {} failures",
            new.number,
            self.failed
        );
        let had_ended = !is_another && old.is_some_and(|old| old.end.is_some());
        if let (Some(end), false) = (&new.end, had_ended) {
            self.failed += u32::from(matches!(end.outcome, AttemptOutcome::Failed(_) | AttemptOutcome::Lost));
        }
        let is_given_up = after.phase == Some(Phase::Failed);
        assert!(!is_given_up || self.failed == MAX_ATTEMPTS, "given up after {} failures", self.failed);
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
                assert!(
                    self.object.deleting || number + 2 <= through,
                    "batch {number} is removed, and {through} are folded in"
                );
                if let Some(batch) = self.children.batches.get_mut(name).filter(|batch| batch.uid == *uid) {
                    batch.deleting = true;
                }
            }
            Removable::Student => {
                if let Some(student) = self.children.student.as_mut().filter(|student| student.uid == *uid) {
                    student.deleting = true;
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
            let pods = if stage == Stage::Training { 2 } else { 1 };
            let (created, started) = (at(self.now), Some(at(self.now)));
            let size = JobFacts { active: pods, ready: pods, completions: pods, ..job_of(stage, attempt) };
            let job = JobFacts { uid, created, started, ..size };
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
}
