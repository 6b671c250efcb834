//! The two kinds as subjects: what status remembers survives the way through it, and what an owner wants is read with its fields' right names.

use jiff::Timestamp;
use sera_crds::{
    RolloutBatch, SpecializationRun,
    contract::{Failure, FailureClass},
    run::Phase,
    values::Stage,
};
use serde_json::{Value, json};

use super::*;
use crate::plan::{
    SnapshotIntent,
    conditions::{ConditionType, Pen, Reason, Truth, Why},
    record::{Attempt, AttemptOutcome, PastFailure, Snapshot, StageTime},
};

fn run(spec: &Value) -> SpecializationRun {
    let mut whole = json!({
        "source": {"git": {"url": "https://git.example/a.git", "revision": "main"}},
        "teacher": {"rehearsal": {}},
        "generation": {"acceptedTrajectories": 10},
        "training": {"student": {"uri": "builtin://tiny"}, "method": {"lora": {}}},
        "output": {"store": "s3://acme/sera"},
    });
    merge(&mut whole, spec);
    let metadata = json!({"name": "billing", "namespace": "ml", "uid": "3f2c9a10-0000", "generation": 2});
    serde_json::from_value(
        json!({"apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun", "metadata": metadata, "spec": whole}),
    )
    .unwrap()
}

fn batch(spec: &Value) -> RolloutBatch {
    let mut whole = json!({"samples": {"count": 4}});
    merge(&mut whole, spec);
    let metadata = json!({"name": "try-out", "namespace": "ml", "uid": "77777777-0000", "generation": 1});
    serde_json::from_value(
        json!({"apiVersion": "sera.dev/v1alpha1", "kind": "RolloutBatch", "metadata": metadata, "spec": whole}),
    )
    .unwrap()
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().unwrap() {
        into[key] = value.clone();
    }
}

fn no_run(_: &str) -> RunSnapshot {
    RunSnapshot::NoSuchRun
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

/// A record in which everything has a value of its own.
fn full_record() -> Record {
    let mut attempt = Attempt::after(None, 2, at(1));
    attempt.job = Some("job-uid".into());
    let failure = Failure {
        class: FailureClass::Conflict,
        reason: "StoreHoldsOther".into(),
        field: Some("spec.output.store".into()),
        message: "another run's snapshot lies there".into(),
    };
    attempt.finish(AttemptOutcome::Failed(failure.clone()), at(2));
    let mut record = Record {
        observed_generation: Some(2),
        phase: Some(Phase::Stalled),
        retry: "token".into(),
        snapshot: Some(Snapshot {
            uri: "s3://acme/sera/snapshot/manifest.json".into(),
            sha256: "cd".repeat(32).parse().unwrap(),
            commit: "c0ffee".into(),
            commits: 3,
        }),
        progress: Some((Stage::Snapshot, 100)),
        store: Some("s3://acme/sera".into()),
        teacher: Some("rehearsal".into()),
        ..Record::default()
    };
    record.attempts.insert(Stage::Snapshot, attempt);
    record.times.insert(Stage::Snapshot, StageTime { began: at(1), ended: Some(at(3)) });
    record.images.insert("snapshot".into(), "registry/rollout@sha256:77".into());
    // Of a failure that is past, whose turn it was is not kept.
    let past = Failure { class: FailureClass::Internal, ..failure };
    record.failures.push(PastFailure { stage: Stage::Snapshot, attempt: 1, at: at(2), failure: past });
    let pen = Pen { generation: 2, now: at(4) };
    record.conditions.set(pen, ConditionType::Ready, Truth::False, Why::new(Reason::NotImplemented, "not yet"));
    record.conditions.set(pen, ConditionType::Validated, Truth::Unknown, Why::new(Reason::Pending, "soon"));
    record
}

#[test]
fn what_status_is_told_it_remembers() {
    let record = full_record();
    assert_eq!(batch(&json!({"runRef": {"name": "billing"}})).with_record(&record).record(), record);
    let mut of_run = record;
    of_run.locked.insert(Stage::Snapshot);
    let run = run(&json!({})).with_record(&of_run);
    assert_eq!(run.record(), of_run);
    let written: SpecializationRun = serde_json::from_value(serde_json::to_value(&run).unwrap()).unwrap();
    assert_eq!(written.record(), of_run, "nor is anything lost on the wire");
    assert_eq!(run.status_json()["attempts"], json!({"Snapshot": 1}));
}

#[test]
fn a_status_keeps_what_is_none_of_a_plans_business() {
    let mut run = run(&json!({}));
    let status = run.status.get_or_insert_default();
    status.artifacts.get_or_insert_default().report =
        Some(serde_json::from_value(json!({"uri": "s3://a/report", "sha256": "ef".repeat(32)})).unwrap());
    let written = run.with_record(&full_record()).status.unwrap().artifacts.unwrap();
    assert!(written.report.is_some() && written.snapshot.is_some());
}

#[test]
fn a_run_wants_its_snapshot_in_its_own_folder() {
    let spec = json!({
        "source": {"git": {"url": "https://git.example/a.git", "revision": "v2", "credentialsSecretRef": {"name": "git"}}, "commits": {"count": 2, "lookbackDays": 9}},
        "output": {"store": "s3://acme/sera/", "credentialsSecretRef": {"name": "s3"}},
        "pods": {"default": {"priorityClassName": "low"}, "snapshot": {"serviceAccountName": "reader"}},
    });
    let wish = run(&spec).wish(&RunDefaults::default(), &no_run);
    assert_eq!(wish.intent.snapshot, SnapshotIntent::Take { folder: "s3://acme/sera/ml/billing/3f2c9a10-0000".into() });
    assert_eq!(wish.intent.teacher.as_deref(), Some("rehearsal"), "nobody takes it for a model");
    let snapshot = wish.snapshot.unwrap();
    assert_eq!(
        (snapshot.url.as_str(), snapshot.revision.as_str(), snapshot.commits.count),
        ("https://git.example/a.git", "v2", 2)
    );
    assert_eq!(snapshot.git_credentials, Some(("git".into(), "spec.source.git.credentialsSecretRef")));
    assert_eq!(snapshot.store_credentials, Some(("s3".into(), "spec.output.credentialsSecretRef")));
    let (class, account) = (snapshot.pods.priority_class_name.unwrap(), snapshot.pods.service_account_name.unwrap());
    assert_eq!((class.as_str(), account.as_str()), ("low", "reader"));
}

#[test]
fn a_repository_on_github_is_cloned_with_githubs_secret() {
    let source = json!({"github": {"owner": "acme", "repository": "billing", "credentialsSecretRef": {"name": "gh"}}});
    let snapshot = run(&json!({"source": source})).wish(&RunDefaults::default(), &no_run).snapshot.unwrap();
    assert_eq!(snapshot.url, "https://github.com/acme/billing.git");
    assert_eq!(snapshot.git_credentials, Some(("gh".into(), "spec.source.github.credentialsSecretRef")));
}

#[test]
fn a_run_without_a_store_is_told_which_field_is_missing() {
    let wish = run(&json!({"output": {}})).wish(&RunDefaults::default(), &no_run);
    assert_eq!(wish.intent.findings.len(), 1);
    assert_eq!(wish.intent.findings[0].field, "spec.output.store");
    assert!(wish.intent.findings[0].message.starts_with("is required"), "{}", wish.intent.findings[0].message);
    let platform: RunDefaults = serde_json::from_value(json!({"claim": "data"})).unwrap();
    let wish = run(&json!({"output": {}})).wish(&platform, &no_run);
    assert_eq!(wish.intent.findings, []);
    assert_eq!(wish.snapshot.unwrap().store.claim(), Some("data"));
}

#[test]
fn a_bad_glob_is_found_though_the_api_server_admits_it() {
    let source = json!({"git": {"url": "https://git.example/a.git"}, "include": ["src/**", "src/[a"]});
    let findings = run(&json!({"source": source})).wish(&RunDefaults::default(), &no_run).intent.findings;
    assert_eq!(findings[0].field, "spec.source.include[1]");
}

#[test]
fn what_is_not_part_of_this_release_is_said_by_its_field() {
    for (spec, field) in [
        (json!({"output": {"store": "s3://acme/sera", "reclaimPolicy": "Delete"}}), "spec.output.reclaimPolicy"),
        (json!({"from": {"uri": "s3://acme/sera/ml/old/1", "through": "Snapshot"}}), "spec.from"),
    ] {
        let unsupported = run(&spec).wish(&RunDefaults::default(), &no_run).intent.unsupported.unwrap();
        assert!(unsupported.starts_with(field), "{unsupported}");
    }
    assert_eq!(run(&json!({})).wish(&RunDefaults::default(), &no_run).intent.unsupported, None);
}

#[test]
fn a_batch_takes_adopts_or_waits_for_its_snapshot() {
    let own = batch(&json!({
        "source": {"git": {"url": "https://git.example/a.git"}}, "teacher": {"rehearsal": {}}, "generation": {}, "output": {"store": "pvc://data/sera"},
    }));
    let wish = own.wish(&RunDefaults::default(), &no_run);
    assert_eq!(
        wish.intent.snapshot,
        SnapshotIntent::Take { folder: "pvc://data/sera/ml/try-out/77777777-0000".into() }
    );
    assert!(wish.snapshot.is_some());

    let adopting =
        batch(&json!({"snapshot": {"uri": "s3://acme/sera/ml/old/1"}, "teacher": {"rehearsal": {}}, "generation": {}}));
    let wish = adopting.wish(&RunDefaults::default(), &no_run);
    assert_eq!(wish.intent.snapshot, SnapshotIntent::Adopt { folder: "s3://acme/sera/ml/old/1".into() });
    assert_eq!(wish.intent.findings, [], "it needs no store of its own to read one");

    let following = batch(&json!({"runRef": {"name": "billing"}}));
    assert_eq!(following.awaited_run(), Some("billing"));
    let ready = |name: &str| RunSnapshot::Ready(format!("of {name}"));
    let wish = following.wish(&RunDefaults::default(), &ready);
    let progress = RunSnapshot::Ready("of billing".into());
    assert_eq!(wish.intent.snapshot, SnapshotIntent::OfRun { run: "billing".into(), progress });
}
