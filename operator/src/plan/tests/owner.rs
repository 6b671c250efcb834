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
fn a_training_on_gpus_is_refused_before_anything_is_spent_where_the_trainer_is_built_for_cpus() {
    let untrainable = |scene: &mut Scene, trainer_knows_gpus: bool| {
        let record = scene.observed.record.clone();
        let mut intent = scene.intent().clone();
        super::super::untrainable(&mut intent, &record, trainer_knows_gpus);
        intent.findings
    };
    let mut scene = Scene::new();
    assert_eq!(untrainable(&mut scene, false), [], "it trains on CPUs");
    scene.run().training.on_gpus = true;
    assert_eq!(untrainable(&mut scene, true), []);
    scene.intent().findings = untrainable(&mut scene, false);
    let plan = scene.pass();
    assert!(plan.record.attempts.is_empty() && plan.make.is_empty());
    assert_eq!(reason_of(&plan, ConditionType::Validated), Some("SpecInvalid"));
    let said = message_of(&plan, ConditionType::Validated);
    assert!(said.starts_with("spec.training.gpusPerNode: asks for GPUs"), "{said}");
    assert!(said.contains("images.trainer.gpus: true"), "{said}");
    let mut begun = training::at_work();
    begun.run().training.on_gpus = true;
    assert_eq!(untrainable(&mut begun, false), [], "what the trainer itself says is nearer");
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

/// A run's batch whose first attempt at rollouts is made, by the seventh generation of the run.
fn rolling_out_for_a_run() -> Scene {
    let mut scene = Scene::snapshotted(Intent { run_generation: Some(7), ..batch_intent() });
    scene.have_nothing();
    scene.pass();
    scene
}

fn rollouts(plan: &Plan) -> (u32, Option<&AttemptOutcome>) {
    let attempt = &plan.record.attempts[&Stage::Rollouts];
    (attempt.number, attempt.end.as_ref().map(|end| &end.outcome))
}

#[test]
fn pods_of_a_batch_that_are_held_up_are_made_anew_when_its_run_is_edited() {
    let mut scene = rolling_out_for_a_run();
    let pods = vec![pending("Unschedulable", "0/3 nodes have the label pool=gqu")];
    scene.have(JobFacts { ready: 0, ..job_of(Stage::Rollouts, 1) }, pods);
    assert_eq!(rollouts(&scene.pass()), (1, None));
    scene.intent().run_generation = Some(8);
    assert_eq!(rollouts(&scene.pass()), (1, Some(&AttemptOutcome::Withdrawn)));
    scene.have_nothing();
    let plan = scene.pass();
    assert_eq!((rollouts(&plan), plan.record.attempts[&Stage::Rollouts].edition.runs), ((2, None), Some(8)));
}

#[test]
fn an_edit_of_its_run_ends_a_batchs_wait_and_its_stall_at_once() {
    let mut scene = rolling_out_for_a_run();
    let said = Termination::failed(failure(FailureClass::Configuration));
    let failed = pod(PodPhase::Failed, Some(&said));
    scene.have(ended(job_of(Stage::Rollouts, 1), Some("PodFailurePolicy")), vec![failed]);
    let plan = scene.pass();
    assert_eq!((plan.record.phase, plan.look_again), (Some(Phase::Stalled), Some(at(10))));
    assert_eq!(plan.record.conditions.get(ConditionType::Validated).unwrap().truth, Truth::False);
    scene.intent().run_generation = Some(8);
    let plan = scene.pass();
    assert_eq!((rollouts(&plan), plan.record.phase), ((2, None), Some(Phase::Running)));
    assert_eq!(plan.record.attempts[&Stage::Rollouts].failures, 0);
    assert_eq!(plan.record.conditions.get(ConditionType::Validated).unwrap().truth, Truth::True);
}

#[test]
fn an_edit_of_its_run_while_a_batch_tries_again_ends_its_stall() {
    let mut scene = rolling_out_for_a_run();
    let said = Termination::failed(failure(FailureClass::Configuration));
    let failed = pod(PodPhase::Failed, Some(&said));
    scene.have(ended(job_of(Stage::Rollouts, 1), Some("PodFailurePolicy")), vec![failed]);
    scene.pass();
    scene.now = at(10);
    let plan = scene.pass();
    assert_eq!((rollouts(&plan), plan.record.phase), ((2, None), Some(Phase::Stalled)));
    scene.intent().run_generation = Some(8);
    let plan = scene.pass();
    assert_eq!((rollouts(&plan), plan.record.phase), ((2, None), Some(Phase::Running)));
}

#[test]
fn a_batchs_own_teacher_is_applied_anew_when_the_run_that_it_takes_its_word_from_is_edited() {
    let mut scene = rolling_out_for_a_run();
    let of_run = |generation| Some(Arc::new(ServerFacts { run_generation: Some(generation), ..teacher(1) }));
    scene.have(JobFacts { completions: 2, ..job_of(Stage::Rollouts, 1) }, Vec::new());
    scene.observed.teacher = of_run(7);
    assert_eq!(scene.pass().make, []);
    scene.intent().run_generation = Some(8);
    assert_eq!(scene.pass().make, [Make::Teacher]);
    scene.observed.teacher = of_run(8);
    assert_eq!(scene.pass().make, []);
}
