//! What a failed attempt leads to: whose turn it is, what is said, and when the next one begins.

use super::{
    training::{at_work, gang, rank},
    *,
};

#[test]
fn the_owners_mistake_stalls_and_names_the_field_and_unlocks_it() {
    let mut scene = Scene::with_job_made();
    let said = Termination::failed(failure(FailureClass::Configuration));
    scene.have(ended(job(1), Some("PodFailurePolicy")), vec![pod(PodPhase::Failed, Some(&said))]);
    let plan = scene.pass();
    assert_eq!(plan.record.phase, Some(Phase::Stalled));
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("BecauseConfiguration"));
    assert!(message_of(&plan, ConditionType::Stalled).starts_with("spec.source.git.revision: no branch"));
    assert_eq!(plan.record.conditions.get(ConditionType::Validated).unwrap().truth, Truth::False);
    assert!(plan.record.locked.is_empty(), "or else nobody could put the field right");
    assert_eq!(plan.record.failures.len(), 1);
    assert_eq!(plan.look_again, Some(at(10)), "a Secret may be repaired without anybody telling us");
}

#[test]
fn what_cannot_be_reached_is_tried_again_and_stalls_nobody() {
    let mut scene = Scene::with_job_made();
    let said = Termination::failed(failure(FailureClass::Unavailable));
    scene.have(ended(job(1), Some("FailedIndexes")), vec![pod(PodPhase::Failed, Some(&said))]);
    let plan = scene.pass();
    assert_eq!(plan.record.phase, Some(Phase::Running));
    assert_eq!(reason_of(&plan, ConditionType::Reconciling), Some("BackingOff"));
    assert!(plan.record.conditions.get(ConditionType::Stalled).is_none());
    assert_eq!(plan.record.conditions.get(ConditionType::Validated).unwrap().truth, Truth::True);
    scene.now = at(9);
    assert_eq!(attempt_of(&scene.pass()).0, 1);
    scene.now = at(10);
    assert_eq!(attempt_of(&scene.pass()).0, 2);
}

#[test]
fn a_stalled_run_does_not_flap_while_the_operator_tries_again_by_itself() {
    let mut scene = Scene::with_job_made();
    let said = Termination::failed(failure(FailureClass::Configuration));
    scene.have(ended(job(1), Some("PodFailurePolicy")), vec![pod(PodPhase::Failed, Some(&said))]);
    scene.pass();
    scene.now = at(10);
    assert_eq!(attempt_of(&scene.pass()), (2, None));
    let trying = scene.pass();
    assert_eq!(trying.make.len(), 1);
    assert_eq!(trying.record.phase, Some(Phase::Stalled));
    assert_eq!(trying.record.conditions.get(ConditionType::Validated).unwrap().truth, Truth::False);
    let success = PodFacts { job: "job-2".into(), ..pod(PodPhase::Succeeded, Some(&success())) };
    scene.have(ended(job(2), None), vec![success]);
    let done = scene.pass();
    assert_eq!(done.record.conditions.get(ConditionType::Validated).unwrap().truth, Truth::True);
    assert!(done.record.snapshot.is_some());
}

#[test]
fn a_changed_spec_or_token_ends_the_wait_and_the_stall_at_once() {
    for change in [|intent: &mut Intent| intent.retry = "again".into(), |intent: &mut Intent| intent.teacher = None] {
        let mut scene = Scene::with_job_made();
        let said = Termination::failed(failure(FailureClass::Configuration));
        scene.have(ended(job(1), Some("PodFailurePolicy")), vec![pod(PodPhase::Failed, Some(&said))]);
        scene.pass();
        scene.edit(change);
        let plan = scene.pass();
        assert_eq!(attempt_of(&plan), (2, None));
        assert_eq!(plan.record.phase, Some(Phase::Running), "its owner has acted: no longer stalled");
        assert_eq!(plan.record.retry, scene.observed.intent.as_ref().unwrap().retry);
        assert!(plan.record.locked.contains(&Stage::Snapshot));
    }
}

#[test]
fn a_failed_pod_is_named_while_kubernetes_tries_again() {
    let mut scene = Scene::with_job_made();
    let said = Termination::failed(failure(FailureClass::Unavailable));
    scene.have(job(1), vec![pod(PodPhase::Failed, Some(&said))]);
    let plan = scene.pass();
    assert_eq!(
        (attempt_of(&plan), reason_of(&plan, ConditionType::Reconciling)),
        ((1, None), Some("BecauseUnavailable"))
    );
}

#[test]
fn a_job_that_waits_for_its_next_pod_goes_where_the_namespace_does_and_is_left_alone_where_it_stays() {
    let mut scene = Scene::with_job_made();
    let said = Termination::failed(failure(FailureClass::Unavailable));
    let waiting = || JobFacts { active: 0, ready: 0, ..job(1) };
    scene.have(waiting(), vec![pod(PodPhase::Failed, Some(&said))]);
    let plan = scene.pass();
    assert_eq!((plan.remove.as_slice(), plan.look_again), (&[][..], Some(at(30))));

    let going =
        |scene: &mut Scene| scene.observed.evidence.get_mut(&Stage::Snapshot).unwrap().namespace_is_going = true;
    going(&mut scene);
    let plan = scene.pass();
    assert_eq!(plan.remove.iter().map(|removal| removal.kind).collect::<Vec<_>>(), [Removable::Job]);
    assert_eq!(reason_of(&plan, ConditionType::Reconciling), Some("NamespaceTerminating"));

    scene.have(JobFacts { active: 1, ..waiting() }, vec![pod(PodPhase::Failed, Some(&said))]);
    going(&mut scene);
    assert_eq!(scene.pass().remove, [], "another pod is at work");
}

#[test]
fn a_training_that_was_stalled_and_gets_on_is_stalled_no_more_and_tells_how_far_it_is() {
    let mut scene = at_work();
    let said = Termination::failed(failure(FailureClass::Configuration));
    scene.have(ended(gang(1), Some("BackoffLimitExceeded")), vec![rank(0, PodPhase::Failed, Some(10), Some(&said))]);
    assert_eq!(scene.pass().record.phase, Some(Phase::Stalled));
    scene.have_nothing();
    scene.now += SignedDuration::from_secs(10);
    scene.pass();
    scene.pass();
    scene.have(gang(2), Vec::new());
    let live = LiveTraining { step: 48, total_steps: 96, ..LiveTraining::default() };
    scene.observed.live = Some(Live::Training(live));
    let plan = scene.pass();
    assert_eq!(plan.record.phase, Some(Phase::Stalled), "it has found a checkpoint, and may fail as before");
    assert_eq!(plan.record.conditions.get(ConditionType::Validated).unwrap().truth, Truth::False);
    scene.observed.live = Some(Live::Training(LiveTraining { step: 49, eta: Some(at(900)), ..live }));
    let plan = scene.pass();
    assert_eq!(
        (plan.record.phase, reason_of(&plan, ConditionType::Ready)),
        (Some(Phase::Running), Some("Progressing"))
    );
    assert!(message_of(&plan, ConditionType::Trained).ends_with("at work: step 49 of 96"));
    assert_eq!(plan.record.conditions.get(ConditionType::Validated).unwrap().truth, Truth::True);
    scene.observed.live = None;
    assert_eq!(scene.pass().record.phase, Some(Phase::Running), "and stays so, though nobody is heard for a moment");
}

#[test]
fn a_batch_that_was_stalled_is_so_no_more_once_its_drivers_get_on() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.pass();
    let said = Termination::failed(failure(FailureClass::Configuration));
    scene.have(ended(job_of(Stage::Rollouts, 1), Some("PodFailurePolicy")), vec![pod(PodPhase::Failed, Some(&said))]);
    assert_eq!(scene.pass().record.phase, Some(Phase::Stalled));
    scene.have_nothing();
    scene.now = at(10);
    scene.pass();
    scene.pass();
    scene.have(job_of(Stage::Rollouts, 2), Vec::new());
    for (gets_on, phase) in [(false, Phase::Stalled), (true, Phase::Running), (false, Phase::Running)] {
        let live = LiveRollouts { samples: 5, done: 4, tokens: 9_000, silence: None, gets_on };
        scene.observed.live = Some(Live::Rollouts(live));
        assert_eq!(scene.pass().record.phase, Some(phase), "by {live:?}");
    }
}
