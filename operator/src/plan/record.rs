//! What status remembers between passes, in words of the domain: the memory of [`plan`](super::plan). How it is read from and written to the two
//! kinds' statuses lives in [`crate::subject`].

mod attempt;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sera_crds::{
    contract::Failure,
    run::{EvaluationStatus, GenerationTotals, Phase, ServingStatus, TrainingStatus},
    values::{Measure, Ratio, Sha256, Stage, Usd},
};

pub use self::attempt::{Attempt, AttemptEnd, AttemptOutcome, Edition, is_the_owners};
use super::conditions::Conditions;
use crate::facts::Uid;

/// The part of a status that planning reads and writes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// The generation that this status speaks of; none before the first sight.
    pub observed_generation: Option<i64>,
    /// Where the object stands, in one word; none before the first sight.
    pub phase: Option<Phase>,
    /// Every condition.
    pub conditions: Conditions,
    /// Stages whose part of the spec may not change any more.
    pub locked: BTreeSet<Stage>,
    /// The current attempt of each stage that was begun.
    pub attempts: BTreeMap<Stage, Attempt>,
    /// The last `spec.retry` that was acted upon.
    pub retry: String,
    /// The snapshot, once there is one.
    pub snapshot: Option<Snapshot>,
    /// What has been counted of trajectories, once something has; of a run also what is under way.
    pub generation: Option<Generation>,
    /// The verification that the counts of a batch come from.
    pub verification: Option<Verification>,
    /// The dataset, once there is one.
    pub dataset: Option<Stored>,
    /// How training goes, once it has begun.
    pub training: Option<TrainingStatus>,
    /// The model, once there is one.
    pub model: Option<Stored>,
    /// What the evaluation has found, once it has.
    pub evaluation: Option<EvaluationStatus>,
    /// Its report.
    pub report: Option<Stored>,
    /// Where the student is served, where it is.
    pub serving: Option<ServingStatus>,
    /// When stages began and ended.
    pub times: BTreeMap<Stage, StageTime>,
    /// The last few failures, newest first; at most [`MOST_FAILURES`].
    pub failures: Vec<PastFailure>,
    /// The images that pods ran, with their digests, by role.
    pub images: BTreeMap<String, String>,
    /// The stage at work and how far it is, in percent.
    pub progress: Option<(Stage, u32)>,
    /// When that stage will be done at its pace, where that can be said.
    pub eta: Option<Timestamp>,
    /// The object's own folder in its store.
    pub store: Option<String>,
    /// The teacher, in a word.
    pub teacher: Option<String>,
}

/// How many failures are remembered; the API's own bound.
pub const MOST_FAILURES: usize = 3;

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct PastFailure {
    /// The stage.
    pub stage: Stage,
    /// The attempt's number.
    pub attempt: u32,
    /// When it was noticed.
    pub at: Timestamp,
    /// Why.
    pub failure: Failure,
}

/// A snapshot in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where its manifest lies.
    pub uri: String,
    /// The manifest's sha256.
    pub sha256: Sha256,
    /// The newest commit that was taken, as a hexadecimal object id.
    pub commit: String,
    /// How many commits were taken.
    pub commits: u32,
}

/// What generation has made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Generation {
    /// What has been counted.
    pub totals: GenerationTotals,
    /// After how many samples a run stalls.
    pub max_samples: Option<u32>,
    /// What the batches counted that a run has folded in.
    pub folded: Folded,
    /// A run's batches that are not folded in, in order.
    pub batches: Vec<Batch>,
    /// The last dry run of the dataset.
    pub dry_run: Option<DryRun>,
    /// How long it was suspended, and since when it is again.
    pub paused: Paused,
    /// What the rest will take, as far as that can be said.
    pub forecast: Option<Forecast>,
}

/// What generation will take in all, at the yield and pace so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// How many samples.
    pub samples: u64,
    /// What they will have cost, where a price is known.
    pub cost: Option<Usd>,
    /// When they will be there.
    pub finish: Option<Timestamp>,
}

/// How long something was suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Paused {
    /// The seconds of all the times that are over.
    pub seconds: u64,
    /// When the present one began, where there is one.
    pub since: Option<Timestamp>,
}

impl Paused {
    /// Takes notice of whether it is suspended now.
    pub fn note(&mut self, is_suspended: bool, now: Timestamp) {
        match (is_suspended, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(since)) => {
                let seconds = u64::try_from(now.duration_since(since).as_secs()).unwrap_or_default();
                *self = Self { seconds: self.seconds.saturating_add(seconds), since: None };
            }
            _ => {}
        }
    }
}

/// What was counted of the batches that are folded in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folded {
    /// The number of the last of them; 0 before the first.
    pub through: u32,
    /// How many samples they were to have.
    pub samples: u32,
    /// How many of these an earlier run has made.
    pub adopted: u32,
    /// A digest of the policy that all of them were verified by; none where that is not one.
    pub policy: Option<Sha256>,
    /// What they counted together.
    pub totals: GenerationTotals,
}

/// A batch of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its number, from 1.
    pub number: u32,
    /// Its first sample.
    pub from: u32,
    /// How many samples it has.
    pub count: u32,
    /// Its uid, once it was made.
    pub uid: Option<Uid>,
    /// What it may spend.
    pub slice: Slice,
}

/// A part of a budget; what is none has no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// The most that tokens may cost.
    pub max_cost: Option<Usd>,
    /// The most tokens.
    pub max_tokens: Option<u64>,
}

/// A dry run of the dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// A digest of the policy and of what was asked of the dataset.
    pub inputs: Sha256,
    /// The last batch that it took in.
    pub through: u32,
    /// How many first trajectories the dataset would have.
    pub accepted_first: u64,
    /// How many second ones.
    pub accepted_second: u64,
    /// Whether both kinds have their share.
    pub complete: bool,
}

impl DryRun {
    /// What it has found, in words.
    pub fn words(&self) -> String {
        let Self { accepted_first, accepted_second, .. } = self;
        format!("the dataset would have {accepted_first} first and {accepted_second} second trajectories")
    }
}

/// A verification that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The measure that decided.
    pub measure: Measure,
    /// The lowest measure that was accepted.
    pub threshold: Ratio,
    /// A digest of all that the spec said about it.
    pub settings: Sha256,
    /// The digest that names the file of verdicts.
    pub policy: Sha256,
    /// When it was done.
    pub finished: Timestamp,
}

/// What a stage has left in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it lies: a dataset's manifest, or a model's directory.
    pub uri: String,
    /// The manifest's sha256.
    pub sha256: Sha256,
}

/// When a stage began and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageTime {
    /// When its first attempt was written down.
    pub began: Timestamp,
    /// When it was done.
    pub ended: Option<Timestamp>,
}

impl Record {
    /// Remembers a failure, and forgets the oldest beyond the bound.
    pub fn remember(&mut self, failure: PastFailure) {
        self.failures.insert(0, failure);
        self.failures.truncate(MOST_FAILURES);
    }
}

impl StageTime {
    /// A stage that began now.
    pub fn from(began: Timestamp) -> Self {
        Self { began, ended: None }
    }
}
