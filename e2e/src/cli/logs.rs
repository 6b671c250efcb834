//! `cargo e2e logs`: a component's log from its start, or the end of every component's.

use anyhow::{Context, Result};
use sera_e2e::cluster::Cluster;
use tokio::process::Command;

pub(super) async fn print(cluster: &Cluster, component: Option<&str>, follow: bool) -> Result<()> {
    let Some(name) = component else {
        for component in cluster.components()? {
            println!("==> {} <==\n{}\n", component.log().display(), component.last_lines());
        }
        return Ok(());
    };
    let log = cluster.component(name)?.log();
    let mut tail = Command::new("tail");
    tail.arg("--lines=+1").args(follow.then_some("--follow")).arg(&log);
    tail.status().await.with_context(|| format!("cannot show {}", log.display()))?;
    Ok(())
}
