//! Serving the student: when it is made, changed and removed, and what is said of it.

use super::{
    training::{at_work, gang, rank},
    *,
};
use crate::facts::ServerFacts;

const SERVING: ConditionType = ConditionType::Serving;

/// A run that has its model and wants it served.
fn trained_run() -> Scene {
    let mut scene = at_work();
    scene.run().serving = Some(serving());
    let said = trained(96, 0.25);
    scene.have(ended(gang(1), None), vec![rank(0, PodPhase::Succeeded, Some(0), Some(&said))]);
    let plan = scene.pass();
    assert!(plan.record.model.is_some() && !plan.make.contains(&Make::Student), "the word about it is not written yet");
    scene.have_nothing();
    scene.observed.batches.retain(|batch| &*batch.name != "billing-1");
    scene
}

fn served(scene: &mut Scene, student: ServerFacts) -> Plan {
    scene.observed.student = Some(Arc::new(student));
    scene.pass()
}

#[test]
fn a_student_is_made_once_there_is_a_model_and_the_run_is_done_when_it_answers() {
    let mut scene = trained_run();
    let plan = scene.pass();
    assert_eq!((plan.make.as_slice(), plan.record.phase), ([Make::Student].as_slice(), Some(Phase::Running)));
    assert_eq!(message_of(&plan, ConditionType::Ready), "0 of 1 copies of the student answer");
    assert!(plan.look_again.is_some(), "what holds its pods up is told by no watch");
    let plan = served(&mut scene, student(0));
    assert_eq!((plan.make.len(), reason_of(&plan, SERVING)), (0, Some("Progressing")));
    let plan = served(&mut scene, student(1));
    assert_eq!((plan.record.phase, reason_of(&plan, SERVING)), (Some(Phase::Succeeded), Some("Available")));
    let status = plan.record.serving.clone().unwrap();
    assert_eq!((status.replicas, status.ready_replicas), (1, 1));
    assert_eq!((status.url, status.model), (serving().url, serving().model));
    assert!(message_of(&plan, ConditionType::Ready).ends_with(&format!("served at {}", serving().url)));
    assert_eq!(
        (plan.record.progress, &plan.record.times[&Stage::Serving].ended),
        (Some((Stage::Serving, 100)), &Some(at(0)))
    );
    let day = at(0) + SignedDuration::from_hours(24);
    assert_eq!((scene.pass().make, scene.pass().look_again), (Vec::new(), Some(day)), "until its batches go");
}

#[test]
fn a_run_without_a_model_serves_nothing() {
    let mut scene = Scene::new();
    scene.run().serving = Some(serving());
    assert!(!scene.pass().make.contains(&Make::Student));
    assert!(!scene.pass().make.contains(&Make::Student));
}

#[test]
fn a_student_that_breaks_afterwards_is_not_ready_and_the_run_has_succeeded_all_the_same() {
    let mut scene = trained_run();
    served(&mut scene, student(1));
    let trouble = Trouble { reason: "CrashLoopBackOff".into(), message: "the model's file is gone".into() };
    scene.observed.holdups.student = Some(trouble);
    let plan = served(&mut scene, student(0));
    assert_eq!(
        (plan.record.phase, reason_of(&plan, ConditionType::Ready)),
        (Some(Phase::Succeeded), Some("CrashLoopBackOff"))
    );
    assert!(plan.record.conditions.holds(ConditionType::Reconciling), "kstatus: in progress, not failed");
    assert_eq!(message_of(&plan, SERVING), "0 of 1 copies of the student answer: the model's file is gone");
    scene.observed.student = None;
    let plan = scene.pass();
    assert_eq!((plan.make.as_slice(), plan.record.phase), ([Make::Student].as_slice(), Some(Phase::Succeeded)));
    scene.observed.holdups.student = None;
    let plan = served(&mut scene, student(1));
    assert!(plan.record.conditions.holds(ConditionType::Ready));
}

#[test]
fn pods_that_never_become_ready_stall_the_run_in_their_own_words() {
    let mut scene = trained_run();
    let late = Trouble { reason: "ProgressDeadlineExceeded".into(), message: "timed out progressing".into() };
    let plan = served(&mut scene, ServerFacts { trouble: Some(late), ..student(0) });
    assert_eq!(
        (plan.record.phase, reason_of(&plan, SERVING)),
        (Some(Phase::Stalled), Some("ProgressDeadlineExceeded"))
    );
    scene.observed.holdups.student =
        Some(Trouble { reason: "ImagePullBackOff".into(), message: "no such image".into() });
    assert!(
        message_of(&scene.pass(), SERVING).ends_with("answer: no such image"),
        "the cause, rather than its consequence"
    );
}

#[test]
fn an_edited_run_applies_its_student_anew_and_counts_the_old_one_for_nothing() {
    let mut scene = trained_run();
    served(&mut scene, student(1));
    scene.edit(|_| ());
    let plan = scene.pass();
    assert_eq!((plan.make.as_slice(), plan.record.phase), ([Make::Student].as_slice(), Some(Phase::Running)));
    let generation = Some(scene.observed.generation);
    let plan = served(&mut scene, ServerFacts { generation, ..student(1) });
    assert_eq!((plan.make.len(), plan.record.phase), (0, Some(Phase::Succeeded)));
}

#[test]
fn a_held_run_has_its_student_scaled_to_zero_and_stays_done() {
    let mut scene = trained_run();
    served(&mut scene, student(1));
    scene.edit(|intent| intent.suspend = true);
    scene.run().serving = Some(ServingWork { replicas: 0, ..serving() });
    let plan = scene.pass();
    assert_eq!((plan.make.as_slice(), plan.record.phase), ([Make::Student].as_slice(), Some(Phase::Succeeded)));
    assert_eq!((reason_of(&plan, SERVING), plan.record.serving.as_ref().unwrap().replicas), (Some("Suspended"), 0));
    scene.edit(|intent| intent.suspend = false);
    let plan = scene.pass();
    assert_eq!((plan.make.as_slice(), reason_of(&plan, SERVING)), ([Make::Student].as_slice(), Some("ScaledToZero")));
}

#[test]
fn a_held_run_makes_no_student() {
    let mut scene = trained_run();
    scene.edit(|intent| intent.suspend = true);
    assert_eq!(scene.pass().make, []);
}

#[test]
fn a_student_that_is_not_wanted_any_more_goes_and_only_that_one() {
    let mut scene = trained_run();
    served(&mut scene, student(1));
    scene.edit(|_| ());
    scene.run().serving = None;
    let plan = scene.pass();
    let removal = Removal { kind: Removable::Student, name: student(1).name, uid: student(1).uid };
    assert_eq!((plan.remove.as_slice(), &plan.record.serving), ([removal].as_slice(), &None));
    assert_eq!((plan.record.phase, reason_of(&plan, SERVING)), (Some(Phase::Succeeded), Some("Disabled")));
    let plan = served(&mut scene, ServerFacts { deleting: true, ..student(1) });
    assert_eq!(plan.remove, [], "it is going already");
}

/// Makes a mistake in the spec of a run whose student answers.
fn with_a_mistake(student: ServerFacts) -> (Scene, Plan) {
    let mut scene = trained_run();
    served(&mut scene, student);
    scene.edit(|intent| {
        intent.findings = vec![Finding { field: "spec.output.store".into(), message: "is required".into() }];
    });
    let plan = scene.pass();
    (scene, plan)
}

#[test]
fn what_is_wrong_with_the_spec_leaves_what_serves_as_it_is() {
    let (mut scene, plan) = with_a_mistake(student(1));
    assert_eq!((plan.make.as_slice(), plan.remove.as_slice()), ([].as_slice(), [].as_slice()));
    assert_eq!((plan.record.phase, reason_of(&plan, SERVING)), (Some(Phase::Stalled), Some("Available")));
    assert_eq!(plan.record.serving.as_ref().unwrap().ready_replicas, 1, "it answers as it did");
    assert_eq!(reason_of(&plan, ConditionType::Ready), Some("SpecInvalid"), "and why nothing follows the edit is said");
    scene.edit(|intent| intent.findings.clear());
    assert_eq!(scene.pass().make, [Make::Student]);
    let generation = Some(scene.observed.generation);
    assert_eq!(served(&mut scene, ServerFacts { generation, ..student(1) }).record.phase, Some(Phase::Succeeded));
}

#[test]
fn a_student_that_breaks_while_the_spec_is_wrong_is_told_of_and_so_is_what_is_wrong() {
    let (mut scene, _) = with_a_mistake(student(1));
    let plan = served(&mut scene, ServerFacts { complete: false, ..student(0) });
    assert_eq!(message_of(&plan, SERVING), "0 of 1 copies of the student answer");
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("SpecInvalid"));
    assert!(plan.look_again.is_some());
    let plan = served(&mut scene, ServerFacts { deleting: true, ..student(1) });
    assert_eq!(plan.record.serving.unwrap().ready_replicas, 0, "one that goes is none");
}
