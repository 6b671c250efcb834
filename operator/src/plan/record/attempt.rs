//! What status remembers of an attempt of a stage: what it works from, how it ended, and what follows from that for the next one.

use jiff::{SignedDuration, Timestamp};
use sera_crds::{
    contract::{Failure, FailureClass},
    values::Sha256,
};

use crate::facts::Uid;

/// The first wait before a failed stage is tried again; it doubles with each failure in a row. A repaired Secret or host is thus picked up soon.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
/// The longest such wait.
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_mins(5);

/// What an attempt works from: which generation of the specs that say what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition {
    /// Of the object's own.
    pub own: i64,
    /// Of the run's that a batch takes its word from; none where there is none, or where nobody has written it down.
    pub runs: Option<i64>,
}

impl Edition {
    /// Whether an owner has said something else in the other one.
    pub fn differs(self, other: Self) -> bool {
        let of_runs = self.runs.zip(other.runs);
        self.own != other.own || of_runs.is_some_and(|(one, another)| one != another)
    }
}

/// The latest attempt of a stage. An older one is history and is not kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its number, from 1; never used twice.
    pub number: u32,
    /// What it works from.
    pub edition: Edition,
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

impl Attempt {
    /// The attempt after `previous`, working from `edition`; a changed spec starts counting failures anew.
    pub fn after(previous: Option<&Self>, edition: Edition, now: Timestamp) -> Self {
        Self {
            number: previous.map_or(1, |attempt| attempt.number.saturating_add(1)),
            edition,
            recorded: now,
            job: None,
            inputs: None,
            failures: previous
                .filter(|attempt| !attempt.edition.differs(edition))
                .map_or(0, |attempt| attempt.failures),
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
    pub fn next_due(&self, edition: Edition) -> Option<Timestamp> {
        let end = self.end.as_ref()?;
        let wait = match end.outcome {
            AttemptOutcome::Withdrawn => SignedDuration::ZERO,
            _ if self.edition.differs(edition) => SignedDuration::ZERO,
            AttemptOutcome::Disrupted => FIRST_BACKOFF,
            _ if self.failures == 0 => SignedDuration::ZERO,
            _ => backoff(self.failures),
        };
        Some(end.at.saturating_add(wait).unwrap_or(Timestamp::MAX))
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
        let (edition, soon) = (Edition { own: 3, runs: None }, Some("2026-01-01T00:00:10Z".parse().unwrap()));
        let mut attempt = Attempt::after(None, edition, now);
        assert_eq!(attempt.next_due(edition), None, "an attempt under way holds the next one up without a date");
        attempt.finish(AttemptOutcome::Lost, now);
        assert_eq!(attempt.next_due(edition), soon);
        assert_eq!(attempt.next_due(Edition { own: 4, ..edition }), Some(now));
        let mut next = Attempt::after(Some(&attempt), edition, now);
        assert_eq!((next.number, next.failures), (2, 1));
        let mut disrupted = next.clone();
        next.finish(AttemptOutcome::Withdrawn, now);
        assert_eq!(next.next_due(edition), Some(now));
        disrupted.finish(AttemptOutcome::Disrupted, now);
        assert_eq!((disrupted.failures, disrupted.next_due(edition)), (1, soon));
    }

    #[test]
    fn a_change_of_the_run_counts_as_one_of_the_spec_and_a_run_that_nobody_wrote_down_as_none() {
        let of = |own, runs| Edition { own, runs };
        let before = of(1, Some(7));
        for (after, differs) in [(of(1, Some(8)), true), (of(2, Some(7)), true), (before, false), (of(1, None), false)]
        {
            assert_eq!((before.differs(after), after.differs(before)), (differs, differs), "{after:?}");
        }
    }
}
