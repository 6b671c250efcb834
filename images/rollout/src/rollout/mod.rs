//! The stage `rollout`: brings a range of samples to their ends, many at once, and commits each step of each to the store. Run again after whatever
//! happened, it adopts what is committed and makes the rest.

mod ledger;
mod pull_request;
mod records;
mod replay;
mod review;
mod sample;
mod serve;
mod source;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::{
    CONTRACT_VERSION, PullRequestRecord, RolloutOutcome, RolloutPlan, RolloutRecord, SampleOutcome, StageResult,
    TeacherMark, Usage,
};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use crate::agent::{Agent, AgentError};
use crate::budget::{Budget, Purse, Tally};
use crate::chat::{self, Setup, Teacher};
use crate::checkout::{CheckoutError, Snapshots, Tree};
use crate::failure::{Cause, Explain};
use crate::metrics::{Meter, Surroundings};
use crate::progress::Progress;
use crate::prompts::{PromptError, Prompts};
use crate::redact::Redactor;
use crate::sampling::Sample;
use crate::sandbox::{Counts, Place, Pool};
use crate::scratch::{Scratch, ScratchError};
use crate::store::{self, Store, StoreError};
pub(crate) use ledger::Ledger;
use ledger::spent_before;
use records::{RecordError, Shelf};
use sample::Workshop;
use source::{Source, SourceError};

/// How many records are read at once when a process looks for what was done before.
const READ_AT_ONCE: usize = 32;

/// How long the containers of a pod may take to listen: as long as a pod may take to start, unless the spec says otherwise.
const PODS_PATIENCE: Duration = Duration::from_mins(15);
/// The share of read tokens that should come from the prefix cache, in hundredths. Below it, something rewrites histories or replicas are mixed up.
const CACHED: u64 = 90;

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
    pub(crate) sandbox: Sandboxes,
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

/// Where sandboxes are to come from.
#[derive(Debug, Clone)]
pub(crate) enum Sandboxes {
    /// Processes of this machine, started from this program.
    Local(PathBuf),
    /// Containers of this pod, by the folder of their sockets.
    Pod(PathBuf),
}

/// Why not all samples have an end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RolloutError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot, or what was made from it, is missing or of no use.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The snapshot cannot be checked out.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// The teacher or the sandboxes are out of order.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The teacher cannot even be asked.
    #[error(transparent)]
    Setup(#[from] chat::SetupError),
    /// A prompt of ours is wrong.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// There is no scratch space.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// A limit in dollars needs prices.
    #[error(
        "the budget has a limit in dollars (maxCost) and no prices: give budget.price as well, or maxTokens in place of maxCost"
    )]
    NoPrice,
    /// A sample without a bug kind.
    #[error("sample {sample} has no bug kind: give at least one, or none for the whole catalogue")]
    NoBugKinds {
        /// The sample.
        sample: u64,
    },
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The counters cannot be set up.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Explain for RolloutError {
    fn explain(&self) -> Cause {
        let configuration =
            |reason| Cause { class: sera_crds::contract::FailureClass::Configuration, reason, field: None };
        match self {
            Self::Store(error) => error.explain(),
            Self::Source(error) => error.explain(),
            Self::Record(error) => error.explain(),
            Self::Checkout(error) => error.explain(),
            Self::Agent(error) => error.explain(),
            Self::Setup(error) => error.explain(),
            Self::Prompt(_) => Cause::internal("PromptMalformed"),
            Self::Scratch(_) => Cause::unavailable("ScratchUnavailable"),
            Self::NoPrice => configuration("PriceMissing"),
            Self::NoBugKinds { .. } => configuration("BugKindsMissing"),
            Self::Listen { .. } => configuration("AddressUnusable"),
            Self::Metrics(_) => Cause::internal("Metrics"),
        }
    }
}

/// What the whole process shares.
struct Driver {
    teacher: Teacher,
    budget: Budget,
    meter: Meter,
    pool: OnceCell<Pool>,
}

impl Driver {
    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            budget: &self.budget,
            slots: self.pool.get().map_or(Counts { fit: 0, quarantined: 0 }, Pool::counts),
            broken_replicas: self.teacher.broken_replicas(),
            silence: self.teacher.silence(),
            retries: self.teacher.retries(),
        }
    }
}

/// The first patches that were met, by their digest: who had each first.
#[derive(Debug, Default)]
struct Patches(Mutex<BTreeMap<String, u64>>);

impl Patches {
    /// The earlier sample that had the same patch.
    fn meet(&self, sha256: &str, sample: u64) -> Option<u64> {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *met.entry(sha256.to_owned()).or_insert(sample);
        (first != sample).then_some(first)
    }
}

/// Brings all samples to their ends, or finds that they have them.
pub(crate) async fn run(
    request: Request,
    progress: &Progress,
    redactor: &Redactor,
    ledger: &Ledger,
) -> Result<StageResult, RolloutError> {
    let Request { first, count, .. } = request;
    if request.plan.budget.max_cost.is_some() && request.plan.budget.price.is_none() {
        return Err(RolloutError::NoPrice);
    }
    let secret = store::secret(request.store_credentials.as_deref(), redactor)?;
    let store = Store::open(&request.store, secret.as_ref())?;
    let snapshot = match &request.snapshot {
        Some(uri) => Store::open(uri, secret.as_ref())?,
        None => store.clone(),
    };
    let mark = TeacherMark { model: request.teacher.model.clone(), rehearsal: request.rehearsal };
    let driver = Arc::new(Driver {
        teacher: Teacher::new(request.teacher)?,
        budget: Budget::new(request.plan.budget.clone()),
        meter: Meter::new()?,
        pool: OnceCell::new(),
    });
    let serving = listen(request.listen, &driver).await?;
    driver.meter.expect(count.into());
    let numbers = first..first + u64::from(count);
    ledger.begin(&store, &request.batch, &request.folder);
    let shelf = |sample| Shelf { store: &store, batch: &request.batch, sample, folder: &request.folder };
    let (patches, open) = (Patches::default(), adopt(numbers, shelf, &driver).await?);
    if !open.is_empty() {
        store.probe().await?;
        let work = Work {
            plan: &request.plan,
            prompts: Prompts::new(request.plan.environment.working_dir.as_str())?,
            scratch: Scratch::create(&request.scratch)?,
            place: request.sandbox,
            slots: request.slots,
            parallel: request.parallel,
            driver: &driver,
            ledger,
            mark: &mark,
            patches: &patches,
            redactor,
            progress,
        };
        work.finish(&snapshot, &open, shelf).await?;
    }
    drop(serving);
    report(&driver);
    Ok(StageResult::Rollouts { first, count })
}

/// Says what all of it took, and warns where the prefix cache was of little help.
fn report(driver: &Driver) {
    let usage = driver.budget.spent();
    let cost = driver.budget.cost().map(|cost| cost.to_string()).unwrap_or_default();
    tracing::info!(
        calls = usage.calls,
        prompt = usage.prompt_tokens,
        cached = usage.cached_tokens,
        completion = usage.completion_tokens,
        cost,
        "spent"
    );
    // A server that never counts any does not tell.
    if usage.cached_tokens > 0 && usage.cached_tokens * 100 < usage.prompt_tokens * CACHED {
        tracing::warn!(
            "only {} of 100 tokens came from the teacher's prefix cache: check that it is on, and that each replica has an address of its own",
            usage.cached_tokens * 100 / usage.prompt_tokens.max(1)
        );
    }
}

/// Serves progress and metrics for as long as what is returned lives.
async fn listen(
    address: Option<SocketAddr>,
    driver: &Arc<Driver>,
) -> Result<Option<tokio::task::JoinSet<()>>, RolloutError> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|source| RolloutError::Listen { address, source })?;
    tracing::info!(address = %listener.local_addr().unwrap_or(address), "serving /progress and /metrics");
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(serve::serve(listener, driver.clone()));
    Ok(Some(serving))
}

/// Counts what was committed before, with what it cost, and returns the samples that have no end yet.
async fn adopt<'a>(
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

/// The work on samples that have no end yet.
struct Work<'a> {
    plan: &'a RolloutPlan,
    prompts: Prompts,
    scratch: Scratch,
    place: Sandboxes,
    slots: u32,
    parallel: usize,
    driver: &'a Driver,
    ledger: &'a Ledger,
    mark: &'a TeacherMark,
    patches: &'a Patches,
    redactor: &'a Redactor,
    progress: &'a Progress,
}

impl<'a> Work<'a> {
    /// An agent whose calls are counted there.
    fn agent<'b>(&'b self, tally: &'b Tally) -> Agent<'b> {
        Agent {
            teacher: &self.driver.teacher,
            prompts: &self.prompts,
            limits: &self.plan.agent,
            context_length: self.plan.sampling.context_length,
            purse: Purse { budget: &self.driver.budget, tally },
            meter: &self.driver.meter,
        }
    }

    async fn finish(
        &self,
        snapshot: &Store,
        open: &[u64],
        shelf: impl Fn(u64) -> Shelf<'a>,
    ) -> Result<(), RolloutError> {
        let folder = std::path::absolute(self.scratch.path()).map_err(CheckoutError::Scratch)?;
        let source = Source::read(snapshot, &folder, self.plan, self.progress).await?;
        let snapshots = Snapshots::open(&folder, source.bundle(), &source.manifest().commits).await?;
        let trees: Vec<OnceCell<Tree>> = (0..snapshots.count()).map(|_| OnceCell::new()).collect();
        let place = match &self.place {
            Sandboxes::Local(program) => Place::Local { program: program.clone(), folder: folder.join("sandboxes") },
            Sandboxes::Pod(folder) => Place::Pod { folder: folder.clone(), patience: PODS_PATIENCE },
        };
        let opened = Pool::open(&place, self.slots, self.plan).await?;
        let pool = self.driver.pool.get_or_init(|| async { opened }).await;
        let step = self.progress.step("rolling out");
        stream::iter(open.iter().copied().map(Ok))
            .try_for_each_concurrent(self.parallel, |number| {
                let shelf = shelf(number);
                let (source, snapshots, trees, step) = (&source, &snapshots, &trees, &step);
                async move {
                    let tally = self.ledger.tally(number);
                    let sample = source.sample(number).map_err(SourceError::from)?;
                    let outcome = if self.driver.budget.is_spent() {
                        shelf.commit("outcome.json", out_of_budget(&sample, shelf, self.mark).await?).await?
                    } else {
                        let tree = tree(snapshots, trees, sample.function.snapshot).await?;
                        let workshop = Workshop {
                            agent: self.agent(&tally),
                            pool,
                            tree,
                            shelf,
                            example: source.example(number),
                            max_output_tokens: self.plan.sampling.max_output_tokens,
                            teacher: self.mark,
                            patches: self.patches,
                            ledger: self.ledger,
                            redactor: self.redactor,
                        };
                        sample::finish(workshop, &sample).await?
                    };
                    let (done, of) = self.driver.meter.ended(&outcome);
                    tracing::info!(sample = number, first = ?outcome.first, second = ?outcome.second, done, of, "a sample has its end");
                    step.update("samples", done, of);
                    Ok(())
                }
            })
            .await
    }
}

/// The end of a sample that the budget does not reach, with what was committed of it.
async fn out_of_budget(sample: &Sample, shelf: Shelf<'_>, mark: &TeacherMark) -> Result<SampleOutcome, RecordError> {
    let first = shelf.read::<RolloutRecord>("t1.json").await?;
    let written = shelf.read::<PullRequestRecord>("pr.json").await?;
    let second = shelf.read::<RolloutRecord>("t2.json").await?;
    Ok(SampleOutcome {
        version: CONTRACT_VERSION,
        sample: sample.number,
        folder: written.as_ref().map_or_else(|| shelf.folder.to_owned(), |written| written.folder.clone()),
        function: sample.function.clone(),
        bug_kinds: sample.bug_kinds.clone(),
        first: first.map_or(RolloutOutcome::Budget, |record| record.outcome),
        pull_request: written.and_then(|written| written.pull_request),
        second: second.map(|record| record.outcome),
        usage: spent_before(shelf).await?,
        teacher: mark.clone(),
    })
}

/// The tree of a snapshot, made when the first sample needs it.
async fn tree<'a>(snapshots: &Snapshots, trees: &'a [OnceCell<Tree>], number: u32) -> Result<&'a Tree, CheckoutError> {
    let cell = usize::try_from(number).ok().and_then(|position| trees.get(position));
    cell.ok_or(CheckoutError::NoSnapshot(number))?.get_or_try_init(|| snapshots.tree(number)).await
}
