//! Pods that do not start: what is said of them, and when an attempt is given up for it.

use super::*;

#[test]
fn an_image_that_cannot_be_pulled_is_named_at_once_and_fails_the_attempt_at_the_deadline() {
    let mut scene = Scene::with_job_made();
    scene.now = at(3);
    scene.have(job(1), vec![pending("ImagePullBackOff", "Back-off pulling image \"nope\"")]);
    let plan = scene.pass();
    assert_eq!(reason_of(&plan, ConditionType::Reconciling), Some("ImagePullBackOff"));
    assert_eq!(plan.look_again, Some(at(6)));
    scene.now = at(7);
    assert_eq!(scene.pass().look_again, Some(at(900)));
    scene.now = at(900);
    let plan = scene.pass();
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("ImagePullBackOff"));
    assert_eq!(scene.pass().remove.len(), 1, "its pod would wait for ever");
}

#[test]
fn a_replacement_pod_has_the_whole_deadline_for_itself() {
    let mut scene = Scene::with_job_made();
    scene.now = at(5_000);
    let disrupted = PodFacts { finished: Some(at(4_990)), ..pod(PodPhase::Failed, None) };
    let replacement = PodFacts { created: at(4_995), ..pending("ImagePullBackOff", "nope") };
    scene.have(job(1), vec![disrupted, replacement]);
    let plan = scene.pass();
    assert_eq!((attempt_of(&plan), plan.look_again), ((1, None), Some(at(5_001))));
}

#[test]
fn a_pod_that_is_taken_away_long_after_it_started_has_not_failed_to_start() {
    let mut scene = Scene::with_job_made();
    scene.now = at(50_000);
    let taken = JobFacts { active: 0, ready: 0, terminating: 1, ..job(1) };
    scene.have(taken.clone(), Vec::new());
    assert_eq!(attempt_of(&scene.pass()), (1, None));
    // Its replacement is made after a wait.
    scene.have(JobFacts { terminating: 0, failed: 1, ..taken }, Vec::new());
    let plan = scene.pass();
    assert_eq!((attempt_of(&plan), plan.look_again), ((1, None), Some(at(50_030))));
}

#[test]
fn waiting_for_room_never_fails_an_attempt() {
    let mut scene = Scene::with_job_made();
    scene.have(job(1), vec![pending("Unschedulable", "0/3 nodes are available")]);
    scene.now = at(100_000);
    let plan = scene.pass();
    assert_eq!(attempt_of(&plan), (1, None));
    assert_eq!(reason_of(&plan, ConditionType::Reconciling), Some("Unschedulable"));
}

#[test]
fn time_in_a_queue_does_not_count_against_the_deadline() {
    let mut scene = Scene::with_job_made();
    scene.have(JobFacts { suspended: true, started: None, active: 0, ready: 0, ..job(1) }, Vec::new());
    scene.now = at(100_000);
    let plan = scene.pass();
    assert_eq!((attempt_of(&plan), reason_of(&plan, ConditionType::Reconciling)), ((1, None), Some("Queued")));
}

#[test]
fn a_pod_that_the_api_server_refuses_is_named_by_what_refuses_it() {
    let mut scene = Scene::with_job_made();
    scene.have(JobFacts { active: 0, ready: 0, ..job(1) }, Vec::new());
    scene.observed.evidence.get_mut(&Stage::Snapshot).unwrap().refused_pod =
        Some("pods \"x\" is forbidden: exceeded quota: small".into());
    scene.now = at(7);
    assert_eq!(reason_of(&scene.pass(), ConditionType::Reconciling), Some("QuotaExceeded"));
}

#[test]
fn a_pod_that_cannot_start_is_made_anew_by_a_spec_that_was_put_right() {
    let mut scene = Scene::with_job_made();
    scene.now = at(60);
    scene.have(job(1), vec![pending("Unschedulable", "0/3 nodes are available")]);
    assert_eq!(attempt_of(&scene.pass()), (1, None));
    scene.edit(|intent| intent.teacher = None);
    let plan = scene.pass();
    assert_eq!(attempt_of(&plan), (1, Some(&AttemptOutcome::Withdrawn)));
    scene.have_nothing();
    assert_eq!(attempt_of(&scene.pass()), (2, None));
}

#[test]
fn an_edit_leaves_alone_what_is_on_its_ordinary_way() {
    let mut scene = Scene::with_job_made();
    scene.now = at(3);
    scene.have(job(1), vec![pending("ContainerCreating", "")]);
    scene.edit(|intent| intent.teacher = None);
    assert_eq!(attempt_of(&scene.pass()), (1, None));
}

#[test]
fn a_container_that_outlives_its_program_is_named_and_is_looked_for_only_while_no_pod_is_ready() {
    for succeeded in [0, 1] {
        let mut scene = Scene::with_job_made();
        scene.now = at(5_000);
        let unready = JobFacts { ready: 0, succeeded, completions: 2, ..job(1) };
        scene.have(unready.clone(), Vec::new());
        let plan = scene.pass();
        assert_eq!(
            (reason_of(&plan, ConditionType::Reconciling), plan.look_again),
            (Some("Progressing"), Some(at(5_030)))
        );
        let outlived = Some("container istio-proxy of pod billing-3f2c9-s1-0-x2x4z".to_owned());
        scene.observed.evidence.get_mut(&Stage::Snapshot).unwrap().outlived = outlived;
        let plan = scene.pass();
        assert_eq!((reason_of(&plan, ConditionType::Reconciling), attempt_of(&plan)), (Some("Waiting"), (1, None)));
        let said = message_of(&plan, ConditionType::Reconciling);
        assert!(
            said.starts_with("container istio-proxy of pod billing-") && said.ends_with("spec.pods.snapshot"),
            "{said}"
        );

        scene.have(JobFacts { ready: 1, ..unready.clone() }, Vec::new());
        assert_eq!(scene.pass().look_again, None, "a pod is at work");
        scene.have(unready, vec![pending("ContainerCreating", "")]);
        assert!(!sight::is_unready(&scene.observed.evidence[&Stage::Snapshot]), "a pod has not started");
    }
}

#[test]
fn a_pod_whose_node_is_gone_is_named_with_what_ends_it() {
    let mut scene = Scene::with_job_made();
    scene.now = at(5_000);
    scene.have(JobFacts { active: 0, ready: 0, terminating: 1, ..job(1) }, Vec::new());
    let plan = scene.pass();
    assert_eq!((reason_of(&plan, ConditionType::Reconciling), plan.look_again), (Some("Progressing"), Some(at(5_030))));
    scene.observed.evidence.get_mut(&Stage::Snapshot).unwrap().overdue = Some("billing-3f2c9-s1-x7x2p".into());
    let plan = scene.pass();
    assert_eq!(reason_of(&plan, ConditionType::Reconciling), Some("Waiting"));
    let said = message_of(&plan, ConditionType::Reconciling);
    assert!(said.contains("billing-3f2c9-s1-x7x2p") && said.contains("out-of-service"), "{said}");
}

#[test]
fn a_webhook_that_does_not_answer_is_waited_for_in_its_words() {
    let mut scene = Scene::new();
    scene.pass();
    let words = r#"failed calling webhook "validate.policy.example""#;
    let unanswered = Made::Unanswered { what: "Job", message: words.into() };
    let plan = settle(scene.plan(), vec![unanswered], &scene.observed, scene.now);
    assert_eq!((attempt_of(&plan), reason_of(&plan, ConditionType::Reconciling)), ((1, None), Some("Waiting")));
    assert!(message_of(&plan, ConditionType::Reconciling).contains(words));
    assert_eq!(plan.look_again, Some(at(30)));
}

/// The run's snapshot, whose Job asks its queue for this by now.
fn asks_for(intent: &mut Intent, digest: &str) {
    intent.requests = Some(BTreeMap::from([(Stage::Snapshot, digest.into())]));
}

#[test]
fn a_job_in_a_queue_is_made_anew_when_what_it_asks_for_changes_and_else_keeps_its_place() {
    let queued = || JobFacts { suspended: true, request: Some("first".into()), ..unstarted() };
    let mut scene = Scene::new();
    asks_for(scene.intent(), "first");
    scene.pass();
    scene.pass();
    scene.have(queued(), Vec::new());
    scene.pass();
    scene.edit(|intent| intent.teacher = None);
    assert_eq!(attempt_of(&scene.pass()), (1, None), "it asks for what is wanted");
    scene.edit(|intent| {
        intent.findings = vec![Finding { field: "spec.output.store".into(), message: "is required".into() }];
        asks_for(intent, "second");
    });
    assert_eq!(attempt_of(&scene.pass()), (1, None), "a spec with a mistake says nothing of what is wanted");
    scene.edit(|intent| {
        intent.findings.clear();
        intent.requests = None;
    });
    assert_eq!(attempt_of(&scene.pass()), (1, None), "nobody knows what is wanted");
    scene.edit(|intent| asks_for(intent, "second"));
    assert_eq!(attempt_of(&scene.pass()), (1, Some(&AttemptOutcome::Withdrawn)));
    assert_eq!(scene.pass().remove.len(), 1, "out of the queue");
    scene.have_nothing();
    assert_eq!(attempt_of(&scene.pass()), (2, None));
}

#[test]
fn a_job_leaves_its_queue_when_no_queue_is_named_any_more() {
    let mut scene = Scene::with_job_made();
    scene.have(JobFacts { suspended: true, request: Some("first".into()), ..unstarted() }, Vec::new());
    assert_eq!(attempt_of(&scene.pass()), (1, Some(&AttemptOutcome::Withdrawn)));
}

#[test]
fn what_a_job_asked_for_ends_nothing_that_was_admitted_or_that_never_asked() {
    for job in [
        JobFacts { request: Some("first".into()), ..job(1) },
        JobFacts { suspended: true, request: None, ..unstarted() },
    ] {
        let mut scene = Scene::with_job_made();
        asks_for(scene.intent(), "second");
        scene.have(job, Vec::new());
        assert_eq!(attempt_of(&scene.pass()), (1, None));
    }
}

/// A Job that has no pods yet.
fn unstarted() -> JobFacts {
    JobFacts { started: None, active: 0, ready: 0, ..job(1) }
}
