//! Which lines are kept from training, to watch the loss on: whole files' together, so that no function, and no near twin beside it, is on both sides.

use std::collections::{BTreeMap, BTreeSet};

use sera_crds::values::Ratio;
use sha2::{Digest, Sha256};

use super::candidates::Candidate;
use super::selection::share;

/// The most of all lines that a file may have that is watched though it is more than the share: one in so many.
const LARGEST: u64 = 3;

/// Lines to train on and lines to watch, each in the order in which they came. Files go to the latter in the order of their names' hashes, each that does
/// not make it larger than its share; where none is small enough for that, the smallest does, if most lines are left to train on.
pub(super) fn split(lines: Vec<Candidate>, eval_fraction: &Ratio) -> (Vec<Candidate>, Vec<Candidate>) {
    let mut files: BTreeMap<[u8; 32], u64> = BTreeMap::new();
    for line in &lines {
        *files.entry(place(line)).or_default() += 1;
    }
    let (all, wanted) = (lines.len() as u64, share(lines.len() as u64, eval_fraction));
    let mut left = wanted;
    let mut watched = BTreeSet::new();
    for (file, count) in &files {
        if *count <= left {
            left -= count;
            watched.insert(*file);
        }
    }
    if watched.is_empty() && wanted > 0 {
        let smallest = files.iter().min_by_key(|(_, count)| **count).filter(|(_, count)| **count * LARGEST <= all);
        watched.extend(smallest.map(|(file, _)| *file));
        if watched.is_empty() && all > 0 {
            tracing::warn!("no line is kept to watch the loss on: every file has more than a third of them");
        }
    }
    // One side alone would leave nothing to train on.
    if watched.len() == files.len() {
        watched.clear();
    }
    lines.into_iter().partition(|line| !watched.contains(&place(line)))
}

/// Where a line's file stands in the order.
fn place(line: &Candidate) -> [u8; 32] {
    Sha256::digest(line.function.file.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sera_crds::contract::RolloutKind;

    use super::*;
    use crate::dataset::selection::tests::candidate;

    fn lines(files: &[u8]) -> Vec<Candidate> {
        let line = |(sample, file): (usize, &u8)| {
            let mut line = candidate(sample as u64, RolloutKind::First, 90);
            line.function.file = format!("src/{file}.rs");
            line
        };
        files.iter().enumerate().map(line).collect()
    }

    proptest! {
        #[test]
        fn no_file_is_on_both_sides_and_nothing_is_lost(files in prop::collection::vec(0..20_u8, 0..80), percent in 0..=100_u8) {
            let fraction = if percent == 100 { "1".to_owned() } else { format!("0.{percent:02}") };
            let fraction: Ratio = fraction.parse().unwrap();
            let (train, eval) = split(lines(&files), &fraction);
            prop_assert_eq!(train.len() + eval.len(), files.len());
            let names = |lines: &[Candidate]| lines.iter().map(|line| line.function.file.clone()).collect::<BTreeSet<_>>();
            prop_assert!(names(&train).is_disjoint(&names(&eval)));
            prop_assert!(train.is_sorted_by_key(|line| line.sample) && eval.is_sorted_by_key(|line| line.sample));
        }
    }

    #[test]
    fn the_share_is_met_as_far_as_whole_files_allow() {
        let files: Vec<u8> = (0..200).map(|n| n % 50).collect();
        let (train, eval) = split(lines(&files), &"0.1".parse().unwrap());
        assert_eq!((train.len(), eval.len()), (180, 20));
        assert_eq!(split(lines(&files), &"0".parse().unwrap()).1.len(), 0);
    }

    #[test]
    fn a_file_that_is_larger_than_the_share_is_passed_over_and_where_all_are_the_smallest_is_taken() {
        let sized = |sizes: &[usize]| {
            let files = sizes.iter().zip(0..).flat_map(|(size, file)| std::iter::repeat_n(file, *size));
            lines(&files.collect::<Vec<u8>>())
        };
        for sizes in [[950, 20, 30], [30, 950, 20], [20, 30, 950]] {
            assert_eq!(split(sized(&sizes), &"0.02".parse().unwrap()).1.len(), 20, "{sizes:?}");
        }
        assert_eq!(split(sized(&[900, 60, 40]), &"0.02".parse().unwrap()).1.len(), 40);
        assert_eq!(split(sized(&[10, 10]), &"0.02".parse().unwrap()).1.len(), 0, "half of them is too much to watch");
    }

    #[test]
    fn a_single_file_stays_with_training() {
        assert_eq!(split(lines(&[3, 3, 3]), &"0.5".parse().unwrap()).0.len(), 3);
    }
}
