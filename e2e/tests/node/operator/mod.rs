//! The operator on a real node, as its chart installs it: what a user applies, sees, breaks and repairs.

mod batch;
mod broken;
mod bucket;
mod evaluation;
mod figures;
mod ground;
mod groups;
mod identity;
mod images;
mod killed;
mod lineage;
mod monitoring;
mod reclaim;
mod refused;
mod repair;
mod run;
mod self_test;
mod serving;
mod snapshot;
mod student;
mod suspending;
mod teacher;
mod training;

use crate::house::{Company, Test};

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = [
        snapshot::TESTS,
        repair::TESTS,
        refused::TESTS,
        broken::TESTS,
        broken::AT_HOME,
        reclaim::TESTS,
        identity::TESTS,
        images::TESTS,
        killed::TESTS,
        batch::TESTS,
        run::TESTS,
        run::SHAKEN,
        training::TESTS,
        evaluation::TESTS,
        suspending::TESTS,
        bucket::TESTS,
        self_test::TESTS,
        groups::TESTS,
    ]
    .concat();
    // Whoever wants to be alone waits for all others, and they for it: once is enough.
    tests.sort_by_key(|test| matches!(test.company, Company::Alone | Company::Asked));
    tests
}
