//! `cargo e2e bench operator`: how long the operator takes to be ready, what memory it needs beside many runs, and what a pass costs that finds
//! nothing to do. The runs are held (`suspend: true`): every one of them is watched and passed over, and none starts a pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use sera_crds::SpecializationRun;
use sera_e2e::cluster::Cluster;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/manifests");
/// How many requests are under way at once while runs are made and touched.
const AT_ONCE: usize = 16;
/// How long the bench waits for anything.
const PATIENCE: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(20);
/// How long news of a change takes to be acted upon, with much to spare.
const SETTLE: Duration = Duration::from_secs(3);

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct Operator {
    /// How many runs
    #[arg(long, default_value_t = 1000)]
    runs: u32,
}

pub(super) async fn run(Operator { runs }: Operator) -> Result<ExitCode> {
    let program = beside_this_program("sera-operator")?;
    let cluster = Cluster::control_plane().await?;
    cluster.kubectl(["apply", "--server-side", "--filename", MANIFESTS]).await?;
    cluster.kubectl(["wait", "--for=condition=Established", "--filename", MANIFESTS]).await?;
    let api: Api<SpecializationRun> = Api::namespaced(cluster.client(), "default");

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
    println!("runs                                       {runs}, all suspended; {} build", build_kind());
    println!("start to ready, no runs                    {:.2} s", ready_when_empty.as_secs_f32());
    println!("start to ready, all runs there             {:.2} s", operator.ready_after.as_secs_f32());
    println!("first sight of all runs, their making too  {:.2} s", first_sight.as_secs_f32());
    println!("memory beside all runs (peak)              {resident:.1} MiB ({peak:.1} MiB)");
    println!("passes with nothing to do, at the start    {}", passed.passes());
    for share in [0.5, 0.99] {
        println!("  {:>2.0}% took at most                         {}", share * 100.0, passed.pass_seconds(share));
    }
    println!("  API requests until then, all in all      {}", passed.requests());
    println!("passes after each run got an annotation    {}", touched.passes() - passed.passes());
    println!("  API requests in that time                {}", touched.requests() - passed.requests());
    operator.end().await?;
    cluster.down().await?;
    Ok(ExitCode::SUCCESS)
}

fn build_kind() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

fn beside_this_program(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(program.exists(), "{} is not there: `cargo build --workspace --bins` makes it", program.display());
    Ok(program)
}

fn name_of(number: u32) -> String {
    format!("run-{number:05}")
}

async fn make_runs(api: &Api<SpecializationRun>, count: u32) -> Result<()> {
    stream::iter(0..count)
        .map(async |number| {
            let run = serde_json::from_value(json!({
                "apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun", "metadata": {"name": name_of(number)},
                "spec": {
                    "source": {"git": {"url": "https://git.example/acme/billing.git"}},
                    "teacher": {"endpoint": {"url": "https://teacher.example/v1", "model": "GLM-4.6"}},
                    "generation": {"acceptedTrajectories": 8000},
                    "training": {"student": {"uri": "pvc://models/Qwen3-8B"}},
                    "output": {"store": "s3://acme-ml/sera"},
                    "suspend": true,
                },
            }))?;
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

async fn until(what: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let wait = async {
        while !is_so().await? {
            tokio::time::sleep(POLL).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, wait).await.with_context(|| format!("{PATIENCE:?} were not enough until {what}"))?
}

/// The operator as a process of this machine; killed when it is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
    ready_after: Duration,
}

impl Process {
    /// Starts it, and waits until it says that it is ready.
    async fn start(program: &Path, kubeconfig: &Path) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
        let mut command = Command::new(program);
        command.env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).kill_on_drop(true);
        command.args([
            &format!("--listen={address}"),
            "--rollout-image=localhost/sera-rollout:bench",
            "--log-level=warn",
        ]);
        // Its own limits are not what is measured.
        command.args(["--leader-elect=off", "--qps=2000", "--burst=2000"]);
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let mut process = Self { child, address, ready_after: Duration::ZERO };
        until("the operator is ready", || async { Ok(process.get("/readyz").await.is_ok()) }).await?;
        process.ready_after = start.elapsed();
        Ok(process)
    }

    /// The body of a successful answer.
    async fn get(&self, path: &str) -> Result<String> {
        let mut connection = TcpStream::connect(self.address).await?;
        connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => bail!("{path} answered {:?}", answer.lines().next().unwrap_or_default()),
        }
    }

    async fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics(self.get("/metrics").await?))
    }

    /// Resident memory now and at its highest, in MiB.
    fn memory(&self) -> Result<(f64, f64)> {
        let pid = self.child.id().context("the operator has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
        };
        field("VmRSS:").zip(field("VmHWM:")).context("/proc says nothing of its memory")
    }

    async fn end(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end the operator")
    }
}

/// What `/metrics` said.
struct Metrics(String);

impl Metrics {
    /// The values of all series of a name whose labels contain `label`, with their labels.
    fn series<'a>(&'a self, name: &'a str, label: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")?;
            Some((labels, value.parse().ok()?)).filter(|_| labels.contains(label))
        })
    }

    /// How many passes over runs have ended.
    fn passes(&self) -> f64 {
        self.series("controller_runtime_reconcile_time_seconds_count", "controller=\"run\"")
            .map(|(_, count)| count)
            .sum()
    }

    /// How many requests the API server was sent.
    fn requests(&self) -> f64 {
        self.series("rest_client_requests_total", "").map(|(_, count)| count).sum()
    }

    /// The upper bound of the bucket that this share of the passes ends in, in words.
    fn pass_seconds(&self, share: f64) -> String {
        let wanted = share * self.passes();
        let mut buckets = self.series("controller_runtime_reconcile_time_seconds_bucket", "controller=\"run\"");
        let bound = buckets.find(|(_, count)| *count >= wanted).and_then(|(labels, _)| {
            let (bound, _) = labels.split_once("le=\"")?.1.split_once('"')?;
            bound.parse::<f64>().ok()
        });
        bound.map_or("more than the largest bucket".to_owned(), |seconds| format!("{} ms", seconds * 1000.0))
    }
}
