//! A batch on its way from a snapshot to verdicts, and what becomes of it when its policy is edited.

use super::*;

fn shards(active: u32, succeeded: u32) -> JobFacts {
    JobFacts { active, ready: active, succeeded, ..job_of(Stage::Rollouts, 1) }
}

fn rolling_out() -> Scene {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.pass();
    scene.have(shards(2, 0), Vec::new());
    scene
}

fn verified_batch() -> Scene {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.work(Stage::Rollouts, &success());
    scene.work(Stage::Verification, &verified(counts(6, 4)));
    scene
}

#[test]
fn a_batch_rolls_out_then_verifies_and_is_ready_with_its_counts() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    let rolled_out = scene.work(Stage::Rollouts, &success());
    assert!(rolled_out.record.conditions.holds(ConditionType::RolledOut));
    assert_eq!(rolled_out.record.generation, None, "the verification is the only one that counts");
    assert_eq!(rolled_out.record.attempts[&Stage::Verification].inputs, Some(digest('1')));
    let done = scene.work(Stage::Verification, &verified(counts(6, 4)));
    assert_eq!(
        (done.record.phase, reason_of(&done, ConditionType::Ready)),
        (Some(Phase::Succeeded), Some("Succeeded"))
    );
    assert!(
        done.record.conditions.holds(ConditionType::Ready) && done.record.conditions.holds(ConditionType::Verified)
    );
    let totals = done.record.generation.clone().unwrap().totals;
    assert_eq!((totals.attempted, totals.accepted, totals.accepted_first, totals.tokens), (8, 10, 6, 1_000));
    let verification = done.record.verification.clone().unwrap();
    assert_eq!((verification.settings, verification.policy.as_str()), (digest('1'), &*"77".repeat(32)));
    assert_eq!(scene.pass().record, done.record, "and stays so");
}

#[test]
fn a_batchs_results_are_needed_by_nobody_so_that_lost_words_of_a_shard_cost_nothing() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.pass();
    scene.have(ended(job_of(Stage::Rollouts, 1), None), Vec::new());
    assert!(scene.pass().record.conditions.holds(ConditionType::RolledOut));
}

#[test]
fn progress_is_the_share_of_samples_that_are_done_and_one_pod_that_works_is_enough() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.pass();
    scene.have(shards(2, 1), vec![pending("ImagePullBackOff", "nope")]);
    let plan = scene.pass();
    assert_eq!(plan.record.progress, Some((Stage::Rollouts, 30)), "a shard of three is done");
    let live = LiveRollouts { samples: 5, done: 4, tokens: 9_000, ..LiveRollouts::default() };
    scene.observed.live = Some(Live::Rollouts(live));
    let plan = scene.pass();
    assert_eq!(plan.record.progress, Some((Stage::Rollouts, 70)));
    let said = message_of(&plan, ConditionType::RolledOut);
    assert!(said.ends_with("7 of 10 samples are done, 9000 tokens at work"), "{said}");
    scene.observed.live = Some(Live::Rollouts(LiveRollouts { silence: Some(Silence::Status(500)), ..live }));
    let plan = scene.pass();
    assert_eq!(reason_of(&plan, ConditionType::RolledOut), Some("TeacherUnavailable"));
    let said = message_of(&plan, ConditionType::RolledOut);
    assert!(said.ends_with("; the teacher answers nobody: it answers with status 500"), "{said}");
    scene.observed.live = None;
    scene.have(shards(1, 2), vec![pending("ImagePullBackOff", "nope")]);
    assert_eq!(reason_of(&scene.pass(), ConditionType::RolledOut), Some("ImagePullBackOff"), "nothing else is at work");
}

#[test]
fn rollouts_wait_for_the_teacher_which_goes_only_when_their_end_was_read_back() {
    let mut scene = Scene::of(batch_intent());
    scene.pass();
    assert!(!scene.plan().make.contains(&Make::Teacher), "there is nothing to ask it yet");
    scene.work(Stage::Snapshot, &success());
    scene.have_nothing();
    let waiting = scene.pass();
    assert_eq!(waiting.make, [Make::Teacher]);
    assert_eq!(reason_of(&waiting, ConditionType::Reconciling), Some("Waiting"));
    scene.observed.teacher = Some(Arc::new(teacher(0)));
    assert_eq!(scene.pass().make, [], "it is there, and does not answer yet");
    scene.observed.teacher = Some(Arc::new(teacher(1)));
    let done = scene.work(Stage::Rollouts, &success());
    assert!(done.record.conditions.holds(ConditionType::RolledOut) && done.remove.is_empty());
    let removed = scene.pass().remove;
    assert_eq!((removed.len(), removed[0].kind, &*removed[0].uid.to_string()), (1, Removable::Teacher, "teacher-1"));
    scene.observed.teacher = Some(Arc::new(ServerFacts { deleting: true, ..teacher(1) }));
    assert!(scene.pass().remove.is_empty());
}

#[test]
fn a_mistake_in_the_spec_takes_the_teacher_away_from_nobody_and_suspending_does() {
    let mistake = || vec![Finding { field: "spec.pods.train.nodeSelector".into(), message: "is no label".into() }];
    let mut scene = rolling_out();
    scene.observed.teacher = Some(Arc::new(teacher(1)));
    scene.edit(|intent| intent.findings = mistake());
    let plan = scene.pass();
    assert_eq!(reason_of(&plan, ConditionType::Validated), Some("SpecInvalid"));
    assert!(plan.remove.is_empty() && plan.make.is_empty(), "its drivers ask it: {plan:?}");
    let work = scene.intent().work.take();
    assert_eq!(scene.pass().remove, [], "what the batch does cannot be told from such a spec");
    scene.observed.teacher = None;
    assert_eq!(scene.pass().make, [], "nor what a teacher would be made from");
    scene.observed.teacher = Some(Arc::new(teacher(1)));
    scene.edit(|intent| (intent.suspend, intent.work) = (true, work));
    let plan = scene.pass();
    assert!(plan.remove.iter().any(|removal| removal.kind == Removable::Teacher), "{plan:?}");
}

#[test]
fn a_teacher_that_nobody_asks_any_more_goes_whatever_is_wrong_with_the_spec() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.work(Stage::Rollouts, &success());
    scene.edit(|intent| intent.findings = vec![Finding { field: "x".into(), message: "y".into() }]);
    assert_eq!(scene.pass().remove.iter().map(|removal| removal.kind).collect::<Vec<_>>(), [Removable::Teacher]);
}

#[test]
fn a_teacher_whose_copies_are_to_be_spread_over_nodes_takes_the_place_of_one_whose_are_not() {
    let mut scene = Scene::of(batch_intent());
    scene.pass();
    scene.work(Stage::Snapshot, &success());
    scene.have_nothing();
    scene.observed.teacher = Some(Arc::new(teacher(1)));
    scene.intent().teacher_form = ServerForm::LeaderWorkerSet;
    let plan = scene.pass();
    assert_eq!(plan.make, [], "both would hold GPUs, and what answers is not what is asked for");
    assert_eq!(plan.remove.iter().map(|removal| removal.kind).collect::<Vec<_>>(), [Removable::Teacher]);
    scene.observed.teacher = Some(Arc::new(ServerFacts { deleting: true, ..teacher(1) }));
    let plan = scene.pass();
    assert!(plan.make.is_empty() && plan.remove.is_empty(), "{plan:?}");
    scene.observed.teacher = None;
    assert_eq!(scene.pass().make, [Make::Teacher]);
    scene.observed.teacher = Some(Arc::new(ServerFacts { form: ServerForm::LeaderWorkerSet, ..teacher(1) }));
    scene.work(Stage::Rollouts, &success());
    let removed = scene.pass().remove;
    assert_eq!(removed.iter().map(|removal| removal.kind).collect::<Vec<_>>(), [Removable::TeacherGroups]);
}

#[test]
fn a_teacher_that_is_to_be_of_another_kind_or_somewhere_else_goes() {
    let rolling = || {
        let mut scene = Scene::of(batch_intent());
        scene.pass();
        scene.work(Stage::Snapshot, &success());
        scene.have_nothing();
        scene.observed.teacher = Some(Arc::new(ServerFacts { controller: Some(owner().uid), ..teacher(1) }));
        scene
    };
    let removed = |scene: &mut Scene| scene.pass().remove.iter().map(|removal| removal.kind).collect::<Vec<_>>();
    let mut rehearsed = rolling();
    rehearsed.intent().teacher_form = ServerForm::Rehearsal;
    assert_eq!(removed(&mut rehearsed), [Removable::Teacher], "what its pods are found by can never be changed");
    let mut elsewhere = rolling();
    elsewhere.edit(|intent| (intent.hosted, intent.teacher) = (None, Some("GLM-4.6".into())));
    assert_eq!(removed(&mut elsewhere), [Removable::Teacher], "an endpoint is asked instead");
    elsewhere.observed.teacher = None;
    assert_eq!(removed(&mut elsewhere), []);
    let mut of_run = rolling();
    of_run.observed.teacher = Some(Arc::new(ServerFacts { controller: Some("its-run".into()), ..teacher(1) }));
    of_run.edit(|intent| (intent.hosted, intent.teacher) = (None, Some("GLM-4.6".into())));
    assert_eq!(removed(&mut of_run), [], "the run's is the run's to remove");
}

#[test]
fn a_cluster_that_cannot_spread_a_teacher_over_nodes_is_told_of_while_rollouts_are_to_come() {
    let mut scene = Scene::of(batch_intent());
    scene.intent().teacher_form = ServerForm::LeaderWorkerSet;
    let unsupported = |scene: &mut Scene, has_groups: bool| {
        let record = scene.observed.record.clone();
        let mut intent = scene.intent().clone();
        super::super::unhostable(&mut intent, &record, has_groups);
        intent.unsupported
    };
    assert_eq!(unsupported(&mut scene, true), None);
    let said = unsupported(&mut scene, false).unwrap();
    assert!(said.starts_with("spec.teacher.serve.nodesPerReplica: this cluster has no LeaderWorkerSet"), "{said}");
    scene.intent().hosted = Some(Hosted::OfRun);
    assert_eq!(unsupported(&mut scene, false), None, "the run says so");
    scene.intent().hosted = Some(Hosted::Own);
    scene.pass();
    scene.work(Stage::Snapshot, &success());
    scene.have_nothing();
    scene.observed.teacher = Some(Arc::new(ServerFacts { form: ServerForm::LeaderWorkerSet, ..teacher(1) }));
    let done = scene.work(Stage::Rollouts, &success());
    assert!(done.record.conditions.holds(ConditionType::RolledOut));
    scene.pass();
    assert_eq!(unsupported(&mut scene, false), None, "nobody asks it any more");
}

#[test]
fn a_teacher_that_does_not_come_up_is_waited_for_in_its_own_words() {
    let mut scene = Scene::of(batch_intent());
    scene.pass();
    scene.work(Stage::Snapshot, &success());
    scene.have_nothing();
    scene.observed.teacher = Some(Arc::new(teacher(0)));
    scene.observed.holdups.teacher =
        Some(Trouble { reason: "ImagePullBackOff".into(), message: "no such image".into() });
    let plan = scene.pass();
    assert_eq!(message_of(&plan, ConditionType::Reconciling), "waiting until the teacher answers: no such image");
    assert_eq!(plan.look_again, Some(at(30)), "no watch of ours tells when that changes");
    let late = Trouble { reason: "ProgressDeadlineExceeded".into(), message: Box::default() };
    scene.observed.holdups.teacher = None;
    scene.observed.teacher = Some(Arc::new(ServerFacts { trouble: Some(late), ..teacher(0) }));
    let said = scene.pass();
    assert!(message_of(&said, ConditionType::Reconciling).ends_with(": ProgressDeadlineExceeded"));
}

#[test]
fn rollouts_without_a_copy_of_the_teacher_stall_until_there_is_one_again() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.edit(|intent| intent.copies = 0);
    let plan = scene.pass();
    assert_eq!(plan.make, [Make::Teacher], "it is scaled down, and nobody begins to ask the copy that still answers");
    for kind in [ConditionType::Stalled, ConditionType::RolledOut] {
        assert_eq!(reason_of(&plan, kind), Some("ScaledToZero"));
        assert!(message_of(&plan, kind).starts_with("spec.teacher.serve.replicas is 0: "));
    }
    scene.observed.teacher = Some(Arc::new(teacher(0)));
    scene.edit(|intent| intent.copies = 2);
    assert_eq!(reason_of(&scene.pass(), ConditionType::Reconciling), Some("Waiting"));
    let generation = Some(scene.observed.generation);
    scene.observed.teacher = Some(Arc::new(ServerFacts { generation, ..teacher(2) }));
    assert_eq!(scene.pass().make, [Make::Job { stage: Stage::Rollouts, attempt: 1 }]);
}

#[test]
fn rollouts_at_work_are_not_stopped_for_want_of_copies_of_the_teacher() {
    let mut scene = rolling_out();
    scene.edit(|intent| intent.copies = 0);
    let plan = scene.pass();
    assert_eq!(
        (plan.record.phase, reason_of(&plan, ConditionType::RolledOut)),
        (Some(Phase::Running), Some("Progressing"))
    );
    assert!(plan.record.attempts[&Stage::Rollouts].end.is_none());
}

#[test]
fn a_teachers_owner_may_change_how_many_copies_there_are_while_it_is_asked() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.pass();
    scene.have(shards(1, 3), Vec::new());
    assert_eq!(scene.pass().make, []);
    scene.edit(|_| ());
    assert_eq!(scene.pass().make, [Make::Teacher], "it is applied as the spec has it now");
    let generation = Some(scene.observed.generation);
    scene.observed.teacher = Some(Arc::new(ServerFacts { generation, ..teacher(1) }));
    assert_eq!(scene.pass().make, []);
}

#[test]
fn the_time_for_which_a_batch_is_suspended_is_written_down_where_its_rollouts_may_take_only_so_long() {
    let mut scene = Scene::of(batch_intent());
    let Some(Work::Batch(work)) = &mut scene.intent().work else { unreachable!() };
    work.max_duration = Some(SignedDuration::from_secs(100));
    scene.observed.teacher = Some(Arc::new(teacher(1)));
    scene.edit(|intent| intent.suspend = true);
    scene.pass();
    assert_eq!(scene.observed.record.generation, None, "nothing has begun that could be late");
    scene.edit(|intent| intent.suspend = false);
    scene.pass();
    scene.work(Stage::Snapshot, &success());
    scene.have_nothing();
    scene.pass();
    let mut paused = |suspend, seconds| {
        scene.now = at(seconds);
        scene.edit(|intent| intent.suspend = suspend);
        scene.pass().record.generation.unwrap().paused
    };
    assert_eq!(paused(true, 60), Paused { seconds: 0, since: Some(at(60)) });
    assert_eq!(paused(false, 90), Paused { seconds: 30, since: None });
}

#[test]
fn an_edited_policy_is_one_more_verification_and_asks_no_teacher() {
    let mut scene = verified_batch();
    scene.observed.teacher = None;
    scene.have_nothing();
    scene.edit(|intent| {
        let Some(Work::Batch(work)) = &mut intent.work else { unreachable!() };
        work.policy = Policy { threshold: "0.8".parse().unwrap(), ..policy('2') };
    });
    let again = scene.pass();
    assert_eq!(again.record.attempts[&Stage::Verification].number, 2);
    assert_eq!((again.record.phase, again.record.attempts[&Stage::Rollouts].number), (Some(Phase::Running), 1));
    let done = scene.work(Stage::Verification, &verified(counts(6, 1)));
    let generation = done.record.generation.unwrap();
    assert_eq!((generation.totals.accepted, generation.totals.attempted, generation.totals.tokens), (7, 8, 1_000));
    let verification = done.record.verification.unwrap();
    assert_eq!((verification.settings, verification.threshold.as_str()), (digest('2'), "0.8"));
    assert_eq!(done.record.phase, Some(Phase::Succeeded));
}

#[test]
fn a_policy_that_is_edited_while_it_is_applied_ends_the_attempt_and_the_next_has_the_new_one() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.work(Stage::Rollouts, &success());
    scene.pass();
    scene.have(job_of(Stage::Verification, 1), Vec::new());
    scene.edit(|intent| {
        let Some(Work::Batch(work)) = &mut intent.work else { unreachable!() };
        work.policy = policy('2');
    });
    let ended = scene.pass();
    let outcome = ended.record.attempts[&Stage::Verification].end.as_ref().map(|end| end.outcome.clone());
    assert_eq!(outcome, Some(AttemptOutcome::Withdrawn));
    scene.have_nothing();
    scene.pass();
    assert_eq!(scene.observed.record.attempts[&Stage::Verification].inputs, Some(digest('2')));
}

#[test]
fn a_report_of_another_stage_makes_no_sense_and_is_tried_again() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.have_nothing();
    scene.work(Stage::Rollouts, &success());
    let plan = scene.work(Stage::Verification, &success());
    assert_eq!(plan.record.failures[0].failure.reason, "ProgramFailed");
    assert!(plan.record.failures[0].failure.message.contains("the verification"), "{:?}", plan.record.failures[0]);
    assert_eq!(plan.record.verification, None);
}

#[test]
fn a_batch_whose_run_is_gone_waits_unless_it_is_done() {
    let mut scene = Scene::snapshotted(batch_intent());
    scene.intent().work = None;
    assert_eq!(reason_of(&scene.pass(), ConditionType::Reconciling), Some("Waiting"));
    let mut done = verified_batch();
    done.intent().work = None;
    assert_eq!(done.pass().record.phase, Some(Phase::Succeeded));
}

#[test]
fn a_batch_whose_run_is_gone_gives_back_its_pods_and_its_own_teacher() {
    let mut scene = rolling_out();
    scene.observed.teacher = Some(Arc::new(ServerFacts { controller: Some(owner().uid), ..teacher(1) }));
    let bereft = SnapshotIntent::OfRun { run: "billing".into(), progress: RunSnapshot::NoSuchRun };
    (scene.intent().work, scene.intent().hosted, scene.intent().snapshot) = (None, None, bereft);
    let gone = scene.pass();
    assert_eq!(gone.record.attempts[&Stage::Rollouts].end.as_ref().unwrap().outcome, AttemptOutcome::Withdrawn);
    assert_eq!(gone.remove.iter().map(|removal| removal.kind).collect::<Vec<_>>(), [Removable::Teacher]);
    let cleared: Vec<Removable> = scene.pass().remove.into_iter().map(|removal| removal.kind).collect();
    assert!(cleared.contains(&Removable::Job), "{cleared:?}");
}

#[test]
fn a_batch_whose_run_cannot_be_read_goes_on_with_what_is_at_work_until_it_is_suspended() {
    let mut scene = rolling_out();
    scene.intent().work = None;
    assert!(scene.pass().record.attempts[&Stage::Rollouts].end.is_none());
    scene.edit(|intent| intent.suspend = true);
    let held = scene.pass();
    assert_eq!(held.record.phase, Some(Phase::Suspended));
    assert!(held.record.attempts[&Stage::Rollouts].end.is_some());
}

#[test]
fn a_finished_batch_that_is_suspended_has_nothing_to_hold() {
    let mut scene = verified_batch();
    scene.edit(|intent| intent.suspend = true);
    assert_eq!(scene.pass().record.phase, Some(Phase::Succeeded));
}
