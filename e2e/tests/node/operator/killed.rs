//! The operator dies: at random, again and again, with a second one beside it. What it was at comes out the same.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use sera_crds::conditions::ConditionType;
use sera_crds::values::Stage;
use sera_e2e::git_server::Behaviour;
use sera_e2e::platform;
use serde_json::json;

use super::ground::{Ground, is_true, status};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![Company::Shaking; an_operator_killed_twenty_times_makes_one_job_and_one_result];

/// How often it is killed, and how long it lives in between, in milliseconds: from before it is elected to after it has acted. The sequence is
/// fixed, so that a failure comes again.
const LIVES: [u64; 20] =
    [0, 150, 900, 40, 1700, 300, 2600, 80, 1200, 500, 20, 3100, 700, 210, 1500, 60, 2200, 400, 1000, 3600];

async fn an_operator_killed_twenty_times_makes_one_job_and_one_result(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let jobs = watch_jobs(&ground);
    // The clone hangs at first, so that the stage outlives most of the killing.
    ground.git.set_behaviour(Behaviour::Hang);
    ground.apply_run("billing", json!({})).await?;
    for (round, life) in LIVES.into_iter().enumerate() {
        tokio::time::sleep(Duration::from_millis(life)).await;
        kill_operators(&ground, round % 3 == 2).await.context("cannot kill the operator")?;
        if round == LIVES.len() - 4 {
            ground.git.set_behaviour(Behaviour::Serve);
        }
    }
    let run = ground.until_snapshotted("billing").await?;
    let said = status(&run)?;
    ensure!(is_true(said, ConditionType::Snapshotted), "{said:?}");
    let attempts = said.attempts.get(&Stage::Snapshot).copied();
    let made = jobs.await??;
    ensure!(attempts == Some(1), "there were {attempts:?} attempts: {:?}", said.recent_failures);
    ensure!(made.len() == 1, "Jobs were made: {made:?}");
    let manifests = ground.in_store("look", "find /mnt/store -name manifest.json | wc -l").await?;
    ensure!(manifests.trim() == "1", "{manifests} snapshots lie in the store");
    Ok(())
}

/// Kills the operator's processes without a warning: one of the two, or both.
pub(super) async fn kill_operators(ground: &Ground, both: bool) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(ground.space.client(), platform::NAMESPACE);
    let all = some_operator(&pods).await?;
    let victims = if both { all.len() } else { 1 };
    for pod in all.into_iter().take(victims) {
        let name = pod.metadata.name.context("a pod without a name")?;
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.metadata.uid, resource_version: None }),
            ..DeleteParams::default()
        };
        let is_gone =
            |error: &kube::Error| matches!(error, kube::Error::Api(refusal) if [404, 409].contains(&refusal.code));
        if let Err(error) = pods.delete(&name, &now).await
            && !is_gone(&error)
        {
            return Err(error.into());
        }
    }
    Ok(())
}

/// The operator's pods: where another test has just killed all of them, those that follow.
async fn some_operator(pods: &Api<Pod>) -> Result<Vec<Pod>> {
    for _ in 0..100 {
        let there = pods.list(&ListParams::default().labels("app.kubernetes.io/name=sera-operator")).await?.items;
        if !there.is_empty() {
            return Ok(there);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("there is no operator")
}

/// Collects the uid of every Job that is ever seen in the namespace, until the run is through.
fn watch_jobs(ground: &Ground) -> tokio::task::JoinHandle<Result<BTreeSet<String>>> {
    let (jobs, runs) = (ground.space.api::<Job>(), ground.space.api::<sera_crds::SpecializationRun>());
    tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        let mut events = std::pin::pin!(watcher(jobs, watcher::Config::default()).default_backoff().touched_objects());
        loop {
            if let Ok(job) = tokio::time::timeout(Duration::from_secs(1), events.try_next()).await {
                seen.extend(job?.and_then(|job| job.metadata.uid));
                continue;
            }
            let status = Box::pin(runs.get_opt("billing")).await?.and_then(|run| run.status);
            if status.is_some_and(|status| is_true(&status, ConditionType::Snapshotted)) {
                return Ok(seen);
            }
        }
    })
}
