//! Numbers that are drawn from a seed and from what they are about, without any state. A draw is sha256 over the label `sera/sampling/v1`, the seed as 8
//! bytes, and each part of what it is about after its length as 8 bytes, all little-endian; the number is the first 8 bytes of the hash, little-endian.
//! This is part of the contract: another derivation would give every run other samples, and needs another label.

use sha2::{Digest, Sha256};

/// The label of this derivation.
const LABEL: &[u8] = b"sera/sampling/v1";

/// A draw in the making.
#[derive(Clone)]
pub(super) struct Draw(Sha256);

impl Draw {
    /// A draw about something; the first part names what the number is for.
    pub(super) fn new(seed: u64, about: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(LABEL);
        hash.update(seed.to_le_bytes());
        Self(hash).of(about.as_bytes())
    }

    /// The same draw about one thing more.
    pub(super) fn of(mut self, part: &[u8]) -> Self {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// The number.
    pub(super) fn number(self) -> u64 {
        let hash = self.0.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        u64::from_le_bytes(first)
    }

    /// A number below `bound`: the product's upper half, which favours none by more than one in 2^64 / bound. 0 where the bound is.
    pub(super) fn below(self, bound: u64) -> u64 {
        let product = u128::from(self.number()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// Puts these in an order that is drawn (Fisher and Yates, from the end; each step is a draw with the step's number as one part more).
    pub(super) fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let step = last as u64;
            let other = self.clone().of(&step.to_le_bytes()).below(step + 1);
            items.swap(last, usize::try_from(other).unwrap_or(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_what_its_description_says() {
        // printf 'sera/sampling/v1\x2a\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0kinds\1\0\0\0\0\0\0\0x' | sha256sum
        assert_eq!(Draw::new(42, "kinds").of(b"x").number().to_le_bytes(), GOLDEN);
    }

    const GOLDEN: [u8; 8] = [114, 76, 85, 134, 35, 245, 255, 63];

    #[test]
    fn parts_do_not_run_into_each_other() {
        let [one, other] =
            [("ab", "c"), ("a", "bc")].map(|(a, b)| Draw::new(1, "x").of(a.as_bytes()).of(b.as_bytes()).number());
        assert_ne!(one, other);
    }

    #[test]
    fn numbers_are_spread_over_the_bound_and_orders_over_all() {
        let mut seen = [0_u32; 7];
        for n in 0_u64..7000 {
            seen[usize::try_from(Draw::new(n, "x").below(7)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
        let mut orders = std::collections::BTreeMap::new();
        for n in 0_u64..6000 {
            let mut items = ["a", "b", "c"];
            Draw::new(n, "x").shuffle(&mut items);
            *orders.entry(items).or_insert(0) += 1;
        }
        assert!(orders.len() == 6 && orders.values().all(|count| (850..1150).contains(count)), "{orders:?}");
    }
}
