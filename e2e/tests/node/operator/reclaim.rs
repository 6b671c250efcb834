//! What becomes of a run's data when the run is deleted: gone with it, and nothing else; kept where its owner says so, or where its namespace goes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{Api, DeleteParams};
use sera_crds::SpecializationRun;
use sera_crds::conditions::ConditionType;
use sera_crds::values::Stage;
use serde_json::json;

use super::ground::{CLAIM, Ground, made_for, message, reason, status};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    deleted_runs_take_their_data_along_and_their_neighbour_s_stays,
    a_run_whose_secret_is_missing_says_why_it_stays_until_its_data_may_be_kept,
    a_namespace_goes_with_its_runs_though_their_data_cannot_be_deleted,
    a_namespace_goes_whose_pods_are_at_work,
];

const FINALIZER: &str = "sera.dev/reclaim";

async fn deleted_runs_take_their_data_along_and_their_neighbour_s_stays(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let gone = json!({"output": {"reclaimPolicy": "Delete"}});
    for (name, changes) in [("billing", gone.clone()), ("ledger", gone), ("keeper", json!({}))] {
        ground.apply_run(name, changes).await?;
    }
    for (name, is_held) in [("billing", true), ("ledger", true), ("keeper", false)] {
        let run = ground.until_snapshotted(name).await?;
        let finalizers = run.metadata.finalizers.unwrap_or_default();
        ensure!(finalizers.iter().any(|finalizer| finalizer == FINALIZER) == is_held, "{name} has {finalizers:?}");
    }
    ensure!(snapshots(&ground, "before").await? == ["billing", "keeper", "ledger"], "not all have their snapshot");

    // Kubernetes collects the children of one first, and of the other last.
    let runs = ground.space.api::<SpecializationRun>();
    runs.delete("billing", &DeleteParams::foreground()).await?;
    for name in ["ledger", "keeper"] {
        runs.delete(name, &DeleteParams::background()).await?;
    }
    ground.until_none::<SpecializationRun>().await?;
    let left = snapshots(&ground, "after").await?;
    ensure!(left == ["keeper"], "there is still the data of {left:?}");
    let search = format!("cd /mnt/store/runs/{}; find billing ledger -mindepth 1", ground.space.namespace);
    let found = ground.in_store("folders", &search).await?;
    ensure!(found.trim().is_empty(), "still there: {found}");
    Ok(())
}

async fn a_run_whose_secret_is_missing_says_why_it_stays_until_its_data_may_be_kept(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store-keys"}, "stringData": {"AWS_ACCESS_KEY_ID": "of-the-store"},
    });
    ground.space.apply(&secret.to_string()).await?;
    let output = json!({"credentialsSecretRef": {"name": "store-keys"}, "reclaimPolicy": "Delete"});
    ground.apply_run("billing", json!({"output": output})).await?;
    ground.until_snapshotted("billing").await?;

    ground.space.api::<Secret>().delete("store-keys", &DeleteParams::default()).await?;
    let runs = ground.space.api::<SpecializationRun>();
    runs.delete("billing", &DeleteParams::default()).await?;
    let is_said =
        |status: &sera_crds::run::RunStatus| reason(status, ConditionType::Stalled) == Some("StoreCredentialsMissing");
    let waiting = ground.until("billing", is_said).await?;
    let said = message(status(&waiting)?, ConditionType::Reclaimed).to_owned();
    ensure!(said.contains("spec.output.credentialsSecretRef"), "it says {said:?}");
    ground.until_events("billing", &["ReclaimStarted", "ReclaimFailed"]).await?;

    ground.change_run("billing", json!({"output": {"reclaimPolicy": "Retain"}})).await?;
    ground.until_none::<SpecializationRun>().await?;
    ensure!(snapshots(&ground, "after").await? == ["billing"], "its data is gone");
    Ok(())
}

async fn a_namespace_goes_with_its_runs_though_their_data_cannot_be_deleted(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let (cluster, name) = (ground.space.cluster().await?, format!("{}-too", ground.space.namespace));
    cluster.kubectl(["create", "namespace", &name]).await?;
    cluster.apply_in(&name, CLAIM).await?;
    let run = ground.run("billing", json!({"output": {"reclaimPolicy": "Delete"}}));
    cluster.apply_in(&name, &run.to_string()).await?;
    let runs: Api<SpecializationRun> = Api::namespaced(ground.space.client(), &name);
    let is_snapshotted = || async {
        let status = runs.get("billing").await?.status.unwrap_or_default();
        anyhow::Ok(status.artifacts.is_some_and(|artifacts| artifacts.snapshot.is_some()))
    };
    within("the run has its snapshot", is_snapshotted).await?;
    let finalizers = runs.get("billing").await?.metadata.finalizers.unwrap_or_default();
    ensure!(finalizers == [FINALIZER], "{finalizers:?}");

    let namespaces: Api<Namespace> = Api::all(ground.space.client());
    namespaces.delete(&name, &DeleteParams::default()).await?;
    within("the namespace is gone", || async { Ok(namespaces.get_opt(&name).await?.is_none()) }).await
}

/// Kubernetes deletes a namespace's pods before its Jobs, and the Job controller keeps a failed pod until it has made the next, which it may not.
async fn a_namespace_goes_whose_pods_are_at_work(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let (cluster, name) = (ground.space.cluster().await?, format!("{}-too", ground.space.namespace));
    cluster.kubectl(["create", "namespace", &name]).await?;
    cluster.apply_in(&name, CLAIM).await?;
    let nobody = json!({"url": "http://teacher.invalid/v1", "model": "nobody"});
    let few = json!({
        "budget": null, "batchSize": 4, "shardSize": 2, "parallelBatches": 1, "sandbox": {"slots": 1, "landlock": "BestEffort"},
    });
    let run = ground.run("billing", json!({"teacher": {"endpoint": nobody, "rehearsal": null}, "generation": few}));
    cluster.apply_in(&name, &run.to_string()).await?;
    let pods: Api<Pod> = Api::namespaced(ground.space.client(), &name);
    let of_rollouts = made_for(Stage::Rollouts);
    let is_running = || async {
        let pods = pods.list(&of_rollouts).await?.items;
        let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
        anyhow::Ok(pods.iter().any(|pod| phase(pod).as_deref() == Some("Running")))
    };
    within("rollouts are at work", is_running).await?;
    let namespaces: Api<Namespace> = Api::all(ground.space.client());
    namespaces.delete(&name, &DeleteParams::default()).await?;
    within("the namespace is gone", || async { Ok(namespaces.get_opt(&name).await?.is_none()) }).await
}

/// The runs that have a snapshot in the namespace's store, in order.
async fn snapshots(ground: &Ground, pod: &str) -> Result<Vec<String>> {
    let folder = format!("/mnt/store/runs/{}", ground.space.namespace);
    let found = ground.in_store(pod, &format!("cd {folder}; ls */*/snapshot/manifest.json")).await?;
    let mut names: Vec<String> = found.lines().filter_map(|line| Some(line.split_once('/')?.0.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Waits for something, for as long as a test waits for anything.
async fn within<F: Future<Output = Result<bool>>>(what: &str, is_so: impl Fn() -> F) -> Result<()> {
    let waited = async {
        while !is_so().await? {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    };
    tokio::time::timeout(crate::house::PATIENCE, waited).await.with_context(|| format!("not in time: {what}"))?
}
