//! Which drivers of rollouts are asked how far they are: those of Jobs at work, by the leader alone.

use std::future::Future;

use kube::runtime::reflector::Store;
use sera_crds::{RolloutBatch, values::Stage};

use super::{Scope, Shared};
use crate::{
    build::DRIVER_PORT,
    cache::Wake,
    collector::{self, Target},
    facts::{JobFacts, PodPhase},
    names::{Kind, Owner},
    observe::Caches,
    subject::Subject,
};

/// Asks the drivers of every scope, for as long as it is polled.
pub(super) fn collect(scopes: &[Scope], shared: &Shared) -> impl Future<Output = ()> + use<> {
    let known: Vec<_> = scopes.iter().map(|scope| (scope.batches.clone(), scope.caches.clone())).collect();
    let wakes: Vec<_> = scopes.iter().map(|scope| scope.wakes.clone()).collect();
    let leadership = shared.runtime.leadership.clone();
    let targets = move || {
        if leadership.term().is_none() {
            return Vec::new();
        }
        known.iter().flat_map(|(batches, caches)| targets_of(batches, caches)).collect()
    };
    collector::collect(shared.board.clone(), targets, move |wake| {
        wakes.iter().for_each(|wakes| wakes.wake(wake.clone()));
    })
}

fn targets_of(batches: &Store<RolloutBatch>, caches: &Caches) -> Vec<Target> {
    batches.state().iter().filter_map(|batch| target_of(batch, caches)).collect()
}

fn target_of(batch: &RolloutBatch, caches: &Caches) -> Option<Target> {
    let record = batch.record();
    let attempt = record.attempts.get(&Stage::Rollouts).filter(|attempt| attempt.end.is_none())?;
    let (owner, uid) = (batch.owner(), attempt.job.as_ref()?);
    let jobs = caches.jobs.of(&owner.uid);
    let job = jobs.iter().find(|job| job.uid == *uid && job.end.is_none() && job.active > 0)?;
    let wake = Wake::One { kind: Kind::Batch, namespace: owner.namespace.clone(), name: owner.name.clone() };
    Some(Target { job: uid.clone(), wake, urls: urls_of(&owner, job, caches) })
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
        .map(|index| format!("http://{}:{DRIVER_PORT}/progress", owner.driver_host(&job.name, index)))
        .collect()
}
