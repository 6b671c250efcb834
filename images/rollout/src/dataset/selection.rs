//! Which of the candidates become lines: duplicates go first, then the best of each kind are taken, in the share that was asked for.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use sera_crds::contract::{DatasetPlan, Rejection, RolloutKind};
use sera_crds::values::Ratio;

use super::candidates::Candidate;
use super::sketch::{Sketch, VALUES};

/// How many values of two sketches must be equal in one place for them to be compared at all: of sixteen such places, near-duplicates have one for
/// certain (their chance to miss all of them is one in ten thousand), and most others have none.
const BAND: usize = 8;

/// What is taken.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Selection {
    /// The lines, best first, both kinds together.
    pub(super) taken: Vec<Candidate>,
    /// How many of each kind there were to choose from.
    pub(super) eligible: BTreeMap<RolloutKind, u64>,
    /// How many of each kind were asked for.
    pub(super) wanted: BTreeMap<RolloutKind, u64>,
    /// Duplicates, by kind of duplicate.
    pub(super) duplicates: BTreeMap<Rejection, u64>,
}

impl Selection {
    /// How many lines of a kind there are.
    pub(super) fn count(&self, rollout: RolloutKind) -> u64 {
        self.taken.iter().filter(|candidate| candidate.rollout == rollout).count() as u64
    }

    /// Whether each kind has its share.
    pub(super) fn is_complete(&self) -> bool {
        self.wanted.iter().all(|(rollout, wanted)| self.eligible.get(rollout).unwrap_or(&0) >= wanted)
    }
}

/// Selects among candidates, which come in the order of samples.
pub(super) fn select(candidates: Vec<Candidate>, plan: &DatasetPlan) -> Selection {
    let (unique, duplicates) = without_duplicates(candidates);
    let mut selection = Selection { duplicates, wanted: wanted(plan), ..Selection::default() };
    let mut kinds: BTreeMap<RolloutKind, Vec<Candidate>> = BTreeMap::new();
    for candidate in unique {
        kinds.entry(candidate.rollout).or_default().push(candidate);
    }
    for (rollout, mut candidates) in kinds {
        selection.eligible.insert(rollout, candidates.len() as u64);
        candidates.sort_by(best_first);
        let wanted = selection.wanted.get(&rollout).copied().unwrap_or_default();
        candidates.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        selection.taken.append(&mut candidates);
    }
    selection.taken.sort_by(best_first);
    selection
}

/// The larger kept ratio first, compared in whole numbers; then the smaller sample, the first rollout before the second.
fn best_first(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    let left = u128::from(a.kept.matched) * u128::from(b.kept.total);
    let right = u128::from(b.kept.matched) * u128::from(a.kept.total);
    Reverse(left).cmp(&Reverse(right)).then_with(|| (a.sample, a.rollout).cmp(&(b.sample, b.rollout)))
}

/// How many of each kind are asked for: the share of first rollouts is rounded to the nearest, half of one up.
fn wanted(plan: &DatasetPlan) -> BTreeMap<RolloutKind, u64> {
    let all = u64::from(plan.accepted_trajectories);
    let first = share(all, &plan.first_rollout_share);
    BTreeMap::from([(RolloutKind::First, first), (RolloutKind::Second, all - first)])
}

/// A share of a number, to the nearest.
pub(super) fn share(of: u64, ratio: &Ratio) -> u64 {
    let ratio = ratio.value();
    let scale = 10_u128.pow(ratio.scale());
    let doubled = 2 * u128::from(of) * ratio.mantissa().unsigned_abs() + scale;
    u64::try_from(doubled / (2 * scale)).unwrap_or(of).min(of)
}

/// Leaves out what ends in the same patch as another sample, and what is written nearly alike. The pair of one sample is no duplicate by its patch: that
/// the second rollout finds the first one's patch is what verification asks for.
fn without_duplicates(candidates: Vec<Candidate>) -> (Vec<Candidate>, BTreeMap<Rejection, u64>) {
    let mut patches: HashMap<String, u64> = HashMap::new();
    let mut bands: HashMap<(usize, [u16; BAND]), Vec<usize>> = HashMap::new();
    let mut unique: Vec<Candidate> = Vec::with_capacity(candidates.len());
    let mut left_out = BTreeMap::new();
    for candidate in candidates {
        let earlier = match patches.entry(candidate.patch_sha256.clone()) {
            Entry::Occupied(earlier) => *earlier.get() != candidate.sample,
            Entry::Vacant(place) => {
                place.insert(candidate.sample);
                false
            }
        };
        if earlier {
            *left_out.entry(Rejection::DuplicatePatch).or_default() += 1;
            continue;
        }
        if let Some(sketch) = &candidate.sketch {
            let mut known = places(sketch).filter_map(|place| bands.get(&place)).flatten();
            if known.any(|known| unique[*known].sketch.as_ref().is_some_and(|known| known.is_like(sketch))) {
                *left_out.entry(Rejection::NearDuplicate).or_default() += 1;
                continue;
            }
            for place in places(sketch) {
                bands.entry(place).or_default().push(unique.len());
            }
        }
        unique.push(candidate);
    }
    (unique, left_out)
}

/// Where a sketch is looked up: its values, eight at a time.
fn places(sketch: &Sketch) -> impl Iterator<Item = (usize, [u16; BAND])> {
    sketch.0.as_chunks::<BAND>().0.iter().copied().enumerate().take(VALUES / BAND)
}

#[cfg(test)]
pub(super) mod tests {
    use sera_crds::contract::{Fraction, FunctionRef};

    use super::*;

    /// A candidate that is like no other.
    pub(in crate::dataset) fn candidate(sample: u64, rollout: RolloutKind, kept: u64) -> Candidate {
        let words: String = (0..200).map(|n| format!("{rollout:?}{sample}x{n} ")).collect();
        Candidate {
            batch: format!("run-{}", sample / 4),
            sample,
            rollout,
            function: FunctionRef {
                snapshot: 0,
                file: format!("src/f{}.py", sample % 7),
                name: "f".into(),
                lines: (1, 2),
            },
            bug_kind: None,
            patch_sha256: format!("patch{sample}{}", rollout.stem()),
            kept: Fraction { matched: kept, total: 100 },
            tokens: 1000,
            sketch: Some(Sketch::of([words.as_str()])),
        }
    }

    fn plan(accepted: u32, first: &'static str) -> DatasetPlan {
        DatasetPlan {
            accepted_trajectories: accepted,
            first_rollout_share: first.parse().unwrap(),
            eval_fraction: "0.02".parse().unwrap(),
        }
    }

    fn taken(selection: &Selection) -> Vec<(u64, &'static str)> {
        selection.taken.iter().map(|candidate| (candidate.sample, candidate.rollout.stem())).collect()
    }

    use RolloutKind::{First, Second};

    #[test]
    fn the_best_of_each_kind_are_taken_in_their_shares() {
        let candidates = vec![
            candidate(1, First, 90),
            candidate(1, Second, 95),
            candidate(2, First, 100),
            candidate(3, First, 100),
            candidate(4, First, 95),
            candidate(5, Second, 88),
            candidate(6, Second, 99),
        ];
        let selection = select(candidates, &plan(5, "0.625"));
        assert_eq!(taken(&selection), [(2, "t1"), (3, "t1"), (6, "t2"), (1, "t2"), (4, "t1")]);
        assert_eq!(selection.eligible, BTreeMap::from([(First, 4), (Second, 3)]));
        assert!(selection.is_complete());
    }

    #[test]
    fn ratios_are_compared_as_fractions_and_not_as_counts() {
        let mut thirds = candidate(1, First, 0);
        thirds.kept = Fraction { matched: 2, total: 3 };
        let selection = select(vec![thirds, candidate(2, First, 66), candidate(3, First, 67)], &plan(3, "1"));
        assert_eq!(taken(&selection), [(3, "t1"), (1, "t1"), (2, "t1")]);
    }

    #[test]
    fn a_share_that_is_not_met_is_said_and_the_other_is_not_filled_up_instead() {
        let selection =
            select(vec![candidate(1, First, 90), candidate(2, First, 90), candidate(3, First, 90)], &plan(4, "0.5"));
        assert_eq!(taken(&selection), [(1, "t1"), (2, "t1")]);
        assert!(!selection.is_complete());
        assert_eq!((selection.count(First), selection.count(Second)), (2, 0));
    }

    #[test]
    fn a_patch_of_another_sample_is_a_duplicate_whatever_its_kind_and_that_of_the_same_sample_is_none() {
        let mut pair = candidate(1, Second, 90);
        pair.patch_sha256 = "patch1t1".into();
        let mut across = candidate(3, Second, 100);
        across.patch_sha256 = "patch1t1".into();
        let selection = select(vec![candidate(1, First, 90), pair, across], &plan(4, "0.5"));
        assert_eq!(taken(&selection), [(1, "t1"), (1, "t2")]);
        assert_eq!(selection.duplicates, BTreeMap::from([(Rejection::DuplicatePatch, 1)]));
    }

    #[test]
    fn of_two_that_are_written_nearly_alike_the_earlier_sample_stays() {
        let words = |skip: u32| (skip..400).map(|n| format!("word{n} ")).collect::<String>();
        let (mut one, mut two) = (candidate(1, First, 89), candidate(9, Second, 100));
        one.sketch = Some(Sketch::of([words(0).as_str()]));
        two.sketch = Some(Sketch::of([words(4).as_str()]));
        let selection = select(vec![one, candidate(5, Second, 90), two], &plan(4, "0.5"));
        assert_eq!(taken(&selection), [(5, "t2"), (1, "t1")]);
        assert_eq!(selection.duplicates, BTreeMap::from([(Rejection::NearDuplicate, 1)]));
    }

    #[test]
    fn shares_are_rounded_to_the_nearest() {
        for (of, ratio, expected) in
            [(8, "0.625", 5), (8000, "0.625", 5000), (3, "0.5", 2), (10, "0", 0), (10, "1", 10), (1, "0.4", 0)]
        {
            assert_eq!(share(of, &ratio.parse().unwrap()), expected, "{ratio} of {of}");
        }
    }
}
