//! Whom the collector asks how far they are: the drivers of rollouts and rank 0 of trainings, of Jobs at work, by the leader alone.

use std::{future::Future, sync::Arc};

use kube::runtime::reflector::Store;
use sera_crds::{RolloutBatch, SpecializationRun, values::Stage};

use super::{Scope, Shared};
use crate::{
    build::PROGRESS_PORT,
    cache::Wake,
    collector::{self, Speaker, Target},
    facts::{JobFacts, PodPhase},
    names::Owner,
    observe::Caches,
    subject::Subject,
};

/// Asks the programs of every scope, for as long as it is polled.
pub(super) fn collect(scopes: &[Scope], shared: &Shared) -> impl Future<Output = ()> + use<> {
    let known: Vec<_> =
        scopes.iter().map(|scope| (scope.runs.clone(), scope.batches.clone(), scope.caches.clone())).collect();
    let wakes: Vec<_> = scopes.iter().map(|scope| scope.wakes.clone()).collect();
    let leadership = shared.runtime.leadership.clone();
    let targets = move || {
        if leadership.term().is_none() {
            return Vec::new();
        }
        known.iter().flat_map(|(runs, batches, caches)| targets_of(runs, batches, caches)).collect()
    };
    collector::collect(shared.board.clone(), targets, move |wake| {
        wakes.iter().for_each(|wakes| wakes.wake(wake.clone()));
    })
}

fn targets_of(runs: &Store<SpecializationRun>, batches: &Store<RolloutBatch>, caches: &Caches) -> Vec<Target> {
    let of_run = |run: Arc<SpecializationRun>| {
        [Stage::Training, Stage::Evaluation].into_iter().find_map(|stage| target_of(&*run, stage, caches))
    };
    let talking = runs.state().into_iter().filter_map(of_run);
    let rollouts = batches.state().into_iter().filter_map(|batch| target_of(&*batch, Stage::Rollouts, caches));
    talking.chain(rollouts).collect()
}

fn target_of<S: Subject>(subject: &S, stage: Stage, caches: &Caches) -> Option<Target> {
    let record = subject.record();
    let attempt = record.attempts.get(&stage).filter(|attempt| attempt.end.is_none())?;
    let (owner, uid) = (subject.owner(), attempt.job.as_ref()?);
    let jobs = caches.jobs.of(&owner.uid);
    let job = jobs.iter().find(|job| job.uid == *uid && job.end.is_none() && job.active > 0)?;
    let wake = Wake::One { kind: S::KIND, namespace: owner.namespace.clone(), name: owner.name.clone() };
    let (urls, speaker) = match stage {
        Stage::Training => (vec![url(&owner.rank_host(&job.name, 0))], Speaker::Training),
        _ => (urls_of(&owner, job, caches), Speaker::Rollouts),
    };
    Some(Target { job: uid.clone(), wake, urls, speaker })
}

fn url(host: &str) -> String {
    format!("http://{host}:{PROGRESS_PORT}/progress")
}

/// The addresses of the Job's drivers, but for those that are known not to run.
fn urls_of(owner: &Owner, job: &JobFacts, caches: &Caches) -> Vec<String> {
    let idle: Vec<u32> = caches
        .pods
        .of(&job.uid)
        .iter()
        .filter(|pod| matches!(pod.phase, PodPhase::Succeeded | PodPhase::Pending))
        .map(|pod| pod.index)
        .collect();
    (0..job.completions)
        .filter(|index| !idle.contains(index))
        .map(|index| url(&owner.driver_host(&job.name, index)))
        .collect()
}
