//! The two kinds as subjects: what status remembers survives the way through it, and what an owner wants is read with its fields' right names.

mod batches;
mod evaluation;
mod leaves;
mod mapping;
mod requests;

use jiff::Timestamp;
use sera_crds::{
    RolloutBatch, SpecializationRun,
    contract::{Failure, FailureClass},
    run::{EvaluationStatus, Phase, Score, TrainingStatus},
    values::{Stage, Verdict},
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::*;
use crate::build::HostedTeacher;
use crate::facts::ServerForm;
use crate::plan::{
    Hosted, RunSnapshot, ServingWork, SnapshotIntent, Work,
    conditions::{ConditionType, Pen, Reason, Truth, Why},
    record::{
        Attempt, AttemptOutcome, Batch, DryRun, Edition, Folded, Forecast, Generation, PastFailure, Paused, Slice,
        Snapshot, StageTime, Stored, Verification,
    },
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

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn digest(digit: char) -> sera_crds::values::Sha256 {
    digit.to_string().repeat(64).parse().unwrap()
}

fn generation() -> Generation {
    let totals = |attempted| sera_crds::run::GenerationTotals { attempted, accepted: 3, ..Default::default() };
    Generation {
        totals: totals(24),
        max_samples: Some(160),
        folded: Folded { through: 2, samples: 16, adopted: 3, policy: Some(digest('2')), totals: totals(16) },
        batches: vec![Batch {
            number: 3,
            from: 17,
            count: 8,
            uid: Some("batch-uid".into()),
            slice: Slice { max_cost: Some("1.5".parse().unwrap()), max_tokens: Some(900) },
        }],
        paused: Paused { seconds: 60, since: Some(at(8)) },
        dry_run: Some(DryRun {
            inputs: digest('3'),
            through: 1,
            accepted_first: 5,
            accepted_second: 4,
            complete: true,
        }),
        forecast: Some(Forecast { samples: 80, cost: Some("7.5".parse().unwrap()), finish: Some(at(900)) }),
    }
}

fn verification() -> Verification {
    let threshold = "0.5".parse().unwrap();
    let measure = sera_crds::values::Measure::F1;
    Verification { measure, threshold, settings: digest('4'), policy: digest('5'), finished: at(7) }
}

/// A record in which everything has a value of its own.
fn full_record() -> Record {
    let mut attempt = Attempt::after(None, Edition { own: 2, runs: Some(5) }, at(1));
    attempt.job = Some("job-uid".into());
    attempt.inputs = Some(digest('1'));
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
        eta: Some(at(99)),
        store: Some("s3://acme/sera".into()),
        teacher: Some("rehearsal".into()),
        ..Record::default()
    };
    record.generation = Some(generation());
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
    let of_batch = Record { verification: Some(verification()), ..record.clone() };
    assert_eq!(batch(&json!({"runRef": {"name": "billing"}})).with_record(&of_batch).record(), of_batch);
    let mut of_run = record;
    of_run.locked.insert(Stage::Snapshot);
    of_run.dataset = Some(Stored { uri: "s3://acme/sera/dataset/manifest.json".into(), sha256: digest('6') });
    of_run.model = Some(Stored { uri: "s3://acme/sera/model".into(), sha256: digest('7') });
    of_run.report = Some(Stored { uri: "s3://acme/sera/report/report.json".into(), sha256: digest('e') });
    let score = |mean: &str| {
        let [mean, low, high] = [mean, "0.1", "0.9"].map(|share| share.parse().unwrap());
        Some(Score { mean, low, high })
    };
    of_run.evaluation = Some(EvaluationStatus {
        student: score("0.4"),
        base: score("0.3"),
        teacher: score("0.6"),
        verdict: Some(Verdict::Improved),
    });
    of_run.training = Some(TrainingStatus {
        step: 7,
        total_steps: 96,
        loss: Some("1.25".parse().unwrap()),
        tokens_per_second: Some(800),
        attempt: 2,
        since_attempt: Some(2),
        learning_rate: Some("5e-5".parse().unwrap()),
        warmup_steps: Some(9),
        precision: Some(sera_crds::values::Precision::Bf16),
    });
    let mut disrupted = Attempt::after(None, Edition { own: 2, runs: None }, at(1));
    disrupted.finish(AttemptOutcome::Disrupted, at(2));
    of_run.attempts.insert(Stage::Training, disrupted);
    let run = run(&json!({})).with_record(&of_run);
    assert_eq!(run.record(), of_run);
    let written: SpecializationRun = serde_json::from_value(serde_json::to_value(&run).unwrap()).unwrap();
    assert_eq!(written.record(), of_run, "nor is anything lost on the wire");
    assert_eq!(run.status_json()["attempts"], json!({"Snapshot": 1, "Training": 1}));
}

#[test]
fn a_run_wants_its_snapshot_in_its_own_folder() {
    let spec = json!({
        "source": {"git": {"url": "https://git.example/a.git", "revision": "v2", "submodules": true, "credentialsSecretRef": {"name": "git"}}, "commits": {"count": 2, "lookbackDays": 9}},
        "output": {"store": "s3://acme/sera/", "credentialsSecretRef": {"name": "s3"}},
        "pods": {"default": {"priorityClassName": "low"}, "snapshot": {"serviceAccountName": "reader"}},
    });
    let wish = run(&spec).wish(&RunDefaults::default(), &Guide::Nobody);
    assert_eq!(
        (wish.intent.snapshot, wish.intent.folder.as_str()),
        (SnapshotIntent::Take, "s3://acme/sera/ml/billing/3f2c9a10-0000")
    );
    assert_eq!(wish.intent.teacher.as_deref(), Some("rehearsal"), "nobody takes it for a model");
    let blueprint = wish.blueprint.unwrap();
    let snapshot = blueprint.snapshot.as_ref().unwrap();
    assert_eq!(
        (snapshot.url.as_str(), snapshot.revision.as_str(), snapshot.submodules, snapshot.commits.count),
        ("https://git.example/a.git", "v2", true, 2)
    );
    let field = |name: &str, field| Some(SecretField { name: name.into(), field });
    assert_eq!(snapshot.credentials, field("git", "spec.source.git.credentialsSecretRef"));
    assert_eq!(blueprint.store_credentials, field("s3", "spec.output.credentialsSecretRef"));
    let pods = blueprint.settings(sera_crds::run::PodRole::Snapshot);
    let (class, account) = (pods.priority_class_name.unwrap(), pods.service_account_name.unwrap());
    assert_eq!((class.as_str(), account.as_str()), ("low", "reader"));
}

#[test]
fn a_run_trains_as_its_spec_says_and_what_it_leaves_open_follows_from_the_method_and_the_devices() {
    let training = json!({
        "student": {"uri": "pvc://models/tiny"}, "method": {"full": {}}, "nodes": 3, "gpusPerNode": 0, "ranksPerNode": 2,
        "maxAttempts": 7, "startDeadline": "90s", "epochs": 9,
    });
    let spec = json!({"training": training, "dataset": {"contextLength": 2048}, "evaluation": {"enabled": false}});
    let wish = run(&spec).wish(&RunDefaults::default(), &Guide::Nobody);
    let Some(Work::Run(work)) = wish.intent.work else { panic!("it is a run") };
    assert_eq!((work.training.max_attempts, work.training.start_deadline), (7, SignedDuration::from_secs(90)));
    assert_eq!(work.training.learning_rate.as_str(), "1e-5");
    assert_eq!(work.training.precision, sera_crds::values::Precision::Fp32);
    assert_eq!((&work.evaluation, &work.serving), (&None, &None));
    assert_eq!(wish.intent.student_claim.as_deref(), Some("models"), "beside the store, which is no claim");
    let parts = wish.blueprint.unwrap().training.unwrap();
    assert_eq!((parts.nodes, parts.ranks_per_node, parts.gpus_per_node), (3, 2, 0));
    assert_eq!((parts.plan.epochs, parts.plan.context_length, parts.start_deadline.as_str()), (9, 2048, "90s"));
    let mut shared = run(&json!({"output": {"store": "pvc://models/runs"}}));
    shared.spec.training.student.uri = "pvc://models/tiny".parse().unwrap();
    let wish = shared.wish(&RunDefaults::default(), &Guide::Nobody);
    assert_eq!(wish.intent.student_claim, None, "it is the store's");
}

#[test]
fn a_teacher_that_the_operator_serves_is_asked_by_its_service_and_the_models_name() {
    let serve = json!({
        "engine": "vLLM", "model": {"uri": "pvc://models/zai/GLM-4.5-Air"}, "replicas": 2, "gpusPerReplica": 8,
        "args": ["--tool-call-parser=glm45"], "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}],
    });
    let spec = json!({"teacher": {"serve": serve, "contextLength": 65536}});
    let wish = run(&spec).wish(&RunDefaults::default(), &Guide::Nobody);
    assert_eq!((wish.intent.unsupported, wish.intent.hosted, wish.intent.copies), (None, Some(Hosted::Own), 2));
    let Some(HostedTeacher::Model(model)) = wish.blueprint.unwrap().teacher else { panic!("it is a model") };
    assert_eq!((model.name.as_str(), model.replicas, model.gpus, model.context), ("GLM-4.5-Air", 2, 8, Some(65_536)));
    assert_eq!((model.arguments.len(), model.variables[0].name.as_str()), (1, "VLLM_LOGGING_LEVEL"));
    let parts = settings::teacher_parts(&run(&spec).spec.teacher, &run(&spec).owner());
    assert_eq!(
        (parts.url.as_str(), parts.model.as_str(), parts.is_rehearsal),
        ("http://billing-3f2c9-teacher.ml.svc:8000/v1", "GLM-4.5-Air", false)
    );
    assert_eq!(wish.intent.teacher_form, ServerForm::Deployment);
    let over_nodes = |engine: &str| {
        let serve = json!({"engine": engine, "model": {"uri": "pvc://models/GLM"}, "nodesPerReplica": 2});
        run(&json!({"teacher": {"serve": serve}})).wish(&RunDefaults::default(), &Guide::Nobody)
    };
    let wish = over_nodes("SGLang");
    assert_eq!((wish.intent.unsupported, wish.intent.teacher_form), (None, ServerForm::LeaderWorkerSet));
    let Some(HostedTeacher::Model(model)) = wish.blueprint.unwrap().teacher else { panic!("it is a model") };
    assert_eq!((model.nodes, model.gpus), (2, 2), "a GPU of each node, where nobody says how many");
    let unsupported = over_nodes("builtin").intent.unsupported.unwrap();
    assert!(unsupported.starts_with("spec.teacher.serve.nodesPerReplica: the engine builtin"), "{unsupported}");
}

#[test]
fn a_student_is_served_where_that_is_asked_for_and_not_while_the_run_is_held() {
    let served = |spec: &Value| -> (ServingWork, Option<u32>) {
        let wish = run(spec).wish(&RunDefaults::default(), &Guide::Nobody);
        let Some(Work::Run(work)) = wish.intent.work else { panic!("it is a run") };
        (work.serving.unwrap(), wish.blueprint.and_then(|blueprint| blueprint.serving).map(|parts| parts.replicas))
    };
    let serve = |serve: Value, suspend: bool| {
        served(&json!({"output": {"store": "pvc://data"}, "suspend": suspend, "serve": serve}))
    };
    let (work, replicas) = serve(json!({"enabled": true, "engine": "builtin", "replicas": 3}), false);
    assert_eq!((work.replicas, replicas, work.unsupported), (3, Some(3), None));
    assert_eq!((work.url.as_str(), work.model.as_str()), ("http://billing-3f2c9-student.ml.svc:8000/v1", "billing"));
    let (work, replicas) = serve(json!({"enabled": true, "engine": "builtin", "replicas": 3}), true);
    assert_eq!((work.replicas, replicas), (0, Some(0)));
    let both = json!({"enabled": true, "engine": "builtin", "api": ["OpenAI", "Anthropic"]});
    assert!(serve(both, false).0.unsupported.unwrap().starts_with("spec.serve.api: "));
    assert_eq!(serve(json!({"enabled": true, "api": ["OpenAI", "Anthropic"]}), false).0.unsupported, None, "vLLM does");
    let bucket = |engine: &str| served(&json!({"serve": {"enabled": true, "engine": engine}})).0.unsupported;
    assert_eq!((bucket("builtin"), bucket("vLLM")), (None, None), "a model in a bucket is served by each");
}

#[test]
fn a_repository_on_github_is_cloned_with_githubs_secret() {
    let source = json!({"github": {"owner": "acme", "repository": "billing", "credentialsSecretRef": {"name": "gh"}}});
    let wish = run(&json!({"source": source})).wish(&RunDefaults::default(), &Guide::Nobody);
    let snapshot = wish.blueprint.unwrap().snapshot.unwrap();
    assert_eq!(snapshot.url, "https://github.com/acme/billing.git");
    assert_eq!(snapshot.credentials.unwrap().field, "spec.source.github.credentialsSecretRef");
}

#[test]
fn a_run_without_a_store_is_told_which_field_is_missing() {
    let wish = run(&json!({"output": {}})).wish(&RunDefaults::default(), &Guide::Nobody);
    assert_eq!(wish.intent.findings.len(), 1);
    assert_eq!(wish.intent.findings[0].field, "spec.output.store");
    assert!(wish.intent.findings[0].message.starts_with("is required"), "{}", wish.intent.findings[0].message);
    let platform: RunDefaults = serde_json::from_value(json!({"claim": "data"})).unwrap();
    let wish = run(&json!({"output": {}})).wish(&platform, &Guide::Nobody);
    assert_eq!(wish.intent.findings, []);
    assert_eq!(wish.blueprint.unwrap().home.claim(), Some("data"));
}

#[test]
fn a_bad_glob_is_found_though_the_api_server_admits_it() {
    let source = json!({"git": {"url": "https://git.example/a.git"}, "include": ["src/**", "src/[a"]});
    let findings = run(&json!({"source": source})).wish(&RunDefaults::default(), &Guide::Nobody).intent.findings;
    assert_eq!(findings[0].field, "spec.source.include[1]");
}

#[test]
fn what_is_not_part_of_this_release_is_said_by_its_field() {
    for (spec, field) in [
        (
            json!({"teacher": {"serve": {"engine": "vLLM", "model": {"uri": "oci://registry/models/glm:1"}}}}),
            "spec.teacher.serve.model.uri",
        ),
        (json!({"training": {"student": {"uri": "oci://registry/models/q:1"}}}), "spec.training.student.uri"),
    ] {
        let unsupported = run(&spec).wish(&RunDefaults::default(), &Guide::Nobody).intent.unsupported.unwrap();
        assert!(unsupported.starts_with(field), "{unsupported}");
    }
    assert_eq!(run(&json!({})).wish(&RunDefaults::default(), &Guide::Nobody).intent.unsupported, None);
}

#[test]
fn every_example_can_be_done_by_this_release() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut runs = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for document in serde_yaml::Deserializer::from_str(&std::fs::read_to_string(&file).unwrap()) {
            let object = Value::deserialize(document).unwrap();
            if object["kind"] != "SpecializationRun" {
                continue;
            }
            let mut run: SpecializationRun = serde_json::from_value(object).unwrap();
            (run.metadata.namespace, run.metadata.uid) = (Some("ml".into()), Some("3f2c9a10-0000".into()));
            let platform: RunDefaults = serde_json::from_value(json!({"claim": "sera"})).unwrap();
            let intent = run.wish(&platform, &Guide::Nobody).intent;
            assert_eq!((intent.unsupported, intent.findings), (None, Vec::new()), "{}", file.display());
            let Some(Work::Run(work)) = intent.work else { panic!("{} is a run", file.display()) };
            assert_eq!(work.evaluation.and_then(|work| work.unsupported), None, "{}", file.display());
            assert_eq!(work.serving.and_then(|work| work.unsupported), None, "{}", file.display());
            runs += 1;
        }
    }
    assert!(runs >= 8, "{runs} runs");
}

#[test]
fn a_training_on_gpus_has_a_rank_for_each_of_them() {
    let training = json!({"student": {"uri": "builtin://tiny"}, "nodes": 2, "gpusPerNode": 4});
    let wish = run(&json!({"training": training})).wish(&RunDefaults::default(), &Guide::Nobody);
    let Some(Work::Run(work)) = wish.intent.work else { panic!("it is a run") };
    assert_eq!((wish.intent.unsupported, work.training.on_gpus), (None, true));
    let parts = wish.blueprint.unwrap().training.unwrap();
    assert_eq!((parts.nodes, parts.ranks_per_node, parts.gpus_per_node), (2, 4, 4));
}

#[test]
fn a_student_in_a_bucket_is_trained_and_counted_with_its_own_secret_and_one_elsewhere_with_none() {
    let secrets = |uri: &str| {
        let student = json!({"uri": uri, "credentialsSecretRef": {"name": "models"}});
        let wish = run(&json!({"training": {"student": student}})).wish(&RunDefaults::default(), &Guide::Nobody);
        assert_eq!(wish.intent.unsupported, None, "{uri}");
        let blueprint = wish.blueprint.unwrap();
        (blueprint.training.unwrap().student_credentials, blueprint.counting.unwrap().student_credentials)
    };
    for uri in ["s3://models/Qwen3-8B", "gs://models/Qwen3-8B", "az://models/Qwen3-8B"] {
        assert_eq!(secrets(uri), (Some("models".to_owned()), Some("models".to_owned())), "{uri}");
    }
    assert_eq!(secrets("pvc://models/Qwen3-8B"), (None, None));
}

#[test]
fn every_edit_that_changes_what_counts_changes_the_policy_and_no_other_does() {
    let work = |spec: &Value| match run(spec).wish(&RunDefaults::default(), &Guide::Nobody).intent.work {
        Some(Work::Run(work)) => work,
        _ => panic!("a run has work"),
    };
    let plain = work(&json!({}));
    let generation = |field: &str, value: Value| json!({"generation": {"acceptedTrajectories": 10, field: value}});
    for spec in [
        generation("verification", json!({"threshold": "0.6"})),
        generation("filters", json!({"maxPatchLines": 41})),
        json!({"dataset": {"contextLength": 16384}}),
        json!({"training": {"student": {"uri": "pvc://models/other"}}}),
    ] {
        let edited = work(&spec);
        assert!(edited.policy.settings != plain.policy.settings && edited.dataset != plain.dataset, "{spec}");
    }
    let more = work(&json!({"generation": {"acceptedTrajectories": 11}}));
    assert!(more.policy == plain.policy && more.dataset != plain.dataset);
    let wider = work(&generation("parallelBatches", json!(3)));
    assert!(wider.policy == plain.policy && wider.dataset == plain.dataset);
}
