//! Whether a text that the teacher wrote will do as a synthetic pull request: it has to say what is wrong, and must not give away what was changed.

use std::collections::BTreeSet;

/// The tags that the text stands between.
const OPEN: &str = "<output>";
const CLOSE: &str = "</output>";
/// An added line shorter than this, in characters and without its indentation, is too common to give anything away.
const TELLING_LINE: usize = 12;
/// How much longer or shorter than its example a text may be: so many times.
const LENGTH_FACTOR: usize = 4;
/// A text of up to this many characters is never too long, whatever the example: the symptom and how to reproduce it need room.
const ALWAYS_SHORT: usize = 1600;
/// A text of this many characters is never too short.
const ALWAYS_LONG: usize = 120;

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    /// There is nothing between tags.
    #[error("there was no text between <output> and </output>")]
    NoText,
    /// It is a diff, or has one.
    #[error("it showed a diff")]
    Diff,
    /// It speaks of tests.
    #[error("it mentioned tests ('{0}')")]
    Tests(String),
    /// It has a line of the first patch.
    #[error("it gave away a line of the solution ('{0}')")]
    Leak(String),
    /// It has code where the example has none.
    #[error("it had a block of code, and the example has none")]
    Code,
    /// It is much longer or shorter than the example.
    #[error("it had {found} characters, and the example has {example}")]
    Length {
        /// Its length.
        found: usize,
        /// The example's.
        example: usize,
    },
}

impl Flaw {
    /// Whether a text with it is of use at all, where no better one comes: of code that is about tests itself, no text can be written without the word.
    pub(super) fn is_bearable(&self) -> bool {
        matches!(self, Self::Tests(_) | Self::Leak(_) | Self::Code | Self::Length { .. })
    }
}

/// Whether a text has blocks of code.
pub(super) fn has_code(text: &str) -> bool {
    text.contains("```") || text.contains("~~~")
}

/// The text of an answer (without its thinking): what stands between the last pair of tags.
pub(super) fn extract(content: &str) -> Option<&str> {
    let end = content.rfind(CLOSE)?;
    let start = content[..end].rfind(OPEN)? + OPEN.len();
    Some(content[start..end].trim()).filter(|text| !text.is_empty())
}

/// The first thing that is wrong with a text, the worst first.
pub(super) fn flaw(text: &str, patch: &str, example: &str) -> Option<Flaw> {
    if text.lines().any(is_diff_line) {
        return Some(Flaw::Diff);
    }
    if let Some(word) = mentions_tests(text) {
        return Some(Flaw::Tests(word.to_owned()));
    }
    if let Some(line) = leak(text, patch) {
        return Some(Flaw::Leak(line.to_owned()));
    }
    if has_code(text) && !has_code(example) {
        return Some(Flaw::Code);
    }
    let (found, example) = (text.chars().count(), example.chars().count());
    let (most, least) = ((example * LENGTH_FACTOR).max(ALWAYS_SHORT), (example / LENGTH_FACTOR).min(ALWAYS_LONG));
    (found > most || found < least).then_some(Flaw::Length { found, example })
}

/// A line that the patch adds and the text repeats.
pub(super) fn leak<'a>(text: &str, patch: &'a str) -> Option<&'a str> {
    let added = patch.lines().filter(|line| !line.starts_with("+++")).filter_map(|line| line.strip_prefix('+'));
    let removed: BTreeSet<&str> = patch.lines().filter_map(|line| line.strip_prefix('-')).map(str::trim).collect();
    added
        .map(str::trim)
        // What only moves or is indented anew was in the code before: it gives nothing away.
        .filter(|line| line.chars().count() >= TELLING_LINE && !removed.contains(line))
        .find(|line| text.contains(line))
}

fn is_diff_line(line: &str) -> bool {
    let line = line.trim_start();
    let header = ["diff --git ", "@@ -", "--- a/", "+++ b/", "```diff", "```patch"];
    header.iter().any(|start| line.starts_with(start))
}

/// A word that speaks of tests; `latest` and `contest` do not, and neither does somebody who tested something by hand.
fn mentions_tests(text: &str) -> Option<&str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().find(|word| {
        let lower = word.to_lowercase();
        let whole =
            ["test", "tests", "testcase", "testcases", "testsuite", "pytest", "unittest", "unittests", "doctest"];
        whole.contains(&lower.as_str())
            || lower.starts_with("test_")
            || lower.ends_with("_test")
            || lower.ends_with("_tests")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n-    return items[0]\n+    return items[0] if items else None\n+    x = 1\n";

    #[test]
    fn only_the_last_pair_of_tags_counts() {
        assert_eq!(extract("I will use <output> tags.\n<output>\nIt fails.\n</output>"), Some("It fails."));
        assert_eq!(extract("<output>a</output> no: <output>b</output>"), Some("b"));
        for none in ["", "<output>", "<output>cut off", "</output>", "<output> \n</output>", "</output><output>"] {
            assert_eq!(extract(none), None, "{none:?}");
        }
    }

    #[test]
    fn an_added_line_gives_the_solution_away_and_a_short_or_old_one_does_not() {
        assert_eq!(leak("use `return items[0] if items else None`", PATCH), Some("return items[0] if items else None"));
        assert_eq!(leak("x = 1 and return items[0]", PATCH), None);
        let moved = "-    a_long_line()\n+        a_long_line()\n";
        assert_eq!(leak("a_long_line() fails", moved), None);
        assert_eq!(leak("see b/a.py", "+++ b/a.py-and-more\n"), None);
    }

    #[test]
    fn each_flaw_is_told_and_a_good_text_has_none() {
        let example =
            "The first item is returned although the list is empty, see below for how I came across it in production.";
        let good = "`first([])` raises an IndexError. I expected it to return nothing, as the latest documentation of it says.";
        assert_eq!(flaw(good, PATCH, example), None);
        for (text, flawed) in [
            ("@@ -1,2 +1,2 @@ something", Flaw::Diff),
            ("```diff\n+ x\n```", Flaw::Diff),
            ("It fails, and the tests do not see it.", Flaw::Tests("tests".into())),
            ("See test_first in the module.", Flaw::Tests("test_first".into())),
            (
                "Write return items[0] if items else None there.",
                Flaw::Leak("return items[0] if items else None".into()),
            ),
            ("It fails:\n```\nfirst([])\n```", Flaw::Code),
            ("It fails.", Flaw::Length { found: 9, example: example.len() }),
        ] {
            assert_eq!(flawed.is_bearable(), flawed != Flaw::Diff, "where no better text comes: {text}");
            assert_eq!(flaw(text, PATCH, example), Some(flawed), "{text}");
        }
        assert!(matches!(flaw(&"It fails. ".repeat(200), PATCH, example), Some(Flaw::Length { found: 2000, .. })));
        assert_eq!(flaw("It fails:\n```\nfirst([])\n```", PATCH, "```\nx\n```"), None);
        assert!(mentions_tests("I tested the latest contest entry").is_none());
    }
}
