//! Walks in which an object is deleted and made again by the same name, while what the first one left behind is still there: it has children of its own
//! or none, and never those of the first.

use proptest::prelude::*;

use super::{
    children::Children,
    happening::{Happening, happening_to_the_end},
    world::{Object, World},
};
use crate::plan::{
    Reclaim,
    record::Record,
    settle::Made,
    tests::{batch_intent, intent, owner},
};

impl World {
    /// A new object by the name of one that is gone. Garbage collection takes the first one's children in its own time.
    pub(super) fn is_recreated(&mut self) {
        if !self.deletion.is_over || self.deletion.namespace_is_going {
            return;
        }
        let left = std::mem::take(&mut self.children);
        self.left.take_over(left, self.object.incarnation);
        let Object { version, incarnation, intent, reclaim, .. } = self.object.clone();
        self.object = Object {
            version: version + 1,
            incarnation: incarnation + 1,
            generation: 1,
            intent,
            record: Record::default(),
            deleting: false,
            reclaim: Reclaim { held: false, collected: false, ..reclaim },
        };
        (self.made, self.deletion, self.live, self.failed) = Default::default();
    }

    /// What comes of making a batch whose name something has that was left; none where nothing has.
    pub(super) fn name_is_taken(&self, number: u32) -> Option<Taken> {
        let name = owner().batch_name(number);
        let left = self.left.batches.get(name.as_str())?;
        Some(if left.deleting { Taken::Leaving } else { Taken::Named(Made::NameTaken { kind: "RolloutBatch", name }) })
    }
}

/// How a name is taken.
pub(super) enum Taken {
    /// By what is going away: the pass is made again.
    Leaving,
    /// By what stays.
    Named(Made),
}

impl Children {
    /// Takes what another has beside what it has itself. Names of Jobs have their owner's uid in them, so that those of two owners differ.
    fn take_over(&mut self, other: Self, incarnation: u32) {
        let jobs = other.jobs.into_iter();
        self.jobs.extend(jobs.map(|(name, job)| (format!("{name} of {incarnation}").into(), job)));
        self.batches.extend(other.batches);
        self.lingering.extend(other.lingering);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_an_object_left_behind_another_by_its_name_comes_to_its_own_end(
        is_batch in any::<bool>(),
        before in proptest::collection::vec(happening_to_the_end(), 1..160),
        after in proptest::collection::vec(happening_to_another(), 1..160),
    ) {
        let mut world = World::of(if is_batch { batch_intent() } else { intent() });
        for happening in before {
            world.happens(happening);
            world.assert_invariants();
        }
        world.happens(Happening::IsToGo { collected: false });
        // What nobody holds is gone at once, and leaves its children at work.
        world.stays_quiet_until(|_| false);
        prop_assert!(world.deletion.is_over);
        world.happens(Happening::IsRecreated);
        for happening in after {
            world.happens(happening);
            world.assert_invariants();
        }
        world.happens(Happening::IsRecreated);
        if !world.object.deleting {
            world.calms_down();
            let folded = world.object.record.generation.as_ref().map(|known| known.folded.through);
            prop_assert!(is_batch || world.was_held || folded == Some(4), "{folded:?}");
        }
    }
}

/// What happens to an object that may be deleted and made again.
fn happening_to_another() -> impl Strategy<Value = Happening> {
    prop_oneof![
        40 => happening_to_the_end(),
        1 => Just(Happening::IsRecreated),
        2 => Just(Happening::WhatIsLeftGoes),
    ]
}

#[test]
fn a_run_that_is_made_again_makes_batches_by_the_same_names_once_the_first_ones_are_gone() {
    let mut world = World::of(intent());
    world.calms_down_until(super::has_batches);
    world.happens(Happening::IsToGo { collected: false });
    assert!(world.deletion.is_over && !world.children.batches.is_empty());
    world.happens(Happening::IsRecreated);
    world.calms_down();
    assert_eq!(world.made["billing-1"], 1, "its own");
    assert!(world.left.batches.is_empty(), "the first one's");
}
