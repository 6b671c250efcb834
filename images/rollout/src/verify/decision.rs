//! Whether a second patch counts as having found the first one's change.

use sera_crds::contract::Measures;
use sera_crds::values::{Measure, Ratio};
use serde::Serialize;

use super::lines::is_blank;

/// Which measure decides, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criterion {
    /// The measure.
    pub measure: Measure,
    /// The lowest share that is accepted.
    pub threshold: Ratio,
}

/// Why a second patch does not count; the first reason that applies, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Refusal {
    /// There is nothing that could have been found: refused at any threshold.
    EmptyFirst,
    /// Nothing was found: refused at any threshold, 0 included.
    EmptySecond,
    /// The measure is not defined: the first patch has no line that it counts, as where it only renames.
    NothingToFind,
    /// The measure is below the threshold.
    BelowThreshold,
}

/// Decides about a pair that was measured.
pub fn decide(first: &[u8], second: &[u8], measures: &Measures, criterion: &Criterion) -> Result<(), Refusal> {
    if is_blank(first) {
        return Err(Refusal::EmptyFirst);
    }
    if is_blank(second) {
        return Err(Refusal::EmptySecond);
    }
    let share = measures.by(criterion.measure).ok_or(Refusal::NothingToFind)?;
    if share.meets(&criterion.threshold) { Ok(()) } else { Err(Refusal::BelowThreshold) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::measure;

    fn decided(first: &str, second: &str, by: Measure, threshold: &str) -> Result<(), Refusal> {
        let (first, second) = (first.as_bytes(), second.as_bytes());
        let criterion = Criterion { measure: by, threshold: threshold.parse().unwrap() };
        decide(first, second, &measure(first, second).0, &criterion)
    }

    #[test]
    fn a_half_meets_a_half_and_emptiness_meets_nothing() {
        let rename = "diff --git a/a b/b\nsimilarity index 100%\nrename from a\nrename to b\n";
        for (first, second, threshold, expected) in [
            ("+a\n+b\n", "+a\n", "0.5", Ok(())),
            ("+a\n+b\n", "+a\n", "0.500000001", Err(Refusal::BelowThreshold)),
            ("+a\n", "+z\n", "0", Ok(())),
            ("+a\n", "", "0", Err(Refusal::EmptySecond)),
            ("+a\n", "\n \n", "0", Err(Refusal::EmptySecond)),
            ("", "+a\n", "0", Err(Refusal::EmptyFirst)),
            ("", "", "0", Err(Refusal::EmptyFirst)),
            (rename, rename, "0", Err(Refusal::NothingToFind)),
        ] {
            assert_eq!(
                decided(first, second, Measure::Recall, threshold),
                expected,
                "{first:?} {second:?} {threshold}"
            );
        }
    }

    #[test]
    fn the_measure_that_was_chosen_decides() {
        let patch = |file: &str, lines: &str, added: usize| {
            format!("diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n@@ -1,0 +1,{added} @@\n{lines}")
        };
        let first = patch("a.py", "+x\n", 1);
        let elsewhere = patch("b.py", "+x\n", 1);
        let padded = patch("a.py", "+x\n+1\n+2\n+3\n", 4);
        for (second, by, expected) in [
            (&elsewhere, Measure::Recall, Ok(())),
            (&elsewhere, Measure::StrictRecall, Err(Refusal::BelowThreshold)),
            (&padded, Measure::StrictRecall, Ok(())),
            (&padded, Measure::F1, Err(Refusal::BelowThreshold)),
        ] {
            assert_eq!(decided(&first, second, by, "0.5"), expected, "{by}");
        }
    }
}
