//! `cargo e2e bench boots`: boots and takes down one cluster after another, and shows how long that took and what was left
//! on the machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use sera_e2e::cluster::{Cluster, Leftovers, Machine, kubeconfig_is_set};

/// What to boot.
#[derive(Debug, Args)]
pub(crate) struct Boots {
    /// Clusters with a node
    #[arg(long)]
    node: bool,
    /// How many
    #[arg(long, default_value_t = 10)]
    count: usize,
    /// Drop the machine's file cache before the first boot (root)
    #[arg(long)]
    cold: bool,
}

pub(super) async fn run(Boots { node, count, cold }: Boots) -> Result<ExitCode> {
    if kubeconfig_is_set() {
        bail!("KUBECONFIG is set, and a cluster that is there cannot be booted: unset it");
    }
    // The first boot makes the programs sure, and sweeps what an earlier crash left; it is not measured.
    boot(node).await?.down().await?;
    if cold {
        drop_file_cache()?;
    }
    println!("boot  {}  up [s]  down [s]  {}", if cold { "cache" } else { "     " }, Leftovers::HEADINGS.join("  "));
    let (mut boots, mut clean) = (Vec::new(), true);
    for number in 1..=count {
        let before = Machine::look();
        let start = Instant::now();
        let cluster = boot(node).await?;
        let up = start.elapsed();
        let start = Instant::now();
        cluster.down().await?;
        let down = start.elapsed();
        let left = Machine::look().leftovers_since(&before);
        let cache = if !cold {
            ""
        } else if number == 1 {
            "cold"
        } else {
            "warm"
        };
        let counts: Vec<String> = left
            .counts()
            .iter()
            .zip(Leftovers::HEADINGS)
            .map(|(count, heading)| format!("{count:>0$}", heading.len()))
            .collect();
        println!(
            "{number:>4}  {cache:<5}  {:>6.2}  {:>8.2}  {}",
            up.as_secs_f32(),
            down.as_secs_f32(),
            counts.join("  ")
        );
        for line in left.lines() {
            println!("      left: {line}");
        }
        clean &= left.lines().is_empty();
        boots.push(up);
    }
    println!("{}", summary(boots));
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn boot(node: bool) -> Result<Cluster> {
    Ok(if node { Cluster::with_node().await? } else { Cluster::control_plane().await? })
}

fn summary(mut boots: Vec<Duration>) -> String {
    boots.sort();
    match (boots.first(), boots.get(boots.len() / 2), boots.last()) {
        (Some(least), Some(median), Some(most)) => format!(
            "up after {:.2} s at least, {:.2} s in the middle, {:.2} s at most",
            least.as_secs_f32(),
            median.as_secs_f32(),
            most.as_secs_f32()
        ),
        _ => "no boots".to_owned(),
    }
}

/// Has the kernel forget the files it read (`drop_caches`, `proc_sys_vm(5)`).
fn drop_file_cache() -> Result<()> {
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the file cache needs root")
}
