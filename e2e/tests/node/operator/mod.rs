//! The operator on a real node, as its chart installs it: what a user applies, sees, breaks and repairs.

mod batch;
mod broken;
mod bucket;
mod evaluation;
mod ground;
mod groups;
mod identity;
mod killed;
mod lineage;
mod monitoring;
mod reclaim;
mod repair;
mod run;
mod self_test;
mod serving;
mod snapshot;
mod student;
mod teacher;
mod training;

use crate::house::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        snapshot::TESTS,
        repair::TESTS,
        broken::TESTS,
        broken::AT_HOME,
        reclaim::TESTS,
        identity::TESTS,
        killed::TESTS,
        batch::TESTS,
        run::TESTS,
        training::TESTS,
        evaluation::TESTS,
        bucket::TESTS,
        self_test::TESTS,
        groups::TESTS,
    ]
    .concat()
}
