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
mod lost;
mod monitoring;
mod plugin;
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

use crate::house::Test;

pub(crate) fn tests() -> Vec<Test> {
    // Of those that may be at work at once the longest begin; one of those that train comes when the first of them are through.
    let mut tests = [
        suspending::TESTS,
        evaluation::TESTS,
        bucket::TESTS,
        run::TESTS,
        snapshot::TESTS,
        training::TESTS,
        repair::TESTS,
        refused::TESTS,
        broken::TESTS,
        broken::AT_HOME,
        lost::TESTS,
        reclaim::TESTS,
        batch::TESTS,
        plugin::TESTS,
        identity::TESTS,
        images::TESTS,
        training::SHAKEN,
        run::SHAKEN,
        killed::TESTS,
        self_test::TESTS,
        groups::TESTS,
        lost::ASKED,
    ]
    .concat();
    tests.sort_by_key(|test| test.company.turn());
    tests
}
