//! The paper's measure: which share of the lines that the first patch changes the second changes too. It looks at the raw text, line by line, and
//! knows neither files nor hunks; its holes are the price of being the paper's.

use std::hash::{Hash, Hasher};

use sera_crds::contract::Fraction;

use super::lines::{Lines, is_blank, is_change};
use super::multiset;

/// Line recall; none where the first patch changes no line that counts: it is not defined then. An empty second patch recalls 0.
pub fn recall(first: &[u8], second: &[u8]) -> Option<Fraction> {
    let wanted: Vec<Line> = counted(first).collect();
    if wanted.is_empty() {
        return None;
    }
    let total = wanted.len() as u64;
    Some(Fraction { matched: multiset::common(wanted.len(), wanted, counted(second)), total })
}

/// The changed lines of a patch, blank ones included: what the paper's filter on the size of patches counts.
pub fn patch_lines(patch: &[u8]) -> u64 {
    Lines::of(patch).filter(|line| is_change(line)).count() as u64
}

/// The lines that are recalled: changed ones with something after the sign.
fn counted(patch: &[u8]) -> impl Iterator<Item = Line<'_>> {
    Lines::of(patch).filter(|line| is_change(line) && !is_blank(&line[1..])).map(Line)
}

/// A line, whose length is not hashed beside it: nothing follows it.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a>(&'a [u8]);

impl Hash for Line<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(first: &str, second: &str) -> Option<(u64, u64)> {
        recall(first.as_bytes(), second.as_bytes()).map(|fraction| (fraction.matched, fraction.total))
    }

    #[test]
    fn sign_and_indentation_count_and_blank_lines_do_not() {
        assert_eq!(score("+a\n+ \n-b\n+\n c\n", "+a\n"), Some((1, 2)));
        assert_eq!(score("+a\n", "-a\n"), Some((0, 1)));
        assert_eq!(score("+  a\n", "+a\n"), Some((0, 1)));
        assert_eq!(score("+a\n", ""), Some((0, 1)));
        assert_eq!(score(" a\n", "+a\n"), None);
        assert_eq!(score("+a\r\n", "+a\n"), Some((1, 1)), "a line's end is no part of it");
    }

    /// Rust's own `lines` knows LF and CRLF only, and would score 1/2.
    #[test]
    fn one_pair_scores_two_thirds_because_a_form_feed_ends_a_line() {
        let (first, second) = ("+a\n+b\u{c}+c\n", "+a\n+b\n");
        assert_eq!(score(first, second), Some((2, 3)));
        let naive: Vec<&str> = first.lines().filter(|line| line.starts_with('+')).collect();
        let found = naive.iter().filter(|line| second.lines().any(|other| other == **line)).count();
        assert_eq!((found, naive.len()), (1, 2));
    }

    #[test]
    fn text_outside_of_hunks_counts_too() {
        assert_eq!(score("Subject: x\n\n- a list\n", "- a list\n"), Some((1, 1)));
    }

    #[test]
    fn the_size_of_a_patch_counts_blank_lines_and_no_headers() {
        assert_eq!(patch_lines(b"--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n-a\n+b\n+\n"), 3);
    }
}
