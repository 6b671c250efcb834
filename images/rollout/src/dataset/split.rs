//! Which lines are kept from training, to watch the loss on: whole files' together, so that no function, and no near twin beside it, is on both sides.

use std::collections::BTreeMap;

use sera_crds::values::Ratio;
use sha2::{Digest, Sha256};

use super::candidates::Candidate;
use super::selection::share;

/// Lines to train on and lines to watch, each in the order in which they came. Files go to the latter in the order of their names' hashes, as long as
/// they do not make it larger than its share (but one file is always tried): which they are does not change when lines are added elsewhere.
pub(super) fn split(lines: Vec<Candidate>, eval_fraction: &Ratio) -> (Vec<Candidate>, Vec<Candidate>) {
    let mut files: BTreeMap<[u8; 32], u64> = BTreeMap::new();
    for line in &lines {
        *files.entry(place(line)).or_default() += 1;
    }
    let wanted = share(lines.len() as u64, eval_fraction);
    let mut last = None;
    let mut watched = 0;
    for (file, count) in &files {
        if watched >= wanted || (watched > 0 && watched + count > wanted) || files.len() < 2 {
            break;
        }
        watched += count;
        last = Some(*file);
    }
    lines.into_iter().partition(|line| last.is_none_or(|last| place(line) > last))
}

/// Where a line's file stands in the order.
fn place(line: &Candidate) -> [u8; 32] {
    Sha256::digest(line.function.file.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
    fn a_single_file_stays_with_training() {
        assert_eq!(split(lines(&[3, 3, 3]), &"0.5".parse().unwrap()).0.len(), 3);
    }
}
