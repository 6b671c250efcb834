//! What becomes of the data of an object that is deleted: held from the first child on, deleted when nothing writes to it any more, or kept, and why.

use super::*;
use crate::plan::events;

const THE_RECLAIM: Make = Make::Job { stage: Stage::Reclaim, attempt: 1 };

/// A run whose data shall go with it, whose Job for the snapshot was made, and which is being deleted.
fn going() -> Scene {
    let mut scene = Scene::new();
    scene.observed.reclaim = Reclaim { wanted: true, held: true, collected: false };
    scene.pass();
    scene.pass();
    scene.have(job(1), Vec::new());
    delete(&mut scene);
    scene
}

fn delete(scene: &mut Scene) {
    scene.observed.deleting = true;
    scene.observed.generation += 1;
}

/// One whose children are gone, and whose Job that deletes the data was made.
fn reclaiming() -> Scene {
    let mut scene = going();
    scene.have_nothing();
    scene.pass();
    scene.pass();
    scene.have(job_of(Stage::Reclaim, 1), Vec::new());
    scene
}

fn fails(scene: &mut Scene, failure: Failure) -> Plan {
    let number = scene.observed.record.attempts[&Stage::Reclaim].number;
    let words = Termination::failed(failure);
    scene.have(
        ended(job_of(Stage::Reclaim, number), Some("PodFailurePolicy")),
        vec![pod(PodPhase::Failed, Some(&words))],
    );
    scene.pass()
}

fn missing_secret() -> Failure {
    Failure {
        class: FailureClass::Configuration,
        reason: "StoreCredentialsMissing".into(),
        field: Some("spec.output.credentialsSecretRef".into()),
        message: "there is no key".into(),
    }
}

fn reasons(before: &Record, after: &Plan) -> Vec<&'static str> {
    events::between(before, &after.record).into_iter().map(|note| note.reason).collect()
}

#[test]
fn the_finalizer_is_there_before_anything_is_made_and_goes_when_the_data_shall_stay() {
    let mut scene = Scene::new();
    scene.observed.intent = None;
    scene.observed.reclaim.wanted = true;
    let first = scene.plan();
    assert!(first.hold && first.make.is_empty() && first.record == Record::default(), "{first:?}");
    scene.pass();
    let next = scene.pass();
    assert!(next.hold && next.make == [Make::Defaults], "{next:?}");
    scene.observed.reclaim.wanted = false;
    assert!(!scene.pass().hold);
    assert!(!scene.observed.reclaim.held && !scene.pass().hold);
}

#[test]
fn what_was_never_begun_leaves_nothing_and_goes_at_once() {
    let mut scene = Scene::new();
    scene.intent().suspend = true;
    scene.observed.reclaim = Reclaim { wanted: true, held: true, collected: false };
    scene.pass();
    delete(&mut scene);
    let plan = scene.plan();
    assert!(!plan.hold && plan.make.is_empty() && plan.record == scene.observed.record);
}

#[test]
fn all_that_may_write_is_gone_before_the_data_is_deleted_and_the_data_before_the_object() {
    let mut scene = going();
    scene.observed.teacher = Some(Arc::new(teacher(1)));
    scene.observed.student = Some(Arc::new(student(1)));
    scene.see(child(1));
    let stopping = scene.pass();
    let kinds: Vec<Removable> = stopping.remove.iter().map(|removal| removal.kind).collect();
    assert_eq!(kinds, [Removable::Job, Removable::Batch, Removable::Teacher, Removable::Student]);
    assert_eq!(reason_of(&stopping, ConditionType::Reclaimed), Some("Waiting"));

    scene.have(JobFacts { deleting: true, ..job(1) }, Vec::new());
    scene.see(BatchFacts { deleting: true, ..child(1) });
    (scene.observed.teacher, scene.observed.student) = (None, None);
    let waiting = scene.pass();
    assert!(waiting.remove.is_empty() && waiting.make.is_empty(), "{waiting:?}");
    scene.have_nothing();
    assert!(scene.pass().make.is_empty(), "the batch is still going");
    scene.observed.batches.clear();
    scene.observed.lingering = vec!["batch-1".into()];
    let lingering = scene.pass();
    assert!(lingering.make.is_empty() && lingering.look_again.is_some(), "its pods are at work");
    scene.observed.lingering.clear();

    let before = scene.observed.record.clone();
    let noted = scene.pass();
    assert!(noted.make.is_empty() && noted.record.attempts[&Stage::Reclaim].number == 1, "intent first");
    assert_eq!(reasons(&before, &noted), ["ReclaimStarted"]);
    assert_eq!(scene.pass().make, [THE_RECLAIM]);
    let before = scene.observed.record.clone();
    scene.have(ended(job_of(Stage::Reclaim, 1), None), vec![pod(PodPhase::Succeeded, Some(&erased()))]);
    let done = scene.pass();
    assert!(done.hold && done.record.conditions.holds(ConditionType::Reclaimed), "not before it is written down");
    assert_eq!(reasons(&before, &done), ["ReclaimSucceeded"]);
    assert!(message_of(&done, ConditionType::Reclaimed).contains("7 files of 4242 bytes"));
    assert!(!scene.pass().hold);
}

#[test]
fn a_run_that_is_held_or_wrong_is_reclaimed_all_the_same() {
    let mut scene = going();
    scene.edit(|intent| {
        intent.suspend = true;
        intent.unsupported = Some("spec.serve: not yet".into());
        intent.findings = vec![Finding { field: "spec.serve.replicas".into(), message: "is wrong".into() }];
    });
    scene.have_nothing();
    scene.pass();
    assert_eq!(scene.pass().make, [THE_RECLAIM]);
    scene.have(job_of(Stage::Reclaim, 1), Vec::new());
    let working = scene.pass();
    assert!(working.remove.is_empty(), "{working:?}");
    assert_eq!(working.record.phase, Some(Phase::Running));
}

#[test]
fn a_missing_secret_is_said_tried_again_and_ended_by_keeping_the_data() {
    let mut scene = reclaiming();
    let before = scene.observed.record.clone();
    let failed = fails(&mut scene, missing_secret());
    assert_eq!(reason_of(&failed, ConditionType::Reclaimed), Some("StoreCredentialsMissing"));
    assert_eq!(reason_of(&failed, ConditionType::Stalled), Some("StoreCredentialsMissing"));
    assert!(message_of(&failed, ConditionType::Reclaimed).starts_with("spec.output.credentialsSecretRef: "));
    assert!(failed.hold && reasons(&before, &failed) == ["ReclaimFailed"]);
    scene.have_nothing();
    let waiting = scene.pass();
    assert_eq!((waiting.make.len(), waiting.look_again), (0, Some(at(10))));

    scene.edit(|intent| intent.retry = "again".into());
    assert_eq!(scene.pass().record.attempts[&Stage::Reclaim].number, 2);
    let made = scene.pass();
    assert_eq!(made.make, [Make::Job { stage: Stage::Reclaim, attempt: 2 }]);
    scene.observed.reclaim.wanted = false;
    let released = scene.pass();
    assert!(!released.hold && released.make.is_empty());
}

#[test]
fn an_attempt_that_never_starts_is_removed_before_the_next() {
    let mut scene = reclaiming();
    let unstarted = JobFacts { ready: 0, ..job_of(Stage::Reclaim, 1) };
    scene.have(unstarted, vec![pending("ImagePullBackOff", "no such image")]);
    scene.now = at(16 * 60);
    let over = scene.pass();
    assert_eq!(reason_of(&over, ConditionType::Reclaimed), Some("ImagePullBackOff"));
    scene.now = at(17 * 60);
    let removed = scene.pass();
    assert_eq!(removed.remove.iter().map(|removal| &*removal.name).collect::<Vec<_>>(), ["billing-3f2c9-c1"]);
    scene.have_nothing();
    assert_eq!(scene.pass().record.attempts[&Stage::Reclaim].number, 2);
}

#[test]
fn nothing_is_made_while_kubernetes_collects_the_children_since_it_would_take_that_too() {
    let mut scene = going();
    scene.observed.reclaim.collected = true;
    let plan = scene.pass();
    assert!(plan.hold && plan.make.is_empty() && plan.remove.is_empty());
    assert_eq!(reason_of(&plan, ConditionType::Reclaimed), Some("Waiting"));
    scene.observed.reclaim.collected = false;
    scene.have_nothing();
    scene.pass();
    assert_eq!(scene.pass().make, [THE_RECLAIM]);
}

#[test]
fn defaults_that_went_with_the_children_are_fixed_again_and_must_name_the_same_folder() {
    let mut scene = going();
    scene.have_nothing();
    let intent = scene.observed.intent.take();
    assert_eq!(scene.pass().make, [Make::Defaults]);
    scene.observed.defaults_problem = Some("no defaults of this release".into());
    assert_eq!(reason_of(&scene.pass(), ConditionType::Reclaimed), Some("DefaultsInvalid"));
    (scene.observed.intent, scene.observed.defaults_problem) = (intent, None);
    scene.intent().folder = "s3://elsewhere/ml/billing/3f2c9a10-0000".into();
    let misplaced = scene.pass();
    assert_eq!(reason_of(&misplaced, ConditionType::Stalled), Some("StoreConflict"));
    let said = message_of(&misplaced, ConditionType::Reclaimed);
    assert!(said.contains("s3://acme/sera/ml/billing/3f2c9a10-0000") && said.contains("s3://elsewhere/"), "{said}");
    assert!(!misplaced.record.attempts.contains_key(&Stage::Reclaim) && misplaced.look_again.is_some());
    scene.intent().folder = "s3://acme/sera/ml/billing/3f2c9a10-0000".into();
    assert_eq!(scene.pass().record.attempts[&Stage::Reclaim].number, 1);
}

#[test]
fn where_the_namespace_goes_too_the_data_is_kept_and_the_object_let_go() {
    let mut scene = going();
    scene.have_nothing();
    scene.pass();
    let before = scene.observed.record.clone();
    let plan = settle(scene.plan(), vec![Made::NamespaceGoing], &scene.observed, scene.now);
    assert_eq!(reason_of(&plan, ConditionType::Reclaimed), Some("NamespaceTerminating"));
    assert!(message_of(&plan, ConditionType::Reclaimed).contains("s3://acme/sera/ml/billing/3f2c9a10-0000"));
    assert!(plan.hold && plan.look_again == Some(scene.now) && reasons(&before, &plan) == ["DataKept"]);
    scene.observed.record = plan.record;
    assert!(!scene.plan().hold);
}

#[test]
fn a_namespace_that_goes_before_its_objects_is_no_failure_of_theirs() {
    let mut scene = Scene::new();
    scene.pass();
    let plan = settle(scene.plan(), vec![Made::NamespaceGoing], &scene.observed, scene.now);
    assert_eq!(reason_of(&plan, ConditionType::Reconciling), Some("NamespaceTerminating"));
    assert_eq!(attempt_of(&plan), (1, None));
    assert!(plan.look_again.is_some() && !plan.record.conditions.contains(ConditionType::Reclaimed));
}
