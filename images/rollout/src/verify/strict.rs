//! The strict measure: changed lines by file, from hunks alone, without whitespace, lock files, generated files and left-overs; how many of the first
//! patch's are found (recall), and how many of the second's are right (precision).

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use sera_crds::contract::StrictMeasures;
use serde::Serialize;

use super::excluded::{Exclusion, exclusion};
use super::files::{ChangedLine, files};
use super::multiset;

/// The strict measure of a pair, and what has to be known about it.
#[derive(Debug)]
pub struct Strict {
    /// The measure.
    pub measures: StrictMeasures,
    /// Files that were left out.
    pub excluded: Vec<Excluded>,
    /// Files that were measured by plain lines, and why.
    pub unparsed: Vec<Unparsed>,
}

/// A file whose lines are not counted.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Excluded {
    /// Which of the two patches.
    pub patch: Side,
    /// The file; what of its name is no UTF-8 is replaced.
    pub file: String,
    /// Why.
    pub why: Exclusion,
    /// How many changed lines it has.
    pub lines: u64,
}

/// A file whose part of a patch could not be parsed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Unparsed {
    /// Which of the two patches.
    pub patch: Side,
    /// The file, as far as its name could be told.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

/// One of the two patches of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The first rollout's.
    P1,
    /// The second rollout's.
    P2,
}

/// Measures `second` against `first`.
pub fn strict(first: &[u8], second: &[u8]) -> Strict {
    let mut counting = Counting::default();
    let first = counting.keys(first, Side::P1);
    let second = counting.keys(second, Side::P2);
    let wanted: Vec<&[u8]> = first.iter().collect();
    let measures = StrictMeasures {
        matched: multiset::common(&wanted, second.iter()),
        first: first.ranges.len() as u64,
        second: second.ranges.len() as u64,
        parsed: counting.unparsed.is_empty(),
    };
    Strict { measures, excluded: counting.excluded, unparsed: counting.unparsed }
}

/// What both patches of a pair are counted with.
#[derive(Default)]
struct Counting<'a> {
    /// A number for each file.
    numbers: HashMap<Cow<'a, [u8]>, u32>,
    excluded: Vec<Excluded>,
    unparsed: Vec<Unparsed>,
}

/// One key a counted line, all in one buffer: the file's number, the sign, the text with its whitespace normalised.
#[derive(Default)]
struct Keys {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl<'a> Counting<'a> {
    fn keys(&mut self, patch: &'a [u8], side: Side) -> Keys {
        let mut keys = Keys::default();
        for file in files(patch) {
            let name = || String::from_utf8_lossy(&file.path).into_owned();
            if let Some(why) = file.problem.clone() {
                self.unparsed.push(Unparsed { patch: side, file: name(), why });
            }
            if let Some(why) = exclusion(&file.path, file.added) {
                self.excluded.push(Excluded { patch: side, file: name(), why, lines: file.lines.len() as u64 });
                continue;
            }
            let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
            let number = *self.numbers.entry(file.path).or_insert(next);
            for line in file.lines {
                keys.push(number, line);
            }
        }
        keys
    }
}

impl Keys {
    /// Adds a line, if anything but whitespace is in it.
    fn push(&mut self, file: u32, line: ChangedLine<'_>) {
        let start = self.bytes.len();
        let mut words = line.text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(word) = words.next() else { return };
        self.bytes.extend(file.to_ne_bytes());
        self.bytes.push(line.sign);
        self.bytes.extend(word);
        for word in words {
            self.bytes.push(b' ');
            self.bytes.extend(word);
        }
        self.ranges.push(start..self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.ranges.iter().map(|range| &self.bytes[range.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A patch that makes one hunk of each file's lines.
    fn patch(files: &[(&str, &[&str])]) -> String {
        let section = |(path, lines): &(&str, &[&str])| {
            let count = |sign: char| lines.iter().filter(|line| line.starts_with(sign)).count();
            format!(
                "diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1,{} +1,{} @@\n{}\n",
                count('-'),
                count('+'),
                lines.join("\n")
            )
        };
        files.iter().map(section).collect()
    }

    fn score(first: &str, second: &str) -> (u64, u64, u64) {
        let StrictMeasures { matched, first, second, .. } = strict(first.as_bytes(), second.as_bytes()).measures;
        (matched, first, second)
    }

    #[test]
    fn a_line_counts_in_its_own_file_only() {
        let first = patch(&[("a.py", &["-x", "+y"])]);
        assert_eq!(score(&first, &first), (2, 2, 2));
        assert_eq!(score(&first, &patch(&[("b.py", &["-x", "+y"])])), (0, 2, 2));
    }

    #[test]
    fn whitespace_does_not_count_and_words_do_not_run_together() {
        let first = patch(&[("a.py", &["+  if  x:\t", "+", "+   "])]);
        assert_eq!(score(&first, &patch(&[("a.py", &["+if x:\r"])])), (1, 1, 1));
        assert_eq!(score(&first, &patch(&[("a.py", &["+ifx:"])])), (0, 1, 1));
    }

    #[test]
    fn excluded_files_are_named_and_not_counted() {
        let first = patch(&[("a.py", &["+x"]), ("poetry.lock", &["+1", "+2"])]);
        let found = strict(first.as_bytes(), first.as_bytes());
        assert_eq!((found.measures.matched, found.measures.first, found.measures.second), (1, 1, 1));
        let lock = |patch| Excluded { patch, file: "poetry.lock".into(), why: Exclusion::LockFile, lines: 2 };
        assert_eq!(found.excluded, [lock(Side::P1), lock(Side::P2)]);
    }

    #[test]
    fn what_cannot_be_parsed_is_measured_all_the_same_and_said() {
        let broken = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,7 +1,7 @@\n+x\n";
        let whole = patch(&[("a.py", &["+x"])]);
        let found = strict(broken.as_bytes(), whole.as_bytes());
        assert_eq!((found.measures.matched, found.measures.parsed), (1, false));
        let [Unparsed { patch: Side::P1, file, why }] = found.unparsed.as_slice() else { panic!("{found:?}") };
        assert!(file == "a.py" && !why.is_empty(), "{file}: {why}");
    }
}
