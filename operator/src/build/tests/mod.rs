//! Facts about the objects that are built. Here are the blueprints; the tests are sorted by what they are about.

mod children;
mod commands;
mod contenders;
mod engines;
mod gang;
mod network;
mod security;
mod wishes;

use sera_crds::{
    batch::SampleRange,
    contract::{DatasetPlan, EvaluationPlan, FunctionSelection, RolloutPlan, TrainingPlan, VerificationPlan},
    run::{Commits, PodSettings, Pods, RehearsalShares},
    values::{Language, ServingEngine, Stage, StoreUri, ToolCallFormat},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    facts::Uid,
    names::{Kind, Owner, PROGRAM_CONTAINER},
    plan::record::Edition,
};

/// What servers are applied from.
const EDITION: Edition = Edition { own: 7, runs: Some(3) };

fn owner() -> Owner {
    Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: Uid::from("3f2c9a10-0000") }
}

fn settings(json: Value) -> PodSettings {
    serde_json::from_value(json).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "a blueprint may have none")]
fn secret(name: &str, field: &'static str) -> Option<SecretField> {
    Some(SecretField { name: name.into(), field })
}

fn images() -> Images {
    let image = |name: &str| format!("registry.example/{name}:1").parse().unwrap();
    Images {
        rollout: image("rollout"),
        sandbox: image("sandbox"),
        environment: image("environment"),
        teacher: image("teacher"),
        trainer: image("trainer"),
        vllm: image("vllm"),
        sglang: image("sglang"),
    }
}

/// A batch with all that one can have, whose pods are of `pods`.
fn blueprint(store: &str, pods: PodSettings) -> Blueprint {
    let home = store.parse::<StoreUri>().unwrap().folder_of("ml", "billing", "3f2c9a10-0000");
    let verification = VerificationPlan::default();
    Blueprint {
        home: home.parse().unwrap(),
        store_credentials: secret("s3-secret", "spec.output.credentialsSecretRef"),
        pods: Pods { default: Some(pods), ..Pods::default() },
        snapshot: Some(SnapshotParts {
            url: "https://git.example/a.git".into(),
            revision: "main".into(),
            submodules: true,
            commits: Commits { count: 4, lookback_days: 30 },
            credentials: secret("git-secret", "spec.source.git.credentialsSecretRef"),
            functions: FunctionSelection {
                include: vec!["src/**".parse().unwrap()],
                exclude: vec!["src/old/**".parse().unwrap()],
                languages: vec![Language::Go, Language::Rust],
                held_out_fraction: "0.1".parse().unwrap(),
                held_out_seed: 42,
            },
            github: Some(GitHubParts {
                repository: "acme/billing".into(),
                api_url: "https://api.github.example".into(),
                credentials: Some("github-secret".into()),
            }),
        }),
        snapshot_at: None,
        adoption: None,
        teacher: Some(HostedTeacher::Rehearsal(RehearsalParts { seed: 7, shares: RehearsalShares::default() })),
        samples: Some(samples(json!({}))),
        counting: Some(CountingParts {
            verification,
            dataset: Some(DatasetPlan {
                accepted_trajectories: 16,
                first_rollout_share: "0.625".parse().unwrap(),
                eval_fraction: "0.02".parse().unwrap(),
            }),
            student: Some("pvc://models/q/Qwen3-8B".parse().unwrap()),
            student_credentials: None,
            batches: Some(owner().batch_names(2)),
        }),
        training: Some(TrainingParts {
            student: "pvc://models/q/Qwen3-8B".parse().unwrap(),
            student_credentials: None,
            plan: TrainingPlan { epochs: 7, context_length: 4_096, ..TrainingPlan::default() },
            since_attempt: None,
            nodes: 2,
            ranks_per_node: 8,
            gpus_per_node: 8,
            start_deadline: "9m".parse().unwrap(),
        }),
        evaluation: Some(EvaluationParts {
            plan: EvaluationPlan { samples: 64, seeds: 2, min_effect: "0.1".parse().unwrap() },
            rollouts: SampleParts { range: SampleRange { from: 0, count: 64 }, shard_size: 64, ..samples(json!({})) },
            student: contender("student", None, Some("s3-secret")),
            base: contender("base", Some("pvc://models/q/Qwen3-8B"), None),
        }),
        serving: Some(ServedModel {
            engine: ServingEngine::Builtin,
            image: None,
            at: None,
            credentials: Some("s3-secret".into()),
            name: "billing".into(),
            context: None,
            tool_calls: ToolCallFormat::Hermes,
            replicas: 3,
            gpus: 0,
            nodes: 1,
            arguments: vec!["--max-batch=4".into()],
            variables: Vec::new(),
        }),
    }
}

/// A model that is compared, served by vLLM on two GPUs.
fn contender(name: &str, at: Option<&str>, credentials: Option<&str>) -> ServedModel {
    ServedModel {
        engine: ServingEngine::Vllm,
        image: None,
        at: at.map(|at| at.parse().unwrap()),
        credentials: credentials.map(str::to_owned),
        name: name.to_owned(),
        context: None,
        tool_calls: ToolCallFormat::Hermes,
        replicas: 1,
        gpus: 2,
        nodes: 1,
        arguments: Vec::new(),
        variables: Vec::new(),
    }
}

fn samples(environment: Value) -> SampleParts {
    SampleParts {
        batch: "billing-3".into(),
        range: SampleRange { from: 17, count: 8 },
        shard_size: 3,
        plan: RolloutPlan::default(),
        slots: 2,
        environment: serde_json::from_value(environment).unwrap(),
        slot_resources: None,
        teacher: TeacherParts {
            url: "https://teacher.example/v1".into(),
            model: "GLM-4.6".into(),
            is_rehearsal: false,
            is_hosted: false,
            credentials: secret("teacher-secret", "spec.teacher.endpoint.credentialsSecretRef"),
            authority: secret("authority-secret", "spec.teacher.endpoint.caSecretRef"),
        },
    }
}

fn built(store: &str, pods: PodSettings) -> Value {
    built_of(Stage::Snapshot, &blueprint(store, pods))
}

fn built_of(stage: Stage, blueprint: &Blueprint) -> Value {
    serde_json::to_value(job(&owner(), stage, 3, blueprint, &images()).unwrap()).unwrap()
}

fn pod(job: &Value) -> &Value {
    &job["spec"]["template"]["spec"]
}

fn arguments(job: &Value) -> Vec<&str> {
    pod(job)["containers"][0]["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect()
}

/// The stages that are done by Jobs.
const WITH_JOBS: [Stage; 8] = [
    Stage::Snapshot,
    Stage::Rollouts,
    Stage::Verification,
    Stage::Generation,
    Stage::Dataset,
    Stage::Training,
    Stage::Evaluation,
    Stage::Reclaim,
];

/// Every kind of pod that there is.
fn every_pod() -> Vec<(Stage, Value)> {
    every_pod_of(&PodSettings::default())
}

/// The same, where this is said of all of them.
fn every_pod_of(settings: &PodSettings) -> Vec<(Stage, Value)> {
    let blueprint = blueprint("s3://acme/sera", settings.clone());
    WITH_JOBS
        .into_iter()
        .map(|stage| (stage, pod(&built_of(stage, &blueprint)).clone()))
        .chain([teacher_pod(&blueprint), student_pod(&blueprint)].map(|pod| (Stage::Serving, pod)))
        .collect()
}

fn teacher_pod(blueprint: &Blueprint) -> Value {
    let deployment = teacher(&owner(), EDITION, blueprint.teacher.as_ref().unwrap(), blueprint, &images());
    written(deployment)["spec"]["template"]["spec"].clone()
}

/// As it is applied.
fn written(server: TeacherServer) -> Value {
    let written = match server {
        TeacherServer::Deployment(deployment) => serde_json::to_value(deployment),
        TeacherServer::LeaderWorkerSet(groups) => serde_json::to_value(groups),
    };
    written.unwrap()
}

fn student_pod(blueprint: &Blueprint) -> Value {
    let deployment = student(&owner(), EDITION, blueprint.serving.as_ref().unwrap(), blueprint, &images());
    serde_json::to_value(deployment).unwrap()["spec"]["template"]["spec"].clone()
}

fn containers(pod: &Value) -> Vec<&Value> {
    let of = |field: &str| pod[field].as_array().map(Vec::as_slice).unwrap_or_default();
    of("initContainers").iter().chain(of("containers")).collect()
}
