//! How much of first patches second rollouts found again, over many samples: with those whose pull request gave a line away, and without.

use serde::{Deserialize, Serialize};

use super::verdict::MILLION;
use super::{Fraction, VerificationCounts};

/// The recalls of some samples, in sums. Those whose pull request gives a line away are told apart: what was read is found more easily.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Recalls {
    /// Samples that have a recall.
    pub measured: u64,
    /// The sum of their recalls, in millionths.
    pub millionths: u64,
    /// Those of them whose pull request gives a line away.
    pub leaked: u64,
    /// The part of the sum that is theirs, in millionths.
    pub leaked_millionths: u64,
}

impl Recalls {
    /// Adds a sample.
    pub fn add(&mut self, recall: Fraction, leaks: bool) {
        self.measured += 1;
        self.millionths += recall.millionths();
        if leaks {
            self.leaked += 1;
            self.leaked_millionths += recall.millionths();
        }
    }

    /// The mean; none without samples.
    pub fn mean(&self) -> Option<Fraction> {
        mean(self.millionths, self.measured)
    }

    /// The mean of the samples whose pull request gives nothing away.
    pub fn mean_without_leaks(&self) -> Option<Fraction> {
        let sum = self.millionths.saturating_sub(self.leaked_millionths);
        mean(sum, self.measured.saturating_sub(self.leaked))
    }

    /// The share of samples whose pull request gives a line away.
    pub fn leak_rate(&self) -> Option<Fraction> {
        (self.measured > 0).then_some(Fraction { matched: self.leaked, total: self.measured })
    }
}

/// The mean of so many shares, of which this is the sum in millionths.
fn mean(sum: u64, count: u64) -> Option<Fraction> {
    (count > 0).then_some(Fraction { matched: sum, total: count.saturating_mul(MILLION) })
}

impl VerificationCounts {
    /// What they say of recall.
    pub fn recalls(&self) -> Recalls {
        Recalls {
            measured: self.recall_histogram.iter().copied().fold(0, u64::saturating_add),
            millionths: self.recall_millionths,
            leaked: self.leaked,
            leaked_millionths: self.leaked_millionths,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_told_with_and_without_what_was_given_away() {
        let mut recalls = Recalls::default();
        assert_eq!((recalls.mean(), recalls.mean_without_leaks(), recalls.leak_rate()), (None, None, None));
        recalls.add(Fraction { matched: 3, total: 3 }, true);
        assert_eq!((recalls.mean().map(Fraction::millionths), recalls.mean_without_leaks()), (Some(1_000_000), None));
        recalls.add(Fraction { matched: 1, total: 4 }, false);
        let shares = [recalls.mean(), recalls.mean_without_leaks(), recalls.leak_rate()];
        assert_eq!(shares.map(|share| share.map(Fraction::millionths)), [Some(625_000), Some(250_000), Some(500_000)]);
    }
}
