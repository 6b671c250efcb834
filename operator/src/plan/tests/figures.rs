//! What status says in figures and names beside conditions: each has a value of its own, so that a swap shows.

use super::{generation::checked, *};

#[test]
fn status_says_where_an_object_works_whom_it_asks_and_when_its_stages_began_and_ended() {
    let mut scene = Scene::new();
    scene.now = at(3);
    scene.pass();
    scene.now = at(5);
    let plan = scene.work(Stage::Snapshot, &success());
    let record = &plan.record;
    assert_eq!(record.store.as_deref(), Some("s3://acme/sera/ml/billing/3f2c9a10-0000"));
    assert_eq!(record.teacher.as_deref(), Some("rehearsal"));
    let time = &record.times[&Stage::Snapshot];
    assert_eq!((time.began, time.ended), (at(3), Some(at(5))));
    let attempt = &record.attempts[&Stage::Snapshot];
    let end = attempt.end.as_ref().unwrap();
    assert_eq!((attempt.number, attempt.recorded, end.at), (1, at(3), at(5)));
    assert_eq!((attempt.edition.own, attempt.job.as_ref().map(Uid::as_str)), (1, Some("job-1")));
    let snapshot = record.snapshot.as_ref().unwrap();
    assert_eq!(snapshot.sha256.as_str(), "ab".repeat(32));
}

#[test]
fn what_a_dry_run_found_stands_in_status_with_what_it_looked_at() {
    let mut scene = checked();
    let plan = scene.work(Stage::Generation, &dataset(9, 6, false, true));
    let generation = plan.record.generation.unwrap();
    let found = generation.dry_run.unwrap();
    assert_eq!((found.inputs, found.through, found.complete), (digest('d'), 2, false));
    assert_eq!((found.accepted_first, found.accepted_second), (9, 6));
    assert_eq!((generation.max_samples, generation.folded.samples, generation.folded.adopted), (Some(40), 16, 0));
    assert_eq!(generation.folded.policy, Some(digest('1')));
}

#[test]
fn a_verification_says_what_was_asked_for_and_when_it_was_done() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.work(Stage::Rollouts, &success());
    scene.now = at(70);
    let plan = scene.work(Stage::Verification, &verified(counts(6, 4)));
    let said = plan.record.verification.unwrap();
    assert_eq!((said.measure, said.threshold.as_str(), said.finished), (Measure::Recall, "0.5", at(70)));
    assert_eq!((said.settings, said.policy.as_str()), (digest('1'), "77".repeat(32).as_str()));
}
