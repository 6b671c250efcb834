//! A run from a repository to a model: real weights, two ranks, on the node's processors.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sera_crds::conditions::ConditionType;
use sera_crds::values::Stage;
use serde_json::json;

use super::ground::{Ground, is_true, status};
use crate::house::{Company, Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Alone; a_run_trains_its_student_and_is_ready];

/// How long a training may take: each rank has one line of some 1,400 tokens, and a processor goes through about twenty of them in a second.
const TRAINING: Duration = Duration::from_mins(10);

async fn a_run_trains_its_student_and_is_ready(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(TRAINING);
    let changes = json!({
        "source": {"commits": {"count": 1}},
        "generation": {
            "acceptedTrajectories": 2, "batchSize": 4, "shardSize": 2, "parallelBatches": 1, "maxSamples": 40, "budget": null,
            "sandbox": {"slots": 2, "landlock": "BestEffort"},
        },
        "dataset": {"contextLength": 1536, "minKeptRatio": "0", "evalFraction": "0", "firstRolloutShare": "0.5"},
        "training": {
            "method": {"lora": {"rank": 4, "alpha": 8, "targetModules": ["q_proj", "v_proj"]}},
            "epochs": 1, "globalBatch": 2, "ranksPerNode": 2, "learningRate": "2e-4",
        },
        "evaluation": {"enabled": false},
    });
    ground.apply_run("billing", changes).await?;
    let run = ground.until("billing", |status| is_true(status, ConditionType::Ready)).await?;
    let said = status(&run)?;
    ensure!(said.locked_stages.contains(&Stage::Training), "{:?}", said.locked_stages);
    let training = said.training.as_ref().context("no word on the training")?;
    ensure!(training.step == training.total_steps && training.total_steps > 0, "{training:?}");
    ensure!(training.loss.is_some() && training.attempt == 1, "{training:?}");
    let model = said.artifacts.as_ref().and_then(|artifacts| artifacts.model.clone()).context("no model")?;
    let uid = run.metadata.uid.as_deref().context("no uid")?;
    let script = format!(
        "cd /mnt/store/runs/{}/billing/{uid}
         sha256sum model/manifest.json
         ls model adapter checkpoints/a1",
        ground.space.namespace
    );
    let seen = ground.in_store("look", &script).await?;
    ensure!(seen.contains(&model.sha256.to_string()), "the manifest's digest is another one: {seen}");
    for expected in ["model.safetensors", "tokenizer.json", "chat_template.jinja", "adapter_model.safetensors", "step-"]
    {
        ensure!(seen.contains(expected), "no {expected} in the store: {seen}");
    }
    let events = ground.events_about("billing").await?;
    ensure!(events.contains("TrainingSucceeded"), "no Event TrainingSucceeded among {events:?}");
    Ok(())
}
