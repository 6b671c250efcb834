//! A run from a repository to a model: real weights, two ranks, on the node's processors; and the same model whatever befalls its training.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use nix::sys::signal::Signal;
use sera_crds::SpecializationRun;
use sera_crds::conditions::ConditionType;
use sera_crds::run::{Phase, RunStatus};
use sera_crds::values::Stage;
use serde_json::{Value, json};

use super::ground::{Ground, is_true, made_for, merge, status};
use super::killed::kill_operators;
use super::monitoring::{self, Prometheus};
use super::serving;
use super::student::{STUDENT, lay_student};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::AtHome; a_run_trains_its_student_serves_it_and_is_ready];
pub(crate) const SHAKEN: &[Test] = tests![Company::Shaking; whatever_befalls_a_training_the_model_is_the_same];

/// How long a training may take: each rank has one line of some 1,400 tokens, and a processor goes through about twenty of them in a second.
pub(super) const TRAINING: Duration = Duration::from_mins(10);

/// A run of two trajectories, which fill one step of an epoch, with `training` merged over how they are trained.
pub(super) fn changes(training: Value) -> Value {
    let mut changes = json!({
        "source": {"commits": {"count": 1}},
        "generation": {
            "acceptedTrajectories": 2, "batchSize": 4, "shardSize": 2, "parallelBatches": 1, "maxSamples": 40, "budget": null,
            "sandbox": {"slots": 2, "landlock": "BestEffort"},
        },
        "dataset": {"contextLength": 1536, "minKeptRatio": "0", "evalFraction": "0", "firstRolloutShare": "0.5"},
        "training": {
            "method": {"lora": {"rank": 4, "alpha": 8, "targetModules": ["q_proj", "v_proj"]}},
            "epochs": 1, "globalBatch": 2, "learningRate": "2e-4",
        },
        "evaluation": {"enabled": false},
    });
    merge(&mut changes["training"], training);
    changes
}

/// What the teacher has of a processor: with more, all rollouts are through in two seconds.
const SLOW_TEACHER: &str = "20m";

async fn a_run_trains_its_student_serves_it_and_is_ready(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(TRAINING);
    let prometheus = Prometheus::start(&ground).await?;
    let mut spec = changes(json!({"ranksPerNode": 2}));
    // Prometheus has to find the driver before it calls the teacher, and to ask it again while it does.
    spec["generation"]["environment"] = json!({"setup": format!("sleep {}", monitoring::FOUND_AFTER.as_secs())});
    spec["pods"] = json!({"teacher": {"resources": {"limits": {"cpu": SLOW_TEACHER}}}});
    spec["serve"] = json!({"enabled": true, "engine": "builtin", "args": ["--max-model-len=512"]});
    ground.apply_run("billing", spec).await?;
    let run = ground.until("billing", |status| is_true(status, ConditionType::Ready)).await?;
    let said = status(&run)?;
    ensure!(said.locked_stages.contains(&Stage::Training), "{:?}", said.locked_stages);
    let training = said.training.as_ref().context("no word on the training")?;
    ensure!(training.step == training.total_steps && training.total_steps > 0, "{training:?}");
    ensure!(training.loss.is_some() && training.attempt == 1, "{training:?}");
    let model = said.artifacts.as_ref().and_then(|artifacts| artifacts.model.clone()).context("no model")?;
    let script =
        format!("cd {}\nsha256sum model/manifest.json\nls model adapter checkpoints/a1", folder(&ground, &run)?);
    let seen = ground.in_store("look", &script).await?;
    ensure!(seen.contains(&model.sha256.to_string()), "the manifest's digest is another one: {seen}");
    for expected in ["model.safetensors", "tokenizer.json", "chat_template.jinja", "adapter_model.safetensors", "step-"]
    {
        ensure!(seen.contains(expected), "no {expected} in the store: {seen}");
    }
    ground.until_events("billing", &["TrainingSucceeded"]).await?;
    serving::answers(&ground, &run).await?;
    prometheus.saw(&run).await?;
    drop(prometheus);
    Box::pin(serving::comes_back(&ground)).await?;
    Box::pin(serving::goes_and_comes_as_its_owner_says(&ground)).await
}

/// How often the two lines are seen.
const EPOCHS: u32 = 60;
/// What each rank of the shaken training has of a processor until all has happened to it: a quick machine would be through before.
const LITTLE: &str = "200m";
/// How long that may take where a step takes twenty times as long.
const MANY_STEPS: Duration = Duration::from_mins(20);

/// Two pods of one rank each, which fit on a node of two processors, and a checkpoint after almost every step.
fn small(learning_rate: &str) -> Value {
    let mut changes = changes(json!({
        "student": {"uri": STUDENT}, "epochs": EPOCHS, "nodes": 2, "learningRate": learning_rate, "checkpointEvery": "1s",
    }));
    changes["pods"] = json!({"train": {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}}});
    changes
}

async fn whatever_befalls_a_training_the_model_is_the_same(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(MANY_STEPS);
    lay_student(&ground).await?;
    ground.apply_run("quiet", small("1e-3")).await?;
    let quiet = ground.until("quiet", |status| is_true(status, ConditionType::Ready)).await?;
    // Its learning rate is another one until its owner thinks better of it.
    let mut shaken = small("5e-3");
    shaken["pods"]["train"]["resources"]["limits"] = json!({"cpu": LITTLE});
    ground.apply_run("shaken", shaken).await?;
    ground.until("shaken", |status| is_true(status, ConditionType::Snapshotted)).await?;
    ground.change_run("shaken", json!({"training": {"learningRate": "1e-3"}})).await?;

    trains_on(&ground, 1).await?;
    refuses_another_learning_rate(&ground).await?;
    signal_a_rank(&ground, Signal::SIGKILL).await?;
    trains_on(&ground, 2).await?;
    signal_a_rank(&ground, Signal::SIGSTOP).await?;
    trains_on(&ground, 3).await?;
    says_which_rank_hung(&ground).await?;
    delete_a_pod(&ground).await?;
    trains_on(&ground, 4).await?;
    kill_operators(&ground, true).await?;
    ground.change_run("shaken", json!({"suspend": true})).await?;
    ground.until("shaken", |status| status.phase == Some(Phase::Suspended)).await?;
    ground.until_no_pod(&made_for(Stage::Training)).await?;
    let as_much_as_there_is = json!({"train": {"resources": {"limits": null}}});
    ground.change_run("shaken", json!({"suspend": false, "pods": as_much_as_there_is})).await?;
    let shaken = ground.until("shaken", |status| is_true(status, ConditionType::Ready)).await?;

    let training = status(&shaken)?.training.as_ref().context("no word on the training")?;
    ensure!((training.step, training.total_steps, training.attempt) == (EPOCHS, EPOCHS, 5), "{training:?}");
    let digests = "sha256sum model/model.safetensors adapter/adapter_model.safetensors";
    let script = format!("cd {}\n{digests}\ncd {}\n{digests}", folder(&ground, &quiet)?, folder(&ground, &shaken)?);
    let seen = ground.in_store("look", &script).await?;
    let lines: Vec<&str> = seen.lines().collect();
    ensure!(lines.len() == 4 && lines[..2] == lines[2..], "undisturbed, and then shaken:\n{seen}");
    Ok(())
}

/// The run's folder, where a pod has the store mounted.
pub(super) fn folder(ground: &Ground, run: &SpecializationRun) -> Result<String> {
    let (Some(name), Some(uid)) = (&run.metadata.name, &run.metadata.uid) else { bail!("a run without a name") };
    Ok(format!("/mnt/store/runs/{}/{name}/{uid}", ground.space.namespace))
}

/// Waits until this attempt of the shaken run's training has got further than the one before it.
async fn trains_on(ground: &Ground, attempt: u32) -> Result<()> {
    let has_begun = move |status: &RunStatus| step_of(status, attempt).is_some();
    let begun = step_of(status(&ground.until("shaken", has_begun).await?)?, attempt);
    let run = ground.until("shaken", move |status| step_of(status, attempt) > begun).await?;
    ensure!(!is_true(status(&run)?, ConditionType::Ready), "it was through before all had happened to it");
    Ok(())
}

/// How many steps the training has taken, where this attempt of it has begun.
fn step_of(status: &RunStatus, attempt: u32) -> Option<u32> {
    status.training.as_ref().filter(|training| training.attempt >= attempt).map(|training| training.step)
}

async fn refuses_another_learning_rate(ground: &Ground) -> Result<()> {
    let Err(refusal) = ground.change_run("shaken", json!({"training": {"learningRate": "5e-3"}})).await else {
        bail!("the learning rate was changed while it was trained with");
    };
    ensure!(format!("{refusal:#}").contains("training"), "{refusal:#}");
    Ok(())
}

/// Kills a rank's process without a warning, or has it stand still. A cluster of ours runs on this machine, so its processes are seen here.
async fn signal_a_rank(ground: &Ground, signal: Signal) -> Result<()> {
    let pod = a_pod_of_the_gang(ground).await?;
    // A pod of an indexed Job is called as its Job and index say, and then something of its own.
    let (host, _) = pod.rsplit_once('-').context("a pod of the gang without an index")?;
    let host = format!("HOSTNAME={host}");
    for process in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
        let read = |file: &str| std::fs::read(process.path().join(file)).unwrap_or_default();
        let environment = read("environ");
        let mut variables = environment.split(|byte| *byte == 0);
        let is_rank = read("cmdline").split(|byte| *byte == 0).any(|word| word == b"train")
            && variables.clone().any(|variable| variable.starts_with(b"RANK="));
        if is_rank && variables.any(|variable| variable == host.as_bytes()) {
            let number = process.file_name().to_string_lossy().parse()?;
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), signal)?;
            return Ok(());
        }
    }
    bail!("no process of a rank was found for pod {pod}");
}

/// The others wait for half a minute for a rank that stands still.
async fn says_which_rank_hung(ground: &Ground) -> Result<()> {
    let run = ground.until("shaken", |status| !status.recent_failures.is_empty()).await?;
    let failures = serde_json::to_string(&status(&run)?.recent_failures)?;
    ensure!(failures.contains("rank 1 of 2 was lost in") && failures.contains("it hangs"), "{failures}");
    Ok(())
}

pub(super) async fn delete_a_pod(ground: &Ground) -> Result<()> {
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    ground.space.api::<Pod>().delete(&a_pod_of_the_gang(ground).await?, &now).await?;
    Ok(())
}

async fn a_pod_of_the_gang(ground: &Ground) -> Result<String> {
    let pods = ground.space.api::<Pod>().list(&made_for(Stage::Training)).await?;
    let running = pods.items.into_iter().filter(|pod| crate::house::phase(Some(pod)) == "Running");
    running.filter_map(|pod| pod.metadata.name).next_back().context("the gang has no pod")
}
