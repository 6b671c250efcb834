//! What the benches of controllers share: a control plane with the project's kinds, a controller as a process, and what it takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sera_e2e::ask;
use sera_e2e::cluster::Cluster;
use sera_e2e::platform;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::metrics::Metrics;

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

/// An address of this machine's own with a port that is free now.
pub(super) async fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

/// Where a controller is found once it runs.
pub(super) struct Place {
    /// What it calls its passes in its metrics.
    pub(super) controller: &'static str,
    /// Where it answers `/readyz`.
    pub(super) health: SocketAddr,
    /// Where it answers `/metrics`.
    pub(super) metrics: SocketAddr,
}

/// A controller as a process of this machine; killed when it is dropped.
pub(super) struct Process {
    child: Child,
    place: Place,
    /// How long it took from its start until it was ready.
    pub(super) ready_after: Duration,
}

impl Process {
    /// Starts the operator, without an election, and waits until it says that it is ready.
    pub(super) async fn start(program: &Path, kubeconfig: &Path) -> Result<Self> {
        // Its own limits are not what is measured.
        Self::operator(program, kubeconfig, &["--leader-elect=off", "--qps=2000", "--burst=2000"]).await
    }

    /// The same with other flags.
    pub(super) async fn operator(program: &Path, kubeconfig: &Path, flags: &[&str]) -> Result<Self> {
        let address = free_address().await?;
        let mut command = Command::new(program);
        command.env("KUBECONFIG", kubeconfig);
        command.args([
            &format!("--listen={address}"),
            "--rollout-image=localhost/sera-rollout:bench",
            "--log-level=error",
        ]);
        command.args(flags);
        Self::run(command, Place { controller: "run", health: address, metrics: address }).await
    }

    /// Starts a controller, and waits until it says that it is ready.
    pub(super) async fn run(mut command: Command, place: Place) -> Result<Self> {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let start = Instant::now();
        let child =
            command.spawn().with_context(|| format!("cannot run {}", command.as_std().get_program().display()))?;
        let mut process = Self { child, place, ready_after: Duration::ZERO };
        let health = process.place.health;
        tokio::select! {
            status = process.child.wait() => bail!("the controller has ended with {}", status?),
            ready = until("the controller is ready", || async { Ok(ask::get(health, "/readyz").await.is_ok()) }) => ready?,
        }
        process.ready_after = start.elapsed();
        Ok(process)
    }

    /// What it says of itself.
    pub(super) async fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics::new(ask::get(self.place.metrics, "/metrics").await?, self.place.controller))
    }

    /// Resident memory now and at its highest, in MiB.
    pub(super) fn memory(&self) -> Result<(f64, f64)> {
        let pid = self.child.id().context("the controller has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
        };
        field("VmRSS:").zip(field("VmHWM:")).context("/proc says nothing of its memory")
    }

    /// How much of processors' time it has taken, in seconds.
    pub(super) fn processor(&self) -> Result<f64> {
        let pid = self.child.id().context("the controller has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // After the name, which is in parentheses, come the state and 10 numbers; then the time it has had by itself, and in the kernel.
        let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok());
        let time = ticks(11).zip(ticks(12)).map(|(own, kernel)| (own + kernel) / TICKS);
        time.context("/proc says nothing of its time")
    }

    /// Ends it.
    pub(super) async fn end(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end the controller")
    }
}
