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

use crate::house::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
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
        training::TESTS,
        evaluation::TESTS,
        suspending::TESTS,
        bucket::TESTS,
        self_test::TESTS,
        groups::TESTS,
    ]
    .concat()
}
