//! A teacher outside of the cluster, as an endpoint is: the rehearsal teacher as a server of this machine, which counts whoever asks it.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use sera_e2e::ask;
use sera_e2e::images::{self, Image};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The model that it answers to.
pub(super) const MODEL: &str = "rehearsal";
/// What it counts: calls that it answered, and those that it refused.
const COUNTERS: [&str; 2] = ["sera_teacher_calls_total{", "sera_teacher_refusals_total{"];

/// A server that ends with this value.
pub(super) struct Teacher {
    _process: Child,
    address: SocketAddr,
}

impl Teacher {
    /// Starts it at this address of the machine.
    pub(super) async fn start(host: IpAddr) -> Result<Self> {
        let mut process = Command::new(images::program(Image::Teacher)?)
            .arg("rehearse")
            .arg(format!("--listen={}", SocketAddr::new(host, 0)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("the rehearsal teacher cannot be started")?;
        let mut said = String::new();
        BufReader::new(process.stdout.take().context("no output")?).read_line(&mut said).await?;
        let address = said.trim().strip_prefix("listening on http://").context("it does not say where it listens")?;
        Ok(Self { address: address.parse()?, _process: process })
    }

    /// What clients are given.
    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How often it was asked until now.
    pub(super) async fn calls(&self) -> Result<u64> {
        let metrics = ask::get(self.address, "/metrics").await?;
        let counted = metrics.lines().filter(|line| COUNTERS.iter().any(|counter| line.starts_with(counter)));
        let counts: Vec<u64> = counted
            .map(|line| line.rsplit(' ').next().unwrap_or_default().parse().with_context(|| line.to_owned()))
            .collect::<Result<_>>()?;
        ensure!(!counts.is_empty(), "it has counted nothing: {metrics}");
        Ok(counts.into_iter().sum())
    }
}
