//! `cargo e2e bench active`: many runs at work at once. Each is in its first stage, whose Job the real Job controller looks after; no node is there, so
//! what a kubelet would say of the pods is said here: they run.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use sera_crds::SpecializationRun;
use serde_json::json;
use tokio::task::JoinSet;

use super::operator::{manifest, name_of};
use super::process::{self, Process, UNLIMITED, build_kind, unlike_the_chart, until};

/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// The label that says whose a Job is.
const OWNER: &str = "sera.dev/owner";

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct Active {
    /// How many runs
    #[arg(long, default_value_t = 1000)]
    runs: u32,
    /// For how many seconds they are looked at when all of them are at work
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// When something was first seen, by the run's name.
type Times = Arc<Mutex<BTreeMap<String, Instant>>>;

pub(super) async fn run(Active { runs, seconds }: Active) -> Result<ExitCode> {
    let program = process::program()?;
    let cluster = process::control_plane().await?;
    let api: Api<SpecializationRun> = Api::namespaced(cluster.client(), "default");
    let (made, jobs, running) = (Times::default(), Times::default(), Times::default());
    let mut watches = JoinSet::new();
    watches.spawn(see_jobs(Api::namespaced(cluster.client(), "default"), Arc::clone(&jobs)));
    watches.spawn(run_pods(Api::namespaced(cluster.client(), "default"), Arc::clone(&running)));

    let operator = Process::start(&program, &cluster.kubeconfig_path()).await?;
    let begun = Instant::now();
    Box::pin(make_runs(&api, runs, &made)).await?;
    let all_made = begun.elapsed();
    until("every run has a Job", || async { Ok(lock(&jobs).len() == runs as usize) }).await?;
    let all_have_jobs = begun.elapsed();
    until("every pod runs", || async { Ok(lock(&running).len() == runs as usize) }).await?;
    let mut waits: Vec<Duration> = {
        let (made, jobs) = (lock(&made), lock(&jobs));
        made.iter().filter_map(|(run, made)| Some(jobs.get(run)?.saturating_duration_since(*made))).collect()
    };
    waits.sort_unstable();
    // The last news of pods is acted upon before anything is counted.
    tokio::time::sleep(Duration::from_secs(10)).await;

    let rest = operator.left_alone(seconds).await?;
    let (resident, peak) = rest.memory;
    println!("runs                                       {runs}, all at work; {} build", build_kind());
    println!("flags (what the chart sets)                {}", unlike_the_chart(&UNLIMITED));
    println!("making them took                           {:.1} s", all_made.as_secs_f32());
    println!("until the last had its first Job           {:.1} s", all_have_jobs.as_secs_f32());
    for share in [50, 99] {
        let wait = waits.get(waits.len() * share / 100).copied().unwrap_or_default();
        println!("from a run to its first Job, {share}%           {} ms", wait.as_millis());
    }
    println!("memory (peak)                              {resident:.1} MiB ({peak:.1} MiB)");
    println!("in {seconds} s at work:");
    println!("  of one processor                         {:.1}%", rest.processor * 100.0);
    println!("  API requests a second                    {:.2}", rest.requests);
    println!("  passes a second                          {:.2}", rest.passes);
    watches.shutdown().await;
    operator.end().await?;
    cluster.down().await?;
    Ok(ExitCode::SUCCESS)
}

async fn make_runs(api: &Api<SpecializationRun>, count: u32, made: &Times) -> Result<()> {
    stream::iter(0..count)
        .map(async |number| {
            let run = serde_json::from_value(manifest(number, false))?;
            Box::pin(api.create(&PostParams::default(), &run)).await?;
            lock(made).insert(name_of(number), Instant::now());
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Notes when each run's first Job is seen.
async fn see_jobs(jobs: Api<Job>, seen: Times) -> Result<()> {
    let mut events = std::pin::pin!(watcher(jobs, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(job) = events.try_next().await? {
        if let Some(owner) = job.labels().get(OWNER) {
            lock(&seen).entry(owner.clone()).or_insert_with(Instant::now);
        }
    }
    Ok(())
}

/// Says of each pod that it runs.
async fn run_pods(pods: Api<Pod>, running: Times) -> Result<()> {
    let events = watcher(pods.clone(), watcher::Config::default()).default_backoff().applied_objects();
    let fresh = events.try_filter_map(async |pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        Ok((phase == Some("Pending")).then_some(pod))
    });
    fresh
        .map(async |pod| {
            let pod = pod?;
            let now = format!("{:.0}", Timestamp::now());
            let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
                .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}));
            let status = json!({"status": {"phase": "Running", "startTime": now, "conditions": conditions}});
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status)).await?;
            let owner = pod.labels().get(OWNER).context("a pod of nobody's")?;
            lock(&running).insert(owner.clone(), Instant::now());
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn lock(times: &Times) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}
