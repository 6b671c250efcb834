//! Chaos: runs of the pipeline that are broken in every way that a seed says, and must end as if they had not been. The operator, the API server and
//! the controllers of Kubernetes are the real ones; a node and the programs in its containers are played, so that a run takes seconds.

mod call;
mod course;
mod deeds;
mod history;
mod intent;
mod node;
mod operator;
mod oracle;
mod program;
mod proxy;
mod queue;
mod random;
mod script;
mod store;
mod table;
mod trial;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};

use crate::cluster::Cluster;

use self::oracle::Harvest;
use self::trial::{Ground, Verdict};

pub use self::script::{Trial, When};
pub use self::table::Report;

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/manifests");
/// How long an API server stays away when it is restarted by the clock.
const AWAY: Duration = Duration::from_secs(1);

/// What is to be tried, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The trials.
    pub trials: Vec<Trial>,
    /// Kill the operator at each call of an undisturbed run, one trial a call, before and after it.
    pub every_call: bool,
    /// How many trials go on at once.
    pub at_once: usize,
    /// Restart the API server so often.
    pub restart_every: Option<Duration>,
    /// Where the logs of trials are kept in which something was wrong.
    pub folder: PathBuf,
}

/// Makes the trials on a control plane of their own, and prints a line for each.
pub async fn run(options: &Options) -> Result<Report> {
    let cluster = Cluster::control_plane().await?;
    ensure!(
        cluster.is_ours(),
        "KUBECONFIG names a cluster with nodes of its own: unset it, and a control plane is booted"
    );
    cluster.kubectl(["apply", "--server-side", "--filename", MANIFESTS]).await?;
    cluster.kubectl(["wait", "--for=condition=Established", "--filename", MANIFESTS]).await?;
    let program = trial::program("sera-operator")?;
    let ground = Ground { client: cluster.client(), program, folder: options.folder.clone() };
    let report = try_all(&ground, &cluster, options).await;
    cluster.down().await?;
    report
}

async fn try_all(ground: &Ground, cluster: &Cluster, options: &Options) -> Result<Report> {
    let first = ground.hold(Trial::Undisturbed, None).await?;
    table::print(&first);
    ensure!(first.wrongs.is_empty(), "an undisturbed run is wrong: {}", first.wrongs.join("; "));
    let harvest = first.harvest.clone().context("an undisturbed run did not end")?;
    let mut trials = options.trials.clone();
    if options.every_call {
        let calls =
            (1..=first.calls).flat_map(|call| [Trial::Call(call, When::Before), Trial::Call(call, When::After)]);
        trials.extend(calls);
    }
    let trying = try_each(ground, trials, &harvest, options.at_once);
    let verdicts = match options.restart_every {
        None => trying.await?,
        Some(time) => tokio::select! {
            verdicts = trying => verdicts?,
            ended = restart_for_ever(cluster, time) => ended?,
        },
    };
    Ok(Report::of(verdicts))
}

async fn try_each(ground: &Ground, trials: Vec<Trial>, harvest: &Harvest, at_once: usize) -> Result<Vec<Verdict>> {
    stream::iter(trials)
        .map(|trial| async move {
            let verdict =
                Box::pin(ground.hold(trial, Some(harvest))).await.with_context(|| format!("{trial} was not held"))?;
            table::print(&verdict);
            anyhow::Ok(verdict)
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await
}

/// Restarts the API server again and again: it goes without a word, and comes back with what it had.
async fn restart_for_ever(cluster: &Cluster, every: Duration) -> Result<Vec<Verdict>> {
    loop {
        tokio::time::sleep(every).await;
        let server = cluster.component("kube-apiserver")?;
        server.kill()?;
        tokio::time::sleep(AWAY).await;
        server.restart()?;
    }
}
