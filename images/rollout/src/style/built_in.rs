//! The examples of last resort, written for this project: six reports of six kinds, in the tone that issues have, of repositories that do not exist.

use sera_crds::contract::{StyleExample, StyleOrigin};

/// Title and text of each.
const EXAMPLES: [(&str, &str); 6] = [
    ("Retry delay grows without bound after the clock is set back", include_str!("built_in/retry_delay.md")),
    ("CSV import drops the last row when the file has no trailing newline", include_str!("built_in/csv_import.md")),
    ("`list --since` shows entries of the day before", include_str!("built_in/list_since.md")),
    ("Panic when a template includes itself", include_str!("built_in/template_cycle.md")),
    ("Search is case-sensitive for names with umlauts", include_str!("built_in/search_case.md")),
    ("Connections are not returned to the pool when a query is cancelled", include_str!("built_in/pool_leak.md")),
];

/// All of them.
pub(super) fn examples() -> Vec<StyleExample> {
    EXAMPLES.into_iter().filter_map(|(title, body)| super::example(StyleOrigin::BuiltIn, title, body)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::words::says_enough;

    #[test]
    fn each_is_what_would_be_kept_of_a_repository() {
        assert_eq!(examples().len(), EXAMPLES.len());
        assert!(examples().iter().all(|example| says_enough(&example.body)));
    }
}
