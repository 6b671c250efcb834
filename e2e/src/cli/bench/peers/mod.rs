//! `cargo e2e bench peers`: the operator and Kubeflow Trainer's controller, one after the other on one control plane, each beside as many objects of its
//! own kind that are held. Here is the command and its table.

mod ours;
mod side;
mod theirs;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use sera_e2e::cluster::kubeflow_trainer;
use sera_e2e::paths;
use sera_e2e::progress::Progress;

use self::side::Figures;
use super::process::{self, build_kind, unlike_the_chart};

/// How much to measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct Peers {
    /// How many objects of each kind
    #[arg(long, default_value_t = 1000)]
    objects: u32,
    /// For how many seconds each controller is looked at when it has nothing to do
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// How many requests a second either may make, all at once if need be; both come with 50, and 100 at once
    #[arg(long, default_value_t = 2000)]
    qps: u32,
}

pub(super) async fn run(peers: Peers) -> Result<ExitCode> {
    let program = paths::program("sera-operator")?;
    let peer = kubeflow_trainer(&Progress::console()).await?;
    let version = peer.version.clone();
    let cluster = process::control_plane().await?;
    let ours = ours::Ours::new(program, peers.qps);
    let flags = unlike_the_chart(&ours.flags());
    let theirs = theirs::Theirs::prepare(&cluster, peer, peers.qps).await?;
    let ours = Box::pin(side::measure(&cluster, &ours, &peers)).await?;
    let theirs = Box::pin(side::measure(&cluster, &theirs, &peers)).await?;
    cluster.down().await?;

    println!("{} objects each, all suspended; {} requests a second at most", peers.objects, peers.qps);
    println!("the operator's flags (what its chart sets): {flags}");
    println!("{:<44} {:>20} {:>20}", "", format!("sera-operator, {}", build_kind()), format!("Trainer {version}"));
    for ((what, ours), (_, theirs)) in rows(&ours, &peers).into_iter().zip(rows(&theirs, &peers)) {
        println!("{what:<44} {ours:>20} {theirs:>20}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines of the table, with what was seen of one controller.
fn rows(of: &Figures, peers: &Peers) -> Vec<(String, String)> {
    let (objects, seconds) = (f64::from(peers.objects), f64::from(peers.seconds));
    let row = |what: &str, figure: String| (what.to_owned(), figure);
    let time = |time: Duration| format!("{:.2} s", time.as_secs_f32());
    vec![
        row("start to ready, nothing there", time(of.ready_when_empty)),
        row("from the first made to the last looked at", time(of.first_sight)),
        row("  of which they were made within", time(of.made)),
        row("  API requests for each", format!("{:.1}", of.first_requests / objects)),
        row("  memory then (peak)", memory(of.first_memory)),
        row("started anew beside all: start to ready", time(of.ready_beside_all)),
        row("  API requests until it rests", of.start_requests.to_string()),
        row("  memory at rest (peak)", memory(of.rest_memory)),
        row(&format!("{seconds} s at rest: of one processor"), format!("{:.2}%", of.rest_processor / seconds * 100.0)),
        row("  API requests a second", format!("{:.2}", of.rest_requests / seconds)),
        row("a new annotation on each: passes", of.touched_passes.to_string()),
        row("  API requests", of.touched_requests.to_string()),
        row("  processor", format!("{:.2} s", of.touched_processor)),
    ]
}

fn memory((resident, peak): (f64, f64)) -> String {
    format!("{resident:.1} MiB ({peak:.1})")
}
