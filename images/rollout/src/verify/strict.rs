//! The strict measure: changed lines by file, from hunks alone, without whitespace, lock files, generated files and left-overs; how many of the first
//! patch's are found (recall), and how many of the second's are right (precision).

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use sera_crds::contract::StrictMeasures;
use serde::Serialize;

use super::excluded::{Exclusion, exclusion};
use super::files::files;
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
    let wanted = counting.lines(first, Side::P1);
    let found = counting.lines(second, Side::P2);
    let (first, second) = (wanted.len() as u64, found.len() as u64);
    let parsed = counting.unparsed.is_empty();
    let measures = StrictMeasures { matched: multiset::common(wanted.len(), wanted, found), first, second, parsed };
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

/// A line that counts, as two patches must have it in common.
#[derive(PartialEq, Eq)]
pub(super) struct CountedLine<'a> {
    /// Its file's number.
    pub(super) file: u32,
    /// `+` or `-`.
    pub(super) sign: u8,
    /// What follows, with its whitespace normalised.
    pub(super) text: Cow<'a, [u8]>,
}

impl Hash for CountedLine<'_> {
    /// In two strokes, where four would be made of the fields: this is done for every changed line.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.file) << 8 | u64::from(self.sign));
        state.write(&self.text);
    }
}

impl<'a> Counting<'a> {
    fn lines(&mut self, patch: &'a [u8], side: Side) -> Vec<CountedLine<'a>> {
        let mut lines = Vec::new();
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
            let normalised = file.lines.into_iter().map(|line| (line.sign, normalise(line.text)));
            let counted = normalised.filter(|(_, text)| !text.is_empty());
            lines.extend(counted.map(|(sign, text)| CountedLine { file: number, sign, text }));
        }
        lines
    }
}

/// A text without whitespace around it, and with one space for all that is between two words. Whitespace is ASCII's: what else looks like it may mean
/// something to a compiler.
pub(super) fn normalise(text: &[u8]) -> Cow<'_, [u8]> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    let text = &text[start..end];
    if is_even(text) {
        return Cow::Borrowed(text);
    }
    let words: Vec<&[u8]> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    Cow::Owned(words.join(&b' '))
}

/// Whether a text has no whitespace but single spaces, as nearly every line. It looks at eight bytes at once, and takes other control characters for
/// whitespace, which costs nothing but time.
fn is_even(text: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = u64::from_ne_bytes([0x80; 8]);
    const BUT_HIGHEST: u64 = !HIGHEST;
    let below = |word: u64, limit: u8| !((word & BUT_HIGHEST) + ONES * u64::from(0x80 - limit)) & !word & HIGHEST;
    let mut last = 0;
    let mut uneven = 0;
    let mut look = |word: u64| {
        let spaces = below(word, b'!');
        uneven |= below(word, b' ') | spaces & (spaces << 8 | last);
        last = spaces >> 56;
    };
    let (words, rest) = text.as_chunks::<8>();
    words.iter().for_each(|word| look(u64::from_le_bytes(*word)));
    let mut filled = *b"xxxxxxxx";
    filled[..rest.len()].copy_from_slice(rest);
    look(u64::from_le_bytes(filled));
    uneven == 0
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
