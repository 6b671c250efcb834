//! What becomes of a node whose owner is killed: shown on one beside the shared cluster.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sera_e2e::cluster::Machine;

use crate::company::Company;
use crate::home::{Home, PATIENCE, signal};
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![Company::Alone; a_node_ends_with_its_killed_owner_and_the_next_boot_sweeps_the_rest];

async fn a_node_ends_with_its_killed_owner_and_the_next_boot_sweeps_the_rest(_space: Space) -> Result<()> {
    tokio::task::spawn_blocking(kill_an_owner).await?
}

fn kill_an_owner() -> Result<()> {
    let before = Machine::look();
    let home = Home::new()?;
    let mut owner = home.spawn(&["bench", "boots", "--node"])?;
    // The first process, etcd, containerd and the API server: the cgroup and the link are there as well.
    home.until_processes(4)?;
    signal(&owner, Signal::SIGKILL)?;
    owner.wait()?;
    let start = Instant::now();
    while !home.processes().is_empty() {
        ensure!(start.elapsed() < PATIENCE, "{:?} outlived their owner", home.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(home.clusters() == 1, "the record is gone, and so is what it names");

    home.run(&["up", "--control-plane-only", "--name", "next"])?;
    home.run(&["down", "--name", "next"])?;
    ensure!(home.clusters() == 0);
    // What others on this machine began meanwhile ends by itself; what was left behind stays.
    let end = Instant::now();
    loop {
        let left = Machine::look().leftovers_since(&before);
        if left.lines().is_empty() {
            return Ok(());
        }
        ensure!(end.elapsed() < PATIENCE, "{:#?}", left.lines());
        std::thread::sleep(Duration::from_millis(200));
    }
}
