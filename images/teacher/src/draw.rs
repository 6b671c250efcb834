//! Where choices come from: a hash over the seed, what is being chosen, and what the choice is about. The same question always has the same answer.

use sha2::{Digest, Sha256};

/// A source of choices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    seed: u64,
}

impl Draw {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A number for the choice `of`, about `parts`.
    pub(crate) fn number(self, of: &str, parts: &[&str]) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        for part in [of].iter().chain(parts) {
            // The length keeps "ab", "c" apart from "a", "bc".
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A share of one, for comparing with a rate.
    pub(crate) fn share(self, of: &str, parts: &[&str]) -> f64 {
        // 32 bits are exact in a double, and finer than any rate that is asked for.
        f64::from(u32::try_from(self.number(of, parts) >> 32).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
    }

    /// A position below `count`, which must not be 0.
    pub(crate) fn below(self, count: usize, of: &str, parts: &[&str]) -> usize {
        usize::try_from(self.number(of, parts) % count.max(1) as u64).unwrap_or_default()
    }

    /// One of `choices`.
    pub(crate) fn pick<'a, T>(self, choices: &'a [T], of: &str, parts: &[&str]) -> Option<&'a T> {
        choices.get(self.below(choices.len(), of, parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_depends_on_seed_purpose_and_subject_and_on_nothing_else() {
        let draw = Draw::new(1);
        assert_eq!(draw.number("a", &["b", "c"]), Draw::new(1).number("a", &["b", "c"]));
        for other in [Draw::new(2).number("a", &["b", "c"]), draw.number("d", &["b", "c"]), draw.number("a", &["bc"])] {
            assert_ne!(draw.number("a", &["b", "c"]), other);
        }
    }

    #[test]
    fn shares_are_spread_over_the_unit_interval() {
        let draw = Draw::new(7);
        let below: usize = (0..1000).filter(|i| draw.share("x", &[&i.to_string()]) < 0.3).count();
        assert!((250..350).contains(&below), "{below}");
    }
}
