//! Random numbers that are the same on every machine for the same seed. Nothing here is fit for secrets.

use std::time::Duration;

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The numbers of `seed`, apart from those of every other `stream` of it.
    pub(super) fn of(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to below `high`; `low` where that is no range.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % high.saturating_sub(low).max(1)
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, share: u64) -> bool {
        self.between(0, 100) < share
    }

    /// One of these.
    pub(super) fn one_of<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let place = self.between(0, others.len() as u64 + 1);
        usize::try_from(place).ok().and_then(|place| place.checked_sub(1)).map_or(first, |place| others[place])
    }

    /// A time of so many milliseconds.
    pub(super) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again_and_its_streams_give_others() {
        let numbers = |seed, stream| {
            let mut random = Random::of(seed, stream);
            [random.next(), random.next(), random.between(5, 9)]
        };
        assert_eq!(numbers(7, 1), numbers(7, 1));
        assert_ne!(numbers(7, 1), numbers(7, 2));
        assert_ne!(numbers(7, 1), numbers(8, 1));
    }

    #[test]
    fn what_is_asked_for_within_bounds_stays_there_and_reaches_every_one() {
        let mut random = Random::of(1, 1);
        let mut seen = [false; 3];
        for _ in 0..200 {
            let number = random.between(4, 7);
            assert!((4..7).contains(&number));
            seen[usize::try_from(number - 4).unwrap()] = true;
            assert!([1, 2, 3].contains(&random.one_of(1, &[2, 3])));
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(random.between(3, 3), 3);
    }
}
