//! Chaos: runs of the pipeline that are broken in every way that a seed says, and must end as if they had not been. The operator, the API server and
//! the controllers of Kubernetes are the real ones; a node and the programs in its containers are played, so that a run takes seconds.

mod at_work;
mod call;
mod course;
mod deeds;
mod drain;
mod family;
mod field;
mod history;
mod intent;
mod named;
mod node;
mod operator;
mod oracle;
mod outage;
mod past;
mod persist;
mod program;
mod proxy;
mod queue;
mod random;
mod real;
mod rights;
mod script;
mod store;
mod table;
mod trial;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};

use crate::cluster::{Cluster, kubeconfig_is_set};
use crate::{paths, platform};

use self::field::Field;
use self::oracle::Harvest;
use self::outage::{Outages, after};
use self::real::Stock;
use self::rights::Rights;
use self::trial::{Ground, Verdict};

pub use self::drain::Drained;
pub use self::named::{FOUND, Named};
pub use self::operator::FLAGS;
pub use self::script::{Trial, When};
pub use self::table::Report;

/// How long kubelet stands still when it is frozen by the clock.
const FROZEN: Duration = Duration::from_mins(1);

/// What is to be tried, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The trials.
    pub trials: Vec<Trial>,
    /// Kill the operator at each call of an undisturbed run, one trial a call, before and after it.
    pub every_call: bool,
    /// How many trials go on at once.
    pub at_once: usize,
    /// Restart the API server so often, beside the seeds that do.
    pub restart_every: Option<Duration>,
    /// Run the programs on a real node, which takes root and a minute a trial, instead of playing them.
    pub on_a_node: bool,
    /// Freeze kubelet so often, for [`FROZEN`]; only on a real node.
    pub freeze_every: Option<Duration>,
    /// Where the logs of trials are kept in which something was wrong.
    pub folder: PathBuf,
}

/// Makes the trials on a cluster of their own, and prints a line for each.
pub async fn run(options: &Options) -> Result<Report> {
    let cluster = boot(options.on_a_node).await?;
    let field = if options.on_a_node { Field::Real(Stock::new(&cluster).await?) } else { Field::Played };
    let ground = Ground { field, ..ground(&cluster, options.folder.clone()).await? };
    let report = try_all(&ground, &cluster, options).await;
    cluster.down().await?;
    report
}

/// Makes one large run on a control plane of its own, and waits until all of its samples are through.
pub async fn drain(samples: u32, folder: PathBuf) -> Result<Drained> {
    let cluster = boot(false).await?;
    let ground = ground(&cluster, folder).await?;
    let drained = drain::drain(&ground, samples).await;
    cluster.down().await?;
    drained
}

/// Where trials are made on this cluster: on a node that is played.
async fn ground(cluster: &Cluster, folder: PathBuf) -> Result<Ground> {
    let (client, program, mark) = (cluster.client(), paths::program("sera-operator")?, cluster.mark());
    let (field, outages, rights) = (Field::Played, Outages::default(), Rights::of_the_chart(cluster).await?);
    Ok(Ground { client, field, program, folder, outages, rights, mark })
}

/// Boots a cluster that knows the project's kinds. One that stands is not broken, though it be one of ours: others work on it, and what they do would
/// be laid to the operator's charge.
async fn boot(on_a_node: bool) -> Result<Cluster> {
    ensure!(
        !kubeconfig_is_set(),
        "KUBECONFIG is set, and the cluster that it names is not there to be broken: unset it, and one is booted"
    );
    let cluster = if on_a_node { Cluster::with_node().await? } else { Cluster::control_plane().await? };
    platform::define_kinds(&cluster).await?;
    Ok(cluster)
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
    let breaking = async {
        tokio::try_join!(
            ground.outages.happen(cluster, options.restart_every),
            for_ever(options.freeze_every, || async { Ok(cluster.pause_kubelet(FROZEN).await?) }),
        )
        .map(|(never, _)| never)
    };
    let verdicts = tokio::select! {
        verdicts = trying => verdicts,
        ended = breaking => match ended? {},
    };
    Ok(Report::of(verdicts))
}

async fn try_each(ground: &Ground, trials: Vec<Trial>, harvest: &Harvest, at_once: usize) -> Vec<Verdict> {
    stream::iter(trials)
        .map(|trial| async move {
            let verdict = Box::pin(ground.try_one(trial, harvest)).await;
            table::print(&verdict);
            verdict
        })
        .buffer_unordered(at_once)
        .collect()
        .await
}

/// Does something again and again, so long after it was done before; nothing where there is no such time. It ends only by an error.
async fn for_ever<F>(every: Option<Duration>, does: impl Fn() -> F) -> Result<Infallible>
where
    F: Future<Output = Result<()>>,
{
    loop {
        after(every).await;
        does().await?;
    }
}
