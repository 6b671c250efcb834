//! `cargo e2e bench operator`: what the operator costs without a run, and beside many that are through: how long it takes to be ready, what memory it
//! needs, and what a pass costs that finds nothing to do. No pod is ever made: the runs are held (`suspend: true`) until it is said of them that they
//! are through.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use sera_crds::SpecializationRun;
use sera_crds::run::Phase;
use sera_e2e::paths;
use serde_json::json;

use super::metrics::PassTimes;
use super::process::{self, Process, Rest, UNLIMITED, build_kind, unlike_the_chart, until};
use super::{again, idle, settled};

/// How many requests are under way at once while runs are made and touched.
pub(super) const AT_ONCE: usize = 16;
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
    /// For how many seconds it is looked at when it has nothing to do, without a run and beside all of them
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

pub(super) async fn run(Operator { runs, seconds }: Operator) -> Result<ExitCode> {
    let program = paths::program("sera-operator")?;
    let cluster = process::control_plane().await?;
    let api: Api<SpecializationRun> = Api::namespaced(cluster.client(), "default");
    let jobs: Api<Job> = Api::namespaced(cluster.client(), "default");

    let alone = Box::pin(idle::look(&program, &cluster, seconds)).await?;
    let election = Box::pin(again::look(&program, &cluster, 0)).await?;
    let empty = Process::start(&program, &cluster.kubeconfig_path()).await?;
    let start = Instant::now();
    Box::pin(make_runs(&api, runs)).await?;
    until("every run is held", || async { Ok(held(&api).await? == runs as usize) }).await?;
    let all_held = start.elapsed();
    let ready_when_empty = empty.ready_after;
    empty.end().await?;
    let versions = Box::pin(settled::settle(&api, runs)).await?;

    let operator = Process::start(&program, &cluster.kubeconfig_path()).await?;
    // Each run is passed over once at the start, which reads what defaults it was fixed to.
    until("every run was looked at again", || async { Ok(operator.metrics().await?.passes() >= f64::from(runs)) })
        .await?;
    let passed = operator.metrics().await?;
    tokio::time::sleep(SETTLE).await;
    let written = Box::pin(settled::written_since(&api, &jobs, &versions)).await?;
    let rest = operator.left_alone(seconds).await?;
    let rested = operator.metrics().await?;
    Box::pin(touch_runs(&api, runs)).await?;
    tokio::time::sleep(SETTLE).await;
    let touched = operator.metrics().await?;
    let ready_beside_all = operator.ready_after;
    operator.end().await?;
    let again = Box::pin(again::look(&program, &cluster, runs)).await?;
    cluster.down().await?;

    println!("{runs} runs; {} build; in parentheses what the chart sets\n", build_kind());
    println!("idle, no runs: {}", unlike_the_chart(&idle::FLAGS));
    tell_rest(&alone, seconds);
    println!("held: {}", unlike_the_chart(&UNLIMITED));
    tell("start to ready, no runs", format!("{:.2} s", ready_when_empty.as_secs_f32()));
    tell("until it holds all runs, their making too", format!("{:.2} s", all_held.as_secs_f32()));
    println!("settled, which is Succeeded with all that a finished run's status says: the same");
    tell("start to ready, all runs there", format!("{:.2} s", ready_beside_all.as_secs_f32()));
    tell("passes at that start, one over each", passed.passes());
    tell_times(&passed.pass_times());
    tell("API requests until then, all in all", passed.requests());
    tell("statuses written at that start", written);
    tell_rest(&rest, seconds);
    tell("passes after each run got an annotation", touched.passes() - rested.passes());
    tell("API requests in that time", touched.requests() - rested.requests());
    println!("settled, and looked at again and again: {}", unlike_the_chart(&again::FLAGS));
    tell("passes with nothing to do", again.passes);
    tell_times(&again.times);
    tell("API requests then, beside the election's", again.requests - election.requests);
    Ok(ExitCode::SUCCESS)
}

/// Prints a line of the table.
fn tell(what: &str, figure: impl Display) {
    println!("  {what:<42} {figure}");
}

fn tell_times(times: &PassTimes) {
    for (name, share) in SHARES {
        tell(&format!("  {name} took at most"), times.at_most(share));
    }
}

fn tell_rest(rest: &Rest, seconds: u32) {
    let (resident, peak) = rest.memory;
    tell("memory (peak)", format!("{resident:.1} MiB ({peak:.1} MiB)"));
    tell(&format!("left alone for {seconds} s: of one processor"), format!("{:.2}%", rest.processor * 100.0));
    tell("  API requests a second", format!("{:.2}", rest.requests));
    tell("  passes a second", format!("{:.2}", rest.passes));
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

/// How many runs say that they are held, for which they need their part of the platform's defaults.
async fn held(api: &Api<SpecializationRun>) -> Result<usize> {
    let all = Box::pin(api.list(&ListParams::default())).await?;
    let phase = |run: &SpecializationRun| run.status.as_ref().and_then(|status| status.phase);
    Ok(all.items.iter().filter(|run| phase(run) == Some(Phase::Suspended)).count())
}
