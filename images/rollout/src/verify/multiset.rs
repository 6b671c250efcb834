//! How many elements two multisets of lines have in common, in time that grows with their number: the published code looks each line up in a list.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;

/// The size of the intersection: each line of `first`, which has at most `most`, is matched by at most one of `second`.
pub(super) fn common<L: Hash + Eq>(
    most: usize,
    first: impl IntoIterator<Item = L>,
    second: impl IntoIterator<Item = L>,
) -> u64 {
    let mut counts = Counts::of(most, first);
    second.into_iter().filter(|line| counts.take(line)).count() as u64
}

/// Two multisets, matched.
#[derive(Debug)]
pub(super) struct Matched<L> {
    /// The intersection.
    pub(super) both: Vec<L>,
    /// What else the first one has.
    pub(super) first: Vec<L>,
    /// What else the second one has.
    pub(super) second: Vec<L>,
}

/// Matches each line of `first` with at most one of `second`.
pub(super) fn matched<L: Hash + Eq + Copy>(first: &[L], second: &[L]) -> Matched<L> {
    let mut counts = Counts::of(first.len(), first.iter().copied());
    let mut both = Vec::with_capacity(first.len().min(second.len()));
    let mut rest = Vec::new();
    for line in second {
        if counts.take(line) { both.push(*line) } else { rest.push(*line) }
    }
    let left = counts.entries.into_iter().flat_map(|entry| std::iter::repeat_n(entry.line, entry.count as usize));
    Matched { both, first: left.collect(), second: rest }
}

/// How often each line is there. The standard library's map is made for much more than counting a few lines once, and takes twice the time.
struct Counts<L> {
    /// For each of a power of two of places, the number of the entry that it holds, from 1; 0: none. No more than half of them are taken.
    places: Vec<u32>,
    entries: Vec<Entry<L>>,
    hasher: RandomState,
}

struct Entry<L> {
    hash: u64,
    count: u32,
    line: L,
}

impl<L: Hash + Eq> Counts<L> {
    /// Counts lines, of which there are at most `most`.
    fn of(most: usize, lines: impl IntoIterator<Item = L>) -> Self {
        let places = vec![0; (2 * most).next_power_of_two()];
        let mut counts = Self { places, entries: Vec::with_capacity(most), hasher: RandomState::default() };
        for line in lines {
            let hash = counts.hasher.hash_one(&line);
            match counts.find(hash, &line) {
                Ok(entry) => counts.entries[entry].count += 1,
                Err(place) => {
                    counts.entries.push(Entry { hash, count: 1, line });
                    counts.places[place] = u32::try_from(counts.entries.len()).unwrap_or(u32::MAX);
                }
            }
        }
        counts
    }

    /// Takes a line away; whether there was one more.
    fn take(&mut self, line: &L) -> bool {
        let found = self.find(self.hasher.hash_one(line), line);
        let Ok(entry) = found else { return false };
        let count = &mut self.entries[entry].count;
        let is_left = *count > 0;
        *count -= u32::from(is_left);
        is_left
    }

    /// The entry of a line, or the place where it would be.
    fn find(&self, hash: u64, line: &L) -> Result<usize, usize> {
        let last = self.places.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are what is wanted")]
        let mut place = hash as usize & last;
        while let Some(entry) = (self.places[place] as usize).checked_sub(1) {
            if self.entries[entry].hash == hash && self.entries[entry].line == *line {
                return Ok(entry);
            }
            place = (place + 1) & last;
        }
        Err(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_matched_once() {
        let lines = |text: &'static str| text.split(' ').map(str::as_bytes).collect::<Vec<_>>();
        for (first, second, expected) in
            [("a a b", "a b b", 2), ("a b c", "c b a", 3), ("a", "b", 0), ("a a a", "a", 1), ("a", "a a a", 1)]
        {
            let (first, second) = (lines(first), lines(second));
            assert_eq!(common(first.len(), first.clone(), second.clone()), expected, "{first:?} {second:?}");
            let Matched { both, first: rest, second: other } = matched(&first, &second);
            assert_eq!(both.len() as u64, expected);
            assert_eq!((both.len() + rest.len(), both.len() + other.len()), (first.len(), second.len()));
        }
        assert_eq!(common(0, [""; 0], ["a"]), 0);
    }

    #[test]
    fn thousands_of_lines_are_told_apart() {
        let lines = |from: u32| (from..from + 5000).flat_map(|n| [n.to_string(), n.to_string()]).collect::<Vec<_>>();
        assert_eq!(common(10_000, lines(0), lines(4000)), 2000);
    }
}
