//! A run from its dataset to its model: gangs that begin when the teacher is gone, start together or not at all, are told of by rank 0, are disrupted,
//! fail, and are tried again from the newest checkpoint, so many times and no more.

use super::{generation::enough, *};
use crate::plan::sight::ASK_AGAIN;

const STAGE: Stage = Stage::Training;

/// A run that has its dataset, and whose teacher is gone.
fn trainable() -> Scene {
    let mut scene = enough();
    scene.done(3, 0, 0);
    scene.pass();
    scene.work(Stage::Dataset, &dataset(10, 6, true, false));
    scene.observed.teacher = None;
    scene.have_nothing();
    scene
}

/// A run whose first gang is made: two pods, both at work.
pub(super) fn at_work() -> Scene {
    let mut scene = trainable();
    scene.pass();
    scene.pass();
    scene.have(gang(1), Vec::new());
    scene
}

/// The Job of an attempt, both of whose pods are at work.
pub(super) fn gang(attempt: u32) -> JobFacts {
    JobFacts { active: 2, ready: 2, completions: 2, ..job_of(STAGE, attempt) }
}

pub(super) fn rank(index: u32, phase: PodPhase, exit_code: Option<i32>, said: Option<&Termination>) -> PodFacts {
    PodFacts { index, uid: format!("pod-{index}").into(), exit_code, ..pod(phase, said) }
}

fn failed(class: FailureClass) -> Termination {
    Termination::failed(failure(class))
}

fn outcome(plan: &Plan) -> Option<&AttemptOutcome> {
    plan.record.attempts[&STAGE].end.as_ref().map(|end| &end.outcome)
}

fn number(plan: &Plan) -> u32 {
    plan.record.attempts.get(&STAGE).map_or(0, |attempt| attempt.number)
}

/// The Jobs that a plan removes.
fn removed(plan: &Plan) -> Vec<&str> {
    plan.remove.iter().filter(|removal| removal.kind == Removable::Job).map(|removal| &*removal.name).collect()
}

/// Lets the gang of the attempt under way be made and fail like this, makes the pass that hears of it, and lets its Job go.
fn fail(scene: &mut Scene, reason: &str, message: &str, pods: Vec<PodFacts>) -> Plan {
    let attempt = scene.observed.record.attempts[&STAGE].number;
    let mut job = ended(gang(attempt), Some(reason));
    if let Some(JobEnd { failure: Some(failure), .. }) = &mut job.end {
        failure.message = message.into();
    }
    scene.have(job, pods);
    let plan = scene.pass();
    scene.have_nothing();
    plan
}

/// Waits out what the last pass waits for, and has the next attempt's gang made.
fn try_again(scene: &mut Scene) {
    scene.now += SignedDuration::from_mins(5);
    scene.pass();
    scene.pass();
}

#[test]
fn training_begins_only_when_the_teacher_is_gone_and_until_then_its_section_can_be_edited() {
    let mut scene = trainable();
    scene.observed.teacher = Some(Arc::new(ServerFacts { deleting: true, ..teacher(0) }));
    let waiting = scene.pass();
    assert_eq!((number(&waiting), reason_of(&waiting, ConditionType::Reconciling)), (0, Some("Waiting")));
    assert!(!waiting.record.locked.contains(&STAGE));
    scene.observed.teacher = None;
    let begun = scene.pass();
    assert_eq!((number(&begun), begun.make.as_slice()), (1, &[][..]), "written down before it is made");
    assert!(begun.record.locked.contains(&STAGE));
    assert_eq!(scene.pass().make, [Make::Job { stage: STAGE, attempt: 1 }]);
}

#[test]
fn status_says_what_applies_from_the_first_moment_and_what_rank_0_says_once_it_is_heard() {
    let mut scene = trainable();
    let status = scene.pass().record.training.unwrap();
    assert_eq!((status.attempt, status.learning_rate.unwrap().as_str()), (1, "5e-5"));
    assert_eq!((status.precision, status.loss, status.tokens_per_second), (Some(Precision::Fp32), None, None));
    scene.pass();
    scene.have(gang(1), Vec::new());
    let live = LiveTraining {
        step: 24,
        total_steps: 96,
        loss: Some(1.234_567),
        tokens_per_second: 812.4,
        warmup_steps: 9,
        eta: Some(at(900)),
    };
    scene.observed.live = Some(Live::Training(live));
    let plan = scene.pass();
    let status = plan.record.training.clone().unwrap();
    assert_eq!((status.step, status.total_steps, status.warmup_steps), (24, 96, Some(9)));
    assert_eq!((status.loss.unwrap().as_str(), status.tokens_per_second), ("1.2346", Some(812)));
    assert_eq!((plan.record.progress, plan.record.eta), (Some((STAGE, 25)), Some(at(900))));
    let said = message_of(&plan, ConditionType::Trained);
    assert!(said.ends_with("at work: step 24 of 96, loss 1.2346"), "{said}");
    assert_eq!(scene.pass().record, plan.record, "no news, no write");
    scene.observed.live = Some(Live::Training(LiveTraining { step: 96, loss: Some(f64::NAN), ..live }));
    let plan = scene.pass();
    assert_eq!(plan.record.progress, Some((STAGE, 99)), "the model is not published yet");
    assert_eq!(plan.record.training.unwrap().loss.unwrap().as_str(), "1.2346", "what is no number tells nothing");
}

#[test]
fn the_words_of_any_rank_publish_the_model_and_the_run_is_ready() {
    let mut scene = at_work();
    scene.observed.live = Some(Live::Training(LiveTraining { step: 95, total_steps: 96, ..LiveTraining::default() }));
    scene.pass();
    scene.now = at(50);
    let silent = rank(0, PodPhase::Succeeded, Some(0), None);
    let other = rank(1, PodPhase::Succeeded, Some(0), Some(&trained(96, 0.25)));
    scene.have(JobFacts { succeeded: 2, ..ended(gang(1), None) }, vec![silent, other]);
    let plan = scene.pass();
    let model = plan.record.model.clone().unwrap();
    assert_eq!(
        (model.uri.as_str(), model.sha256.as_str()),
        ("s3://acme/sera/ml/billing/3f2c9a10-0000/model", "5a".repeat(32).as_str())
    );
    let status = plan.record.training.clone().unwrap();
    assert_eq!((status.step, status.total_steps, status.loss.unwrap().as_str()), (96, 96, "0.25"));
    assert_eq!((status.tokens_per_second, plan.record.eta), (None, None), "nothing is at work any more");
    assert_eq!((plan.record.phase, plan.record.progress), (Some(Phase::Succeeded), Some((STAGE, 100))));
    assert!(plan.record.conditions.holds(ConditionType::Ready) && plan.record.conditions.holds(ConditionType::Trained));
    assert_eq!(reason_of(&plan, ConditionType::Evaluated), Some("Disabled"), "what is left out is said");
    assert_eq!(
        (&plan.record.times[&STAGE].ended, plan.record.images["train"].as_str()),
        (&Some(at(50)), "registry.example/rollout@sha256:77")
    );
    scene.observed.live = None;
    scene.have_nothing();
    assert_eq!(scene.pass().record, plan.record);
    scene.edit(|intent| intent.suspend = true);
    assert_eq!(scene.pass().record.phase, Some(Phase::Succeeded), "there is nothing left to hold");
}

#[test]
fn what_follows_the_model_and_is_asked_for_stalls_in_words_until_it_is_no_more() {
    let mut scene = at_work();
    scene.run().evaluation = Some(EvaluationWork { unsupported: Some("spec.evaluation: no vLLM".into()) });
    scene.run().serving = Some(ServingWork { unsupported: Some("spec.serve.engine: no vLLM".into()), ..serving() });
    let said = trained(96, 0.25);
    scene.have(ended(gang(1), None), vec![rank(0, PodPhase::Succeeded, Some(0), Some(&said))]);
    let plan = scene.pass();
    assert!(plan.record.model.is_some() && plan.record.conditions.holds(ConditionType::Trained));
    assert_eq!(
        (plan.record.phase, reason_of(&plan, ConditionType::Stalled)),
        (Some(Phase::Stalled), Some("NotImplemented"))
    );
    assert!(message_of(&plan, ConditionType::Stalled).contains("spec.evaluation: no vLLM"));
    assert_eq!(reason_of(&plan, ConditionType::Serving), Some("NotImplemented"));
    scene.edit(|_| ());
    scene.run().evaluation = None;
    let plan = scene.pass();
    assert!(message_of(&plan, ConditionType::Stalled).contains("spec.serve.engine: no vLLM"));
    scene.edit(|_| ());
    scene.run().serving = None;
    let plan = scene.pass();
    assert_eq!(
        (plan.record.phase, reason_of(&plan, ConditionType::Serving)),
        (Some(Phase::Succeeded), Some("Disabled"))
    );
}

#[test]
fn words_that_publish_no_model_fail_the_attempt() {
    let mut scene = at_work();
    scene.have(ended(gang(1), None), vec![rank(0, PodPhase::Succeeded, Some(0), Some(&success()))]);
    let plan = scene.pass();
    assert_eq!((plan.record.model.as_ref(), plan.record.failures[0].stage), (None, STAGE));
    assert!(message_of(&plan, ConditionType::Trained).contains("not one of the training"));
}

#[test]
fn one_pod_that_has_not_started_keeps_the_gang_from_being_at_work() {
    let mut scene = at_work();
    scene.have(JobFacts { ready: 1, ..gang(1) }, vec![PodFacts { index: 1, ..pending("ImagePullBackOff", "nope") }]);
    let plan = scene.pass();
    assert_eq!(reason_of(&plan, ConditionType::Trained), Some("ImagePullBackOff"));
    scene.now = at(600);
    let plan = scene.pass();
    assert_eq!(plan.record.attempts[&STAGE].failures, 1, "and at the deadline it has failed");
    assert_eq!(removed(&scene.pass()), ["billing-3f2c9-t1"], "or its pods would hold their places for ever");
}

#[test]
fn a_gang_that_finds_room_for_a_part_of_it_gives_it_back_and_one_that_finds_none_waits() {
    let unplaced =
        |index| PodFacts { index, uid: format!("pod-{index}").into(), ..pending("Unschedulable", "0/3 nodes") };
    let mut waiting = at_work();
    waiting.have(JobFacts { ready: 0, ..gang(1) }, vec![unplaced(0), unplaced(1)]);
    waiting.now = at(100_000);
    assert_eq!(outcome(&waiting.pass()), None, "it keeps nothing from anybody");
    let mut scene = at_work();
    scene.have(JobFacts { ready: 1, ..gang(1) }, vec![unplaced(1)]);
    scene.now = at(599);
    assert_eq!(scene.pass().look_again, Some(at(600)));
    scene.now = at(600);
    let plan = scene.pass();
    assert_eq!((outcome(&plan), plan.record.attempts[&STAGE].failures), (Some(&AttemptOutcome::Disrupted), 0));
    assert_eq!(reason_of(&plan, ConditionType::Trained), Some("Disrupted"));
    assert!(message_of(&plan, ConditionType::Trained).contains("Unschedulable: 0/3 nodes"));
}

#[test]
fn a_pod_that_was_taken_away_ends_the_attempt_and_counts_for_nothing() {
    let taken = |index| PodFacts {
        disrupted: true,
        trouble: Some(Trouble { reason: "PreemptionByScheduler".into(), message: "a larger one".into() }),
        ..rank(index, PodPhase::Failed, Some(143), None)
    };
    let bereft = || rank(0, PodPhase::Failed, Some(11), Some(&failed(FailureClass::Unavailable)));
    let condition = "Pod ml/x has condition DisruptionTarget matching FailJob rule at index 0";
    let code = "Container sera for pod ml/x failed with exit code 143 matching FailJob rule at index 1";
    for (reason, message, pods) in [
        ("PodFailurePolicy", condition, vec![]),
        ("PodFailurePolicy", condition, vec![bereft()]),
        ("BackoffLimitExceeded", "", vec![bereft(), taken(1)]),
        ("PodFailurePolicy", code, vec![]),
        ("BackoffLimitExceeded", "", vec![rank(0, PodPhase::Failed, Some(143), None)]),
    ] {
        let mut scene = at_work();
        for attempt in 1..=5 {
            let plan = fail(&mut scene, reason, message, pods.clone());
            assert_eq!(
                (number(&plan), outcome(&plan)),
                (attempt, Some(&AttemptOutcome::Disrupted)),
                "{message} {pods:?}"
            );
            assert_eq!(plan.record.attempts[&STAGE].failures, 0, "{message}");
            assert_eq!(
                (plan.record.phase, reason_of(&plan, ConditionType::Reconciling)),
                (Some(Phase::Running), Some("Disrupted"))
            );
            assert!(plan.record.failures.is_empty());
            try_again(&mut scene);
        }
    }
}

#[test]
fn the_pod_that_is_the_cause_is_told_of_and_not_those_that_miss_it() {
    let bereft = |index| rank(index, PodPhase::Failed, Some(11), Some(&failed(FailureClass::Unavailable)));
    let killed = PodFacts {
        trouble: Some(Trouble { reason: "OOMKilled".into(), message: Box::default() }),
        ..rank(1, PodPhase::Failed, Some(137), None)
    };
    let mistaken = PodFacts {
        finished: Some(at(9)),
        ..rank(1, PodPhase::Failed, Some(10), Some(&failed(FailureClass::Configuration)))
    };
    let early =
        PodFacts { finished: Some(at(1)), ..rank(1, PodPhase::Failed, Some(1), Some(&failed(FailureClass::Internal))) };
    for (pods, told) in [
        (vec![bereft(0), killed], "OutOfMemory"),
        (vec![bereft(0), mistaken], "BecauseConfiguration"),
        (vec![bereft(0), early], "BecauseInternal"),
        (vec![bereft(0), rank(1, PodPhase::Failed, Some(143), None)], "BecauseUnavailable"),
        (vec![], "BackoffLimitExceeded"),
    ] {
        let mut scene = at_work();
        let plan = fail(&mut scene, "BackoffLimitExceeded", "", pods);
        assert_eq!(reason_of(&plan, ConditionType::Trained), Some(told));
        assert_eq!(plan.record.attempts[&STAGE].failures, 1);
        assert!(plan.record.locked.contains(&STAGE), "there may be checkpoints of what it says");
    }
}

#[test]
fn memory_that_a_trainer_lacks_is_that_of_the_pods_that_train() {
    let mut scene = at_work();
    let trouble = Some(Trouble { reason: "OOMKilled".into(), message: Box::default() });
    let plan = fail(
        &mut scene,
        "BackoffLimitExceeded",
        "",
        vec![PodFacts { trouble, ..rank(0, PodPhase::Failed, Some(137), None) }],
    );
    let said = message_of(&plan, ConditionType::Trained);
    let expected =
        "spec.pods.train.resources.limits.memory: the program was killed at its memory limit of 2Gi: raise it";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn as_many_attempts_as_may_fail_end_it_for_good_and_only_a_retry_begins_again() {
    let mut scene = at_work();
    let broken = || vec![rank(0, PodPhase::Failed, Some(1), Some(&failed(FailureClass::Internal)))];
    for attempt in 1..=2 {
        let plan = fail(&mut scene, "BackoffLimitExceeded", "", broken());
        assert_eq!((plan.record.phase, number(&plan)), (Some(Phase::Running), attempt));
        // Another spec forgives nothing: what is trained cannot be changed any more.
        scene.edit(|intent| intent.keep_failed = SignedDuration::ZERO);
        try_again(&mut scene);
    }
    fail(&mut scene, "PodFailurePolicy", "Pod ml/x has condition DisruptionTarget matching", vec![]);
    try_again(&mut scene);
    let plan = fail(&mut scene, "BackoffLimitExceeded", "", broken());
    assert_eq!((plan.record.phase, number(&plan)), (Some(Phase::Failed), 4), "one of the four was no failure");
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("AttemptsExhausted"), "as kstatus has it");
    assert!(plan.record.times[&STAGE].ended.is_some());
    try_again(&mut scene);
    let still = scene.pass();
    assert_eq!((still.record.phase, number(&still), still.look_again), (Some(Phase::Failed), 4, None));
    scene.edit(|intent| (intent.retry, intent.suspend) = ("again".into(), true));
    let held = scene.pass();
    assert_eq!(held.record.phase, Some(Phase::Suspended));
    assert!(!held.record.locked.contains(&STAGE), "now its owner may put right what was wrong");
    scene.edit(|intent| intent.suspend = false);
    let again = scene.pass();
    assert_eq!((number(&again), again.record.attempts[&STAGE].failures), (5, 0));
    assert!(again.record.locked.contains(&STAGE) && again.record.times[&STAGE].ended.is_none());
}

#[test]
fn a_gang_of_which_a_quota_refuses_a_pod_says_so_though_the_others_work() {
    let mut scene = at_work();
    scene.have(JobFacts { active: 1, ready: 1, ..gang(1) }, Vec::new());
    let waiting = scene.pass();
    assert_eq!(waiting.look_again, Some(scene.now + ASK_AGAIN), "to ask why the other does not come");
    scene.observed.evidence.get_mut(&STAGE).unwrap().refused_pod =
        Some("pods \"x\" is forbidden: exceeded quota: small".into());
    let refused = scene.pass();
    assert_eq!(reason_of(&refused, ConditionType::Trained), Some("QuotaExceeded"));
    let said = message_of(&refused, ConditionType::Trained);
    assert!(said.ends_with("raise the quota, or ask for less in spec.pods.train.resources"), "{said}");
}

#[test]
fn a_retry_of_what_was_suspended_unlocks_it_once_it_has_ended() {
    let mut scene = at_work();
    scene.edit(|intent| (intent.retry, intent.suspend) = ("again".into(), true));
    let held = scene.pass();
    assert!(held.record.locked.contains(&STAGE), "its pods are at work");
    scene.have_nothing();
    assert!(!scene.pass().record.locked.contains(&STAGE));
}

#[test]
fn suspending_ends_the_gang_and_resuming_makes_the_next_when_its_pods_are_gone() {
    let mut scene = at_work();
    scene.observed.live = Some(Live::Training(LiveTraining {
        step: 5,
        total_steps: 96,
        tokens_per_second: 9.0,
        ..LiveTraining::default()
    }));
    scene.pass();
    scene.edit(|intent| intent.suspend = true);
    let plan = scene.pass();
    assert_eq!((plan.record.phase, outcome(&plan)), (Some(Phase::Suspended), Some(&AttemptOutcome::Withdrawn)));
    let status = plan.record.training.clone().unwrap();
    assert_eq!((status.step, status.tokens_per_second), (5, None));
    assert_eq!(removed(&scene.pass()), ["billing-3f2c9-t1"]);
    scene.have(JobFacts { deleting: true, ..gang(1) }, Vec::new());
    let hurried = |plan: &Plan| plan.remove.iter().any(|removal| removal.kind == Removable::PodsOfJob);
    assert!(hurried(&scene.pass()), "their GPUs are wanted within a minute");
    scene.edit(|intent| intent.suspend = false);
    let plan = scene.pass();
    assert_eq!(number(&plan), 1, "its pods may be writing their checkpoint");
    assert!(!hurried(&plan), "nobody is in a hurry any more");
    scene.have_nothing();
    let plan = scene.pass();
    assert_eq!((number(&plan), plan.record.attempts[&STAGE].failures), (2, 0));
    assert_eq!(scene.pass().make, [Make::Job { stage: STAGE, attempt: 2 }]);
}

#[test]
fn a_gang_that_its_queue_takes_back_is_waiting_and_has_no_pace() {
    let mut scene = at_work();
    scene.observed.live = Some(Live::Training(LiveTraining { tokens_per_second: 9.0, ..LiveTraining::default() }));
    scene.pass();
    scene.observed.live = None;
    scene.have(JobFacts { suspended: true, active: 0, ready: 0, started: None, ..gang(1) }, Vec::new());
    let plan = scene.pass();
    assert_eq!((outcome(&plan), reason_of(&plan, ConditionType::Reconciling)), (None, Some("Queued")));
    assert_eq!(plan.record.training.unwrap().tokens_per_second, None);
}

#[test]
fn what_was_said_stands_in_the_moment_between_a_pods_end_and_the_news_of_it() {
    let mut scene = at_work();
    scene.observed.live = Some(Live::Training(LiveTraining { step: 95, total_steps: 96, ..LiveTraining::default() }));
    let before = scene.pass();
    scene.observed.live = None;
    scene.have(JobFacts { ready: 0, ..gang(1) }, Vec::new());
    let plan = scene.pass();
    assert_eq!(message_of(&plan, ConditionType::Trained), message_of(&before, ConditionType::Trained));
    assert!(message_of(&plan, ConditionType::Trained).contains("step 95 of 96"));
}
