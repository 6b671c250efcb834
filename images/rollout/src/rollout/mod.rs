//! The stage `rollout`: brings a range of samples to their ends, many at once, and commits each step of each to the store. Run again after whatever
//! happened, it adopts what is committed and makes the rest.

mod driver;
mod error;
mod ground;
mod ledger;
mod pull_request;
mod questions;
mod records;
mod replay;
mod review;
mod sample;
mod serve;
mod source;
mod work;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::{RolloutPlan, SampleOutcome, StageResult, TeacherMark, Usage};

use crate::chat::{Setup, Teacher};
use crate::progress::Progress;
use crate::prompts::Prompts;
use crate::redact::Redactor;
use crate::sampling::Purpose;
use crate::scratch::Scratch;
use crate::store::{self, Store};
pub(crate) use driver::Driver;
pub(crate) use error::RolloutError;
pub(crate) use ground::{Ground, Materials, Sandboxes};
pub(crate) use ledger::{Ledger, spent_before};
pub(crate) use records::{RecordError, Shelf};
pub(crate) use work::{Patches, Work};

/// How many records are read at once when a process looks for what was done before.
pub(crate) const READ_AT_ONCE: usize = 32;

/// What to do, and where everything is.
pub(crate) struct Request {
    /// The run's own folder, and the mounted Secret for it.
    pub(crate) store: String,
    pub(crate) store_credentials: Option<PathBuf>,
    /// The folder that has the snapshot, where it is another.
    pub(crate) snapshot: Option<String>,
    pub(crate) batch: String,
    /// The first sample's number, and how many there are.
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) plan: RolloutPlan,
    pub(crate) teacher: Setup,
    /// Whether the teacher is a rehearsal.
    pub(crate) rehearsal: bool,
    pub(crate) floor: Floor,
}

/// What every process of rollouts is told of its surroundings.
pub(crate) struct Floor {
    pub(crate) sandboxes: Sandboxes,
    /// How many sandboxes, and how many samples are worked on at once.
    pub(crate) slots: u32,
    pub(crate) parallel: usize,
    /// The name of this process's own folders.
    pub(crate) folder: String,
    /// Where progress and metrics are served.
    pub(crate) listen: Option<SocketAddr>,
    /// Where scratch folders are made.
    pub(crate) scratch: PathBuf,
}

/// Brings all samples to their ends, or finds that they have them.
pub(crate) async fn run(
    request: Request,
    progress: &Progress,
    redactor: &Redactor,
    ledger: &Ledger,
) -> Result<StageResult, RolloutError> {
    let Request { first, count, plan, floor, .. } = request;
    if plan.budget.max_cost.is_some() && plan.budget.price.is_none() {
        return Err(RolloutError::NoPrice);
    }
    let secret = store::secret(request.store_credentials.as_deref(), redactor)?;
    let store = Store::open(&request.store, secret.as_ref())?;
    let snapshot = match &request.snapshot {
        Some(uri) => Store::open(uri, secret.as_ref())?,
        None => store.clone(),
    };
    let mark = TeacherMark { model: request.teacher.model.clone(), rehearsal: request.rehearsal };
    let teacher = Teacher::new(request.teacher)?;
    let driver = Arc::new(Driver::new(vec![teacher], plan.budget.clone())?);
    let serving = driver.listen(floor.listen).await?;
    driver.meter.expect(count.into());
    ledger.begin(&store, &floor.folder);
    let place = format!("rollouts/{}", request.batch);
    let shelf = |sample| Shelf { store: &store, place: &place, sample, folder: &floor.folder };
    let open = adopt(first..first + u64::from(count), shelf, &driver).await?;
    if !open.is_empty() {
        store.probe().await?;
        let prompts = Prompts::new(plan.environment.working_dir.as_str(), plan.sandbox.network)?;
        let scratch = Scratch::create(&floor.scratch)?;
        let materials = Materials {
            snapshot: &snapshot,
            plan: &plan,
            purpose: Purpose::Generation,
            sandboxes: &floor.sandboxes,
            slots: floor.slots,
            scratch: &scratch,
        };
        let ground = Ground::open(materials, &driver, progress).await?;
        let work = Work {
            plan: &plan,
            prompts: &prompts,
            driver: &driver,
            ground: &ground,
            ledger,
            teacher: &driver.teachers[0],
            mark: &mark,
            seed: None,
            patches: &Patches::default(),
            redactor,
        };
        finish(work, &open, shelf, floor.parallel, progress).await?;
    }
    drop(serving);
    driver.report();
    Ok(StageResult::Rollouts { first, count })
}

/// Counts what was committed before, with what it cost, and returns the samples that have no end yet.
pub(crate) async fn adopt<'a>(
    numbers: std::ops::Range<u64>,
    shelf: impl Fn(u64) -> Shelf<'a>,
    driver: &Driver,
) -> Result<Vec<u64>, RolloutError> {
    let found: Vec<(u64, Option<SampleOutcome>, Usage)> = stream::iter(numbers)
        .map(|number| {
            let shelf = shelf(number);
            async move {
                let outcome = shelf.read::<SampleOutcome>("outcome.json").await?;
                let usage = match &outcome {
                    Some(outcome) => outcome.usage,
                    None => spent_before(shelf).await?,
                };
                Ok::<_, RecordError>((number, outcome, usage))
            }
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await?;
    let mut open = Vec::new();
    for (number, outcome, usage) in found {
        driver.budget.spend(usage);
        match outcome {
            Some(outcome) => {
                driver.meter.ended(&outcome);
            }
            None => open.push(number),
        }
    }
    Ok(open)
}

/// Brings these samples to their ends, `parallel` at once.
pub(crate) async fn finish<'a>(
    work: Work<'_>,
    open: &[u64],
    shelf: impl Fn(u64) -> Shelf<'a>,
    parallel: usize,
    progress: &Progress,
) -> Result<(), RolloutError> {
    let step = progress.step("rolling out");
    stream::iter(open.iter().copied().map(Ok))
        .try_for_each_concurrent(parallel, |number| {
            let (shelf, step, work) = (shelf(number), &step, &work);
            async move {
                let outcome = work.finish(shelf).await?;
                let (done, of) = work.driver.meter.ended(&outcome);
                tracing::info!(sample = number, first = ?outcome.first, second = ?outcome.second, done, of, "a sample has its end");
                step.update("samples", done, of);
                Ok(())
            }
        })
        .await
}
