//! How a run comes by its model: by one gang after another, of which each goes on from the newest checkpoint, until one of them has published it.

use sera_crds::{
    contract::StageResult,
    run::TrainingStatus,
    values::{Decimal, Stage},
};

use super::{
    Finding, Given, Intent, Plan, TrainingWork, Work,
    conditions::{ConditionType, Standing},
    record::{Record, Stored},
    task::{self, Task, held, is_under_way},
    teacher,
};
use crate::facts::Live;

/// The largest number of steps, and of warm-up steps, that a status can hold; the API's own bounds.
const MOST_STEPS: u32 = i32::MAX.unsigned_abs();
const MOST_WARMUP_STEPS: u32 = 1_000_000;

/// Adds to what is wrong with the spec what this installation is not made for: a trainer that was built for CPUs says so too, but when its turn comes, after
/// all trajectories are paid for.
pub fn untrainable(intent: &mut Intent, record: &Record, trainer_knows_gpus: bool) {
    let Some(Work::Run(work)) = &intent.work else { return };
    let has_begun = record.attempts.contains_key(&Stage::Training) || record.conditions.holds(ConditionType::Trained);
    if work.training.on_gpus && !trainer_knows_gpus && !has_begun {
        let message = "asks for GPUs, and the trainer of this installation is built for CPUs alone: have the chart's value images.trainer name an image for \
                       GPUs, with images.trainer.gpus: true, or train on CPUs with gpusPerNode: 0";
        let field = "spec.training.gpusPerNode".to_owned();
        intent.findings.push(Finding { field, message: message.to_owned() });
    }
}

/// Gets the model; none once the run has it.
pub(super) fn get(plan: &mut Plan, given: Given<'_>, work: &TrainingWork) -> Option<Standing> {
    if plan.record.conditions.holds(ConditionType::Trained) {
        return None;
    }
    let awaited = teacher::leaving(given);
    // Not even written down before: as long as nothing is, the section can still be edited.
    if let Some(standing) = &awaited
        && !is_under_way(&plan.record, Stage::Training)
        && held(given.intent).is_none()
    {
        return Some(standing.clone());
    }
    let folder = &given.intent.folder;
    let task = Task::of(Stage::Training, given.intent);
    let standing = task::drive(plan, given, &task, awaited, |record, result| accept(record, folder, result?));
    note(&mut plan.record, given, work);
    standing
}

/// Takes in what rank 0 said at its end, checked as the API server will check it.
fn accept(record: &mut Record, folder: &str, result: StageResult) -> Option<String> {
    let StageResult::Training { manifest, steps, loss, warmup_steps, .. } = result else { return None };
    let sha256 = manifest.sha256.parse().ok()?;
    let directory = manifest.path.strip_suffix("/manifest.json").unwrap_or(&manifest.path);
    let (steps, loss) = (steps.min(MOST_STEPS), Decimal::measured(loss));
    let said = loss.as_ref().map(|loss| format!(", the last one's loss {loss}")).unwrap_or_default();
    record.model = Some(Stored { uri: format!("{folder}/{directory}"), sha256 });
    let status = record.training.get_or_insert_default();
    (status.step, status.total_steps, status.loss) = (steps, steps, loss);
    status.warmup_steps = Some(warmup_steps.min(MOST_WARMUP_STEPS));
    Some(format!("the model is in the store after {steps} steps{said}"))
}

/// Writes down how the attempt goes, in the words of rank 0 where it was heard. A pace is that of the moment, and there is none without it.
fn note(record: &mut Record, given: Given<'_>, work: &TrainingWork) {
    let Some(attempt) = record.attempts.get(&Stage::Training) else { return };
    let (number, is_over) = (attempt.number, attempt.end.is_some());
    let heard = given.observed.live.and_then(Live::training).filter(|_| !is_over);
    let status = record.training.get_or_insert_default();
    status.attempt = number;
    status.learning_rate = Some(work.learning_rate.clone());
    status.precision = Some(work.precision);
    status.tokens_per_second = heard.and_then(|live| whole(live.tokens_per_second));
    record.eta = heard.and_then(|live| live.eta);
    let Some(live) = heard else { return };
    let TrainingStatus { step, total_steps, loss, warmup_steps, .. } = status;
    (*step, *total_steps) = (live.step.min(MOST_STEPS), live.total_steps.min(MOST_STEPS));
    *warmup_steps = Some(live.warmup_steps.min(MOST_WARMUP_STEPS));
    if let Some(said) = live.loss.and_then(Decimal::measured) {
        *loss = Some(said);
    }
    let percent = (u64::from(live.step) * 100).checked_div(live.total_steps.into()).unwrap_or_default();
    // The last step is not the end: the model is to be merged and published.
    record.progress = Some((Stage::Training, u32::try_from(percent.min(99)).unwrap_or(99)));
}

/// A measured rate as a whole number; none of what is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked, and a rate is shown in whole numbers"
)]
fn whole(rate: f64) -> Option<u64> {
    /// The largest number that the API takes, and a double holds to the last digit.
    const MOST: f64 = 9_007_199_254_740_991.0;
    (rate > 0.0).then(|| rate.min(MOST).round() as u64)
}
