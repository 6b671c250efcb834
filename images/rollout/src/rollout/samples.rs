//! Which samples there are: drawn from the snapshot's function index, the same on every machine.

use sera_crds::contract::FunctionRef;
use sera_crds::values::BugKind;

/// A sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) number: u64,
    pub(crate) function: FunctionRef,
    /// In the order in which they are to be tried; one to three.
    pub(crate) bug_kinds: Vec<BugKind>,
}
