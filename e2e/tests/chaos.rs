//! Chaos in small: a seed of each kind, and one that has once found something. The long run is `cargo e2e chaos`, all those that have found something
//! are tried by `cargo e2e chaos --found`, and what is broken and how stands in docs/chaos.md.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, ensure};
use sera_e2e::chaos::{self, Options, Trial, When};

/// Of each kind one that ended soon among 120, the longest first, since all go on at once; four of them befall the end of a run. And 2006, whose
/// deleted batch was made again while pods of its Job were at work; and 16, which restarts the API server for all of them.
const SEEDS: [u64; 10] = [8583, 8657, 8555, 8682, 8708, 8600, 8566, 8709, 2006, 16];
/// How many kinds of seeds there are, in turns.
const KINDS: u64 = 8;
/// Jobs that wait for a queue, are admitted, taken back and admitted again.
const QUEUES: [u64; 2] = [1, 2];
/// Around the calls at which the most is half done: the first status, the first Job, the first batches, a Job of a batch.
const CALLS: [u64; 4] = [14, 19, 33, 52];

#[test]
fn a_seed_of_each_kind_is_tried() {
    let kinds: BTreeSet<u64> = SEEDS.iter().map(|seed| seed % KINDS).collect();
    assert!(kinds.into_iter().eq(0..KINDS), "a kind is missing among {SEEDS:?}");
}

#[test]
fn a_cluster_that_stands_is_not_broken() -> Result<()> {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_sera-e2e"));
    let ended = chaos.args(["chaos", "--runs=1"]).env("KUBECONFIG", "/nowhere/kubeconfig").output()?;
    let said = String::from_utf8(ended.stderr)?;
    ensure!(
        !ended.status.success() && said.contains("KUBECONFIG is set") && said.contains("not there to be broken"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn whatever_breaks_a_run_ends_as_if_nothing_had() -> Result<()> {
    if std::env::var_os("KUBECONFIG").is_some() {
        eprintln!("left out, because it boots a cluster and KUBECONFIG is set");
        return Ok(());
    }
    let killed = CALLS.into_iter().flat_map(|call| [Trial::Call(call, When::Before), Trial::Call(call, When::After)]);
    let options = Options {
        trials: SEEDS.map(Trial::Seed).into_iter().chain(QUEUES.map(Trial::Queue)).chain(killed).collect(),
        every_call: false,
        at_once: 8,
        restart_every: None,
        on_a_node: false,
        freeze_every: None,
        // Beside what cargo has built, so that it is still there when the test has failed.
        folder: concat!(env!("CARGO_TARGET_TMPDIR"), "/chaos").into(),
    };
    let report = Box::pin(chaos::run(&options)).await?;
    ensure!(report.is_good(), "{}", report.failures().join("\n"));
    Ok(())
}
