//! A patch, file by file: what diffy parses, and by plain lines what it cannot, so that nothing is ever dropped. Which lines count is not decided
//! here.

use std::borrow::Cow;

use diffy::Line;
use diffy::patch_set::{FileOperation, FilePatch, ParseOptions, PatchSet};
use memchr::{memchr, memmem};

/// What git begins each file's part with. Inside of a hunk no line can begin so: there it has a sign or a space before it.
const HEADER: &[u8] = b"diff --git ";
/// The longest such line that is parsed, in bytes: two of the longest paths that Linux takes, every byte of them quoted. diffy's search for the
/// place where the two paths meet is quadratic in it.
pub(super) const MAX_HEADER: usize = 2 * 4096 * 4;
/// What `git format-patch` ends a patch with, before its version.
const SIGNATURE: &[u8] = b"-- ";

/// What a patch does to one file.
#[derive(Debug)]
pub(super) struct FileChange<'a> {
    /// Its name before the change, by which two patches of one snapshot mean the same file; the new name where the patch adds it. Not always UTF-8.
    pub(super) path: Cow<'a, [u8]>,
    /// Whether the patch adds it.
    pub(super) added: bool,
    /// The changed lines, in order.
    pub(super) lines: Vec<ChangedLine<'a>>,
    /// Why it could not be parsed; its lines are then all that begin with a sign.
    pub(super) problem: Option<String>,
}

/// A line that is added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChangedLine<'a> {
    /// `+` or `-`.
    pub(super) sign: u8,
    /// What follows the sign, possibly with its end.
    pub(super) text: &'a [u8],
}

/// Everything that a patch changes.
pub(super) fn files(patch: &[u8]) -> Vec<FileChange<'_>> {
    let at_line_start = |at: &usize| *at == 0 || patch[at - 1] == b'\n';
    let starts: Vec<usize> = memmem::find_iter(patch, HEADER).filter(at_line_start).collect();
    let (before, _) = patch.split_at(starts.first().copied().unwrap_or(patch.len()));
    // A commit's message may stand before git's first header, or a diff of another program's; or the whole is none of git's.
    let mut files = if starts.is_empty() || lines(before).any(is_hunk) { foreign(before) } else { Vec::new() };
    let ends = starts.iter().skip(1).copied().chain([patch.len()]);
    files.extend(starts.iter().zip(ends).map(|(start, end)| section(&patch[*start..end])));
    files
}

/// One file's part of git's output.
fn section(text: &[u8]) -> FileChange<'_> {
    parse_section(text).unwrap_or_else(|problem| FileChange {
        path: Cow::Borrowed(named(text)),
        added: false,
        lines: by_lines(text),
        problem: Some(problem),
    })
}

fn parse_section(text: &[u8]) -> Result<FileChange<'_>, String> {
    if memchr(b'\n', text).unwrap_or(text.len()) > MAX_HEADER {
        return Err("its header is longer than two paths can be".to_owned());
    }
    let parsed = PatchSet::parse_bytes(text, ParseOptions::gitdiff()).next();
    let file = parsed.ok_or("there is no patch in it")?.map_err(|error| error.to_string())?;
    let (change, end) = change(text, &file);
    let rest = if end == 0 { after_headers(text) } else { &text[end..] };
    if loses(rest) {
        return Err("something between or after its hunks is no part of a patch".to_owned());
    }
    Ok(change)
}

/// A diff that is not git's: the whole of it parses, or all of it is taken by lines.
fn foreign(text: &[u8]) -> Vec<FileChange<'_>> {
    let expected = by_lines(text);
    if expected.is_empty() {
        return Vec::new();
    }
    let parsed: Result<Vec<FilePatch<'_, [u8]>>, _> = PatchSet::parse_bytes(text, ParseOptions::unidiff()).collect();
    let problem = match parsed {
        Ok(parsed) => {
            let files: Vec<FileChange<'_>> = parsed.iter().map(|file| change(text, file).0).collect();
            if files.iter().map(|file| file.lines.len()).sum::<usize>() == expected.len() {
                return files;
            }
            "lines outside of hunks look like changes".to_owned()
        }
        Err(error) => error.to_string(),
    };
    vec![FileChange { path: Cow::Borrowed(b""), added: false, lines: expected, problem: Some(problem) }]
}

/// A parsed file in our words, and where its last hunk ends in `text`; 0 where it has none.
fn change<'a>(text: &'a [u8], file: &FilePatch<'a, [u8]>) -> (FileChange<'a>, usize) {
    let (path, added) = match file.operation() {
        FileOperation::Delete(path) => (without(path, b"a/"), false),
        FileOperation::Create(path) => (without(path, b"b/"), true),
        FileOperation::Modify { original, .. } => (without(original, b"a/"), false),
        FileOperation::Rename { from, .. } => (from.clone(), false),
        FileOperation::Copy { to, .. } => (to.clone(), true),
    };
    let mut changed = Vec::new();
    let mut end = 0;
    // A binary file has no lines; what it contains is not compared.
    for line in file.patch().as_text().iter().flat_map(|patch| patch.hunks()).flat_map(diffy::Hunk::lines) {
        let (sign, line) = match line {
            Line::Context(line) => (None, line),
            Line::Delete(line) => (Some(b'-'), line),
            Line::Insert(line) => (Some(b'+'), line),
        };
        let line = within(text, line);
        changed.extend(sign.map(|sign| ChangedLine { sign, text: &text[line.clone()] }));
        end = line.end;
    }
    (FileChange { path, added, lines: changed, problem: None }, end)
}

/// Where a piece of `text` lies in it. diffy lends its lines only as long as the parsed patch lives, though they are pieces of the text.
fn within(text: &[u8], piece: &[u8]) -> std::ops::Range<usize> {
    let start = piece.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    let end = (start + piece.len()).min(text.len());
    start.min(end)..end
}

/// Whether there is something among the rest of a file's part that the parser, which skips what it does not know, should have seen.
fn loses(rest: &[u8]) -> bool {
    let mut signed = false;
    lines(rest).any(|line| {
        signed |= line == SIGNATURE;
        is_hunk(line) || !signed && sign(line).is_some()
    })
}

/// What follows the lines that name the file.
fn after_headers(text: &[u8]) -> &[u8] {
    let headers = lines(text).take_while(|line| sign(line).is_none() && !is_hunk(line) || is_file_name(line));
    &text[headers.map(|line| line.len() + 1).sum::<usize>().min(text.len())..]
}

/// All lines that begin with a sign, but for those that name the files.
fn by_lines(text: &[u8]) -> Vec<ChangedLine<'_>> {
    let mut changed = Vec::new();
    let mut lines = lines(text).peekable();
    while let Some(line) = lines.next() {
        if line.starts_with(b"--- ") && lines.next_if(|next| next.starts_with(b"+++ ")).is_some() {
            continue;
        }
        changed.extend(sign(line).map(|sign| ChangedLine { sign, text: &line[1..] }));
    }
    changed
}

/// The name in a header that could not be parsed: the path, where both are the same without quotes, else all of it.
fn named(section: &[u8]) -> &[u8] {
    let header = lines(section).next().unwrap_or_default();
    let names = header.get(HEADER.len()..).unwrap_or_default();
    let path = names.get(2..2 + names.len().saturating_sub(5) / 2).unwrap_or_default();
    let again = [b"a/", path, b" b/", path].concat();
    if again == names { path } else { names }
}

/// Lines as git ends them, without their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

fn sign(line: &[u8]) -> Option<u8> {
    line.first().copied().filter(|first| matches!(first, b'+' | b'-'))
}

fn is_hunk(line: &[u8]) -> bool {
    line.starts_with(b"@@ ")
}

fn is_file_name(line: &[u8]) -> bool {
    line.starts_with(b"--- ") || line.starts_with(b"+++ ")
}

/// A path without git's prefix.
fn without<'a>(path: &Cow<'a, [u8]>, prefix: &[u8]) -> Cow<'a, [u8]> {
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(path.strip_prefix(prefix).unwrap_or(path)),
        Cow::Owned(path) => Cow::Owned(path.strip_prefix(prefix).unwrap_or(path).to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each file as "path: lines", with a mark on those that were added or not parsed.
    fn told(patch: &str) -> Vec<String> {
        let line = |line: &ChangedLine<'_>| {
            format!("{}{}", char::from(line.sign), String::from_utf8_lossy(line.text).trim_end_matches('\n'))
        };
        files(patch.as_bytes())
            .iter()
            .map(|file| {
                let marks = [(file.added, "new "), (file.problem.is_some(), "unparsed ")];
                let marks: String = marks.into_iter().filter_map(|(has, mark)| has.then_some(mark)).collect();
                let lines: Vec<String> = file.lines.iter().map(line).collect();
                format!("{marks}{}: {}", String::from_utf8_lossy(&file.path), lines.join(" "))
            })
            .collect()
    }

    #[test]
    fn files_are_told_by_their_name_in_the_snapshot() {
        let patch = "\
diff --git a/a.py b/a.py
index 1..2 100644
--- a/a.py
+++ b/a.py
@@ -1,2 +1,2 @@ def f():
 x
-y
+z
diff --git a/new.py b/new.py
new file mode 100644
--- /dev/null
+++ b/new.py
@@ -0,0 +1 @@
+n
\\ No newline at end of file
diff --git a/gone.py b/gone.py
deleted file mode 100644
--- a/gone.py
+++ /dev/null
@@ -1 +0,0 @@
-g
diff --git a/old.py b/moved.py
similarity index 90%
rename from old.py
rename to moved.py
--- a/old.py
+++ b/moved.py
@@ -1 +1 @@
-o
+m
";
        assert_eq!(told(patch), ["a.py: -y +z", "new new.py: +n", "gone.py: -g", "old.py: -o +m"]);
    }

    #[test]
    fn what_has_no_lines_is_there_without_any() {
        let patch = "\
diff --git a/a b/b
similarity index 100%
rename from a
rename to b
diff --git a/run b/run
old mode 100644
new mode 100755
diff --git a/i.png b/i.png
index 1..2 100644
Binary files a/i.png and b/i.png differ
diff --git a/j.png b/j.png
index 1..2 100644
GIT binary patch
literal 3
Kcmb=J00000

literal 3
Kcmb=J00000

diff --git a/empty b/empty
new file mode 100644
index 0000000..e69de29
";
        assert_eq!(told(patch), ["a: ", "run: ", "i.png: ", "j.png: ", "new empty: "]);
    }

    #[test]
    fn signs_inside_of_hunks_are_no_headers() {
        let patch = "diff --git a/q.sql b/q.sql\n--- a/q.sql\n+++ b/q.sql\n@@ -1,2 +1,2 @@\n--- old comment\n+++ new\n-- x\n+y\n";
        assert_eq!(told(patch), ["q.sql: --- old comment +++ new -- x +y"]);
    }

    #[test]
    fn names_that_git_quotes_are_unquoted() {
        let patch = "diff --git \"a/\\303\\244.py\" \"b/\\303\\244.py\"\n--- \"a/\\303\\244.py\"\n+++ \"b/\\303\\244.py\"\n@@ -1 +1 @@\n-a\n+b\n";
        assert_eq!(told(patch), ["ä.py: -a +b"]);
    }

    #[test]
    fn what_cannot_be_parsed_is_taken_by_lines_and_the_other_files_are_parsed() {
        let good = "diff --git a/g b/g\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-a\n+b\n";
        let header = "diff --git a/x b/x\n--- a/x\n+++ b/x\n";
        for (bad, lines) in [
            ("@@ -1,9 +1,9 @@\n-a\n+b\n", "-a +b"),
            ("@@ nonsense @@\n-a\n+b\n", "-a +b"),
            ("@@ -1 +1 @@\n-a\n+b\njunk\n@@ -9 +9 @@\n-c\n+d\n", "-a +b -c +d"),
            ("@@ -1 +1 @@\n-a\n+b\n+one too many\n", "-a +b +one too many"),
            ("junk\n@@ -1 +1 @@\n-a\n+b\n", "-a +b"),
            ("-no hunk\n", "-no hunk"),
        ] {
            let patch = format!("{header}{bad}{good}");
            assert_eq!(told(&patch), [format!("unparsed x: {lines}"), "g: -a +b".to_owned()], "{bad}");
        }
    }

    #[test]
    fn mails_and_plain_diffs_are_read_too() {
        let mail = "From 0123 Mon Sep 17 00:00:00 2001\nSubject: [PATCH] x\n\n- a list\n---\n x | 2 +-\n\n\
            diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n-- \n2.43.0\n";
        assert_eq!(told(mail), ["x: -a +b"]);
        assert_eq!(told("--- a/x\t2026-01-01\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"), ["x: -a +b"]);
        assert_eq!(told("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n+c\n"), ["unparsed : -a +b +c"]);
        assert_eq!(told("+a\n-b\n"), ["unparsed : +a -b"]);
        assert_eq!(told(""), [""; 0]);
    }

    #[test]
    fn a_header_longer_than_two_paths_costs_no_quadratic_time() {
        let patch = format!("diff --git {}\n+a\n", "a ".repeat(1 << 20));
        assert!(files(patch.as_bytes())[0].problem.is_some());
    }
}
