//! The children of a walk's object as the API server has them, and what befalls them there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sera_crds::{contract::Termination, values::Stage};

use crate::{
    facts::{BatchFacts, JobEnd, JobFacts, PodFacts, PodPhase, ServerFacts, Uid},
    plan::tests::{ended, owner, pod},
};

/// The children as the API server has them.
#[derive(Debug, Clone, Default)]
pub(super) struct Children {
    pub(super) jobs: BTreeMap<Box<str>, JobAndPods>,
    pub(super) batches: BTreeMap<Box<str>, BatchFacts>,
    /// Batches that are gone, while their pods are not.
    pub(super) lingering: BTreeSet<Uid>,
    pub(super) teacher: Option<ServerFacts>,
    pub(super) student: Option<ServerFacts>,
}

/// A Job, and its pods that do not run.
pub(super) type JobAndPods = (Arc<JobFacts>, Vec<Arc<PodFacts>>);

impl Children {
    pub(super) fn at_work(&self) -> impl Iterator<Item = &Arc<JobFacts>> {
        self.jobs.values().map(|(job, _)| job).filter(|job| job.end.is_none())
    }

    pub(super) fn end(&mut self, failure: Option<&str>, said: Option<&Termination>) {
        let phase = if failure.is_none() { PodPhase::Succeeded } else { PodPhase::Failed };
        self.end_with(failure, vec![pod(phase, said)]);
    }

    /// A Job that is suspended has no pod that could end.
    fn end_with(&mut self, failure: Option<&str>, pods: Vec<PodFacts>) {
        let Some(job) = self.at_work().find(|job| !job.deleting && !job.suspended).cloned() else { return };
        let pods = pods.into_iter().map(|pod| Arc::new(PodFacts { job: job.uid.clone(), ..pod })).collect();
        self.jobs.insert(job.name.clone(), (Arc::new(ended(JobFacts::clone(&job), failure)), pods));
    }

    /// As Kubernetes tells of it: by the Job's condition when the pod is gone, by the pod's, or by its exit code.
    pub(super) fn disrupt(&mut self, how: usize) {
        let stopped = PodFacts { exit_code: Some(143), ..pod(PodPhase::Failed, None) };
        match how {
            0 => self.end_with(Some("PodFailurePolicy"), Vec::new()),
            1 => self.end_with(Some("BackoffLimitExceeded"), vec![PodFacts { disrupted: true, ..stopped }]),
            _ => self.end_with(Some("BackoffLimitExceeded"), vec![stopped]),
        }
        for (job, _) in self.jobs.values_mut().filter(|(_, pods)| pods.is_empty()) {
            let mut changed = JobFacts::clone(job);
            if let Some(JobEnd { failure: Some(failure), .. }) = &mut changed.end {
                failure.message = "Pod ml/x has condition DisruptionTarget matching FailJob rule at index 0".into();
                *job = Arc::new(changed);
            }
        }
    }

    /// Changes the gang at work, and its pods that do not run.
    pub(super) fn change_gang(&mut self, change: impl FnOnce(&mut JobFacts) -> Vec<PodFacts>) {
        let is_gang = |job: &JobFacts| matches!(owner().job_of(&job.name), Some((Stage::Training, _)));
        let at_work = self.jobs.values_mut().find(|(job, _)| job.end.is_none() && !job.deleting && is_gang(job));
        if let Some((job, pods)) = at_work {
            let mut changed = JobFacts::clone(job);
            *pods = change(&mut changed).into_iter().map(Arc::new).collect();
            *job = Arc::new(changed);
        }
    }

    pub(super) fn delete_job(&mut self, name: &str) {
        if let Some((job, _)) = self.jobs.get_mut(name) {
            *job = Arc::new(JobFacts { deleting: true, ..JobFacts::clone(job) });
        }
    }

    /// All of them are deleted.
    pub(super) fn go(&mut self) {
        let names: Vec<Box<str>> = self.jobs.keys().cloned().collect();
        names.iter().for_each(|name| self.delete_job(name));
        self.batches.values_mut().for_each(|batch| batch.deleting = true);
        [&mut self.teacher, &mut self.student].into_iter().flatten().for_each(|server| server.deleting = true);
    }

    pub(super) fn vanish(&mut self) {
        self.jobs.retain(|_, (job, _)| !job.deleting);
        let gone = self.batches.extract_if(.., |_, batch| batch.deleting);
        self.lingering.extend(gone.filter(|(_, batch)| batch.result.is_none()).map(|(_, batch)| batch.uid));
        self.teacher = self.teacher.take().filter(|teacher| !teacher.deleting);
        self.student = self.student.take().filter(|student| !student.deleting);
    }
}
