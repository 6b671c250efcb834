//! The verification stage: reads what the rollouts of a batch left in the store, judges every trajectory, and commits
//! `verified/<batch>/<policy>.jsonl`, a verdict a line in the order of samples, always the same bytes. Another policy gives another file; no model is
//! ever asked.

mod examine;
mod judge;
mod policy;
mod verdicts;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::{
    Artifact, Fraction, IndexedFunction, StageResult, Verdict, VerificationCounts, VerificationPlan,
};

use crate::dataset::{Student, StudentError};
use crate::failure::{Cause, Explain, Field};
use crate::index::HeldOut;
use crate::jsonl::JsonlError;
use crate::progress::{Progress, Step};
use crate::redact::Redactor;
use crate::scratch::{Scratch, ScratchError};
use crate::snapshot::stored::{self, StoredError};
use crate::store::{self, Creation, Digest, Store, StoreError};
use examine::Examiner;
pub(crate) use policy::{digest, policy};
use verdicts::Accepted;

/// The folder of verdicts.
const FOLDER: &str = "verified";
/// The folder of rollouts.
pub(crate) const ROLLOUTS: &str = "rollouts";
/// How many samples are in memory for each processor: while one is judged, the files of others are read.
const SAMPLES_A_PROCESSOR: usize = 4;

/// What to verify, and where everything is.
#[derive(Debug)]
pub(crate) struct Request {
    /// The run's own folder.
    pub(crate) store: String,
    /// The mounted Secret for the store.
    pub(crate) store_credentials: Option<PathBuf>,
    /// Which samples.
    pub(crate) scope: Scope,
    /// What decides.
    pub(crate) plan: VerificationPlan,
    /// The directory of the model that is to be trained.
    pub(crate) student: Option<PathBuf>,
    /// Where scratch folders are made.
    pub(crate) scratch: PathBuf,
}

/// Which samples are verified.
#[derive(Debug)]
pub(crate) enum Scope {
    /// Those of one batch, whether they are in the store or not.
    Batch {
        /// The batch.
        name: String,
        /// Its first sample.
        first: u64,
        /// How many it has.
        count: u32,
    },
    /// All that the store has of these batches, or of every batch where none is named, and all that earlier verdicts name.
    Batches(Vec<String>),
}

/// Why there are no verdicts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerificationError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The student is of no use.
    #[error(transparent)]
    Student(#[from] StudentError),
    /// The snapshot cannot be read: nobody knows what was set aside.
    #[error(transparent)]
    Snapshot(#[from] StoredError),
    /// There is no scratch space.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// How lines are made for the student was not said.
    #[error("a student is given, and the settings have no 'student' that says how lines are made for it")]
    NoStudentPlan,
    /// It was said, but there is no student.
    #[error("the settings ask for a student's tokens: give its directory with --student")]
    NoStudent,
    /// There is no batch.
    #[error("the store has no rollouts to verify: run `sera-rollout rollout` first")]
    Nothing,
    /// The verdicts in the store are on other samples.
    #[error(
        "{file} in the store has the verdicts on other samples than were asked for: use another batch name, or delete it"
    )]
    OtherSamples {
        /// The file.
        file: String,
    },
    /// The verdicts in the store are none.
    #[error("{file} in the store has no verdicts of this release ({source}): delete it, and run this again")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The verdicts cannot be written down.
    #[error("the verdicts cannot be written: {0}")]
    Encode(#[source] serde_json::Error),
    /// Another process was faster, and its verdicts are gone again.
    #[error("{file} was there and is gone: run this again")]
    Raced {
        /// The file.
        file: String,
    },
    /// A thread died.
    #[error("a trajectory could not be judged: {0}")]
    Panicked(#[source] tokio::task::JoinError),
}

impl Explain for VerificationError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Student(error) => error.explain(),
            Self::Snapshot(error) => error.explain(),
            Self::Scratch(_) => Cause::unavailable("ScratchUnavailable"),
            Self::NoStudentPlan | Self::NoStudent => Cause::configuration("StudentIncomplete", Field::Student),
            Self::Nothing => Cause::unavailable("NoRollouts"),
            Self::OtherSamples { .. } => Cause::conflict("VerdictsOnOtherSamples"),
            Self::Malformed { .. } => Cause::conflict("VerdictsMalformed"),
            Self::Raced { .. } => Cause::unavailable("VerdictsRaced"),
            Self::Encode(_) | Self::Panicked(_) => Cause::internal("VerificationFailed"),
        }
    }
}

/// Verifies what was asked for, or finds that it was verified.
pub(crate) async fn run(
    request: &Request,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, VerificationError> {
    let student = match (&request.student, &request.plan.student) {
        (Some(folder), Some(plan)) => Some(Student::open(folder, plan)?),
        (None, None) => None,
        (Some(_), None) => return Err(VerificationError::NoStudentPlan),
        (None, Some(_)) => return Err(VerificationError::NoStudent),
    };
    let policy = policy(&request.plan, student.as_ref().map(Student::policy));
    let name = digest(&policy);
    let secret = store::secret(request.store_credentials.as_deref(), redactor)?;
    let store = Store::open(&request.store, secret.as_ref())?;
    let held_out = held_out(&store, &request.scratch, progress).await?;
    let verification = Verification {
        examiner: Arc::new(Examiner { store: store.clone(), policy, student, held_out }),
        store,
        name: name.clone(),
        step: progress.step("verifying"),
    };
    let mut counts = VerificationCounts::default();
    let verdicts = match &request.scope {
        Scope::Batch { name, first, count } => {
            let samples = (*first..first.saturating_add(u64::from(*count))).collect();
            verification.batch(name, &samples, &mut counts).await?
        }
        Scope::Batches(named) => verification.all(named, &mut counts).await?,
    };
    tell(&counts);
    Ok(StageResult::Verification { verdicts, policy: name, counts })
}

/// Says what was found, and how much of it may be because a pull request gave a line away.
fn tell(counts: &VerificationCounts) {
    let recalls = counts.recalls();
    let shown = |share: Option<Fraction>| share.map(|share| format!("{:.3}", share.value())).unwrap_or_default();
    tracing::info!(
        samples = counts.attempted,
        first = counts.accepted_first,
        second = counts.accepted_second,
        recall = shown(recalls.mean()),
        recall_without_leaks = shown(recalls.mean_without_leaks()),
        leak_rate = shown(recalls.leak_rate()),
        "verified"
    );
}

/// The functions that were set aside for evaluation. Where there is no snapshot, none were.
async fn held_out(store: &Store, scratch: &Path, progress: &Progress) -> Result<HeldOut, VerificationError> {
    let manifest = match stored::manifest(store).await {
        Err(StoredError::Missing) => {
            tracing::warn!("the store has no snapshot: no function counts as set aside for evaluation");
            return Ok(HeldOut::of([]));
        }
        manifest => manifest?,
    };
    let scratch = Scratch::create(scratch)?;
    let step = progress.step("reading the function index");
    let functions = stored::functions(store, &manifest, scratch.path(), &step).await?;
    let functions: Result<Vec<IndexedFunction>, JsonlError> = functions.collect();
    Ok(HeldOut::of(functions.map_err(StoredError::from)?))
}

/// A verification under way.
struct Verification {
    store: Store,
    examiner: Arc<Examiner>,
    /// The policy's digest.
    name: String,
    step: Step,
}

impl Verification {
    /// Every batch in the order of their names. What proves them together is the digest of what `sha256sum` would print.
    async fn all(&self, named: &[String], counts: &mut VerificationCounts) -> Result<Artifact, VerificationError> {
        let mut list = Vec::new();
        // A batch that is still at work must not be looked at: its verdicts would be those of what it has so far.
        let batches = if named.is_empty() { self.folders(ROLLOUTS).await? } else { named.iter().cloned().collect() };
        if batches.is_empty() {
            return Err(VerificationError::Nothing);
        }
        for batch in batches {
            let samples = self.samples(&batch).await?;
            let Artifact { path, sha256 } = self.batch(&batch, &samples, counts).await?;
            list.push(format!("{sha256}  {path}\n"));
        }
        Ok(Artifact { path: FOLDER.to_owned(), sha256: Digest::of(list.concat().as_bytes()).sha256 })
    }

    /// The samples that a batch has in the store, and those that earlier verdicts name although they left nothing there.
    async fn samples(&self, batch: &str) -> Result<BTreeSet<u64>, VerificationError> {
        let folders = self.folders(&format!("{ROLLOUTS}/{batch}")).await?;
        let mut samples: BTreeSet<u64> = folders.iter().filter_map(|folder| folder.parse().ok()).collect();
        for (file, _) in self.store.list(&format!("{FOLDER}/{batch}")).await? {
            let verdicts = self.read(&file).await?.map(|(verdicts, _)| verdicts).unwrap_or_default();
            samples.extend(verdicts.iter().map(|verdict| verdict.sample));
        }
        Ok(samples)
    }

    /// The names of the folders in a folder.
    async fn folders(&self, folder: &str) -> Result<BTreeSet<String>, VerificationError> {
        let files = self.store.list(folder).await?;
        let below = |name: &str| Some(name.strip_prefix(folder)?.strip_prefix('/')?.split_once('/')?.0.to_owned());
        Ok(files.iter().filter_map(|(name, _)| below(name)).collect())
    }

    /// The verdicts on samples of a batch: those in the store, or new ones.
    async fn batch(
        &self,
        batch: &str,
        samples: &BTreeSet<u64>,
        counts: &mut VerificationCounts,
    ) -> Result<Artifact, VerificationError> {
        let file = format!("{FOLDER}/{batch}/{}.jsonl", self.name);
        let (verdicts, artifact) = match self.read(&file).await? {
            Some(found) => {
                tracing::info!(batch, "the verdicts are in the store already");
                found
            }
            None => self.commit(batch, samples, file.clone()).await?,
        };
        if !verdicts.iter().map(|verdict| &verdict.sample).eq(samples) {
            return Err(VerificationError::OtherSamples { file });
        }
        verdicts::count(counts, &verdicts);
        Ok(artifact)
    }

    /// Judges all samples and creates the file. Who comes second takes what the first has created.
    async fn commit(
        &self,
        batch: &str,
        samples: &BTreeSet<u64>,
        file: String,
    ) -> Result<(Vec<Verdict>, Artifact), VerificationError> {
        self.store.probe().await?;
        let verdicts = self.judge(batch, samples).await?;
        let lines: Bytes = verdicts::encode(&verdicts).map_err(VerificationError::Encode)?.into();
        match self.store.create(&file, lines.clone()).await? {
            Creation::Created => Ok((verdicts, artifact(file, &lines))),
            Creation::Existed => {
                tracing::info!(batch, "another process has committed these verdicts");
                self.read(&file).await?.ok_or(VerificationError::Raced { file })
            }
        }
    }

    /// The verdicts on all samples, in order; a few are read and judged at once.
    async fn judge(&self, batch: &str, samples: &BTreeSet<u64>) -> Result<Vec<Verdict>, VerificationError> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let batch: Arc<str> = batch.into();
        let verdicts = stream::iter(samples).map(|sample| self.examiner.clone().verdict(batch.clone(), *sample));
        let mut accepted = Accepted::default();
        let mut done = 0;
        let weeded = verdicts.buffered(SAMPLES_A_PROCESSOR * processors).inspect_ok(|_| {
            done += 1;
            self.step.update("judging", done, samples.len() as u64);
        });
        weeded
            .map_ok(|mut verdict| {
                accepted.weed(&mut verdict);
                verdict
            })
            .try_collect()
            .await
    }

    /// A file of verdicts, where it is there.
    async fn read(&self, file: &str) -> Result<Option<(Vec<Verdict>, Artifact)>, VerificationError> {
        let Some(lines) = self.store.read_data(file).await? else { return Ok(None) };
        let malformed = |source| VerificationError::Malformed { file: file.to_owned(), source };
        let verdicts = verdicts::decode(&lines).map_err(malformed)?;
        Ok(Some((verdicts, artifact(file.to_owned(), &lines))))
    }
}

fn artifact(path: String, content: &[u8]) -> Artifact {
    Artifact { path, sha256: Digest::of(content).sha256 }
}
