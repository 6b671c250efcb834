//! How attempts of a stage go when nothing is wrong with what its owner asked for: written down, made once, followed, succeeded, lost, cleared away.

use super::*;

#[test]
fn at_first_sight_status_speaks_at_once_and_the_defaults_are_fixed() {
    let mut scene = Scene::new();
    scene.observed.intent = None;
    let plan = scene.plan();
    assert_eq!(plan.make, [Make::Defaults]);
    assert_eq!((plan.record.phase, plan.record.observed_generation), (Some(Phase::Pending), Some(1)));
    assert_eq!(plan.record.conditions.get(ConditionType::Ready).unwrap().truth, Truth::False);
    assert!(plan.record.conditions.holds(ConditionType::Reconciling), "an object without it reads as done");
    assert_eq!(plan.record.conditions.get(ConditionType::Validated).unwrap().truth, Truth::Unknown);
}

#[test]
fn defaults_that_cannot_be_read_stall_in_words_and_are_not_fixed_anew() {
    let mut scene = Scene::new();
    scene.observed.intent = None;
    scene.observed.defaults_problem = Some("the ConfigMap holds no defaults".into());
    let plan = scene.plan();
    assert_eq!((plan.make.len(), reason_of(&plan, ConditionType::Stalled)), (0, Some("DefaultsInvalid")));
}

#[test]
fn an_attempt_is_written_down_one_pass_before_its_job_is_made() {
    let mut scene = Scene::new();
    let first = scene.pass();
    assert_eq!(first.make, []);
    assert_eq!(attempt_of(&first), (1, None));
    assert!(first.record.locked.contains(&Stage::Snapshot), "the stage locks before it starts");
    let second = scene.pass();
    assert_eq!(second.make, [THE_JOB]);
    assert_eq!(second.record.attempts[&Stage::Snapshot].job, Some(Uid::from("job-1")));
}

#[test]
fn what_a_retry_unlocks_of_a_training_is_remembered_by_the_attempt_that_comes_next() {
    let mut scene = training::at_work();
    let since = |plan: &Plan| plan.record.training.as_ref().unwrap().since_attempt;
    scene.edit(|intent| intent.suspend = true);
    scene.pass();
    scene.have_nothing();
    assert_eq!(since(&scene.pass()), None);
    scene.edit(|intent| intent.retry = "again".into());
    let unlocked = scene.pass();
    assert_eq!((unlocked.record.locked.contains(&Stage::Training), since(&unlocked)), (false, Some(2)));
    scene.edit(|intent| intent.suspend = false);
    for attempt in 2..=3 {
        let begun = scene.pass();
        assert_eq!((begun.record.attempts[&Stage::Training].number, since(&begun)), (attempt, Some(2)));
        scene.pass();
        scene.have(ended(training::gang(attempt), Some("BackoffLimitExceeded")), Vec::new());
        scene.pass();
        scene.have_nothing();
        scene.now += SignedDuration::from_mins(5);
    }
}

#[test]
fn a_job_that_is_there_is_not_made_again() {
    let mut scene = Scene::with_job_made();
    let plan = scene.pass();
    assert_eq!((plan.make.len(), plan.remove.len()), (0, 0));
    assert_eq!(plan.record.phase, Some(Phase::Running));
    let again = scene.plan();
    assert_eq!(again.record, plan.record, "a pass that finds nothing new says nothing new");
}

#[test]
fn a_job_made_by_a_leader_that_died_is_taken_up_and_written_down() {
    let mut scene = Scene::new();
    scene.pass();
    scene.have(job(1), Vec::new());
    let plan = scene.pass();
    assert_eq!((plan.make.len(), &plan.record.attempts[&Stage::Snapshot].job), (0, &Some(Uid::from("job-1"))));
    scene.have_nothing();
    assert_eq!(attempt_of(&scene.pass()), (1, Some(&AttemptOutcome::Lost)), "it is not made a second time");
}

#[test]
fn a_snapshot_of_one_commit_is_told_as_one() {
    let mut scene = Scene::with_job_made();
    let mut told = success();
    let sera_crds::contract::Outcome::Succeeded(StageResult::Snapshot { commits, .. }) = &mut told.outcome else {
        panic!("{told:?}")
    };
    *commits = 1;
    scene.have(ended(job(1), None), vec![pod(PodPhase::Succeeded, Some(&told))]);
    let plan = scene.pass();
    assert_eq!(message_of(&plan, ConditionType::Snapshotted), "the commit c0ffee00 is in the store");
}

#[test]
fn a_success_is_recorded_once_with_its_artifact_and_the_run_says_what_comes_next() {
    let mut scene = Scene::with_job_made();
    scene.now = at(9);
    scene.have(ended(job(1), None), vec![pod(PodPhase::Succeeded, Some(&success()))]);
    let plan = scene.pass();
    let snapshot = plan.record.snapshot.as_ref().unwrap();
    assert_eq!(snapshot.uri, "s3://acme/sera/ml/billing/3f2c9a10-0000/snapshot/manifest.json");
    assert_eq!((snapshot.commit.as_str(), snapshot.commits), ("c0ffee00", 5));
    assert!(plan.record.conditions.holds(ConditionType::Snapshotted));
    assert!(plan.record.locked.contains(&Stage::Snapshot), "what a snapshot was made of stays locked");
    assert_eq!(reason_of(&plan, ConditionType::Reconciling), Some("Progressing"), "and on it goes");
    assert_eq!(plan.record.images["snapshot"], "registry.example/rollout@sha256:77");
    assert_eq!(plan.record.times[&Stage::Snapshot].ended, Some(at(9)));
    assert_eq!(scene.pass().record.snapshot, plan.record.snapshot);
}

#[test]
fn a_finished_job_stays_for_its_time_and_goes_only_after_its_end_was_read_back() {
    let mut scene = Scene::with_job_made();
    scene.intent().keep_succeeded = SignedDuration::ZERO;
    scene.have(ended(job(1), None), vec![pod(PodPhase::Succeeded, Some(&success()))]);
    assert_eq!(scene.pass().remove, [], "the status that says so is not written yet");
    assert_eq!(scene.pass().remove.len(), 1);
    scene.intent().keep_succeeded = SignedDuration::from_mins(1);
    let plan = scene.pass();
    assert_eq!((plan.remove.len(), plan.look_again), (0, Some(at(60))));
}

#[test]
fn a_lost_message_costs_an_attempt_and_nothing_else() {
    let mut scene = Scene::with_job_made();
    scene.have(ended(job(1), None), vec![pod(PodPhase::Succeeded, None)]);
    let plan = scene.pass();
    assert_eq!(attempt_of(&plan), (1, Some(&AttemptOutcome::Lost)));
    assert_eq!(plan.look_again, Some(at(10)));
    scene.now = at(10);
    assert_eq!(attempt_of(&scene.pass()), (2, None));
}

#[test]
fn a_job_that_somebody_deleted_is_replaced_by_another_attempt() {
    let mut scene = Scene::with_job_made();
    scene.have_nothing();
    assert_eq!(attempt_of(&scene.pass()), (1, Some(&AttemptOutcome::Lost)));
}

#[test]
fn jobs_of_earlier_attempts_go_once_the_next_is_written_down() {
    let mut scene = Scene::with_job_made();
    let said = Termination::failed(failure(FailureClass::Unavailable));
    scene.have(ended(job(1), Some("FailedIndexes")), vec![pod(PodPhase::Failed, Some(&said))]);
    assert_eq!(scene.pass().remove, [], "its log is worth reading until then");
    scene.now = at(10);
    assert_eq!(scene.pass().remove, []);
    assert_eq!(scene.pass().remove.len(), 1);
}

#[test]
fn a_name_that_another_object_uses_stalls_and_is_never_adopted() {
    let mut scene = Scene::new();
    scene.pass();
    let taken = Made::NameTaken { kind: "Job", name: "billing-3f2c9-s1".into() };
    let plan = settle(scene.plan(), vec![taken], &scene.observed, scene.now);
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("NameConflict"));
    assert_eq!(plan.record.attempts[&Stage::Snapshot].job, None);
    assert_eq!(plan.look_again, Some(at(30)));
    scene.observed.record = plan.record;
    let freed = scene.pass();
    assert_eq!((freed.make.as_slice(), freed.record.phase), (&[THE_JOB][..], Some(Phase::Running)));
}

#[test]
fn a_job_that_waits_for_what_a_deleted_namesake_left_says_so_and_what_ends_it_and_is_soon_made() {
    let mut scene = Scene::new();
    scene.pass();
    let awaits = || vec![Made::Awaits { stage: Stage::Snapshot, child: "pod billing-77aa1-s1-0-x2x4z".into() }];
    for _ in 0..2 {
        let plan = settle(scene.plan(), awaits(), &scene.observed, scene.now);
        for condition in [ConditionType::Reconciling, ConditionType::Ready, ConditionType::Snapshotted] {
            assert_eq!(reason_of(&plan, condition), Some("Waiting"));
            let said = message_of(&plan, condition);
            assert!(said.starts_with("pod billing-77aa1-s1-0-x2x4z of a deleted batch"), "{said}");
            assert!(said.contains("node.kubernetes.io/out-of-service"), "{said}");
        }
        assert_eq!((attempt_of(&plan), plan.look_again), ((1, None), Some(at(5))));
        scene.observed.record = plan.record;
    }
    let freed = scene.pass();
    assert_eq!(
        (freed.make.as_slice(), reason_of(&freed, ConditionType::Reconciling)),
        (&[THE_JOB][..], Some("Progressing"))
    );
}

#[test]
fn a_job_that_the_api_server_refuses_ends_the_attempt_with_its_words() {
    let mut scene = Scene::new();
    scene.pass();
    let refused = Made::JobRefused { stage: Stage::Snapshot, failure: failure(FailureClass::Configuration) };
    let plan = settle(scene.plan(), vec![refused], &scene.observed, scene.now);
    assert_eq!((plan.record.phase, attempt_of(&plan).0), (Some(Phase::Stalled), 1));
    assert!(attempt_of(&plan).1.is_some());
}
