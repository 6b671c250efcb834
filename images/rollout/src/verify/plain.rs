//! Both measures at once of a pair whose patches are as git writes nearly all of them: nothing but headers, hunks and their lines, which one pass
//! reads. What this pass does not know it leaves to diffy and to Python's lines; tests hold the two ways against each other.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::iter::Peekable;
use std::ops::Range;

use foldhash::fast::RandomState;
use sera_crds::contract::{Fraction, Measures, StrictMeasures};

use super::excluded::exclusion;
use super::feeds::LineFeeds;
use super::files::MAX_HEADER;
use super::lines::is_change;
use super::multiset;
use super::strict::{CountedLine, Excluded, Side, Strict, normalise};

/// How long a line is at the least, on average, for a first guess at how many there are.
const BYTES_A_LINE: usize = 32;
/// The longest number in a hunk's header that is read here, in digits: sums of two stay far from overflowing.
const MAX_DIGITS: usize = 9;
/// What git says of files before their hunks, without anything that would have to be understood.
const KNOWN: [&[u8]; 3] = [b"index ", b"new file mode 100", b"deleted file mode 100"];
/// What the number of a file has beside it that the strict measure leaves out. It is left out by either patch on its own: one may add what the other
/// edits.
const EXCLUDED: u32 = 1 << 31;
/// The strict measure of nothing.
const NOTHING: StrictMeasures = StrictMeasures { matched: 0, first: 0, second: 0, parsed: true };
/// What is not there.
const NOWHERE: &[u8] = b"/dev/null";

/// Both measures, as `super::measure` has them; none where a patch is not plain.
///
/// Most lines that are found again are found as they were, in the same file, and both measures count those: they are matched first. What a measure
/// counts as equal beyond that is looked for among what is left. No match is lost by this order: it takes as many lines from either side of a class of
/// equal ones.
pub(super) fn measure(first: &[u8], second: &[u8]) -> Option<(Measures, Strict)> {
    let [first, second] = [Plain::read(first)?, Plain::read(second)?];
    let mut strict = Strict { measures: NOTHING, excluded: Vec::new(), unparsed: Vec::new() };
    let mut numbers = HashMap::with_capacity_and_hasher(first.files.len(), RandomState::default());
    let wanted = first.numbered(Side::P1, &mut numbers, &mut strict.excluded);
    let found = second.numbered(Side::P2, &mut numbers, &mut strict.excluded);
    let same = multiset::matched(&wanted, &found);
    let recall =
        number(&same.both, Line::is_recalled) + multiset::common(same.first.len(), raw(&same.first), raw(&same.second));
    strict.measures = StrictMeasures {
        matched: number(&same.both, Line::is_counted)
            + multiset::common(same.first.len(), normalised(&same.first), normalised(&same.second)),
        first: number(&wanted, Line::is_counted),
        second: number(&found, Line::is_counted),
        parsed: true,
    };
    let total = number(&wanted, Line::is_recalled);
    let recall = (total > 0).then_some(Fraction { matched: recall, total });
    Some((Measures { recall, strict: strict.measures }, strict))
}

/// How many lines a measure counts.
fn number<'a>(lines: &[Line<'a>], counts: impl Fn(&Line<'a>) -> bool) -> u64 {
    lines.iter().filter(|line| counts(line)).count() as u64
}

/// Lines as the paper's measure compares them.
fn raw<'a>(lines: &[Line<'a>]) -> impl Iterator<Item = &'a [u8]> {
    lines.iter().filter(|line| line.is_recalled()).map(|line| line.raw)
}

/// Lines as the strict measure compares them.
fn normalised<'a>(lines: &[Line<'a>]) -> impl Iterator<Item = CountedLine<'a>> {
    let counted = lines.iter().filter(|line| line.is_counted());
    counted.map(|line| CountedLine { file: line.file, sign: line.raw[0], text: normalise(&line.raw[1..]) })
}

/// A changed line with something after its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line<'a> {
    /// Its file's number, by name and by whether the strict measure leaves it out.
    file: u32,
    /// With its sign and without its end.
    raw: &'a [u8],
}

impl Line<'_> {
    /// Whether the paper's measure counts it.
    fn is_recalled(&self) -> bool {
        is_change(self.raw)
    }

    /// Whether the strict measure counts it.
    fn is_counted(&self) -> bool {
        self.file & EXCLUDED == 0
    }
}

impl Hash for Line<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.file);
        state.write(self.raw);
    }
}

/// A plain patch.
struct Plain<'a> {
    files: Vec<File<'a>>,
    /// The changed lines of all files with something after the sign, sign included and without their ends.
    lines: Vec<&'a [u8]>,
}

struct File<'a> {
    /// The name before the change, or the new one where the patch adds the file.
    path: &'a [u8],
    added: bool,
    /// Which lines are its own.
    lines: Range<usize>,
    /// How many changed lines it has, blank ones included.
    changed: u64,
}

impl<'a> Plain<'a> {
    fn read(patch: &'a [u8]) -> Option<Self> {
        if !patch.ends_with(b"\n") {
            return None;
        }
        let mut text = Text { bytes: patch, at: 0, ends: LineFeeds::of(patch)? }.peekable();
        let mut plain = Self { files: Vec::new(), lines: Vec::with_capacity(patch.len() / BYTES_A_LINE) };
        while let Some(header) = text.next() {
            plain.file(header, &mut text)?;
        }
        Some(plain)
    }

    /// Reads a file's part, of which `header` is the first line.
    fn file(&mut self, header: &[u8], text: &mut Peekable<Text<'a>>) -> Option<()> {
        if !header.starts_with(b"diff --git ") || header.len() > MAX_HEADER {
            return None;
        }
        let (path, added) = named(text)?;
        let from = self.lines.len();
        let mut changed = 0;
        let mut ends = (0, 0);
        loop {
            let (old, new) = hunk(text.next()?)?;
            // Hunks are in order and do not overlap, and none is empty.
            if ends.0 > old.start || ends.1 > new.start || old.len() + new.len() == 0 {
                return None;
            }
            ends = (old.end, new.end);
            changed += self.hunk(old.len(), new.len(), text)?;
            if text.peek().is_none_or(|next| !next.starts_with(b"@@ ")) {
                break;
            }
        }
        self.files.push(File { path, added, lines: from..self.lines.len(), changed });
        Some(())
    }

    /// Reads the lines of a hunk; returns how many are changed.
    fn hunk(&mut self, old: usize, new: usize, text: &mut Peekable<Text<'a>>) -> Option<u64> {
        let (mut left_old, mut left_new, mut changed) = (old, new, 0);
        while left_old + left_new > 0 {
            let line = text.next()?;
            match line {
                [] | [b' ', ..] => {
                    left_old = left_old.checked_sub(1)?;
                    left_new = left_new.checked_sub(1)?;
                    continue;
                }
                [b'-', ..] => left_old = left_old.checked_sub(1)?,
                [b'+', ..] => left_new = left_new.checked_sub(1)?,
                _ => return None,
            }
            changed += 1;
            // In such a text Python's blanks are those of ASCII.
            if line.len() > 1 && !line[1..].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
                self.lines.push(line);
            }
        }
        Some(changed)
    }

    /// All lines with the numbers of their files.
    fn numbered(
        &self,
        side: Side,
        numbers: &mut HashMap<&'a [u8], u32, RandomState>,
        excluded: &mut Vec<Excluded>,
    ) -> Vec<Line<'a>> {
        let mut numbered = Vec::with_capacity(self.lines.len());
        for file in &self.files {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            let mut number = *numbers.entry(file.path).or_insert(next);
            if let Some(why) = exclusion(file.path, file.added) {
                let name = String::from_utf8_lossy(file.path).into_owned();
                excluded.push(Excluded { patch: side, file: name, why, lines: file.changed });
                number |= EXCLUDED;
            }
            numbered.extend(self.lines[file.lines.clone()].iter().map(|raw| Line { file: number, raw }));
        }
        numbered
    }
}

/// Lines that end in LF, the last one too.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
    ends: LineFeeds,
}

impl<'a> Iterator for Text<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.ends.next()?;
        let line = &self.bytes[self.at..end];
        self.at = end + 1;
        Some(line)
    }
}

/// Reads what stands between a part's first line and its first hunk: the file's name, and whether it is added.
fn named<'a>(text: &mut impl Iterator<Item = &'a [u8]>) -> Option<(&'a [u8], bool)> {
    let original = loop {
        let line = text.next()?;
        match line.strip_prefix(b"--- ") {
            Some(name) => break name,
            None if KNOWN.iter().any(|known| is_known(line, known)) => {}
            None => return None,
        }
    };
    let modified = text.next()?.strip_prefix(b"+++ ")?;
    let is_simple =
        |name: &[u8]| !name.is_empty() && !name.iter().any(|byte| matches!(byte, ..b' ' | 0x7f | b'"' | b'\\'));
    if !is_simple(original) || !is_simple(modified) {
        return None;
    }
    match (original == NOWHERE, modified == NOWHERE) {
        (true, true) => None,
        (true, false) => Some((modified.strip_prefix(b"b/").unwrap_or(modified), true)),
        _ => Some((original.strip_prefix(b"a/").unwrap_or(original), false)),
    }
}

/// Whether a line is this one of git's, with one of the two modes that files have.
fn is_known(line: &[u8], known: &[u8]) -> bool {
    let rest = line.strip_prefix(known);
    rest.is_some_and(|rest| known == KNOWN[0] || matches!(rest, b"644" | b"755"))
}

/// The lines before and after the change that a hunk's header names.
fn hunk(line: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let (old, rest) = range(line.strip_prefix(b"@@ -")?)?;
    let (new, rest) = range(rest.strip_prefix(b" +")?)?;
    rest.starts_with(b" @@").then_some((old, new))
}

/// A range as `7,3`, or `7` for one line.
fn range(text: &[u8]) -> Option<(Range<usize>, &[u8])> {
    let (start, rest) = digits(text)?;
    let (length, rest) = match rest.strip_prefix(b",") {
        Some(rest) => digits(rest)?,
        None => (1, rest),
    };
    Some((start..start + length, rest))
}

fn digits(text: &[u8]) -> Option<(usize, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(length);
    (1..=MAX_DIGITS)
        .contains(&length)
        .then(|| (digits.iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0')), rest))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::measure_any;
    use super::*;
    use crate::testing::damaged;

    const PATCH: &str = "\
diff --git a/src/a.py b/src/a.py
index 1111111..2222222 100644
--- a/src/a.py
+++ b/src/a.py
@@ -3,5 +3,7 @@ def f(x):
 \tcontext

-    return x
+    if x  is None:
+\t    return  x
+
 more
--- a comment
+++ i
@@ -20 +21 @@
-y
+y — é
diff --git a/repro.py b/repro.py
new file mode 100644
index 0000000..3333333
--- /dev/null
+++ b/repro.py
@@ -0,0 +1,2 @@
+import a
+-- x
diff --git a/gone.lock b/gone.lock
deleted file mode 100755
index 4444444..0000000
--- a/gone.lock
+++ /dev/null
@@ -1 +0,0 @@
-z
";

    /// Whether both ways measure the same, where this one measures at all.
    fn agree(first: &[u8], second: &[u8]) -> Result<bool, TestCaseError> {
        let Some((measures, strict)) = measure(first, second) else { return Ok(false) };
        let (expected, expected_strict) = measure_any(first, second);
        prop_assert_eq!(&measures, &expected);
        prop_assert_eq!(strict.measures, measures.strict);
        prop_assert_eq!(strict.excluded, expected_strict.excluded);
        prop_assert_eq!(strict.unparsed, expected_strict.unparsed);
        Ok(true)
    }

    #[test]
    fn what_git_writes_is_plain() {
        let other = PATCH.replace("return x", "return y").replace("repro", "src/b");
        for second in [PATCH, &other] {
            assert!(agree(PATCH.as_bytes(), second.as_bytes()).unwrap());
        }
    }

    #[test]
    fn what_has_to_be_understood_is_left_to_others() {
        for (from, to) in [
            ("index 1111111", "old mode 100644\nnew mode 100755\nindex 1111111"),
            ("index 1111111", "rename from x\nrename to y\nindex 1111111"),
            ("--- a/src/a.py", "--- \"a/src/\\303\\244.py\""),
            ("-z\n", "-z\n\\ No newline at end of file\n"),
            ("-z\n", "-z"),
            ("-z\n", "-z\n-"),
            ("-z\n", "-z\r\n"),
            ("-z\n", "-z\u{2028}\n"),
            ("-z\n", "-z\n-- \n2.43.0\n"),
            ("@@ -20 +21 @@", "@@ -2 +2 @@"),
            ("@@ -20 +21 @@", "@@ -20,3 +21,3 @@"),
            ("@@ -20 +21 @@", "@@ -20,0 +21,0 @@\n@@ -20 +21 @@"),
            ("new file mode 100644", "new file mode 120000"),
            ("diff --git a/src/a.py", "From me\n\n- a list\ndiff --git a/src/a.py"),
        ] {
            assert!(measure(PATCH.replace(from, to).as_bytes(), PATCH.as_bytes()).is_none(), "{to:?}");
        }
    }

    /// The part of one file, with hunks of these lines.
    fn part(path: &str, added: bool, hunks: &[Vec<String>]) -> String {
        let (before, mode) =
            if added { ("/dev/null".to_owned(), "new file mode 100644\n") } else { (format!("a/{path}"), "") };
        let hunks = hunks.iter().enumerate().map(|(number, lines)| {
            let count = |sign: char| lines.iter().filter(|line| !line.starts_with(sign)).count();
            let start = 1 + 100 * number;
            format!("@@ -{start},{} +{start},{} @@\n{}\n", count('+'), count('-'), lines.join("\n"))
        });
        let hunks: String = hunks.collect();
        format!("diff --git a/{path} b/{path}\n{mode}index 1..2 100644\n--- {before}\n+++ b/{path}\n{hunks}")
    }

    fn patch() -> impl Strategy<Value = String> {
        let line = "[-+ ][ \t]{0,2}(a|b|x = 1|x  =\t1|-|\\+\\+|é|\u{2028})?[ ]?";
        let hunks = vec(vec(line, 1..6), 1..3);
        let path = prop_oneof![Just("src/a.py"), Just("b.rs"), Just("repro.py"), Just("Cargo.lock"), Just("a b")];
        vec((path, any::<bool>(), hunks).prop_map(|(path, added, hunks)| part(path, added, &hunks)), 1..4)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn patches_of_gits_form_are_measured_as_diffy_and_pythons_lines_measure_them(first in patch(), second in patch()) {
            let plain = agree(first.as_bytes(), second.as_bytes())?;
            prop_assert_eq!(plain, !(first + &second).contains('\u{2028}'));
        }

        #[test]
        fn damaged_patches_are_measured_the_same_or_left_alone(first in damaged(PATCH.as_bytes()), second in damaged(PATCH.as_bytes())) {
            agree(&first, &second)?;
            agree(PATCH.as_bytes(), &second)?;
        }
    }
}
