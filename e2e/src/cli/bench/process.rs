//! What the benches of the operator share: a control plane with the project's kinds, the operator as a process, and what it says of itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sera_e2e::ask;
use sera_e2e::cluster::Cluster;
use sera_e2e::platform;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// How long a bench waits for anything.
const PATIENCE: Duration = Duration::from_mins(10);
const POLL: Duration = Duration::from_millis(20);
/// What the kernel counts a process's time in: parts of a second.
const TICKS: f64 = 100.0;

/// Boots a control plane that knows the project's kinds.
pub(super) async fn control_plane() -> Result<Cluster> {
    let cluster = Cluster::control_plane().await?;
    platform::define_kinds(&cluster).await?;
    Ok(cluster)
}

/// The operator's program, as cargo has built it.
pub(super) fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("sera-operator");
    ensure!(program.exists(), "{} is not there: `cargo build --workspace --bins` makes it", program.display());
    Ok(program)
}

/// How it was built, in a word.
pub(super) fn build_kind() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

/// Waits until something is so.
pub(super) async fn until(what: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let wait = async {
        while !is_so().await? {
            tokio::time::sleep(POLL).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, wait).await.with_context(|| format!("{PATIENCE:?} were not enough until {what}"))?
}

/// The operator as a process of this machine; killed when it is dropped.
pub(super) struct Process {
    child: Child,
    address: SocketAddr,
    /// How long it took from its start until it was ready.
    pub(super) ready_after: Duration,
}

impl Process {
    /// Starts it, and waits until it says that it is ready.
    pub(super) async fn start(program: &Path, kubeconfig: &Path) -> Result<Self> {
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
        until("the operator is ready", || async { Ok(ask::get(address, "/readyz").await.is_ok()) }).await?;
        process.ready_after = start.elapsed();
        Ok(process)
    }

    /// What it says of itself.
    pub(super) async fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics(ask::get(self.address, "/metrics").await?))
    }

    /// Resident memory now and at its highest, in MiB.
    pub(super) fn memory(&self) -> Result<(f64, f64)> {
        let pid = self.child.id().context("the operator has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
        };
        field("VmRSS:").zip(field("VmHWM:")).context("/proc says nothing of its memory")
    }

    /// How much of processors' time it has taken, in seconds.
    pub(super) fn processor(&self) -> Result<f64> {
        let pid = self.child.id().context("the operator has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // After the name, which is in parentheses, come the state and 10 numbers; then the time it has had by itself, and in the kernel.
        let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok());
        let time = ticks(11).zip(ticks(12)).map(|(own, kernel)| (own + kernel) / TICKS);
        time.context("/proc says nothing of its time")
    }

    /// Ends it.
    pub(super) async fn end(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end the operator")
    }
}

/// What `/metrics` said.
pub(super) struct Metrics(String);

impl Metrics {
    /// The values of all series of a name whose labels contain `label`, with their labels.
    fn series<'a>(&'a self, name: &'a str, label: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")?;
            Some((labels, value.parse().ok()?)).filter(|_| labels.contains(label))
        })
    }

    /// How many passes over runs have ended.
    pub(super) fn passes(&self) -> f64 {
        self.series("controller_runtime_reconcile_time_seconds_count", "controller=\"run\"")
            .map(|(_, count)| count)
            .sum()
    }

    /// How many requests the API server was sent.
    pub(super) fn requests(&self) -> f64 {
        self.series("rest_client_requests_total", "").map(|(_, count)| count).sum()
    }

    /// The upper bound of the bucket that this share of the passes ends in, in words.
    pub(super) fn pass_seconds(&self, share: f64) -> String {
        let wanted = share * self.passes();
        let mut buckets = self.series("controller_runtime_reconcile_time_seconds_bucket", "controller=\"run\"");
        let bound = buckets.find(|(_, count)| *count >= wanted).and_then(|(labels, _)| {
            let (bound, _) = labels.split_once("le=\"")?.1.split_once('"')?;
            bound.parse::<f64>().ok()
        });
        bound.map_or("more than the largest bucket".to_owned(), |seconds| format!("{} ms", seconds * 1000.0))
    }
}
