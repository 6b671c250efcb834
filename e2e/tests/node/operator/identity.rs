//! Whose child is whose: a run never takes what another made, even under its own name.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, PostParams};
use sera_crds::SpecializationRun;
use sera_crds::conditions::ConditionType;
use serde_json::json;

use super::ground::{Ground, message, reason, status};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    a_run_created_again_under_its_name_shares_nothing_with_the_old_one,
    a_job_of_somebody_else_under_a_childs_name_stalls_the_run,
];

async fn a_run_created_again_under_its_name_shares_nothing_with_the_old_one(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.apply_run("billing", json!({})).await?;
    let first = ground.until_snapshotted("billing").await?;
    let old_jobs = ground.jobs().await?;

    ground.space.api::<SpecializationRun>().delete("billing", &DeleteParams::background()).await?;
    ground.apply_run("billing", json!({"source": {"commits": {"count": 1}}})).await?;
    let second = ground.until_snapshotted("billing").await?;
    ensure!(first.metadata.uid != second.metadata.uid, "it is the old run");
    let artifact = |run: &SpecializationRun| run.status.clone().and_then(|status| status.artifacts?.snapshot);
    let (old, new) = (artifact(&first).context("no snapshot")?, artifact(&second).context("no snapshot")?);
    ensure!(old.uri != new.uri, "both snapshots lie at {}", new.uri);
    ensure!(new.commits == 1, "it took {} commits, as the old run did", new.commits);
    let uid = second.metadata.uid.as_deref().context("no uid")?;
    for job in ground.space.api::<Job>().list(&ListParams::default()).await? {
        let is_old = job.metadata.uid.as_ref().is_some_and(|uid| old_jobs.contains(uid));
        let owner = job.metadata.owner_references.unwrap_or_default().pop().context("a Job that nobody owns")?;
        ensure!(is_old || owner.uid == uid, "a new Job belongs to {}", owner.uid);
    }
    Ok(())
}

async fn a_job_of_somebody_else_under_a_childs_name_stalls_the_run(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.apply_run("billing", json!({"suspend": true})).await?;
    let run = ground.until("billing", |status| !status.conditions.is_empty()).await?;
    let uid = run.metadata.uid.as_deref().context("no uid")?;
    let name = format!("billing-{}-s1", &uid[..5]);
    let foreign: Job = serde_json::from_value(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "localhost/busybox:1"}]}}},
    }))?;
    let foreign = ground.space.api::<Job>().create(&PostParams::default(), &foreign).await?;

    ground.change_run("billing", json!({"suspend": false})).await?;
    let stalled =
        ground.until("billing", |status| reason(status, ConditionType::Stalled) == Some("NameConflict")).await?;
    let said = message(status(&stalled)?, ConditionType::Stalled).to_owned();
    ensure!(said.contains(&name), "it does not name the Job: {said:?}");
    let after = ground.space.api::<Job>().get(&name).await?;
    ensure!(after.metadata.uid == foreign.metadata.uid && after.metadata.owner_references.is_none(), "it was touched");

    ground.space.api::<Job>().delete(&name, &DeleteParams::background()).await?;
    ground.until_snapshotted("billing").await?;
    Ok(())
}
