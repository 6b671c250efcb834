//! A run that takes over what an earlier one has: what of it is not done again, and what follows.

use super::*;

/// A run whose first Job has ended with these words, and the pass that heard of it.
fn after(words: &Termination) -> (Scene, Plan) {
    let mut scene = Scene::new();
    scene.pass();
    let heard = scene.work(Stage::Snapshot, words);
    scene.have_nothing();
    (scene, heard)
}

#[test]
fn an_adopted_snapshot_is_said_to_be_one_and_batches_follow() {
    let (mut scene, heard) = after(&adoption(None, None));
    assert_eq!(reason_of(&heard, ConditionType::Snapshotted), Some("Adopted"));
    assert_eq!(heard.record.snapshot.as_ref().map(|snapshot| &*snapshot.commit), Some("c0ffee00"));
    let next = scene.pass();
    assert!(next.make.contains(&Make::Teacher) && next.make.contains(&Make::Batch { number: 1, from: 0, count: 8 }));
}

#[test]
fn adopted_rollouts_are_verified_by_this_run_s_policy_before_anything_is_made_or_served() {
    let (mut scene, heard) = after(&adoption(Some(AdoptedRollouts { batches: 3, samples: 20 }), None));
    assert!(heard.record.locked.contains(&Stage::Generation));
    assert_eq!(heard.record.generation.as_ref().unwrap().totals.attempted, 20);
    let first = scene.pass();
    assert_eq!(first.make, [Make::Job { stage: Stage::Verification, attempt: 1 }], "no teacher, and no batch");

    // Not enough: the run goes on where the earlier one stopped.
    let made = Make::Job { stage: Stage::Verification, attempt: 1 };
    assert!(scene.plan().make.is_empty() || scene.plan().make == [made]);
    scene.have(
        ended(job_of(Stage::Verification, 1), None),
        vec![pod(PodPhase::Succeeded, Some(&verified(counts(4, 2))))],
    );
    scene.pass();
    scene.have_nothing();
    let next = scene.pass();
    assert!(next.make.contains(&Make::Batch { number: 4, from: 20, count: 8 }), "{:?}", next.make);
    assert!(next.make.contains(&Make::Teacher), "{:?}", next.make);
    let totals = &next.record.generation.as_ref().unwrap().totals;
    assert_eq!((totals.attempted, totals.accepted, totals.cost.clone(), totals.tokens), (20, 6, None, 0));
}

#[test]
fn adopted_rollouts_that_are_enough_become_a_dataset_without_a_teacher() {
    let (mut scene, _) = after(&adoption(Some(AdoptedRollouts { batches: 3, samples: 20 }), None));
    scene.work(Stage::Verification, &verified(VerificationCounts { attempted: 20, ..counts(10, 6) }));
    scene.have_nothing();
    let checked = scene.work(Stage::Generation, &dataset(10, 6, true, true));
    assert_eq!(reason_of(&checked, ConditionType::Generated), Some("Succeeded"));
    scene.have_nothing();
    let next = scene.pass();
    assert_eq!(next.make, [Make::Job { stage: Stage::Dataset, attempt: 1 }]);
}

#[test]
fn an_adopted_dataset_is_trained_on_at_once() {
    let (mut scene, heard) = after(&adoption(None, Some((10, 6))));
    for kind in [ConditionType::Snapshotted, ConditionType::Generated, ConditionType::DatasetBuilt] {
        assert_eq!(reason_of(&heard, kind), Some("Adopted"), "{kind:?}");
    }
    let locked = [Stage::Snapshot, Stage::Generation, Stage::Dataset];
    assert!(locked.iter().all(|stage| heard.record.locked.contains(stage)), "{:?}", heard.record.locked);
    assert_eq!(
        heard.record.dataset.as_ref().unwrap().uri,
        "s3://acme/sera/ml/billing/3f2c9a10-0000/dataset/manifest.json"
    );
    assert_eq!(heard.record.generation.as_ref().unwrap().totals.accepted, 16);
    let next = scene.pass();
    assert_eq!(next.make, [Make::Job { stage: Stage::Training, attempt: 1 }]);
}

#[test]
fn words_that_make_no_sense_adopt_nothing() {
    for words in [
        adoption(Some(AdoptedRollouts { batches: 0, samples: 0 }), None),
        adoption(Some(AdoptedRollouts { batches: 1, samples: 8 }), Some((1, 1))),
    ] {
        let (_, heard) = after(&words);
        assert_eq!(heard.record.snapshot, None);
        assert_eq!(heard.record.generation, None);
        assert!(matches!(attempt_of(&heard), (1, Some(AttemptOutcome::Failed(_)))), "{:?}", attempt_of(&heard));
    }
}
