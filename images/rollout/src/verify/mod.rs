//! Soft verification: how much of one patch another finds again, by the paper's measure and by a stricter one, always both; and what that decides.
//! Nothing is executed and no model is asked. The measures are pure and take time that grows with the patches' size.

mod decision;
mod excluded;
mod feeds;
mod files;
mod lines;
mod multiset;
pub mod pairs;
mod plain;
mod recall;
mod report;
pub(crate) mod stage;
mod strict;

use std::collections::BTreeSet;

use sera_crds::contract::Measures;

pub use decision::{Criterion, Refusal, decide};
pub use excluded::Exclusion;
pub use recall::{patch_lines, recall};
pub use report::PairReport;
pub use strict::{Excluded, Side, Strict, Unparsed, strict};

/// The files that a patch changes, by their names before it; the new ones' where it adds them.
pub(crate) fn changed_files(patch: &[u8]) -> BTreeSet<Vec<u8>> {
    files::files(patch).into_iter().map(|file| file.path.into_owned()).collect()
}

/// Both measures of a pair, and what has to be known about the strict one.
pub fn measure(first: &[u8], second: &[u8]) -> (Measures, Strict) {
    plain::measure(first, second).unwrap_or_else(|| measure_any(first, second))
}

/// The same for patches of all kinds.
fn measure_any(first: &[u8], second: &[u8]) -> (Measures, Strict) {
    let strict = strict(first, second);
    (Measures { recall: recall(first, second), strict: strict.measures }, strict)
}
