//! The scene that moves an object under test on: what is seen of it and its children, and the passes that follow.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use sera_crds::{contract::Termination, values::Stage};

use super::{at, child, digest, ended, intent, job, job_of, owner, pod, success, teacher, totals};
use crate::{
    facts::{BatchFacts, BatchResult, JobFacts, PodFacts, PodPhase},
    plan::{
        Holdups, Intent, Make, Observed, Plan, Reclaim, RunWork, Work, plan,
        record::Record,
        settle::{Made, settle},
        sight::Evidence,
    },
};

/// An object and its surroundings, moved on by hand.
pub(super) struct Scene {
    pub(super) observed: Observed,
    pub(super) now: Timestamp,
}

impl Scene {
    /// A run that nobody has looked at.
    pub(super) fn new() -> Self {
        Self::of(intent())
    }

    /// An object that wants this, and that nobody has looked at.
    pub(super) fn of(intent: Intent) -> Self {
        let observed = Observed {
            owner: owner(),
            generation: 1,
            deleting: false,
            reclaim: Reclaim::default(),
            record: Record::default(),
            intent: Some(intent),
            defaults_problem: None,
            jobs: Vec::new(),
            evidence: BTreeMap::new(),
            live: None,
            teacher: None,
            student: None,
            holdups: Holdups::default(),
            batches: Vec::new(),
            lingering: Vec::new(),
        };
        Self { observed, now: at(0) }
    }

    /// A run whose first attempt's Job was made.
    pub(super) fn with_job_made() -> Self {
        let mut scene = Self::new();
        scene.pass();
        scene.pass();
        scene.have(job(1), Vec::new());
        scene
    }

    /// An object whose snapshot is in the store, and whose teacher answers.
    pub(super) fn snapshotted(intent: Intent) -> Self {
        let mut scene = Self::of(intent);
        scene.observed.teacher = Some(Arc::new(teacher(1)));
        scene.pass();
        scene.work(Stage::Snapshot, &success());
        scene
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.observed, self.now)
    }

    /// Plans, lets every child be made, and reads the status back.
    pub(super) fn pass(&mut self) -> Plan {
        let plan = self.plan();
        let made = plan.make.iter().map(|make| match make {
            Make::Defaults => Made::Defaults,
            Make::Teacher | Make::Student => Made::Applied,
            Make::Job { stage, attempt } => Made::Job { stage: *stage, uid: format!("job-{attempt}").into() },
            Make::Batch { number, .. } => Made::Batch { number: *number, uid: format!("batch-{number}").into() },
        });
        let plan = settle(plan.clone(), made.collect(), &self.observed, self.now);
        self.observed.record = plan.record.clone();
        self.observed.reclaim.held = plan.hold;
        self.drop_evidence_of_other_attempts();
        plan
    }

    /// Lets the Job of the stage's attempt be made and end with these words, and makes the pass that hears of it.
    pub(super) fn work(&mut self, stage: Stage, words: &Termination) -> Plan {
        let made = self.pass();
        let number = self.observed.record.attempts[&stage].number;
        // After an edit the teacher is applied anew, beside whatever is due.
        let due: Vec<&Make> = made.make.iter().filter(|make| **make != Make::Teacher).collect();
        assert_eq!(due, [&Make::Job { stage, attempt: number }], "of {stage}");
        self.have(ended(job_of(stage, number), None), vec![pod(PodPhase::Succeeded, Some(words))]);
        self.pass()
    }

    /// As observing does it: evidence is of Jobs of attempts under way alone.
    fn drop_evidence_of_other_attempts(&mut self) {
        let attempts = &self.observed.record.attempts;
        self.observed.evidence.retain(|stage, evidence| {
            let current = attempts.get(stage).map(|attempt| owner().job_name(*stage, attempt.number));
            evidence.job.as_ref().is_some_and(|job| Some(&*job.name) == current.as_deref())
        });
    }

    /// Sets what is to be seen of the Job and its pods.
    pub(super) fn have(&mut self, job: JobFacts, pods: Vec<PodFacts>) {
        let (stage, _) = owner().job_of(&job.name).unwrap();
        let (job, pods) = (Arc::new(job), pods.into_iter().map(Arc::new).collect());
        self.observed.jobs = vec![Arc::clone(&job)];
        self.observed.evidence = BTreeMap::from([(stage, Evidence { job: Some(job), pods, ..Evidence::default() })]);
    }

    /// Nothing is to be seen of any Job.
    pub(super) fn have_nothing(&mut self) {
        self.observed.jobs = Vec::new();
        self.observed.evidence = BTreeMap::new();
    }

    /// Has a run's batch as it is now.
    pub(super) fn see(&mut self, batch: BatchFacts) {
        self.observed.batches.retain(|known| known.name != batch.name);
        self.observed.batches.push(Arc::new(batch));
    }

    /// Lets a run's batch be done, that accepted so many.
    pub(super) fn done(&mut self, number: u32, first: u64, second: u64) {
        let result = BatchResult { settings: digest('1'), totals: totals(first, second) };
        self.see(BatchFacts { result: Some(result), ..child(number) });
    }

    pub(super) fn intent(&mut self) -> &mut Intent {
        self.observed.intent.as_mut().unwrap()
    }

    pub(super) fn run(&mut self) -> &mut RunWork {
        let Some(Work::Run(work)) = &mut self.intent().work else { panic!("it is no run") };
        work
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Intent)) {
        change(self.intent());
        self.observed.generation += 1;
    }
}
