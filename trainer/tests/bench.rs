//! `sera-trainer bench`, and the memory that a training takes beside what is planned for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

use std::process::Command;

use sera_crds::contract::MethodPlan;
use sera_crds::values::Sharding;
use sera_trainer::bench::Subject;
use sera_trainer::training::Need;

/// The peak of a row, without what was there before, in MiB.
fn peak(row: &str) -> u64 {
    let ended = Command::new(env!("CARGO_BIN_EXE_sera-trainer"))
        .args(["bench", "--row", row, "--steps", "1"])
        .output()
        .unwrap();
    let line = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success() && line.starts_with("| 5.25M"), "{line}");
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let number = |at: usize| cells[at].parse::<u64>().unwrap();
    number(4) - number(5)
}

#[test]
fn a_training_takes_the_memory_that_is_planned_within_a_fifth() {
    let config = Subject::Small.config().unwrap();
    let method = MethodPlan::Full {};
    let (lines, length) = Subject::Small.lines();
    for (row, kept) in [("small-kept", 4), ("small-again", 0)] {
        let need = Need {
            config: &config,
            method: &method,
            sharding: Sharding::None,
            world: 1,
            width: 4,
            tokens: u64::from(lines * length),
            offload: false,
            on_cpu: true,
            kept,
            flash: None,
        };
        let (planned, measured) = (need.bytes().total() >> 20, peak(row));
        assert!(planned.abs_diff(measured) * 5 <= planned, "{row}: {planned} MiB are planned, {measured} were taken");
    }
}

#[test]
fn a_row_that_is_none_is_refused_by_the_command_line() {
    let ended = Command::new(env!("CARGO_BIN_EXE_sera-trainer")).args(["bench", "--row", "large"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
}
