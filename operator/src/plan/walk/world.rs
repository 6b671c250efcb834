//! The world of a walk: an object and its children as the API server has them, two leaders that see them late, and what can happen to them all.

use std::collections::BTreeMap;

use sera_crds::{
    contract::{Silence, Termination, VerificationCounts},
    values::{Stage, Verdict},
};

use super::{
    adoption::TakesOver,
    children::Children,
    deletion::Deletion,
    happening::Happening,
    means::{asked_of_dataset, gives, yields},
};
use crate::facts::{BatchResult, Live, LiveRollouts, LiveTraining, PodFacts, PodPhase, Trouble};
use crate::plan::{
    Finding, Intent, Observed, Plan, Reclaim, Work,
    record::Record,
    tests::{at, counts, dataset, erased, evaluated, failure, owner, pod, policy, serving, trained, verified},
};

/// An object as the API server has it.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) version: u64,
    /// How many objects of its name there were before.
    pub(super) incarnation: u32,
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
    /// Whose those are: caches find them by their owner's uid.
    pub(super) children_of: u32,
    pub(super) planned: Option<(u64, Observed, Plan)>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: i64,
    pub(super) object: Object,
    pub(super) children: Children,
    /// What is left of objects of its name that are gone.
    pub(super) left: Children,
    pub(super) leaders: [Leader; 2],
    /// How often a child of each name was made.
    pub(super) made: BTreeMap<Box<str>, u32>,
    pub(super) deleted_by_hand: u32,
    /// Whether the owner ever held the object, or edited what it may use: a run may make more batches then, or fewer.
    pub(super) was_held: bool,
    /// What a run takes over from an earlier one.
    pub(super) takes_over: TakesOver,
    /// How many first and second trajectories the owner wanted when a Job was made, by its name.
    pub(super) asked: BTreeMap<Box<str>, (u64, u64)>,
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
        let object = Object { version: 1, incarnation: 0, generation: 1, intent, record, deleting: false, reclaim };
        let leader = Leader { object: object.clone(), children: Children::default(), children_of: 0, planned: None };
        Self {
            now: 0,
            children: Children::default(),
            left: Children::default(),
            leaders: [leader.clone(), leader],
            made: BTreeMap::new(),
            deleted_by_hand: 0,
            was_held: false,
            takes_over: TakesOver::Nothing,
            asked: BTreeMap::new(),
            edits: 0,
            live: None,
            failed: 0,
            deletion: Deletion::default(),
            object,
        }
    }

    pub(super) fn happens(&mut self, happening: Happening) {
        if self.deletion.is_over && !matches!(happening, Happening::IsRecreated) {
            return;
        }
        match happening {
            Happening::SeesObject(leader) => self.leaders[leader].object = self.object.clone(),
            Happening::SeesChildren(leader) => {
                let leader = &mut self.leaders[leader];
                (leader.children, leader.children_of) = (self.children.clone(), self.object.incarnation);
            }
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
            Happening::Vanishes => {
                self.children.vanish();
                self.left.vanish();
            }
            Happening::PodsAreGone => self.children.lingering.clear(),
            Happening::TeacherAnswers => {
                if let Some(teacher) = &mut self.children.teacher {
                    teacher.ready = 1;
                    self.live = self.live.filter(|live| live.training().is_some());
                }
            }
            Happening::TeacherFails => self.teacher_fails(),
            Happening::TeacherIsDeleted => self.children.teacher = None,
            Happening::StudentAnswers(answers) => {
                let (is_held, copies) = (self.object.intent.suspend, self.copies());
                if let Some(student) = self.children.student.as_mut().filter(|_| !is_held) {
                    (student.ready, student.complete) = (if answers { copies } else { 0 }, answers);
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
            Happening::TogglesMistake => self.toggles_mistake(),
            Happening::Retries => self.edit(|intent| intent.retry.push('x')),
            Happening::EditsPolicy => self.edits_policy(),
            Happening::EditsMeans(means) => self.edits_means(means),
            Happening::EditsReplicas => self.edits_replicas(),
            Happening::Waits(seconds) => self.now += seconds,
            Happening::TogglesReclaim => {
                self.object.reclaim.wanted = !self.object.reclaim.wanted;
                self.edit(|_| {});
            }
            Happening::IsToGo { collected } => self.is_to_go(collected),
            Happening::IsCollected => self.is_collected(),
            Happening::NamespaceGoes => self.namespace_goes(),
            Happening::IsRecreated => self.is_recreated(),
            Happening::WhatIsLeftGoes => self.left.go(),
        }
    }

    /// The teacher is there, and answers nobody.
    fn teacher_fails(&mut self) {
        if let Some(teacher) = &mut self.children.teacher {
            teacher.ready = 0;
            let silence = Some(Silence::Status(500));
            self.live = Some(Live::Rollouts(LiveRollouts { silence, ..LiveRollouts::default() }));
        }
    }

    /// The owner makes a mistake, or mends it.
    fn toggles_mistake(&mut self) {
        self.was_held = true;
        self.edit(|intent| {
            intent.findings = if intent.findings.is_empty() {
                vec![Finding { field: "spec.output.store".into(), message: "is required".into() }]
            } else {
                Vec::new()
            };
        });
    }

    /// Whether a gang is at work.
    fn trains(&self) -> bool {
        self.stage_at_work() == Some(Stage::Training)
    }

    fn stage_at_work(&self) -> Option<Stage> {
        let job = self.children.at_work().next()?;
        Some(owner().job_of(&job.name)?.0)
    }

    /// What the programs at work said last: nobody asks those of another stage.
    pub(super) fn live(&self) -> Option<Live> {
        self.live.filter(|live| match live {
            Live::Training(_) => self.trains(),
            Live::Rollouts(_) => matches!(self.stage_at_work(), Some(Stage::Rollouts | Stage::Evaluation)),
        })
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
        let policy = policy(if self.edits.is_multiple_of(2) { '1' } else { '2' });
        self.edit(|intent| match &mut intent.work {
            Some(Work::Run(work)) => {
                work.policy = policy;
                work.dataset = asked_of_dataset(work);
            }
            Some(Work::Batch(work)) => work.policy = policy,
            None => {}
        });
    }

    /// A batch is verified by the policy of the moment.
    fn batch_is_done(&mut self, place: usize) {
        let Some(Work::Run(work)) = &self.object.intent.work else { return };
        let settings = work.policy.settings.clone();
        let under_way = self.children.batches.values_mut().filter(|batch| batch.result.is_none() && !batch.deleting);
        let Some(batch) = under_way.into_iter().nth(place) else { return };
        let number = owner().batch_number(&batch.name);
        let mut known = self.object.record.generation.iter().flat_map(|known| &known.batches);
        let named = known.find(|known| Some(known.number) == number).expect("a batch is made that no status names");
        batch.result = Some(BatchResult { settings, totals: gives(named) });
    }

    /// What the program of the Job at work says, which counts what is in the store.
    fn last_words(&self) -> Option<Termination> {
        let job = self.children.at_work().find(|job| !job.deleting)?;
        let folded = self.object.record.generation.as_ref().map_or(0, |known| u64::from(known.folded.samples));
        let (first, second) = yields(folded);
        // Its program was told when it was made.
        let wanted = self.asked.get(&job.name).copied().unwrap_or_default();
        Some(match owner().job_of(&job.name)?.0 {
            Stage::Verification if folded > 0 => {
                verified(VerificationCounts { attempted: folded, ..counts(first, second) })
            }
            Stage::Verification => verified(counts(6, 4)),
            Stage::Generation => {
                let is_enough = first >= wanted.0 && second >= wanted.1;
                dataset(first.min(wanted.0), second.min(wanted.1), is_enough, true)
            }
            Stage::Dataset => dataset(wanted.0, wanted.1, true, false),
            Stage::Training => trained(96, 0.25),
            Stage::Evaluation => evaluated(0.4, Some(Verdict::Improved), 64),
            Stage::Reclaim => erased(),
            _ => self.takes_over.words(),
        })
    }
}
