//! What a leader of a walk does: it plans of what it sees, and makes and removes what it planned.

use std::{collections::BTreeMap, sync::Arc};

use sera_crds::{run::Phase, values::Stage};

use super::{
    children::Children,
    invariants::{assert_history, assert_nobody_is_bereft},
    recreation::Taken,
    world::{Leader, World},
};
use crate::facts::{BatchFacts, JobFacts, ServerFacts, Uid};
use crate::plan::{
    Holdups, Make, Observed, Removable, plan,
    record::{AttemptOutcome, Record},
    settle::{Made, settle},
    sight::Evidence,
    tests::{at, child, job_of, owner, student, teacher},
};

/// How many attempts of the training may fail.
const MAX_ATTEMPTS: u32 = 3;

impl World {
    /// As `observe` gathers: from the cache, and from the API server where a child that was made is missing there, or its last words are.
    pub(super) fn plans(&mut self, leader: usize) {
        let Leader { object, children, children_of, .. } = &self.leaders[leader];
        // What a cache has of another object by this name is found under that one's uid.
        let (nothing, is_another) = (Children::default(), object.incarnation != self.object.incarnation);
        let children = if *children_of == object.incarnation { children } else { &nothing };
        let there = if is_another { &nothing } else { &self.children };
        let mut evidence = BTreeMap::new();
        for (stage, attempt) in object.record.attempts.iter().filter(|(_, attempt)| attempt.end.is_none()) {
            let name = owner().job_name(*stage, attempt.number);
            let live = || there.jobs.get(&*name).filter(|_| attempt.job.is_some());
            if let Some((job, pods)) = children.jobs.get(&*name).or_else(live) {
                let job = Some(Arc::clone(job));
                evidence.insert(*stage, Evidence { job, pods: pods.clone(), ..Evidence::default() });
            }
        }
        let mut batches = children.batches.clone();
        for known in object.record.generation.iter().flat_map(|known| &known.batches) {
            let name = owner().batch_name(known.number);
            if let (Some(_), false, Some(live)) = (&known.uid, batches.contains_key(&*name), there.batches.get(&*name))
            {
                batches.insert(name.into(), live.clone());
            }
        }
        let known = object.record.generation.iter().flat_map(|known| &known.batches);
        let missing = known.filter(|known| !batches.contains_key(owner().batch_name(known.number).as_str()));
        let lingering = missing.filter_map(|known| known.uid.clone()).filter(|uid| children.lingering.contains(uid));
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
            live: self.live(),
            teacher: children.teacher.clone().map(Arc::new),
            student: children.student.clone().map(Arc::new),
            holdups: Holdups::default(),
            lingering: lingering.collect(),
            batches: batches.into_values().map(Arc::new).collect(),
        };
        let planned = plan(&observed, at(self.now));
        self.leaders[leader].planned = Some((object.version, observed, planned));
    }

    /// As `apply` and `report` do it.
    pub(super) fn acts(&mut self, leader: usize, reports: bool) {
        let Some((version, observed, planned)) = self.leaders[leader].planned.take() else { return };
        if planned.hold != observed.reclaim.held {
            self.holds(version, planned.hold);
            return;
        }
        for removal in &planned.remove {
            assert_nobody_is_bereft(&observed, removal.kind);
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
                    let is_at_work = self.children.at_work().any(|job| job.name != name);
                    // What works by the same name may work at the same samples.
                    if is_at_work || self.left.at_work().next().is_some() {
                        return;
                    }
                    if stage == Stage::Reclaim && (self.children.teacher.is_some() || !self.children.batches.is_empty())
                    {
                        return;
                    }
                    if matches!(stage, Stage::Rollouts | Stage::Evaluation) {
                        let answers = observed.teacher.as_ref().is_some_and(|teacher| teacher.ready > 0);
                        assert!(answers, "drivers are started while there is no teacher to ask");
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
                Make::Batch { number, .. } => match self.name_is_taken(number) {
                    None => Made::Batch { number, uid: self.makes_batch(number) },
                    Some(Taken::Named(made)) => made,
                    Some(Taken::Leaving) => return,
                },
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
                let is_over = self.object.record.phase.is_some_and(Phase::is_terminal);
                assert!(
                    self.object.deleting || number + 2 <= through || (is_over && number <= through),
                    "batch {number} is removed, and {through} are folded in"
                );
                if let Some(batch) = self.children.batches.get_mut(name).filter(|batch| batch.uid == *uid) {
                    batch.deleting = true;
                }
            }
            // They end as they would, only sooner.
            Removable::PodsOfJob => {
                assert!(self.children.jobs.get(name).is_none_or(|(job, _)| job.uid != *uid || job.deleting));
            }
            Removable::Student => {
                if let Some(student) = self.children.student.as_mut().filter(|student| student.uid == *uid) {
                    student.deleting = true;
                }
            }
            Removable::Teacher | Removable::TeacherGroups => {
                if let Some(teacher) = self.children.teacher.as_mut().filter(|teacher| teacher.uid == *uid) {
                    teacher.deleting = true;
                }
            }
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "as the plan hands it over")]
    fn makes_job(&mut self, name: Box<str>, stage: Stage, attempt: u32) -> Uid {
        if !self.children.jobs.contains_key(&name) {
            self.is_told(&name, stage);
            let times = self.made.entry(name.clone()).or_default();
            *times += 1;
            let uid = Uid::from(format!("{name}-{}-{times}", self.object.incarnation));
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
            let uid = Uid::from(format!("{name}-{}-{times}", self.object.incarnation));
            self.children.batches.insert(name.clone(), BatchFacts { uid, ..child(number) });
        }
        self.children.batches[&name].uid.clone()
    }
}
