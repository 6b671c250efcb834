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
