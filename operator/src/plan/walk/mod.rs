//! Random walks through everything that can happen to a batch or a run in any order: two leaders with caches that are behind, crashes between any two
//! steps, Jobs and batches that end, hang, vanish or lose their last words, and an owner who changes their mind. After every step the invariants must
//! hold; and from wherever a walk ends, a quiet time must lead to the end of what is asked for.

mod acting;
mod adoption;
mod children;
mod deletion;
mod happening;
mod invariants;
mod means;
mod quiet;
mod recreation;
mod world;

use proptest::prelude::*;

use self::{
    happening::{Happening, happening, happening_to_a_student, happening_to_a_training},
    world::World,
};
use super::{
    EvaluationWork, Intent, LINGERING, Work,
    conditions::ConditionType,
    record::Record,
    tests::{batch_intent, intent},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_a_batch_one_job_is_at_work_and_a_quiet_time_ends_in_verdicts(
        happenings in proptest::collection::vec(happening(), 1..160)
    ) {
        let mut world = World::of(batch_intent());
        for happening in happenings {
            world.happens(happening);
            world.assert_invariants();
        }
        world.calms_down();
    }

    #[test]
    fn whatever_happens_to_batches_each_counts_once_and_a_quiet_time_ends_in_a_model(
        happenings in proptest::collection::vec(happening(), 1..120),
        deleted_at_last in 0..4_usize,
    ) {
        let mut world = World::of(intent());
        world.calms_down_until(has_batches);
        for happening in happenings.into_iter().chain([Happening::BatchIsDeleted(deleted_at_last), Happening::Vanishes]) {
            world.happens(happening);
            world.assert_invariants();
        }
        world.calms_down();
        let folded = world.object.record.generation.unwrap().folded;
        prop_assert!(world.was_held || folded.through == 4, "another number of batches than undisturbed: {}", folded.through);
    }

    #[test]
    fn whatever_happens_to_a_training_one_gang_is_at_work_and_a_quiet_time_ends_in_a_model(
        happenings in proptest::collection::vec(happening_to_a_training(), 1..320)
    ) {
        let mut world = World::of(intent());
        world.calms_down_until(|record| record.dataset.is_some());
        for happening in happenings {
            world.happens(happening);
            world.assert_invariants();
        }
        world.calms_down();
    }

    #[test]
    fn whatever_happens_to_an_evaluation_one_job_is_at_work_and_a_quiet_time_ends_in_a_report(
        happenings in proptest::collection::vec(happening(), 1..240)
    ) {
        let mut world = World::of(compared());
        world.calms_down_until(|record| record.model.is_some());
        for happening in happenings {
            world.happens(happening);
            world.assert_invariants();
        }
        world.calms_down();
        let record = &world.object.record;
        prop_assert!(record.conditions.holds(ConditionType::Evaluated) && record.report.is_some());
    }

    #[test]
    fn whatever_happens_to_a_student_it_is_served_in_the_end_where_that_is_wanted(
        happenings in proptest::collection::vec(happening_to_a_student(), 1..240)
    ) {
        let mut world = World::of(intent());
        world.calms_down();
        for happening in happenings {
            world.happens(happening);
            world.assert_invariants();
        }
        world.calms_down_until(|_| true);
        let generation = Some(world.object.generation);
        world.calms_down_until(|record| {
            record.conditions.holds(ConditionType::Ready) && record.observed_generation == generation
        });
        let wanted = matches!(&world.object.intent.work, Some(Work::Run(work)) if work.serving.is_some());
        prop_assert_eq!(world.object.record.conditions.holds(ConditionType::Serving), wanted);
    }

    #[test]
    fn whatever_happens_to_a_run_every_batch_counts_once_and_a_quiet_time_ends_in_a_model(
        happenings in proptest::collection::vec(happening(), 1..240)
    ) {
        let mut world = World::of(intent());
        for happening in happenings {
            world.happens(happening);
            world.assert_invariants();
        }
        world.calms_down();
        let folded = world.object.record.generation.unwrap().folded;
        prop_assert!(world.was_held || folded.through == 4, "another number of batches than undisturbed: {}", folded.through);
    }
}

/// Whether the first batch has been made.
fn has_batches(record: &Record) -> bool {
    record
        .generation
        .as_ref()
        .and_then(|generation| generation.batches.first())
        .is_some_and(|batch| batch.uid.is_some())
}

/// A run whose student is to be compared.
fn compared() -> Intent {
    let mut intent = intent();
    if let Some(Work::Run(work)) = &mut intent.work {
        work.evaluation = Some(EvaluationWork { unsupported: None });
    }
    intent
}

#[test]
fn an_evaluation_that_nothing_disturbs_takes_one_job_and_leaves_no_teacher() {
    let mut world = World::of(compared());
    world.calms_down();
    assert_eq!(world.made["billing-3f2c9-e1"], 1);
    assert_eq!((world.made.len(), world.now), (9, 0), "{:?}", world.made);
    world.calms_down_until(|_| true);
    world.happens(Happening::Vanishes);
    assert!(world.children.teacher.is_none(), "nobody asks it any more");
}

#[test]
fn a_batch_that_is_deleted_is_made_again_when_its_pods_are_gone_though_nobody_hears_of_that() {
    let mut world = World::of(intent());
    world.calms_down_until(has_batches);
    for happening in [Happening::BatchIsDeleted(0), Happening::Vanishes] {
        world.happens(happening);
    }
    world.calms_down();
    assert_eq!(world.made["billing-1"], 2);
    assert_eq!(world.now, LINGERING.as_secs());
}

#[test]
fn what_nothing_disturbs_takes_one_attempt_a_stage_and_no_clock() {
    let mut batch = World::of(batch_intent());
    batch.calms_down();
    assert_eq!(batch.made.values().copied().collect::<Vec<_>>(), [1; 3], "snapshot, rollouts, verification");
    let mut run = World::of(intent());
    run.calms_down();
    let made: Vec<&str> = run.made.keys().map(AsRef::as_ref).collect();
    assert_eq!(
        made,
        [
            "billing-1",
            "billing-2",
            "billing-3",
            "billing-3f2c9-d1",
            "billing-3f2c9-g1",
            "billing-3f2c9-s1",
            "billing-3f2c9-t1",
            "billing-4"
        ]
    );
    assert!(run.made.values().all(|times| *times == 1), "{:?}", run.made);
    assert_eq!((batch.now, run.now), (0, 0));
}
