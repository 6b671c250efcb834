//! The tasks: held-out functions whose first rollout by the teacher passed its self-review and led to a text. What the teacher then makes of its own
//! text has no say in it: a choice by success would flatter whoever succeeded.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::{PullRequest, RolloutOutcome, RolloutRecord, SampleOutcome};

use super::EvaluationError;
use crate::rollout::{READ_AT_ONCE, RecordError, Shelf};
use crate::verify::measure;

/// Where the samples are from which tasks are chosen; their second rollouts are the teacher's attempts with the first seed.
pub(super) const PLACE: &str = "evaluation/tasks";

/// A task.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) outcome: SampleOutcome,
    pub(super) pull_request: PullRequest,
    /// The patch that is to be found again.
    pub(super) patch: Bytes,
}

/// The samples that are tasks, in their order.
pub(super) async fn chosen<'a>(
    numbers: Range<u64>,
    shelf: impl Fn(u64) -> Shelf<'a>,
) -> Result<Vec<Task>, EvaluationError> {
    let tasks: Vec<Option<Task>> =
        stream::iter(numbers).map(|number| task(shelf(number))).buffered(READ_AT_ONCE).try_collect().await?;
    Ok(tasks.into_iter().flatten().collect())
}

async fn task(shelf: Shelf<'_>) -> Result<Option<Task>, RecordError> {
    let Some(outcome) = shelf.read::<SampleOutcome>("outcome.json").await? else { return Ok(None) };
    let (RolloutOutcome::Submitted, Some(pull_request)) = (outcome.first, outcome.pull_request.clone()) else {
        return Ok(None);
    };
    let Some(first) = shelf.read::<RolloutRecord>("t1.json").await? else { return Ok(None) };
    let patch = shelf.get(&first.folder, &first.patch).await?;
    // A patch of lock files and left-over scripts alone leaves nothing to be found.
    let is_measurable = measure(&patch, &patch).0.strict.f1().is_some();
    Ok(is_measurable.then_some(Task { outcome, pull_request, patch }))
}
