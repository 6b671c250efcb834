//! Walks of a run that begins with what an earlier one has: its snapshot, its rollouts too, or its dataset.

use proptest::prelude::*;
use sera_crds::contract::{AdoptedRollouts, Termination};

use super::{
    happening::{Happening, happening},
    world::World,
};
use crate::plan::tests::{adoption, intent, success};

/// What a run takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakesOver {
    /// Its snapshot is its own.
    Nothing,
    /// The snapshot alone.
    Snapshot,
    /// The rollouts of so many batches of eight samples too.
    Batches(u32),
    /// The dataset.
    Dataset,
}

impl TakesOver {
    /// What the run's first Job says.
    pub(super) fn words(self) -> Termination {
        match self {
            Self::Nothing => success(),
            Self::Snapshot => adoption(None, None),
            Self::Batches(batches) => adoption(Some(AdoptedRollouts { batches, samples: 8 * batches }), None),
            Self::Dataset => adoption(None, Some((10, 6))),
        }
    }

    /// How many batches are counted in the end, where nothing holds the run up.
    fn batches_in_the_end(self) -> u32 {
        match self {
            Self::Batches(batches) if batches >= 3 => batches,
            Self::Nothing | Self::Snapshot | Self::Batches(_) => 4,
            Self::Dataset => 0,
        }
    }
}

fn takes_over() -> impl Strategy<Value = TakesOver> {
    prop_oneof![Just(TakesOver::Snapshot), (1..5_u32).prop_map(TakesOver::Batches), Just(TakesOver::Dataset),]
}

fn world(takes_over: TakesOver) -> World {
    World { takes_over, ..World::of(intent()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_a_run_that_takes_over_an_earlier_ones_work_each_batch_counts_once_and_a_quiet_time_ends_in_a_model(
        takes_over in takes_over(),
        happenings in proptest::collection::vec(happening(), 1..240),
    ) {
        let mut world = world(takes_over);
        for happening in happenings {
            world.happens(happening);
            world.assert_invariants();
        }
        world.calms_down();
        let folded = world.object.record.generation.unwrap().folded;
        let undisturbed = takes_over.batches_in_the_end();
        prop_assert!(world.was_held || folded.through == undisturbed, "{} batches, and {undisturbed} undisturbed", folded.through);
    }
}

#[test]
fn what_is_taken_over_is_not_made_again() {
    for (takes_over, made) in [
        (
            TakesOver::Snapshot,
            &[
                "billing-1",
                "billing-2",
                "billing-3",
                "billing-3f2c9-d1",
                "billing-3f2c9-g1",
                "billing-3f2c9-s1",
                "billing-3f2c9-t1",
                "billing-4",
            ][..],
        ),
        (
            TakesOver::Batches(2),
            &[
                "billing-3",
                "billing-3f2c9-d1",
                "billing-3f2c9-g1",
                "billing-3f2c9-s1",
                "billing-3f2c9-t1",
                "billing-3f2c9-v1",
                "billing-4",
            ],
        ),
        (
            TakesOver::Batches(3),
            &["billing-3f2c9-d1", "billing-3f2c9-g1", "billing-3f2c9-s1", "billing-3f2c9-t1", "billing-3f2c9-v1"],
        ),
        (TakesOver::Dataset, &["billing-3f2c9-s1", "billing-3f2c9-t1"]),
    ] {
        let mut world = world(takes_over);
        world.calms_down();
        assert_eq!(world.made.keys().map(AsRef::as_ref).collect::<Vec<&str>>(), made, "{takes_over:?}");
        world.happens(Happening::Vanishes);
        assert!(world.made.values().all(|times| *times == 1), "{:?}", world.made);
    }
}
