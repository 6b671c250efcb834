//! A run and a lone batch take their snapshots: what is in the store, and what is said of it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use sera_crds::RolloutBatch;
use sera_crds::conditions::{self, ConditionType};
use sera_crds::run::Phase;
use sera_crds::values::Stage;
use serde_json::json;

use super::ground::{Ground, STORE, is_true, made_for, message, reason, status};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    an_applied_run_has_its_snapshot_in_the_store_and_says_so,
    a_lone_batch_takes_a_snapshot_of_its_own_and_another_joins_a_run,
    a_pod_of_the_data_plane_holds_no_token,
];

async fn an_applied_run_has_its_snapshot_in_the_store_and_says_so(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.apply_run("billing", json!({})).await?;
    let run = ground.until_snapshotted("billing").await?;
    let said = status(&run)?;

    let uid = run.metadata.uid.as_deref().context("no uid")?;
    let folder = format!("{STORE}/{}/billing/{uid}", ground.space.namespace);
    let snapshot = said.artifacts.as_ref().and_then(|artifacts| artifacts.snapshot.clone()).context("no artifact")?;
    ensure!(snapshot.uri == format!("{folder}/snapshot/manifest.json"), "it lies at {}", snapshot.uri);
    ensure!(snapshot.commit == ground.git(&["rev-parse", "main"]).await?, "the newest commit is {}", snapshot.commit);
    ensure!(snapshot.commits == 2, "{} commits were taken", snapshot.commits);
    ensure!(said.phase == Some(Phase::Stalled) && said.observed_generation == Some(1), "{said:?}");
    ensure!(said.locked_stages == [Stage::Snapshot, Stage::Generation, Stage::Rollouts], "{:?}", said.locked_stages);
    ensure!(said.attempts.get(&Stage::Snapshot) == Some(&1), "{:?}", said.attempts);
    ensure!(said.teacher.as_deref() == Some("rehearsal"), "{:?}", said.teacher);
    ensure!(is_true(said, ConditionType::Validated), "{}", message(said, ConditionType::Validated));
    ensure!(!is_true(said, ConditionType::Ready) && reason(said, ConditionType::Reconciling).is_none(), "{said:?}");

    ground.until_events("billing", &["SnapshotStarted", "SnapshotSucceeded", "Stalled"]).await?;

    let script = format!(
        "cd /mnt/store/runs/{}/billing/{uid}/snapshot
         sha256sum manifest.json
         git init --quiet /tmp/look
         git -C /tmp/look fetch --quiet \"$PWD/repository.bundle\" 'refs/snapshots/*:refs/snapshots/*'
         git -C /tmp/look for-each-ref --format='%(refname) %(tree) parents:%(parent)'",
        ground.space.namespace
    );
    let seen = ground.in_store("look", &script).await?;
    let newest = ground.git(&["rev-parse", "main^{tree}"]).await?;
    ensure!(seen.contains(&snapshot.sha256.to_string()), "the manifest's digest is another one: {seen}");
    ensure!(seen.contains(&format!("refs/snapshots/0 {newest} parents:\n")), "{seen}");
    ensure!(seen.matches("refs/snapshots/").count() == 2, "{seen}");
    Ok(())
}

async fn a_lone_batch_takes_a_snapshot_of_its_own_and_another_joins_a_run(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let alone = json!({
        "apiVersion": "sera.dev/v1alpha1", "kind": "RolloutBatch", "metadata": {"name": "alone"},
        "spec": {
            "source": {"git": {"url": ground.url()}, "commits": {"count": 1}},
            "teacher": {"rehearsal": {"shares": {"full": "0.6", "partial": "0.3", "miss": "0.1"}}},
            "generation": {},
            "output": {"store": STORE},
            "samples": {"from": 0, "count": 4},
        },
    });
    let joined = json!({
        "apiVersion": "sera.dev/v1alpha1", "kind": "RolloutBatch", "metadata": {"name": "joined"},
        "spec": {"runRef": {"name": "billing"}, "samples": {"from": 0, "count": 4}},
    });
    ground.space.apply(&alone.to_string()).await?;
    ground.space.apply(&joined.to_string()).await?;
    Box::pin(ground.space.wait_for("joined", |batch: Option<&RolloutBatch>| waits_for_its_run(batch))).await?;
    ground.apply_run("billing", json!({})).await?;
    for name in ["alone", "joined"] {
        Box::pin(ground.space.wait_for(name, |batch: Option<&RolloutBatch>| has_its_snapshot(batch))).await?;
    }
    let taken = ground.space.api::<Job>().list(&made_for(Stage::Snapshot)).await?.items.len();
    ensure!(taken <= 2, "one Job for the run, one for the batch of its own; there are {taken}");
    Ok(())
}

fn waits_for_its_run(batch: Option<&RolloutBatch>) -> bool {
    let conditions = batch.and_then(|batch| batch.status.as_ref()).map(|status| status.conditions.as_slice());
    conditions.is_some_and(|all| {
        conditions::get(all, ConditionType::Ready).is_some_and(|ready| ready.message.contains("billing"))
    })
}

fn has_its_snapshot(batch: Option<&RolloutBatch>) -> bool {
    let conditions = batch.and_then(|batch| batch.status.as_ref()).map(|status| status.conditions.as_slice());
    conditions.is_some_and(|all| conditions::is_true(all, ConditionType::Snapshotted))
}

async fn a_pod_of_the_data_plane_holds_no_token(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    // Nobody answers, so the pod is there to be looked at.
    ground.git.set_behaviour(sera_e2e::git_server::Behaviour::Hang);
    ground.apply_run("billing", json!({})).await?;
    ground.until("billing", |status| status.attempts.contains_key(&Stage::Snapshot)).await?;
    let jobs = ground.space.api::<Job>();
    let job = loop {
        if let Some(job) = jobs.list(&ListParams::default()).await?.items.pop() {
            break job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let pod = job.spec.and_then(|spec| spec.template.spec).context("a Job without a pod")?;
    ensure!(pod.automount_service_account_token == Some(false), "its pods would get a token");
    ensure!(pod.enable_service_links == Some(false), "its pods would learn of every Service by their environment");
    Ok(())
}
