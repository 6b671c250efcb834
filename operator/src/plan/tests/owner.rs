//! What an object's owner does to it: suspends, resumes, breaks, deletes, or waits for another run.

use super::*;

#[test]
fn suspending_says_so_first_then_ends_the_job_and_resuming_makes_the_next_attempt_when_it_is_gone() {
    let mut scene = Scene::with_job_made();
    scene.edit(|intent| intent.suspend = true);
    let said = scene.pass();
    assert_eq!((said.record.phase, said.remove.len()), (Some(Phase::Suspended), 0));
    assert_eq!(scene.pass().remove.len(), 1);
    scene.have(JobFacts { deleting: true, ..job(1) }, Vec::new());
    assert_eq!(scene.pass().remove, [], "it is going already");
    scene.edit(|intent| intent.suspend = false);
    assert_eq!(attempt_of(&scene.pass()).0, 1, "the old pods may still be at work");
    scene.have_nothing();
    assert_eq!(attempt_of(&scene.pass()), (2, None));
}

#[test]
fn a_suspended_run_begins_nothing_and_is_neither_stalled_nor_reconciling() {
    let mut scene = Scene::new();
    scene.intent().suspend = true;
    let plan = scene.pass();
    assert!(plan.record.attempts.is_empty() && plan.make.is_empty());
    let kinds: Vec<ConditionType> = plan.record.conditions.iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [ConditionType::Ready, ConditionType::Validated]);
}

#[test]
fn a_spec_that_makes_no_sense_begins_nothing_and_says_which_field() {
    let mut scene = Scene::new();
    scene.intent().findings = vec![
        Finding { field: "spec.output.store".into(), message: "is required".into() },
        Finding { field: "x".into(), message: "y".into() },
    ];
    let plan = scene.pass();
    assert!(plan.record.attempts.is_empty());
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("SpecInvalid"));
    assert_eq!(message_of(&plan, ConditionType::Validated), "spec.output.store: is required (and 1 more)");
    scene.edit(|intent| intent.findings.clear());
    assert_eq!(attempt_of(&scene.pass()), (1, None));
}

#[test]
fn what_this_release_cannot_do_is_said_before_anything_is_spent() {
    let mut scene = Scene::new();
    scene.intent().unsupported = Some("spec.from: not yet".into());
    let plan = scene.pass();
    assert!(plan.record.attempts.is_empty());
    assert_eq!(
        (reason_of(&plan, ConditionType::Stalled), message_of(&plan, ConditionType::Stalled)),
        (Some("NotImplemented"), "spec.from: not yet")
    );
}

#[test]
fn an_object_that_is_being_deleted_is_left_alone() {
    let mut scene = Scene::with_job_made();
    scene.observed.deleting = true;
    let plan = scene.plan();
    assert_eq!((plan.make.len(), plan.remove.len(), plan.look_again), (0, 0, None));
    assert_eq!(plan.record, scene.observed.record);
}

#[test]
fn a_batch_waits_for_its_runs_snapshot_and_then_takes_it() {
    let mut scene = Scene::of(batch_intent());
    let of_run = |progress| SnapshotIntent::OfRun { run: "billing".into(), progress };
    for progress in [RunSnapshot::NoSuchRun, RunSnapshot::NotYet] {
        scene.intent().snapshot = of_run(progress);
        assert_eq!(reason_of(&scene.pass(), ConditionType::Reconciling), Some("Waiting"));
    }
    scene.intent().snapshot = of_run(RunSnapshot::Ready("s3://a/snapshot/manifest.json".into()));
    let plan = scene.pass();
    assert!(plan.record.conditions.holds(ConditionType::Snapshotted));
    assert_eq!(plan.record.attempts[&Stage::Rollouts].number, 1);
    scene.intent().snapshot = of_run(RunSnapshot::NoSuchRun);
    assert!(
        scene.pass().record.conditions.holds(ConditionType::Snapshotted),
        "what was taken over stays when the run goes"
    );
}
