//! One large run that nothing befalls, on the played node: how many samples a second the operator, the API server and the Job controller get through, with
//! rollouts that take no time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::api::PostParams;
use serde_json::json;
use tokio::task::JoinSet;

use super::course::Course;
use super::deeds::runs;
use super::field::{Field, RUN};
use super::operator::Operator;
use super::script::Trial;
use super::trial::Ground;

/// The longest that a drain may take.
const PATIENCE: Duration = Duration::from_mins(30);
const LOOK: Duration = Duration::from_millis(200);
/// Samples of a batch and of a pod, and batches at once.
const BATCH: u32 = 256;
const SHARD: u32 = 16;
const BATCHES: u32 = 8;

/// What came of it.
#[derive(Debug)]
pub struct Drained {
    /// How many samples got their verdicts.
    pub samples: u64,
    /// From the run's making to the end of its generation.
    pub took: Duration,
    /// Calls to the API server that passes made in that time.
    pub calls: u64,
}

/// Makes a run that takes about so many samples, and waits for the end of its generation.
pub(super) async fn drain(ground: &Ground, samples: u32) -> Result<Drained> {
    let script = Trial::Undisturbed.script();
    let mut run = Field::Played.run(&script);
    // On the played node every second sample's second trajectory passes, and three of four first ones.
    run["spec"]["generation"] = json!({
        "acceptedTrajectories": samples, "maxSamples": samples + samples / 4,
        "batchSize": BATCH, "shardSize": SHARD, "parallelBatches": BATCHES,
    });
    run["spec"]["dataset"] = json!({"firstRolloutShare": "0.5"});
    let namespace = format!("drain-{:x}", jiff::Timestamp::now().as_millisecond());
    let course = Arc::new(Course::new(script, run, namespace, &ground.folder)?);
    ground.make_namespace(&course.namespace).await?;
    let pods = ground.field.pods(&course, &ground.client).await?;
    let mut actors: JoinSet<Result<()>> = JoinSet::new();
    actors.spawn(pods.run());
    actors.spawn(Operator::new(0, Arc::clone(&course), ground).await?.run());

    let api = runs(&ground.client, &course.namespace);
    let began = Instant::now();
    api.create(&PostParams::default(), &serde_json::from_value(course.run.clone())?).await?;
    loop {
        ensure!(began.elapsed() < PATIENCE, "{PATIENCE:?} were not enough");
        tokio::time::sleep(LOOK).await;
        let status = api.get(RUN).await?.data["status"].clone();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut generated = conditions.filter(|condition| condition["type"] == "Generated");
        if generated.any(|condition| condition["status"] == "True") {
            let samples = status["generation"]["attempted"].as_u64().unwrap_or_default();
            ensure!(course.wrongs().is_empty(), "{}", course.wrongs().join("; "));
            return Ok(Drained { samples, took: began.elapsed(), calls: course.deliberate() });
        }
    }
}
