//! The attempts: each model makes a change from each task's text alone, once for each decoding seed, in a sandbox of its own and with the same prompts,
//! limits and context as every rollout.

use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::{Contestant, RolloutRecord};

use super::EvaluationError;
use super::tasks::{self, Task};
use crate::progress::Progress;
use crate::rollout::{READ_AT_ONCE, RecordError, Shelf, Work};

/// An attempt: which task, and which decoding seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The task's position.
    pub(super) task: usize,
    pub(super) seed: u32,
}

/// Where a model's attempts with a seed are. The teacher's first ones were made when the tasks were.
pub(super) fn place(model: Contestant, seed: u32) -> String {
    match (model, seed) {
        (Contestant::Teacher, 0) => tasks::PLACE.to_owned(),
        _ => format!("evaluation/{model}-{seed}"),
    }
}

/// The places of a model, one for each seed.
pub(super) fn places(model: Contestant, seeds: u32) -> Vec<String> {
    (0..seeds).map(|seed| place(model, seed)).collect()
}

/// Every attempt at these tasks; the seeds of one task beside each other, so that they share what the server remembers of its beginning.
pub(super) fn all(tasks: usize, seeds: u32) -> impl Iterator<Item = Attempt> {
    (0..tasks).flat_map(move |task| (0..seeds).map(move |seed| Attempt { task, seed }))
}

/// The record of each attempt, where it was made.
pub(super) async fn records<'a>(
    tasks: &[Task],
    seeds: u32,
    shelf: impl Fn(&Task, u32) -> Shelf<'a>,
) -> Result<Vec<(Attempt, Option<RolloutRecord>)>, RecordError> {
    stream::iter(all(tasks.len(), seeds))
        .map(|attempt| {
            let shelf = shelf(&tasks[attempt.task], attempt.seed);
            async move { Ok((attempt, shelf.read("t2.json").await?)) }
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await
}

/// Makes the attempts of one model that are left.
pub(super) async fn make<'a>(
    work: Work<'_>,
    tasks: &[Task],
    open: &[Attempt],
    (written, shelf): (impl Fn(&Task) -> Shelf<'a>, impl Fn(&Task, u32) -> Shelf<'a>),
    parallel: usize,
    progress: &Progress,
) -> Result<(), EvaluationError> {
    let step = progress.step("attempting");
    stream::iter(open.iter().copied().map(Ok))
        .try_for_each_concurrent(parallel, |Attempt { task, seed }| {
            let task = &tasks[task];
            let (written, shelf, step) = (written(task), shelf(task, seed), &step);
            let work = Work { seed: Some(seed.into()), ..work };
            async move {
                let sample = work.ground.sample(shelf.sample)?;
                let tally = work.ledger.tally(shelf.place, shelf.sample);
                let workshop = work.workshop(&sample, shelf, &tally).await?;
                let record = workshop.second(written, &task.outcome.folder, &task.pull_request, &sample).await?;
                work.ledger.close(shelf).await?;
                let (done, of) = work.driver.meter.attempted(record.outcome);
                tracing::info!(sample = shelf.sample, seed, outcome = ?record.outcome, done, of, "an attempt has its end");
                step.update("attempts", done, of);
                Ok(())
            }
        })
        .await
}
