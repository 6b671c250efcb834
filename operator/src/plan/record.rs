//! What status remembers between passes, in words of the domain: the memory of [`plan`](super::plan). How it is read from and written to the two
//! kinds' statuses lives in [`crate::subject`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sera_crds::{
    contract::{Failure, FailureClass},
    run::{EvaluationStatus, GenerationTotals, Phase, ServingStatus, TrainingStatus},
    values::{Measure, Ratio, Sha256, Stage, Usd},
};

use super::conditions::Conditions;
use crate::facts::Uid;

/// The first wait before a failed stage is tried again; it doubles with each failure in a row. A repaired Secret or host is thus picked up soon.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
/// The longest such wait.
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_mins(5);

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

/// The latest attempt of a stage. An older one is history and is not kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its number, from 1; never used twice.
    pub number: u32,
    /// The generation of the spec that it works from.
    pub generation: i64,
    /// When it was written down, which is before anything was made for it.
    pub recorded: Timestamp,
    /// Its Job, once it was made: tells "not made yet" from "made, and gone".
    pub job: Option<Uid>,
    /// A digest of what it works from beside the spec's generation, where that may change while it does.
    pub inputs: Option<Sha256>,
    /// Failures in a row up to and including this attempt.
    pub failures: u32,
    /// How it ended, where it has.
    pub end: Option<AttemptEnd>,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptEnd {
    /// When it was noticed.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: AttemptOutcome,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptOutcome {
    /// The stage is done.
    Succeeded,
    /// It failed, for this reason.
    Failed(Failure),
    /// Its Job or its last words are gone, so nobody knows; the next attempt finds out from the store.
    Lost,
    /// The operator ended it because its owner suspended the object, or changed it before the Job was made.
    Withdrawn,
    /// Its pods were taken away, or did not all find room: nobody's failure.
    Disrupted,
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

impl Attempt {
    /// The attempt after `previous`, working from `generation`; a changed spec starts counting failures anew.
    pub fn after(previous: Option<&Self>, generation: i64, now: Timestamp) -> Self {
        Self {
            number: previous.map_or(1, |attempt| attempt.number.saturating_add(1)),
            generation,
            recorded: now,
            job: None,
            inputs: None,
            failures: previous.filter(|attempt| attempt.generation == generation).map_or(0, |attempt| attempt.failures),
            end: None,
        }
    }

    /// Writes down how it ended; what was nobody's success counts as a failure in a row, but for what its owner withdrew or Kubernetes took away.
    pub fn finish(&mut self, outcome: AttemptOutcome, now: Timestamp) {
        self.failures = match outcome {
            AttemptOutcome::Succeeded => 0,
            AttemptOutcome::Failed(_) | AttemptOutcome::Lost => self.failures.saturating_add(1),
            AttemptOutcome::Withdrawn | AttemptOutcome::Disrupted => self.failures,
        };
        self.end = Some(AttemptEnd { at: now, outcome });
    }

    /// Why it failed, where it did.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.end {
            Some(AttemptEnd { outcome: AttemptOutcome::Failed(failure), .. }) => Some(failure),
            _ => None,
        }
    }

    /// When the next attempt may begin. An attempt that was withdrawn, or that worked from an older spec, holds nothing up; one that was disrupted
    /// does for a moment, so that whatever took its pods away is not met again and again without a pause.
    pub fn next_due(&self, generation: i64) -> Option<Timestamp> {
        let end = self.end.as_ref()?;
        let wait = match end.outcome {
            AttemptOutcome::Withdrawn => SignedDuration::ZERO,
            _ if self.generation != generation => SignedDuration::ZERO,
            AttemptOutcome::Disrupted => FIRST_BACKOFF,
            _ if self.failures == 0 => SignedDuration::ZERO,
            _ => backoff(self.failures),
        };
        Some(end.at.saturating_add(wait).unwrap_or(Timestamp::MAX))
    }
}

impl StageTime {
    /// A stage that began now.
    pub fn from(began: Timestamp) -> Self {
        Self { began, ended: None }
    }
}

/// Whether it is the owner's turn after this failure.
pub fn is_the_owners(failure: &Failure) -> bool {
    matches!(failure.class, FailureClass::Configuration | FailureClass::Conflict)
}

fn backoff(failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_ten_seconds_to_five_minutes() {
        let waits: Vec<i64> = (1..=8).map(|failures| backoff(failures).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(backoff(u32::MAX), LONGEST_BACKOFF);
    }

    #[test]
    fn a_change_of_the_spec_ends_the_wait_and_a_withdrawn_attempt_causes_none() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut attempt = Attempt::after(None, 3, now);
        assert_eq!(attempt.next_due(3), None, "an attempt under way holds the next one up without a date");
        attempt.finish(AttemptOutcome::Lost, now);
        assert_eq!(attempt.next_due(3), Some("2026-01-01T00:00:10Z".parse().unwrap()));
        assert_eq!(attempt.next_due(4), Some(now));
        let mut next = Attempt::after(Some(&attempt), 3, now);
        assert_eq!((next.number, next.failures), (2, 1));
        let mut disrupted = next.clone();
        next.finish(AttemptOutcome::Withdrawn, now);
        assert_eq!(next.next_due(3), Some(now));
        disrupted.finish(AttemptOutcome::Disrupted, now);
        assert_eq!((disrupted.failures, disrupted.next_due(3)), (1, Some("2026-01-01T00:00:10Z".parse().unwrap())));
    }
}
