//! What the benches of controllers share: a control plane with the project's kinds, a controller as a process, and what it takes.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
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

/// Nothing is written to a log that nobody reads.
pub(super) const QUIET: &str = "--log-level=error";
/// The flags of an operator whose own limits, and an election, are not what is measured.
pub(super) const UNLIMITED: [&str; 4] = ["--leader-elect=off", "--qps=2000", "--burst=2000", QUIET];
/// What the chart sets of the flags that benches set.
const OF_THE_CHART: [(&str, &str); 7] = [
    ("--leader-elect", "on"),
    ("--qps", "50"),
    ("--burst", "100"),
    ("--lease-duration", "15s"),
    ("--lease-renew-deadline", "10s"),
    ("--lease-retry-period", "2s"),
    ("--log-level", "info"),
];

/// Boots a control plane that knows the project's kinds.
pub(super) async fn control_plane() -> Result<Cluster> {
    let cluster = Cluster::control_plane().await?;
    platform::define_kinds(&cluster).await?;
    Ok(cluster)
}

/// How it was built, in a word.
pub(super) fn build_kind() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

/// Those of an operator's flags that are others than the chart's, each with the chart's: the conditions of a table.
pub(super) fn unlike_the_chart<S: AsRef<str>>(flags: &[S]) -> String {
    let unlike = |flag: &S| {
        let flag = flag.as_ref();
        let (name, value) = flag.split_once('=')?;
        let (_, usual) = OF_THE_CHART.into_iter().find(|(known, _)| *known == name)?;
        (value != usual).then(|| format!("{flag} ({usual})"))
    };
    flags.iter().filter_map(unlike).collect::<Vec<_>>().join(", ")
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

/// What a controller took while it was left alone.
pub(super) struct Rest {
    /// Resident memory at its end and at its highest, in MiB.
    pub(super) memory: (f64, f64),
    /// The share of one processor.
    pub(super) processor: f64,
    /// Requests to the API server a second.
    pub(super) requests: f64,
    /// Passes a second.
    pub(super) passes: f64,
}

/// A controller as a process of this machine; killed when it is dropped.
pub(super) struct Process {
    child: Child,
    place: Place,
    /// How long it took from its start until it was ready.
    pub(super) ready_after: Duration,
}

impl Process {
    /// Starts the operator with [`UNLIMITED`], and waits until it says that it is ready.
    pub(super) async fn start(program: &Path, kubeconfig: &Path) -> Result<Self> {
        Self::operator(program, kubeconfig, &UNLIMITED).await
    }

    /// The same with other flags.
    pub(super) async fn operator<S: AsRef<OsStr>>(program: &Path, kubeconfig: &Path, flags: &[S]) -> Result<Self> {
        Self::operator_by(Command::new(program), kubeconfig, flags).await
    }

    /// The same where another program is what starts it.
    pub(super) async fn operator_by<S: AsRef<OsStr>>(
        mut command: Command,
        kubeconfig: &Path,
        flags: &[S],
    ) -> Result<Self> {
        let address = free_address().await?;
        command.env("KUBECONFIG", kubeconfig);
        command.args([&format!("--listen={address}"), "--rollout-image=localhost/sera-rollout:bench"]);
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
        self.metrics_of(self.place.controller).await
    }

    /// The same, by the passes of another of its controllers.
    pub(super) async fn metrics_of(&self, controller: &'static str) -> Result<Metrics> {
        Ok(Metrics::new(ask::get(self.place.metrics, "/metrics").await?, controller))
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

    /// Leaves it alone for so many seconds, and says what it took meanwhile.
    pub(super) async fn left_alone(&self, seconds: u32) -> Result<Rest> {
        let (before, processor) = (self.metrics().await?, self.processor()?);
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
        let (after, used) = (self.metrics().await?, self.processor()? - processor);
        let a_second = |count: f64| count / f64::from(seconds.max(1));
        Ok(Rest {
            memory: self.memory()?,
            processor: a_second(used),
            requests: a_second(after.requests() - before.requests()),
            passes: a_second(after.passes() - before.passes()),
        })
    }

    /// Ends it.
    pub(super) async fn end(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end the controller")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sera-operator");

    #[test]
    fn what_the_chart_sets_is_what_its_values_say() {
        let read = |file: &str| std::fs::read_to_string(Path::new(CHART).join(file)).unwrap();
        let values: serde_json::Value = serde_yaml::from_str(&read("values.yaml")).unwrap();
        for (flag, value) in [
            ("--qps", "/controller/qps"),
            ("--burst", "/controller/burst"),
            ("--lease-duration", "/leaderElection/leaseDuration"),
            ("--lease-renew-deadline", "/leaderElection/renewDeadline"),
            ("--lease-retry-period", "/leaderElection/retryPeriod"),
            ("--log-level", "/logging/level"),
        ] {
            let set = values.pointer(value).unwrap();
            let set = set.as_str().map_or_else(|| set.to_string(), str::to_owned);
            assert!(OF_THE_CHART.contains(&(flag, set.as_str())), "the chart has {set} for {flag}");
        }
        assert!(read("templates/deployment.yaml").contains("- --leader-elect=on\n"));
    }

    #[test]
    fn only_flags_that_differ_are_told_and_with_what_the_chart_has() {
        let flags = ["--qps=50", "--burst=2000", "--lease-namespace=default", "--leader-elect=off"];
        assert_eq!(unlike_the_chart(&flags), "--burst=2000 (100), --leader-elect=off (on)");
    }
}
