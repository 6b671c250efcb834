//! The plan as a table: from a state and what has happened, to what is made, what goes, what status says and when to look again.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sera_crds::{
    contract::{Artifact, Failure, FailureClass, StageResult, Termination},
    run::Phase,
    values::Stage,
};

use super::{
    Finding, Intent, Make, Observed, Plan, RunSnapshot, SnapshotIntent,
    conditions::{ConditionType, Truth},
    plan,
    record::{AttemptOutcome, Record},
    settle::{Made, settle},
    sight::Evidence,
};
use crate::{
    facts::{JobEnd, JobFacts, JobFailure, PodFacts, PodPhase, Trouble, Uid},
    names::{Kind, Owner},
};

/// The run under test, with every name different from every other.
pub(super) fn owner() -> Owner {
    Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: "3f2c9a10-0000".into() }
}

pub(super) fn intent() -> Intent {
    Intent {
        findings: Vec::new(),
        unsupported: None,
        suspend: false,
        retry: String::new(),
        snapshot: SnapshotIntent::Take { folder: "s3://acme/sera/ml/billing/3f2c9a10-0000".into() },
        teacher: Some("rehearsal".into()),
        keep_succeeded: SignedDuration::from_hours(24),
        keep_failed: SignedDuration::from_hours(168),
    }
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

pub(super) fn failure(class: FailureClass) -> Failure {
    let field = (class == FailureClass::Configuration).then(|| "spec.source.git.revision".to_owned());
    Failure { class, reason: format!("Because{class:?}"), field, message: "no branch, tag or commit 'mian'".into() }
}

pub(super) fn success() -> Termination {
    Termination::succeeded(StageResult::Snapshot {
        manifest: Artifact { path: "snapshot/manifest.json".into(), sha256: "ab".repeat(32) },
        commit: "c0ffee00".into(),
        commits: 5,
        bundle_bytes: 1234,
    })
}

pub(super) fn job(attempt: u32) -> JobFacts {
    JobFacts {
        name: owner().job_name(Stage::Snapshot, attempt).into(),
        uid: format!("job-{attempt}").into(),
        controller: Some(owner().uid),
        created: at(0),
        started: Some(at(0)),
        deleting: false,
        suspended: false,
        active: 1,
        ready: 1,
        end: None,
    }
}

pub(super) fn pod(phase: PodPhase, message: Option<&Termination>) -> PodFacts {
    PodFacts {
        name: "billing-3f2c9-s1-0-x".into(),
        uid: "pod-1".into(),
        job: "job-1".into(),
        index: 0,
        phase,
        created: at(0),
        finished: matches!(phase, PodPhase::Failed | PodPhase::Succeeded).then(|| at(5)),
        exit_code: match phase {
            PodPhase::Succeeded => Some(0),
            PodPhase::Failed => Some(1),
            PodPhase::Pending | PodPhase::Unknown => None,
        },
        message: message.map(|message| message.to_json().into()),
        image: Some("registry.example/rollout@sha256:77".into()),
        trouble: None,
    }
}

fn pending(reason: &str, message: &str) -> PodFacts {
    let trouble = Some(Trouble { reason: reason.into(), message: message.into() });
    PodFacts { trouble, ..pod(PodPhase::Pending, None) }
}

pub(super) fn ended(job: JobFacts, failure: Option<&str>) -> JobFacts {
    let failure = failure.map(|reason| JobFailure { reason: reason.into(), message: "a pod failed".into() });
    JobFacts { active: 0, ready: 0, end: Some(JobEnd { at: at(6), failure }), ..job }
}

/// A run and its surroundings, moved on by hand.
struct Scene {
    observed: Observed,
    now: Timestamp,
}

impl Scene {
    /// A run that nobody has looked at.
    fn new() -> Self {
        let observed = Observed {
            owner: owner(),
            generation: 1,
            deleting: false,
            record: Record::default(),
            intent: Some(intent()),
            defaults_problem: None,
            jobs: Vec::new(),
            evidence: Evidence::default(),
        };
        Self { observed, now: at(0) }
    }

    /// A run whose first attempt's Job was made.
    fn with_job_made() -> Self {
        let mut scene = Self::new();
        scene.pass();
        scene.pass();
        scene.have(job(1), Vec::new());
        scene
    }

    fn plan(&self) -> Plan {
        plan(&self.observed, self.now)
    }

    /// Plans, lets every child be made, and reads the status back.
    fn pass(&mut self) -> Plan {
        let plan = self.plan();
        let made = plan.make.iter().map(|make| match make {
            Make::Defaults => Made::Defaults,
            Make::Job { stage, attempt } => Made::Job { stage: *stage, uid: format!("job-{attempt}").into() },
        });
        let plan = settle(plan.clone(), made.collect(), &self.observed, self.now);
        self.observed.record = plan.record.clone();
        self.drop_evidence_of_other_attempts();
        plan
    }

    /// As observing does it: evidence is of the current attempt's Job alone.
    fn drop_evidence_of_other_attempts(&mut self) {
        let current = self
            .observed
            .record
            .attempts
            .get(&Stage::Snapshot)
            .map(|attempt| owner().job_name(Stage::Snapshot, attempt.number));
        let evidence = &mut self.observed.evidence;
        if evidence.job.as_ref().is_some_and(|job| Some(&*job.name) != current.as_deref()) {
            *evidence = Evidence::default();
        }
    }

    /// Sets what is to be seen of the Job and its pods.
    fn have(&mut self, job: JobFacts, pods: Vec<PodFacts>) {
        self.observed.jobs = vec![Arc::new(job.clone())];
        self.observed.evidence =
            Evidence { job: Some(Arc::new(job)), pods: pods.into_iter().map(Arc::new).collect(), refused_pod: None };
    }

    /// Nothing is to be seen of any Job.
    fn have_nothing(&mut self) {
        self.observed.jobs = Vec::new();
        self.observed.evidence = Evidence::default();
    }

    fn intent(&mut self) -> &mut Intent {
        self.observed.intent.as_mut().unwrap()
    }

    fn edit(&mut self, change: impl FnOnce(&mut Intent)) {
        change(self.intent());
        self.observed.generation += 1;
    }
}

fn reason_of(plan: &Plan, kind: ConditionType) -> Option<&str> {
    plan.record.conditions.get(kind).map(|condition| condition.reason.as_str())
}

fn message_of(plan: &Plan, kind: ConditionType) -> &str {
    plan.record.conditions.get(kind).map_or("", |condition| &condition.message)
}

fn attempt_of(plan: &Plan) -> (u32, Option<&AttemptOutcome>) {
    let attempt = &plan.record.attempts[&Stage::Snapshot];
    (attempt.number, attempt.end.as_ref().map(|end| &end.outcome))
}

const THE_JOB: Make = Make::Job { stage: Stage::Snapshot, attempt: 1 };

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
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("NotImplemented"));
    assert_eq!(plan.record.images["snapshot"], "registry.example/rollout@sha256:77");
    assert_eq!(plan.record.times[&Stage::Snapshot].ended, Some(at(9)));
    assert_eq!(scene.pass().record, plan.record);
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
    scene.observed.evidence.refused_pod = Some("pods \"x\" is forbidden: exceeded quota: small".into());
    scene.now = at(7);
    assert_eq!(reason_of(&scene.pass(), ConditionType::Reconciling), Some("QuotaExceeded"));
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
fn a_job_that_the_api_server_refuses_ends_the_attempt_with_its_words() {
    let mut scene = Scene::new();
    scene.pass();
    let refused = Made::JobRefused { stage: Stage::Snapshot, failure: failure(FailureClass::Configuration) };
    let plan = settle(scene.plan(), vec![refused], &scene.observed, scene.now);
    assert_eq!((plan.record.phase, attempt_of(&plan).0), (Some(Phase::Stalled), 1));
    assert!(attempt_of(&plan).1.is_some());
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
fn an_object_that_is_being_deleted_is_left_alone() {
    let mut scene = Scene::with_job_made();
    scene.observed.deleting = true;
    let plan = scene.plan();
    assert_eq!((plan.make.len(), plan.remove.len(), plan.look_again), (0, 0, None));
    assert_eq!(plan.record, scene.observed.record);
}

#[test]
fn a_batch_waits_for_its_runs_snapshot_and_then_takes_it() {
    let mut scene = Scene::new();
    let of_run = |progress| SnapshotIntent::OfRun { run: "billing".into(), progress };
    for progress in [RunSnapshot::NoSuchRun, RunSnapshot::NotYet] {
        scene.intent().snapshot = of_run(progress);
        assert_eq!(reason_of(&scene.pass(), ConditionType::Reconciling), Some("Waiting"));
    }
    scene.intent().snapshot = of_run(RunSnapshot::Ready("s3://a/snapshot/manifest.json".into()));
    let plan = scene.pass();
    assert!(plan.record.conditions.holds(ConditionType::Snapshotted));
    assert_eq!(reason_of(&plan, ConditionType::Stalled), Some("NotImplemented"));
    scene.intent().snapshot = of_run(RunSnapshot::NoSuchRun);
    assert!(
        scene.pass().record.conditions.holds(ConditionType::Snapshotted),
        "what was taken over stays when the run goes"
    );
}
