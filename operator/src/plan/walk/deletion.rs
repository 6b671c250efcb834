//! Walks that end with the object: deleted at any moment, with its data or without, by itself or with its namespace. What was written goes before the
//! object does, where that is wanted, and nothing writes to what is being deleted.

use proptest::prelude::*;
use sera_crds::values::Stage;

use super::{
    happening::{Happening, happening_to_the_end},
    world::World,
};
use crate::plan::{
    Make, Reclaim,
    tests::{batch_intent, intent, owner},
};

/// How the deletion of a walk's object goes.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that hold in any combination")]
pub(super) struct Deletion {
    /// Whether there may be a file of the object in its store.
    has_data: bool,
    /// Whether the finalizer was there when the object was deleted, and was not let go since at its owner's wish: one that is wanted only then comes
    /// too late.
    was_held: bool,
    /// Whether nothing can be made any more.
    pub(super) namespace_is_going: bool,
    /// Whether the object is gone.
    pub(super) is_over: bool,
}

impl World {
    pub(super) fn is_to_go(&mut self, collected: bool) {
        if !self.object.deleting {
            self.object.deleting = true;
            self.deletion.was_held = self.object.reclaim.held;
            self.object.reclaim.collected = collected;
            self.edit(|_| {});
        }
        if collected {
            self.children.go();
        }
        self.may_be_over();
    }

    /// The garbage collector lets go of the object when the children are gone.
    pub(super) fn is_collected(&mut self) {
        let children = &self.children;
        let is_left = !children.jobs.is_empty()
            || !children.batches.is_empty()
            || children.teacher.is_some()
            || children.student.is_some();
        if !self.object.reclaim.collected {
            return;
        }
        if is_left {
            self.children.go();
            return;
        }
        self.object.reclaim.collected = false;
        self.object.version += 1;
        self.may_be_over();
    }

    pub(super) fn namespace_goes(&mut self) {
        self.deletion.namespace_is_going = true;
        self.is_to_go(false);
        self.children.go();
    }

    /// As `hold` does it: over the version that was planned by, or not at all.
    pub(super) fn holds(&mut self, version: u64, hold: bool) {
        if self.object.version == version {
            assert!(!hold || !self.object.deleting, "the API server adds no finalizer to what is being deleted");
            self.object.reclaim.held = hold;
            self.deletion.was_held &= hold || self.object.reclaim.wanted;
            self.object.version += 1;
            self.may_be_over();
        }
    }

    /// That nothing is made which its finalizer does not hold, and of a deleted object nothing but the end of its data.
    pub(super) fn assert_held(&mut self, make: &Make) {
        let Reclaim { wanted, held, .. } = self.object.reclaim;
        assert_eq!(wanted, held, "{make:?} is made, and the finalizer is another than is wanted");
        let is_reclaim = matches!(make, Make::Job { stage: Stage::Reclaim, .. });
        assert!(is_reclaim == self.object.deleting || *make == Make::Defaults, "{make:?} is made at the wrong time");
        self.deletion.has_data |= matches!(make, Make::Job { .. } | Make::Batch { .. }) && !is_reclaim;
    }

    /// What the Job at work has done, if it is the one and ends well.
    pub(super) fn may_have_erased(&mut self) {
        let at_work = self.children.at_work().find(|job| !job.deleting && !job.suspended);
        let stage = at_work.and_then(|job| owner().job_of(&job.name)).map(|(stage, _)| stage);
        self.deletion.has_data &= stage != Some(Stage::Reclaim);
    }

    fn may_be_over(&mut self) {
        let Reclaim { wanted, held, collected } = self.object.reclaim;
        let Deletion { has_data, was_held, namespace_is_going, .. } = self.deletion;
        self.deletion.is_over = self.object.deleting && !held && !collected;
        let is_missed = self.deletion.is_over && wanted && was_held && has_data && !namespace_is_going;
        assert!(!is_missed, "the object is gone, and its data is not");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_an_object_that_is_deleted_it_goes_and_its_data_before_it_where_that_is_wanted(
        is_batch in any::<bool>(),
        is_wanted in any::<bool>(),
        happenings in proptest::collection::vec(happening_to_the_end(), 1..240),
        with_its_namespace in any::<bool>(),
    ) {
        let mut world = World::of(if is_batch { batch_intent() } else { intent() });
        world.object.reclaim.wanted = is_wanted;
        for happening in happenings {
            world.happens(happening);
            world.assert_invariants();
        }
        world.happens(if with_its_namespace { Happening::NamespaceGoes } else { Happening::IsToGo { collected: false } });
        world.stays_quiet_until(|_| false);
        prop_assert!(world.deletion.is_over);
    }
}

#[test]
fn an_undisturbed_end_takes_one_job_and_no_clock() {
    let mut world = World::of(intent());
    world.object.reclaim.wanted = true;
    world.calms_down();
    world.happens(Happening::IsToGo { collected: true });
    world.stays_quiet_until(|_| false);
    assert!(!world.deletion.has_data);
    assert_eq!((world.made.get("billing-3f2c9-c1"), world.now), (Some(&1), 0));
}
