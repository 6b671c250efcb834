//! The plan as a table: from a state and what has happened, to what is made, what goes, what status says and when to look again. Here are the objects
//! under test, in `scene` what moves them on; the tests are sorted by what happens.

mod adoption;
mod attempts;
mod batch;
mod evaluation;
mod failures;
mod figures;
mod generation;
mod means;
mod owner;
mod reclaim;
mod scene;
mod serving;
mod starting;
mod training;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use sera_crds::{
    contract::{
        AdoptedDataset, AdoptedRollouts, Artifact, BudgetSlice, Failure, FailureClass, Interval, Silence, StageResult,
        Termination, Usage, VerificationCounts,
    },
    run::{GenerationTotals, Phase},
    values::{Measure, Precision, Sha256, Stage, Verdict},
};

use self::scene::Scene;
use super::{
    BatchWork, EvaluationWork, Finding, Hosted, Intent, Make, Plan, Policy, Reclaim, Removable, Removal, RunSnapshot,
    RunWork, ServingWork, SnapshotIntent, TrainingWork, Work,
    conditions::{ConditionType, Truth},
    record::{AttemptOutcome, Paused, Record},
    settle::{Made, settle},
    sight,
};
use crate::{
    facts::{
        BatchFacts, JobEnd, JobFacts, JobFailure, Live, LiveRollouts, LiveTraining, PodFacts, PodPhase, ServerFacts,
        ServerForm, ServerRole, Trouble, Uid,
    },
    names::{Kind, Owner},
};

/// The run under test, with every name different from every other.
pub(super) fn owner() -> Owner {
    Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: "3f2c9a10-0000".into() }
}

/// A run that wants 16 trajectories, ten of them first ones, in batches of 8 samples, two at a time.
pub(super) fn intent() -> Intent {
    Intent {
        findings: Vec::new(),
        unsupported: None,
        suspend: false,
        retry: String::new(),
        run_generation: None,
        folder: "s3://acme/sera/ml/billing/3f2c9a10-0000".into(),
        snapshot: SnapshotIntent::Take,
        teacher: Some("rehearsal".into()),
        hosted: Some(Hosted::Own),
        teacher_form: ServerForm::Deployment,
        copies: 1,
        start_deadline: SignedDuration::from_mins(15),
        keep_succeeded: SignedDuration::from_hours(24),
        keep_failed: SignedDuration::from_hours(168),
        student_claim: Some("models".into()),
        requests: Some(BTreeMap::new()),
        work: Some(Work::Run(Box::new(RunWork {
            accepted: 16,
            first_share: "0.625".parse().unwrap(),
            max_samples: 40,
            batch_size: 8,
            parallel: 2,
            policy: policy('1'),
            dataset: digest('d'),
            budget: BudgetSlice::default(),
            max_duration: None,
            training: TrainingWork {
                max_attempts: 3,
                start_deadline: SignedDuration::from_mins(10),
                learning_rate: "5e-5".parse().unwrap(),
                precision: Precision::Fp32,
                on_gpus: false,
            },
            evaluation: None,
            serving: None,
        }))),
    }
}

/// A batch of 10 samples in three shards, which takes its snapshot itself.
pub(super) fn batch_intent() -> Intent {
    let work =
        BatchWork { samples: 10, shards: 3, policy: policy('1'), price: None, max_duration: None, of_run: false };
    Intent { work: Some(Work::Batch(work)), ..intent() }
}

/// One copy of the student, served by the builtin engine.
pub(super) fn serving() -> ServingWork {
    ServingWork {
        url: "http://billing-3f2c9-student.ml.svc:8000/v1".into(),
        model: "billing".into(),
        replicas: 1,
        unsupported: None,
    }
}

/// A policy that is told from others by this digit.
pub(super) fn policy(digit: char) -> Policy {
    Policy { measure: Measure::Recall, threshold: "0.5".parse().unwrap(), settings: digest(digit) }
}

pub(super) fn digest(digit: char) -> Sha256 {
    digit.to_string().repeat(64).parse().unwrap()
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

/// What the program says that has looked through what an earlier run has, and takes over its snapshot and what else is named.
pub(super) fn adoption(rollouts: Option<AdoptedRollouts>, dataset: Option<(u64, u64)>) -> Termination {
    Termination::succeeded(StageResult::Adoption {
        snapshot: Artifact { path: "snapshot/manifest.json".into(), sha256: "ab".repeat(32) },
        commit: "c0ffee00".into(),
        commits: 5,
        rollouts,
        dataset: dataset.map(|(accepted_first, accepted_second)| AdoptedDataset {
            manifest: Artifact { path: "dataset/manifest.json".into(), sha256: "ef".repeat(32) },
            accepted_first,
            accepted_second,
        }),
    })
}

/// What a verification says that accepted so many of 8 samples.
pub(super) fn counts(first: u64, second: u64) -> VerificationCounts {
    VerificationCounts {
        attempted: 8,
        accepted_first: first,
        accepted_second: second,
        usage: Usage { calls: 80, prompt_tokens: 900, cached_tokens: 700, completion_tokens: 100 },
        ..VerificationCounts::default()
    }
}

pub(super) fn verified(counts: VerificationCounts) -> Termination {
    Termination::succeeded(StageResult::Verification {
        verdicts: Artifact { path: "verified/billing-1/77.jsonl".into(), sha256: "cd".repeat(32) },
        policy: "77".repeat(32),
        counts,
    })
}

pub(super) fn dataset(first: u64, second: u64, complete: bool, dry: bool) -> Termination {
    let manifest = Artifact { path: "dataset/manifest.json".into(), sha256: "ef".repeat(32) };
    Termination::succeeded(StageResult::Dataset {
        manifest: (!dry).then_some(manifest),
        accepted_first: first,
        accepted_second: second,
        complete,
    })
}

/// What rank 0 says that has published the model.
pub(super) fn trained(steps: u32, loss: f64) -> Termination {
    Termination::succeeded(StageResult::Training {
        manifest: Artifact { path: "model/manifest.json".into(), sha256: "5a".repeat(32) },
        steps,
        loss,
        eval_loss: Some(1.5),
        learning_rate: 5e-5,
        warmup_steps: steps / 10,
    })
}

/// What the program says that has compared the student.
pub(super) fn evaluated(student: f64, verdict: Option<Verdict>, tasks: u64) -> Termination {
    let interval = |mean: f64| Interval { mean, low: mean - 0.05, high: mean + 0.05 };
    Termination::succeeded(StageResult::Evaluation {
        report: Artifact { path: "report/report.json".into(), sha256: "7e".repeat(32) },
        tasks,
        student: interval(student),
        base: interval(0.3),
        teacher: interval(0.6),
        verdict,
    })
}

/// What the program says that has deleted the data.
pub(super) fn erased() -> Termination {
    Termination::succeeded(StageResult::Reclaim { files: 7, bytes: 4_242 })
}

/// What the totals of a batch are that accepted so many of 8 samples.
pub(super) fn totals(first: u64, second: u64) -> GenerationTotals {
    super::totals::counted(&counts(first, second), None, &GenerationTotals::default())
}

pub(super) fn teacher(ready: u32) -> ServerFacts {
    server(owner().teacher_name(), ServerRole::Teacher, ready)
}

/// A student of one copy.
pub(super) fn student(ready: u32) -> ServerFacts {
    server(owner().student_name(), ServerRole::Student, ready)
}

/// A server of one copy, as the first generation of its owner's spec asks for it.
fn server(name: String, role: ServerRole, ready: u32) -> ServerFacts {
    ServerFacts {
        form: ServerForm::Deployment,
        uid: format!("{role:?}-1").to_lowercase().into(),
        name: name.into(),
        controller: Some(owner().uid),
        role,
        deleting: false,
        generation: Some(1),
        run_generation: None,
        ready,
        complete: ready == 1,
        trouble: None,
    }
}

pub(super) fn child(number: u32) -> BatchFacts {
    BatchFacts {
        name: owner().batch_name(number).into(),
        uid: format!("batch-{number}").into(),
        controller: Some(owner().uid),
        deleting: false,
        stalled: false,
        trouble: None,
        percent: 0,
        result: None,
    }
}

/// The Job of an attempt of the snapshot.
pub(super) fn job(attempt: u32) -> JobFacts {
    job_of(Stage::Snapshot, attempt)
}

pub(super) fn job_of(stage: Stage, attempt: u32) -> JobFacts {
    JobFacts {
        name: owner().job_name(stage, attempt).into(),
        uid: format!("job-{attempt}").into(),
        controller: Some(owner().uid),
        created: at(0),
        started: Some(at(0)),
        deleting: false,
        suspended: false,
        request: None,
        active: 1,
        ready: 1,
        terminating: 0,
        failed: 0,
        succeeded: 0,
        completions: 1,
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
        disrupted: false,
        memory_limit: Some("2Gi".into()),
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
