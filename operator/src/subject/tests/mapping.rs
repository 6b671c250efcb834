//! Where each field of a spec arrives: a spec in which each has a value of its own, so that a swap shows, and all that is planned and built from it,
//! compared as a whole.

use sera_crds::contract::{BudgetSlice, EvaluationPlan, RolloutPlan, TokenPrice};

use super::{
    batches::{child, guide},
    *,
};
use crate::{
    build::{
        AdoptionParts, CountingParts, EvaluationParts, GitHubParts, SampleParts, ServedModel, TeacherParts,
        TrainingParts,
    },
    facts::ServerForm,
    plan::{EvaluationWork, RunWork, TrainingWork},
};

/// The sections of a run, no two fields of which have the same value where their types allow for it.
pub(super) fn whole() -> Value {
    json!({
        "source": {
            "git": {"url": "https://git.example/a.git", "revision": "v7", "submodules": true, "credentialsSecretRef": {"name": "git-secret"}},
            "github": {"owner": "acme", "repository": "ledger", "apiUrl": "https://github.example/api", "credentialsSecretRef": {"name": "github-secret"}},
            "commits": {"count": 3, "lookbackDays": 101},
            "include": ["src/**"], "exclude": ["src/old/**"], "languages": ["Rust"], "heldOutFraction": "0.07",
        },
        "from": {"uri": "s3://acme/earlier", "through": "Generation"},
        "teacher": {
            "endpoint": {
                "url": "https://teacher.example/v1", "model": "GLM-4.6",
                "credentialsSecretRef": {"name": "teacher-secret"}, "caSecretRef": {"name": "authority-secret"},
            },
            "sampling": {"temperature": "0.71", "maxOutputTokens": 4_001},
            "contextLength": 131_001,
            "price": {"inputPerMillion": "0.61", "cachedInputPerMillion": "0.12", "outputPerMillion": "2.21"},
        },
        "generation": generation(),
        "dataset": {"toolCallFormat": "XML", "firstRolloutShare": "0.6", "contextLength": 32_001, "minKeptRatio": "0.87", "evalFraction": "0.03"},
        "training": {
            "student": {"uri": "s3://models/Qwen3-8B", "credentialsSecretRef": {"name": "models-secret"}},
            "method": {"lora": {"rank": 34, "alpha": 129, "dropout": "0.04", "targetModules": ["q_proj"]}},
            "epochs": 6, "learningRate": "2e-4", "warmupSteps": 49, "globalBatch": 35, "schedule": "Linear", "weightDecay": "0.02", "clipNorm": "0.9",
            "lossAverage": "PerLine", "zLoss": "0.001", "seed": 44, "packing": true, "offload": true, "nodes": 3, "gpusPerNode": 0, "ranksPerNode": 7,
            "precision": "bf16", "sharding": "ZeRO2", "checkpointEvery": "14m", "maxAttempts": 9, "startDeadline": "17m",
        },
        "evaluation": {"enabled": true, "samples": 201, "seeds": 4, "minEffect": "0.06"},
        "output": {"store": "s3://acme/sera", "credentialsSecretRef": {"name": "store-secret"}, "reclaimPolicy": "Delete"},
        "serve": {"enabled": true, "engine": "vLLM", "image": "acme/vllm:2", "replicas": 8, "gpusPerReplica": 10, "args": ["--swap-space=1"]},
        "suspend": false, "retry": "again", "ttl": {"afterSucceeded": "25h", "afterFailed": "169h"}, "pods": pods(),
    })
}

fn generation() -> Value {
    json!({
        "acceptedTrajectories": 1_601, "maxSamples": 3_203, "batchSize": 257, "parallelBatches": 5, "shardSize": 33, "instancesPerFunction": 2,
        "bugKinds": ["Ordering", "Naming"], "seed": 43,
        "agent": {
            "maxSteps": 116, "maxOutputTokens": 8_001, "commandTimeout": "301s", "executionTimeout": "31m", "rolloutTimeout": "3h",
            "maxObservationChars": 100_001, "maxEditorChars": 16_001,
        },
        "environment": {
            "image": "acme/environment:2", "workingDir": "/work", "env": [{"name": "LANG", "value": "C"}], "setup": "make deps",
            "user": {"uid": 1_001, "gid": 1_002}, "writablePaths": ["/opt/venv"], "readOnlyRootFilesystem": false,
        },
        "sandbox": {
            "slots": 1, "network": "Egress", "landlock": "BestEffort", "resources": {"limits": {"memory": "3Gi"}, "requests": {"cpu": "2"}},
        },
        "verification": {"measure": "F1", "threshold": "0.51"}, "filters": {"maxPatchLines": 41, "maxMeanToolTokens": 601},
        "budget": {"maxCost": "6501", "maxTotalTokens": 5_003, "maxDuration": "71h"}, "startDeadline": "16m",
    })
}

/// All that can be said about pods.
pub(super) fn pods() -> Value {
    json!({"default": {
        "nodeSelector": {"pool": "gpu"}, "tolerations": [{"key": "spot"}], "affinity": {"nodeAffinity": {}}, "priorityClassName": "low",
        "runtimeClassName": "gvisor", "imagePullSecrets": [{"name": "pull"}], "labels": {"team": "ml"}, "annotations": {"note": "mine"},
        "queueName": "night", "serviceAccountName": "reader", "resources": {"limits": {"memory": "5Gi"}, "requests": {"cpu": "4"}}, "shmSize": "64Mi",
        "proxy": {"http": "http://proxy.acme:1", "https": "http://proxy.acme:2", "noProxy": ["10.0.0.0/8"]}, "caSecretRef": {"name": "ca-secret"},
    }})
}

fn wish() -> Wish {
    run(&whole()).wish(&RunDefaults::default(), &Guide::Nobody)
}

fn blueprint() -> Blueprint {
    wish().blueprint.unwrap()
}

/// The run's third batch, which has a slice of the budget that the run has noted for it.
fn samples() -> SampleParts {
    let wish = child("3f2c9a10-0000").wish(&RunDefaults::default(), &guide(&whole()));
    wish.blueprint.unwrap().samples.unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "a blueprint may have none")]
fn secret(name: &str, field: &'static str) -> Option<SecretField> {
    Some(SecretField { name: name.into(), field })
}

fn read<T: serde::de::DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// The plan of rollouts as its programs read it.
fn plan() -> RolloutPlan {
    read(json!({
        "seed": 43, "instancesPerFunction": 2, "bugKinds": ["Ordering", "Naming"],
        "agent": {
            "maxSteps": 116, "maxOutputTokens": 8_001, "commandTimeout": "301s", "executionTimeout": "31m", "rolloutTimeout": "3h",
            "maxObservationChars": 100_001, "maxEditorChars": 16_001,
        },
        "environment": {"workingDir": "/work", "env": [["LANG", "C"]], "setup": "make deps", "writablePaths": ["/opt/venv"]},
        "sandbox": {"network": "Egress", "landlock": "BestEffort"},
        "sampling": {"temperature": "0.71", "maxOutputTokens": 4_001, "contextLength": 131_001},
    }))
}

fn price() -> TokenPrice {
    read(json!({"inputPerMillion": "0.61", "cachedInputPerMillion": "0.12", "outputPerMillion": "2.21"}))
}

#[test]
fn a_source_arrives_at_the_snapshot_field_by_field() {
    let blueprint = blueprint();
    let expected = SnapshotParts {
        url: "https://git.example/a.git".into(),
        revision: "v7".into(),
        submodules: true,
        commits: read(json!({"count": 3, "lookbackDays": 101})),
        credentials: secret("git-secret", "spec.source.git.credentialsSecretRef"),
        functions: read(json!({
            "include": ["src/**"], "exclude": ["src/old/**"], "languages": ["Rust"], "heldOutFraction": "0.07", "heldOutSeed": 42,
        })),
        github: Some(GitHubParts {
            repository: "acme/ledger".into(),
            api_url: "https://github.example/api".into(),
            credentials: Some("github-secret".into()),
        }),
    };
    assert_eq!(blueprint.snapshot, Some(expected));
    let adoption = AdoptionParts {
        from: "s3://acme/earlier".parse().unwrap(),
        repository: "https://git.example/a.git".into(),
        through: sera_crds::values::AdoptableStage::Generation,
        run: "billing".into(),
    };
    assert_eq!(blueprint.adoption, Some(adoption));
    assert_eq!(blueprint.home.as_str(), "s3://acme/sera/ml/billing/3f2c9a10-0000");
    assert_eq!(blueprint.store_credentials, secret("store-secret", "spec.output.credentialsSecretRef"));
    assert_eq!(blueprint.pods, read(pods()));
}

#[test]
fn what_a_run_says_of_rollouts_arrives_at_its_batches_field_by_field() {
    let (environment, resources) = (&generation()["environment"], &generation()["sandbox"]["resources"]);
    let slice = BudgetSlice {
        max_cost: Some("1.5".parse().unwrap()),
        max_tokens: Some(900),
        price: Some(price()),
        until: None,
    };
    let expected = SampleParts {
        batch: "billing-3".into(),
        range: read(json!({"from": 17, "count": 8})),
        shard_size: 33,
        plan: RolloutPlan { budget: slice, ..plan() },
        slots: 1,
        environment: read(environment.clone()),
        slot_resources: read(resources.clone()),
        teacher: TeacherParts {
            url: "https://teacher.example/v1".into(),
            model: "GLM-4.6".into(),
            is_rehearsal: false,
            is_hosted: false,
            credentials: secret("teacher-secret", "spec.teacher.endpoint.credentialsSecretRef"),
            authority: secret("authority-secret", "spec.teacher.endpoint.caSecretRef"),
        },
    };
    assert_eq!(samples(), expected);
}

#[test]
fn what_counts_and_what_the_dataset_is_to_be_arrive_field_by_field() {
    let expected = CountingParts {
        verification: read(json!({
            "measure": "F1", "threshold": "0.51", "maxPatchLines": 41, "maxMeanToolTokens": 601,
            "student": {"toolCallFormat": "XML", "contextLength": 32_001, "minKeptRatio": "0.87"},
        })),
        dataset: read(json!({"acceptedTrajectories": 1_601, "firstRolloutShare": "0.6", "evalFraction": "0.03"})),
        student: Some("s3://models/Qwen3-8B".parse().unwrap()),
        student_credentials: Some("models-secret".into()),
        batches: None,
    };
    assert_eq!(blueprint().counting, Some(expected));
}

#[test]
fn a_training_arrives_at_its_gang_field_by_field() {
    let expected = TrainingParts {
        student: "s3://models/Qwen3-8B".parse().unwrap(),
        student_credentials: Some("models-secret".into()),
        plan: read(json!({
            "method": {"lora": {"rank": 34, "alpha": 129, "dropout": "0.04", "targetModules": ["q_proj"]}},
            "epochs": 6, "learningRate": "2e-4", "warmupSteps": 49, "globalBatch": 35, "schedule": "Linear", "weightDecay": "0.02", "clipNorm": "0.9",
            "lossAverage": "PerLine", "zLoss": "0.001", "seed": 44, "packing": true, "offload": true, "precision": "bf16", "sharding": "ZeRO2",
            "checkpointEvery": "14m", "contextLength": 32_001,
        })),
        since_attempt: None,
        nodes: 3,
        ranks_per_node: 7,
        gpus_per_node: 0,
        start_deadline: "17m".parse().unwrap(),
    };
    assert_eq!(blueprint().training, Some(expected));
}

#[test]
fn the_attempt_since_which_a_training_is_what_it_is_comes_from_status() {
    let mut record = run(&whole()).record();
    record.training.get_or_insert_default().since_attempt = Some(4);
    let wish = run(&whole()).with_record(&record).wish(&RunDefaults::default(), &Guide::Nobody);
    assert_eq!(wish.blueprint.unwrap().training.unwrap().since_attempt, Some(4));
}

#[test]
fn what_is_served_arrives_at_the_student_and_at_both_that_are_compared() {
    let student = ServedModel {
        engine: sera_crds::values::ServingEngine::Vllm,
        image: Some("acme/vllm:2".parse().unwrap()),
        at: None,
        credentials: Some("store-secret".into()),
        name: "billing".into(),
        context: None,
        tool_calls: sera_crds::values::ToolCallFormat::Xml,
        replicas: 8,
        gpus: 10,
        nodes: 1,
        arguments: vec!["--swap-space=1".into()],
        variables: Vec::new(),
    };
    let compared = ServedModel { name: "student".into(), replicas: 1, ..student.clone() };
    let base = ServedModel {
        name: "base".into(),
        at: Some("s3://models/Qwen3-8B".parse().unwrap()),
        credentials: Some("models-secret".into()),
        tool_calls: sera_crds::values::ToolCallFormat::Hermes,
        ..compared.clone()
    };
    let of_batch = samples();
    // As much context as the student was trained on, or the paper's.
    let mut of_evaluation = plan();
    of_evaluation.sampling.context_length = 32_768;
    let rollouts = SampleParts {
        batch: "billing".into(),
        range: read(json!({"from": 0, "count": 201})),
        shard_size: 201,
        plan: of_evaluation,
        ..of_batch
    };
    let plan = EvaluationPlan { samples: 201, seeds: 4, min_effect: "0.06".parse().unwrap() };
    let blueprint = blueprint();
    assert_eq!(blueprint.serving, Some(student));
    assert_eq!(blueprint.evaluation, Some(EvaluationParts { plan, rollouts, student: compared, base }));
}

#[test]
fn what_a_run_is_planned_by_arrives_field_by_field() {
    let intent = wish().intent;
    let Some(Work::Run(work)) = intent.work.clone() else { panic!("it is a run") };
    let expected = RunWork {
        accepted: 1_601,
        first_share: "0.6".parse().unwrap(),
        max_samples: 3_203,
        batch_size: 257,
        parallel: 5,
        policy: crate::plan::Policy {
            measure: sera_crds::values::Measure::F1,
            threshold: "0.51".parse().unwrap(),
            settings: work.policy.settings.clone(),
        },
        dataset: work.dataset.clone(),
        budget: BudgetSlice {
            max_cost: Some("6501".parse().unwrap()),
            max_tokens: Some(5_003),
            price: Some(price()),
            until: None,
        },
        max_duration: Some(SignedDuration::from_hours(71)),
        training: TrainingWork {
            max_attempts: 9,
            start_deadline: SignedDuration::from_mins(17),
            learning_rate: "2e-4".parse().unwrap(),
            precision: sera_crds::values::Precision::Bf16,
            on_gpus: false,
        },
        evaluation: Some(EvaluationWork { unsupported: None }),
        serving: Some(ServingWork {
            url: "http://billing-3f2c9-student.ml.svc:8000/v1".into(),
            model: "billing".into(),
            replicas: 8,
            unsupported: None,
        }),
    };
    let expected = Intent {
        findings: Vec::new(),
        unsupported: None,
        suspend: false,
        retry: "again".into(),
        run_generation: None,
        folder: "s3://acme/sera/ml/billing/3f2c9a10-0000".into(),
        snapshot: SnapshotIntent::Take,
        teacher: Some("GLM-4.6".into()),
        hosted: None,
        teacher_form: ServerForm::Deployment,
        copies: 0,
        start_deadline: SignedDuration::from_mins(16),
        keep_succeeded: SignedDuration::from_hours(25),
        keep_failed: SignedDuration::from_hours(169),
        student_claim: None,
        requests: intent.requests.clone(),
        work: Some(Work::Run(Box::new(expected))),
    };
    assert_eq!(intent, expected);
}
