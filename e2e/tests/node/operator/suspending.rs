//! Suspending, at every stage that has pods: whatever they do, their places are free within a minute, and resuming goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use sera_crds::conditions::ConditionType;
use sera_crds::run::Phase;
use sera_crds::values::Stage;
use serde_json::json;

use super::evaluation::compared;
use super::ground::{Ground, is_true, made_for, merge, status};
use super::student::lay_student;
use super::training::TRAINING;
use crate::company::Company;
use crate::house::{Space, Test, phase, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    a_suspended_run_has_no_pod_at_work_after_a_minute_in_any_stage,
];

/// The stages that have pods which are worth waiting for, in the order in which a run comes to them.
const STAGES: [Stage; 5] = [Stage::Rollouts, Stage::Verification, Stage::Dataset, Stage::Training, Stage::Evaluation];
/// What a user who wants the GPUs back is promised.
const A_MINUTE: Duration = Duration::from_mins(1);
/// What a rank has of a processor until its training was suspended once: a step takes longer than a minute so.
const NEXT_TO_NOTHING: &str = "50m";

async fn a_suspended_run_has_no_pod_at_work_after_a_minute_in_any_stage(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(TRAINING);
    lay_student(&ground).await?;
    let mut spec = compared(2, 1);
    let slow = json!({"requests": {"cpu": "10m"}, "limits": {"cpu": NEXT_TO_NOTHING}});
    merge(&mut spec, json!({"pods": {"train": {"resources": slow}}}));
    ground.apply_run("held", spec).await?;
    for stage in STAGES {
        has_a_pod(&ground, stage).await?;
        let free = suspended(&ground).await.with_context(|| format!("suspended while its stage is {stage}"))?;
        println!("{stage}: no pod at work {:.1} s after it was suspended", free.as_secs_f64());
        let all_there_is = json!({"train": {"resources": {"limits": null}}});
        let pods = if stage == Stage::Training { all_there_is } else { json!({}) };
        ground.change_run("held", json!({"suspend": false, "pods": pods})).await?;
    }
    let run = ground.until("held", |status| is_true(status, ConditionType::Ready)).await?;
    let said = status(&run)?;
    ensure!(said.attempts.get(&Stage::Training).is_some_and(|attempts| *attempts > 1), "{:?}", said.attempts);
    Ok(())
}

/// Waits until a stage has a pod.
async fn has_a_pod(ground: &Ground, stage: Stage) -> Result<()> {
    let pods = ground.space.api::<Pod>();
    let until = Instant::now() + TRAINING;
    while Instant::now() < until {
        let there = pods.list(&made_for(stage)).await?.items;
        if there.iter().any(|pod| phase(Some(pod)) != "Pending") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("no pod of {stage} has started within {} minutes", TRAINING.as_secs() / 60)
}

/// Suspends the run, and says how long it took until none of its pods, its teacher's among them, held a place.
async fn suspended(ground: &Ground) -> Result<Duration> {
    let from = Instant::now();
    ground.change_run("held", json!({"suspend": true})).await?;
    let pods = ground.space.api::<Pod>();
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=sera-operator");
    let took = loop {
        let there = pods.list(&ours).await?.items;
        let at_work: Vec<_> = there.iter().filter(|pod| !matches!(phase(Some(pod)), "Succeeded" | "Failed")).collect();
        let took = from.elapsed();
        if at_work.is_empty() {
            break took;
        }
        let names: Vec<_> = at_work.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        ensure!(took <= A_MINUTE, "still at work after {:.0} s: {names:?}", took.as_secs_f64());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    ground.until("held", |status| status.phase == Some(Phase::Suspended)).await?;
    Ok(took)
}
