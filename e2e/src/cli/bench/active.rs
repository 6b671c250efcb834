//! `cargo e2e bench active`: many runs at work at once. Each has its snapshot and rolls out a batch, whose Job the real Job controller looks after; no node
//! is there, so what a kubelet would say of the pods is said here, and one server speaks for all drivers of rollouts.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use sera_crds::SpecializationRun;
use sera_e2e::paths;
use serde_json::json;
use tokio::task::JoinSet;

use super::drivers::{Directory, Drivers};
use super::metrics::status_patches;
use super::operator::{manifest, name_of};
use super::process::{self, Process, Rest, UNLIMITED, build_kind, unlike_the_chart, until};
use super::said;

/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// The labels that say whose a Job or a pod is, and of which stage.
const OWNER: &str = "sera.dev/owner";
const STAGE: &str = "sera.dev/stage";
/// The kinds whose statuses the operator writes.
const KINDS: [&str; 2] = ["specializationruns", "rolloutbatches"];
/// How long the last news of pods takes to be acted upon.
const SETTLE: Duration = Duration::from_secs(10);

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct Active {
    /// How many runs
    #[arg(long, default_value_t = 1000)]
    runs: u32,
    /// For how many seconds they are looked at when all of them are at work
    #[arg(long, default_value_t = 120)]
    seconds: u32,
}

/// When something was first seen, by its owner's name.
type Times = Arc<Mutex<BTreeMap<String, Instant>>>;

pub(super) async fn run(Active { runs, seconds }: Active) -> Result<ExitCode> {
    let program = paths::program("sera-operator")?;
    let cluster = process::control_plane().await?;
    let api: Api<SpecializationRun> = Api::namespaced(cluster.client(), "default");
    let (made, jobs, driving) = (Times::default(), Times::default(), Times::default());
    let drivers = Drivers::start().await?;
    let mut watches = JoinSet::new();
    watches.spawn(see_jobs(Api::namespaced(cluster.client(), "default"), Arc::clone(&jobs)));
    let pods = Api::namespaced(cluster.client(), "default");
    watches.spawn(play_pods(pods, Arc::clone(&driving), drivers.directory()?));

    let operator = Process::operator_by(drivers.command(&program), &cluster.kubeconfig_path(), &UNLIMITED).await?;
    let begun = Instant::now();
    Box::pin(make_runs(&api, runs, &made)).await?;
    let all_made = begun.elapsed();
    let has_job = |run| lock(&jobs).contains_key(&run);
    until("every run has a Job", || async { Ok((0..runs).map(name_of).all(has_job)) }).await?;
    let all_have_jobs = begun.elapsed();
    until("every driver is at work", || async { Ok(lock(&driving).len() == runs as usize) }).await?;
    let all_drive = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let seen = Box::pin(look(&operator, &cluster.client(), seconds)).await?;

    println!("runs                                       {runs}, a batch of each at work; {} build", build_kind());
    println!("flags (what the chart sets)                {}", unlike_the_chart(&UNLIMITED));
    println!("making them took                           {:.1} s", all_made.as_secs_f32());
    println!("until the last had its first Job           {:.1} s", all_have_jobs.as_secs_f32());
    for share in [50, 99] {
        println!("from a run to its first Job, {share}%           {} ms", wait(&made, &jobs, share).as_millis());
    }
    println!("until the last driver was at work          {:.1} s", all_drive.as_secs_f32());
    seen.print(runs, seconds);
    watches.shutdown().await;
    operator.end().await?;
    drivers.end().await;
    cluster.down().await?;
    Ok(ExitCode::SUCCESS)
}

/// How long it took from a run to its first Job in so many of a hundred cases, at most.
fn wait(made: &Times, jobs: &Times, percent: usize) -> Duration {
    let (made, jobs) = (lock(made), lock(jobs));
    let waits = made.iter().filter_map(|(run, made)| Some(jobs.get(run)?.saturating_duration_since(*made)));
    let mut waits: Vec<Duration> = waits.collect();
    waits.sort_unstable();
    waits.get(waits.len() * percent / 100).copied().unwrap_or_default()
}

/// What the operator took while all runs were at work.
struct Seen {
    rest: Rest,
    /// Passes over batches a second.
    batch_passes: f64,
    /// Status patches a second, of each of [`KINDS`].
    patches: [f64; 2],
}

/// Looks at it for so many seconds.
async fn look(operator: &Process, client: &Client, seconds: u32) -> Result<Seen> {
    let before = (operator.metrics_of("batch").await?.passes(), patches(client).await?);
    let rest = operator.left_alone(seconds).await?;
    let after = (operator.metrics_of("batch").await?.passes(), patches(client).await?);
    let a_second = |count: f64| count / f64::from(seconds.max(1));
    let patches = std::array::from_fn(|kind| a_second(after.1[kind] - before.1[kind]));
    Ok(Seen { rest, batch_passes: a_second(after.0 - before.0), patches })
}

/// How many statuses of each of [`KINDS`] the API server has patched.
async fn patches(client: &Client) -> Result<[f64; 2]> {
    let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    Ok(KINDS.map(|kind| status_patches(&text, kind)))
}

impl Seen {
    fn print(&self, runs: u32, seconds: u32) {
        let Rest { memory: (resident, peak), processor, requests, passes } = &self.rest;
        let [of_runs, of_batches] = self.patches;
        let every = f64::from(runs) / (of_runs + of_batches);
        println!("memory (peak)                              {resident:.1} MiB ({peak:.1} MiB)");
        println!("in {seconds} s at work:");
        println!("  of one processor                         {:.1}%", processor * 100.0);
        println!("  API requests a second                    {requests:.2}");
        println!("  passes a second, of runs and of batches  {passes:.2}, {:.2}", self.batch_passes);
        println!("  status PATCHes a second, likewise        {of_runs:.2}, {of_batches:.2}");
        println!("  one of each run and its batch            every {every:.1} s");
    }
}

async fn make_runs(api: &Api<SpecializationRun>, count: u32, made: &Times) -> Result<()> {
    stream::iter(0..count)
        .map(async |number| {
            let mut run = manifest(number, false);
            let generation =
                json!({"acceptedTrajectories": 8000, "batchSize": 32, "shardSize": 32, "parallelBatches": 1});
            run["spec"]["generation"] = generation;
            let run = serde_json::from_value(run)?;
            Box::pin(api.create(&PostParams::default(), &run)).await?;
            lock(made).insert(name_of(number), Instant::now());
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Notes when each owner's first Job is seen.
async fn see_jobs(jobs: Api<Job>, seen: Times) -> Result<()> {
    let mut events = std::pin::pin!(watcher(jobs, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(job) = events.try_next().await? {
        if let Some(owner) = job.labels().get(OWNER) {
            lock(&seen).entry(owner.clone()).or_insert_with(Instant::now);
        }
    }
    Ok(())
}

/// Says of each pod what becomes of it: a snapshot is taken, and a driver is at work and can be asked.
async fn play_pods(pods: Api<Pod>, driving: Times, directory: Directory) -> Result<()> {
    let events = watcher(pods.clone(), watcher::Config::default()).default_backoff().applied_objects();
    let fresh = events.try_filter_map(async |pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        Ok((phase == Some("Pending")).then_some(pod))
    });
    let directory = Mutex::new(directory);
    fresh
        .map(async |pod| {
            let pod = pod?;
            let is_driver = pod.labels().get(STAGE).is_some_and(|stage| stage == "Rollouts");
            let status = if is_driver { said::running() } else { said::snapshot_is_taken(&pod) };
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status)).await?;
            if is_driver {
                directory.lock().unwrap_or_else(PoisonError::into_inner).add(&pod)?;
                let owner = pod.labels().get(OWNER).context("a pod of nobody's")?;
                lock(&driving).insert(owner.clone(), Instant::now());
            }
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn lock(times: &Times) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}
