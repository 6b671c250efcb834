//! `cargo e2e bench operator`: how long the operator takes to be ready, what memory it needs beside many runs, and what a pass costs that finds
//! nothing to do. The runs are held (`suspend: true`): every one of them is watched and passed over, and none starts a pod.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use sera_crds::SpecializationRun;
use serde_json::json;

use super::again;
use super::process::{self, Process, build_kind, until};

/// How many requests are under way at once while runs are made and touched.
const AT_ONCE: usize = 16;
/// How long news of a change takes to be acted upon, with much to spare.
const SETTLE: Duration = Duration::from_secs(3);

/// The shares of passes whose longest is told.
const SHARES: [(&str, f64); 2] = [("50%", 0.5), ("99%", 0.99)];

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct Operator {
    /// How many runs
    #[arg(long, default_value_t = 1000)]
    runs: u32,
}

pub(super) async fn run(Operator { runs }: Operator) -> Result<ExitCode> {
    let program = process::program()?;
    let cluster = process::control_plane().await?;
    let api: Api<SpecializationRun> = Api::namespaced(cluster.client(), "default");

    let election = Box::pin(again::look(&program, &cluster, 0)).await?;
    let empty = Process::start(&program, &cluster.kubeconfig_path()).await?;
    let start = Instant::now();
    Box::pin(make_runs(&api, runs)).await?;
    until("every run has a status", || async { Ok(seen(&api).await? == runs as usize) }).await?;
    let first_sight = start.elapsed();
    let ready_when_empty = empty.ready_after;
    empty.end().await?;

    let operator = Process::start(&program, &cluster.kubeconfig_path()).await?;
    // Each run is passed over once at the start, which reads what defaults it was fixed to.
    until("every run was looked at again", || async { Ok(operator.metrics().await?.passes() >= f64::from(runs)) })
        .await?;
    let passed = operator.metrics().await?;
    Box::pin(touch_runs(&api, runs)).await?;
    tokio::time::sleep(SETTLE).await;
    let touched = operator.metrics().await?;

    let (resident, peak) = operator.memory()?;
    let ready_beside_all = operator.ready_after;
    operator.end().await?;
    let again = Box::pin(again::look(&program, &cluster, runs)).await?;
    let passes_requests = again.requests - election.requests;
    println!("runs                                       {runs}, all suspended; {} build", build_kind());
    println!("start to ready, no runs                    {:.2} s", ready_when_empty.as_secs_f32());
    println!("start to ready, all runs there             {:.2} s", ready_beside_all.as_secs_f32());
    println!("first sight of all runs, their making too  {:.2} s", first_sight.as_secs_f32());
    println!("memory beside all runs (peak)              {resident:.1} MiB ({peak:.1} MiB)");
    println!("passes at that start, one over each        {}", passed.passes());
    let first = passed.pass_times();
    for (name, share) in SHARES {
        println!("  {name} took at most                          {}", first.at_most(share));
    }
    println!("  API requests until then, all in all      {}", passed.requests());
    println!("passes after each run got an annotation    {}", touched.passes() - passed.passes());
    println!("  API requests in that time                {}", touched.requests() - passed.requests());
    println!("passes with nothing to do                  {}", again.passes);
    for (name, share) in SHARES {
        println!("  {name} took at most                          {}", again.times.at_most(share));
    }
    println!("  API requests then, beside the election's {passes_requests}");
    cluster.down().await?;
    Ok(ExitCode::SUCCESS)
}

/// The name of the run of a number.
pub(super) fn name_of(number: u32) -> String {
    format!("run-{number:05}")
}

/// The run of a number, held or not.
pub(super) fn manifest(number: u32, suspend: bool) -> serde_json::Value {
    json!({
        "apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun", "metadata": {"name": name_of(number)},
        "spec": {
            "source": {"git": {"url": "https://git.example/acme/billing.git"}},
            "teacher": {"endpoint": {"url": "https://teacher.example/v1", "model": "GLM-4.6"}},
            "generation": {"acceptedTrajectories": 8000},
            "training": {"student": {"uri": "pvc://models/Qwen3-8B"}},
            "output": {"store": "s3://acme-ml/sera"},
            "suspend": suspend,
        },
    })
}

async fn make_runs(api: &Api<SpecializationRun>, count: u32) -> Result<()> {
    stream::iter(0..count)
        .map(async |number| {
            let run = serde_json::from_value(manifest(number, true))?;
            Box::pin(api.create(&PostParams::default(), &run)).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Changes an annotation of every run: news that asks for nothing.
async fn touch_runs(api: &Api<SpecializationRun>, count: u32) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"bench": "touched"}}}));
    stream::iter(0..count)
        .map(async |number| {
            Box::pin(api.patch_metadata(&name_of(number), &PatchParams::default(), &patch)).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// How many runs have a status for their newest spec.
async fn seen(api: &Api<SpecializationRun>) -> Result<usize> {
    let all = Box::pin(api.list(&ListParams::default())).await?;
    let is_seen = |run: &&SpecializationRun| {
        run.status.as_ref().is_some_and(|status| status.observed_generation == run.metadata.generation)
    };
    Ok(all.items.iter().filter(is_seen).count())
}
