//! A run from its snapshot to its dataset: batches that are written down, made, folded in and removed; dry runs; limits; edits of the policy.

use super::*;

/// A run whose first two batches are made.
fn at_work() -> Scene {
    let mut scene = Scene::snapshotted(intent());
    scene.have_nothing();
    scene.pass();
    for number in [1, 2] {
        scene.see(child(number));
    }
    scene
}

/// A run with two batches folded in that may be enough.
pub(super) fn checked() -> Scene {
    let mut scene = at_work();
    scene.done(1, 6, 4);
    scene.done(2, 6, 4);
    scene.pass();
    scene.see(child(3));
    scene
}

/// A run whose four batches are folded in or at work, and whose dry run has found enough.
pub(super) fn enough() -> Scene {
    let mut scene = checked();
    scene.work(Stage::Generation, &dataset(10, 6, true, true));
    scene.have_nothing();
    scene
}

pub(super) fn numbers(plan: &Plan) -> Vec<u32> {
    plan.record.generation.iter().flat_map(|generation| &generation.batches).map(|batch| batch.number).collect()
}

fn through(plan: &Plan) -> u32 {
    plan.record.generation.as_ref().map_or(0, |generation| generation.folded.through)
}

#[test]
fn batches_are_written_down_one_pass_before_they_are_made_and_the_stage_locks_with_them() {
    let mut scene = Scene::of(intent());
    scene.observed.teacher = Some(Arc::new(teacher(1)));
    scene.pass();
    let first = scene.work(Stage::Snapshot, &success());
    assert_eq!((first.make.as_slice(), numbers(&first)), (&[][..], vec![1, 2]));
    assert!(first.record.locked.contains(&Stage::Generation));
    scene.have_nothing();
    let second = scene.pass();
    let batch = |number, from| Make::Batch { number, from, count: 8 };
    assert_eq!(second.make, [batch(1, 0), batch(2, 8)]);
    let known = second.record.generation.unwrap().batches;
    assert_eq!(
        known.iter().map(|batch| batch.uid.clone()).collect::<Vec<_>>(),
        [Some("batch-1".into()), Some("batch-2".into())]
    );
}

#[test]
fn the_teacher_is_there_while_batches_are() {
    let mut scene = Scene::snapshotted(intent());
    scene.observed.teacher = None;
    scene.have_nothing();
    assert!(scene.pass().make.contains(&Make::Teacher));
    let mut scene = enough();
    scene.done(3, 0, 0);
    assert_eq!(scene.pass().remove, [], "the word about the last batch is not written yet");
    let removed: Vec<Removable> = scene.pass().remove.into_iter().map(|removal| removal.kind).collect();
    assert!(removed.contains(&Removable::Teacher), "{removed:?}");
}

#[test]
fn a_batch_made_by_a_leader_that_died_is_taken_up() {
    let mut scene = Scene::snapshotted(intent());
    scene.have_nothing();
    scene.see(child(1));
    let plan = scene.pass();
    assert_eq!(plan.make, [Make::Batch { number: 2, from: 8, count: 8 }]);
}

#[test]
fn a_finished_batch_is_folded_in_once_and_in_order_and_the_next_takes_its_place() {
    let mut scene = at_work();
    scene.done(2, 1, 1);
    let plan = scene.pass();
    assert_eq!((through(&plan), numbers(&plan)), (0, vec![1, 2]), "the first goes first");
    scene.done(1, 2, 1);
    let plan = scene.pass();
    assert_eq!((through(&plan), numbers(&plan)), (2, vec![3, 4]));
    let totals = plan.record.generation.as_ref().unwrap().totals.clone();
    assert_eq!((totals.attempted, totals.accepted, totals.accepted_first, totals.tokens), (16, 5, 3, 2_000));
    let again = scene.pass();
    assert_eq!((through(&again), again.record.generation.unwrap().totals), (2, totals));
}

#[test]
fn a_batch_goes_when_two_newer_ones_are_folded_in_and_that_was_read_back() {
    let mut scene = at_work();
    scene.run().accepted = 1_000;
    for number in [1, 2, 3] {
        scene.done(number, 1, 1);
        assert_eq!(scene.pass().remove, []);
    }
    let removed = scene.pass().remove;
    assert_eq!(removed.len(), 1);
    assert_eq!(
        (removed[0].kind, &*removed[0].name, removed[0].uid.as_str()),
        (Removable::Batch, "billing-1", "batch-1")
    );
}

#[test]
fn a_batch_that_somebody_deleted_is_made_again_but_not_beside_its_pods() {
    let mut scene = at_work();
    scene.observed.batches.retain(|batch| &*batch.name != "billing-1");
    scene.observed.lingering = vec!["batch-1".into()];
    let (plan, soon) = (scene.pass(), scene.now + SignedDuration::from_secs(5));
    assert_eq!((plan.make, plan.look_again), (Vec::new(), Some(soon)), "the end of its pods wakes nobody");
    scene.observed.lingering.clear();
    assert_eq!(scene.pass().make, [], "first it is written down that it is gone");
    assert_eq!(scene.pass().make, [Make::Batch { number: 1, from: 0, count: 8 }]);
}

#[test]
fn counts_that_may_be_enough_are_checked_before_another_batch_is_made_or_folded_in() {
    let mut scene = at_work();
    scene.done(1, 6, 4);
    scene.done(2, 6, 4);
    let plan = scene.pass();
    assert_eq!(
        (through(&plan), numbers(&plan)),
        (2, vec![3]),
        "the fourth would be made only if these were not enough"
    );
    assert_eq!(plan.record.attempts[&Stage::Generation].inputs, Some(digest('d')));
    scene.done(3, 8, 8);
    let plan = scene.pass();
    assert_eq!((through(&plan), plan.make), (2, vec![Make::Job { stage: Stage::Generation, attempt: 1 }]));
}

#[test]
fn a_dry_run_that_falls_short_leads_to_further_batches_and_to_another_dry_run() {
    let mut scene = checked();
    let short = scene.work(Stage::Generation, &dataset(9, 6, false, true));
    assert_eq!(numbers(&short), [3, 4]);
    let totals = short.record.generation.as_ref().unwrap().totals.clone();
    assert_eq!(
        (totals.accepted, totals.accepted_first, totals.accepted_second),
        (15, 9, 6),
        "what the dataset would have"
    );
    assert!(!short.record.conditions.holds(ConditionType::Generated));
    scene.have_nothing();
    scene.done(3, 1, 0);
    scene.pass();
    assert_eq!(scene.observed.record.attempts[&Stage::Generation].number, 2);
}

#[test]
fn with_enough_no_batch_begins_those_at_work_are_folded_in_and_the_dataset_is_made() {
    let mut scene = enough();
    assert_eq!(scene.observed.record.generation.as_ref().unwrap().batches.len(), 1);
    let waiting = scene.pass();
    assert_eq!((numbers(&waiting), reason_of(&waiting, ConditionType::Generated)), (vec![3], Some("Progressing")));
    scene.done(3, 5, 5);
    let plan = scene.pass();
    assert!(plan.record.conditions.holds(ConditionType::Generated));
    assert!(plan.record.locked.contains(&Stage::Dataset), "from here on no policy can change");
    assert_eq!(plan.record.generation.as_ref().unwrap().totals.accepted, 16);
    let done = scene.work(Stage::Dataset, &dataset(10, 6, true, false));
    assert!(done.record.conditions.holds(ConditionType::DatasetBuilt));
    let dataset = done.record.dataset.clone().unwrap();
    assert_eq!(dataset.uri, "s3://acme/sera/ml/billing/3f2c9a10-0000/dataset/manifest.json");
    assert_eq!(reason_of(&done, ConditionType::Reconciling), Some("Waiting"), "the teacher is still there");
    assert_eq!(scene.pass().record, done.record);
}

#[test]
fn a_dataset_job_that_reports_none_has_failed() {
    let mut scene = enough();
    scene.done(3, 0, 0);
    scene.pass();
    let plan = scene.work(Stage::Dataset, &dataset(10, 6, false, true));
    assert_eq!((plan.record.dataset, plan.record.failures[0].stage), (None, Stage::Dataset));
    assert!(plan.record.locked.contains(&Stage::Dataset), "locks only grow");
}

#[test]
fn a_retry_unlocks_what_failed_and_nothing_else() {
    let mut scene = enough();
    scene.done(3, 0, 0);
    scene.pass();
    scene.work(Stage::Dataset, &dataset(10, 6, false, true));
    scene.edit(|intent| (intent.retry, intent.suspend) = ("again".into(), true));
    let locked = scene.pass().record.locked;
    assert!(
        !locked.contains(&Stage::Dataset) && locked.contains(&Stage::Generation) && locked.contains(&Stage::Snapshot)
    );
}

#[test]
fn a_retry_after_a_dry_run_that_failed_leaves_locked_what_batches_are_made_of() {
    let mut scene = checked();
    let said = Termination::failed(failure(FailureClass::Configuration));
    scene.have(ended(job_of(Stage::Generation, 1), Some("PodFailurePolicy")), vec![pod(PodPhase::Failed, Some(&said))]);
    let failed = scene.pass();
    assert_eq!(failed.record.attempts[&Stage::Generation].failures, 1);
    scene.edit(|intent| intent.retry = "again".into());
    let again = scene.pass();
    assert_eq!(again.record.attempts[&Stage::Generation].failures, 0);
    assert!(again.record.locked.contains(&Stage::Generation), "{:?}", again.record.locked);
}

#[test]
fn what_batches_are_made_of_can_be_put_right_while_all_of_them_are_stalled_and_none_is_counted() {
    let mut scene = at_work();
    let is_locked = |plan: &Plan, stage| plan.record.locked.contains(&stage);
    let stalled = |number| BatchFacts { stalled: true, ..child(number) };
    scene.see(stalled(1));
    assert!(is_locked(&scene.pass(), Stage::Generation), "the second is at work");
    scene.see(stalled(2));
    let open = scene.pass();
    assert!(!is_locked(&open, Stage::Generation), "a teacher that is not there, or an image");
    assert!(is_locked(&open, Stage::Rollouts), "what samples are drawn by is never what is wrong");
    scene.see(child(2));
    assert!(is_locked(&scene.pass(), Stage::Generation));
    scene.done(1, 6, 4);
    scene.see(stalled(2));
    scene.pass();
    scene.see(stalled(3));
    assert!(is_locked(&scene.pass(), Stage::Generation), "samples that were counted were made of it");
}

#[test]
fn the_last_batches_go_when_the_run_has_been_over_for_as_long_as_its_owner_says() {
    let mut scene = enough();
    scene.done(3, 0, 0);
    scene.pass();
    scene.observed.record.phase = Some(Phase::Succeeded);
    let ends = |scene: &Scene| {
        let ends = scene.observed.record.attempts.values().filter_map(|attempt| attempt.end.as_ref());
        ends.map(|end| end.at).max().unwrap()
    };
    let removed = |plan: Plan| plan.remove.into_iter().filter(|removal| removal.kind == Removable::Batch).count();
    let day = SignedDuration::from_hours(24);
    scene.now = ends(&scene) + day - SignedDuration::from_secs(1);
    assert_eq!(removed(scene.plan()), 1, "but for the last two");
    scene.now = ends(&scene) + day;
    assert_eq!(removed(scene.plan()), 3);
}

#[test]
fn generation_says_when_it_will_be_done_at_this_pace_and_nothing_of_it_while_it_is_held() {
    let mut scene = at_work();
    assert_eq!(scene.pass().record.eta, None, "too early to say");
    scene.now += SignedDuration::from_mins(10);
    scene.done(1, 3, 2);
    let plan = scene.pass();
    let forecast = plan.record.generation.as_ref().and_then(|generation| generation.forecast.clone()).unwrap();
    assert!(forecast.finish.is_some() && plan.record.eta == forecast.finish);
    scene.edit(|intent| intent.suspend = true);
    assert_eq!(scene.pass().record.eta, None);
}

#[test]
fn a_yield_that_cannot_reach_the_target_stalls_before_all_samples_are_paid_for() {
    let mut large = intent();
    let Some(Work::Run(work)) = &mut large.work else { unreachable!() };
    (work.accepted, work.batch_size, work.max_samples) = (400, 100, 8_000);
    let mut scene = Scene::snapshotted(large);
    scene.have_nothing();
    scene.pass();
    let outlook = |plan: &Plan| plan.record.generation.as_ref().unwrap().forecast.as_ref().map(|all| all.samples);
    scene.done(1, 50, 1);
    let first = scene.pass();
    assert_eq!((numbers(&first), outlook(&first)), (vec![2, 3], Some(15_000)), "one in a hundred may be bad luck");
    let said = message_of(&first, ConditionType::Reconciling);
    assert!(said.contains("after 100 samples (about 15000 will be needed); at work: batch 2, 3"), "{said}");
    for number in 2..=5 {
        scene.done(number, 50, 0);
        scene.pass();
    }
    let stalled = scene.pass();
    assert_eq!(reason_of(&stalled, ConditionType::Stalled), Some("YieldTooLow"));
    let said = message_of(&stalled, ConditionType::Stalled);
    assert!(said.contains("8000 samples can at best give about 250 first and 96 second"), "{said}");
    scene.run().max_samples = 40_000;
    assert_eq!(numbers(&scene.pass()), [6, 7], "its owner knows better");
}

#[test]
fn a_yield_too_low_stalls_with_its_numbers_and_goes_on_when_more_samples_are_allowed() {
    let mut scene = at_work();
    for number in 1..=5 {
        scene.done(number, 1, 0);
        scene.pass();
    }
    let plan = scene.pass();
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("YieldTooLow"));
    let said = message_of(&plan, ConditionType::Stalled);
    assert!(said.starts_with("40 samples gave 5 first and 0 second") && said.contains("10 and 6 are wanted"), "{said}");
    scene.edit(|intent| {
        let Some(Work::Run(work)) = &mut intent.work else { unreachable!() };
        work.max_samples = 44;
    });
    let more = scene.pass();
    assert_eq!((numbers(&more), more.record.phase), (vec![6], Some(Phase::Running)));
    assert_eq!(more.record.generation.unwrap().batches[0].count, 4, "and no more than are allowed");
}

#[test]
fn a_budget_that_is_used_up_stalls_and_goes_on_when_it_is_raised() {
    let budget = |tokens| BudgetSlice { max_tokens: Some(tokens), ..BudgetSlice::default() };
    let mut wanted = intent();
    let Some(Work::Run(work)) = &mut wanted.work else { unreachable!() };
    work.budget = budget(2_100);
    let mut scene = Scene::snapshotted(wanted);
    let slices: Vec<_> = scene
        .observed
        .record
        .generation
        .iter()
        .flat_map(|known| &known.batches)
        .map(|batch| batch.slice.max_tokens)
        .collect();
    assert_eq!(slices, [Some(1_050), Some(1_050)], "fixed before they are made");
    scene.have_nothing();
    scene.pass();
    scene.done(1, 1, 0);
    scene.done(2, 1, 0);
    let plan = scene.pass();
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("BudgetExhausted"));
    scene.edit(|intent| {
        let Some(Work::Run(work)) = &mut intent.work else { unreachable!() };
        work.budget = budget(10_000);
    });
    assert_eq!(numbers(&scene.pass()), [3, 4]);
}

#[test]
fn the_time_for_batches_ends_and_what_was_suspended_does_not_count() {
    let mut scene = at_work();
    scene.run().max_duration = Some(SignedDuration::from_secs(100));
    scene.now = at(60);
    assert_eq!(scene.pass().look_again, Some(at(100)));
    scene.edit(|intent| intent.suspend = true);
    scene.pass();
    scene.now = at(500);
    scene.edit(|intent| intent.suspend = false);
    assert_eq!(scene.pass().look_again, Some(at(540)));
    scene.now = at(540);
    scene.done(1, 1, 0);
    let plan = scene.pass();
    assert_eq!((through(&plan), numbers(&plan)), (1, vec![2]), "no other begins, and what is at work is counted");
    scene.done(2, 1, 0);
    assert_eq!(reason_of(&scene.pass(), ConditionType::Stalled), Some("BudgetExhausted"));
}

#[test]
fn a_suspended_run_makes_no_batch_and_goes_on_folding() {
    let mut scene = at_work();
    scene.edit(|intent| intent.suspend = true);
    scene.done(1, 1, 1);
    let plan = scene.pass();
    assert_eq!((plan.record.phase, through(&plan), numbers(&plan)), (Some(Phase::Suspended), 1, vec![2]));
    assert!(scene.pass().remove.iter().any(|removal| removal.kind == Removable::Teacher), "nobody asks it");
    scene.edit(|intent| intent.suspend = false);
    assert_eq!(numbers(&scene.pass()), [2, 3]);
}

#[test]
fn what_stalls_a_batch_stalls_its_run_in_the_batchs_words() {
    let mut scene = at_work();
    let trouble = Some(Trouble { reason: "TeacherUnauthorized".into(), message: "spec.teacher.endpoint: no".into() });
    scene.see(BatchFacts { stalled: true, trouble: trouble.clone(), ..child(2) });
    let plan = scene.pass();
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("TeacherUnauthorized"));
    assert_eq!(message_of(&plan, ConditionType::Stalled), "batch billing-2: spec.teacher.endpoint: no");
    scene.see(BatchFacts { trouble, ..child(2) });
    assert_eq!(reason_of(&scene.pass(), ConditionType::Reconciling), Some("TeacherUnauthorized"));
}

#[test]
fn an_edited_policy_verifies_all_batches_at_once_and_then_counts_anew() {
    let mut scene = at_work();
    scene.done(1, 6, 4);
    scene.pass();
    scene.see(child(3));
    scene.edit(|intent| {
        let Some(Work::Run(work)) = &mut intent.work else { unreachable!() };
        (work.policy, work.dataset) = (policy('2'), digest('e'));
    });
    let plan = scene.pass();
    assert_eq!(plan.record.attempts[&Stage::Verification].inputs, Some(digest('2')));
    scene.done(2, 6, 4);
    assert_eq!(through(&scene.plan()), 1, "nothing is folded in meanwhile");
    let verified = scene.work(Stage::Verification, &verified(counts(6, 1)));
    let generation = verified.record.generation.clone().unwrap();
    assert_eq!((generation.folded.totals.accepted_second, generation.folded.totals.tokens), (1 + 4, 2_000));
    assert_eq!(generation.folded.policy, None, "the second was verified by the old policy");
    let first = &verified.record.attempts[&Stage::Verification];
    assert!(first.number == 1 && first.end.is_some(), "its end is written down before another begins");
    scene.have_nothing();
    scene.pass();
    assert_eq!(scene.observed.record.attempts[&Stage::Verification].number, 2);
}

#[test]
fn a_policy_edited_between_enough_and_the_dataset_opens_generation_again() {
    let mut scene = enough();
    scene.done(3, 0, 0);
    scene.edit(|intent| intent.suspend = true);
    assert!(scene.pass().record.conditions.holds(ConditionType::Generated));
    scene.edit(|intent| {
        let Some(Work::Run(work)) = &mut intent.work else { unreachable!() };
        (work.policy, work.dataset) = (policy('2'), digest('e'));
    });
    scene.edit(|intent| intent.suspend = false);
    let plan = scene.pass();
    assert!(!plan.record.conditions.holds(ConditionType::Generated));
    assert!(plan.record.attempts.contains_key(&Stage::Verification) && !plan.record.locked.contains(&Stage::Dataset));
}

#[test]
fn a_run_makes_the_same_batches_whichever_of_them_ends_first() {
    let ways = [[1, 2, 3], [2, 1, 3], [3, 2, 1]];
    let made = ways.map(|order| {
        let mut scene = at_work();
        scene.run().parallel = 3;
        scene.pass();
        for number in order {
            scene.done(number, 5, 3);
            scene.pass();
        }
        let generation = scene.observed.record.generation.clone().unwrap();
        (generation.folded, generation.batches.iter().map(|batch| batch.number).collect::<Vec<_>>())
    });
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]), "{made:#?}");
}
