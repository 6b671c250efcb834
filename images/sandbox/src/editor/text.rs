//! Changes to a text, as bytes: what is not asked for stays as it is, whatever it is. Text from a model has `\n` at the end of lines; in a file whose
//! lines end in `\r\n` that is meant.

use super::file::Refusal;

/// How many lines around a change are shown.
const AROUND: usize = 4;
/// How many of the places where a text stands are told.
const MOST_PLACES: usize = 20;

/// A changed text.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) bytes: Vec<u8>,
    /// The first line of what is worth showing, from 1.
    pub(super) first_line: usize,
    /// The last one.
    pub(super) last_line: usize,
}

impl Edit {
    /// The text before `from`, a new one, and the text after `to`.
    fn new(bytes: &[u8], from: usize, to: usize, new: &[u8]) -> Self {
        let line = count_lines(&bytes[..from]) + 1;
        let added = count_lines(new);
        let bytes = [&bytes[..from], new, &bytes[to..]].concat();
        Self { bytes, first_line: line.saturating_sub(AROUND).max(1), last_line: line + added + AROUND }
    }
}

/// Replaces a text that stands there exactly once.
pub(super) fn replace(shown: &str, bytes: &[u8], old: &str, new: &str) -> Result<Edit, Refusal> {
    if old.is_empty() {
        return Err(Refusal::new(
            "The text to replace is empty. Give the text that stands in the file, or use insert.".to_owned(),
        ));
    }
    if old == new {
        return Err(Refusal::new("The new text is the same as the old one, so nothing would change.".to_owned()));
    }
    let (old, new) = (for_file(bytes, old), for_file(bytes, new));
    let places = find_all(bytes, &old);
    match places[..] {
        [at] => Ok(Edit::new(bytes, at, at + old.len(), &new)),
        [] => Err(Refusal::new(match similar(bytes, &old) {
            Some(line) => format!(
                "The text does not stand in {shown} as given. At line {line} there is one that differs only in blanks (spaces, tabs): view it and copy it exactly."
            ),
            None => format!(
                "The text does not stand in {shown}. View the place again and copy it exactly, with all its blanks."
            ),
        })),
        _ => {
            let lines = places.iter().take(MOST_PLACES).map(|at| (count_lines(&bytes[..*at]) + 1).to_string());
            let lines = lines.collect::<Vec<_>>().join(", ");
            let more = if places.len() > MOST_PLACES { " and others" } else { "" };
            Err(Refusal::new(format!(
                "The text stands {} times in {shown}, at lines {lines}{more}. Give more lines around it, so that only one place is meant.",
                places.len()
            )))
        }
    }
}

/// Inserts a text after a line.
pub(super) fn insert(shown: &str, bytes: &[u8], line: u64, text: &str) -> Result<Edit, Refusal> {
    let lines = lines_of(bytes);
    let after = usize::try_from(line).ok().filter(|line| *line <= lines.len());
    let Some(after) = after else {
        return Err(Refusal::new(format!(
            "{shown} has {} lines; a text can be inserted after line 0 to {0}.",
            lines.len()
        )));
    };
    let at = lines.iter().take(after).map(|line| line.len()).sum::<usize>();
    let end = if uses_crlf(bytes) { &b"\r\n"[..] } else { b"\n" };
    let mut new = for_file(bytes, text);
    let at_end = at == bytes.len();
    if at > 0 && !bytes[..at].ends_with(b"\n") {
        // The last line has no end, so the text begins with one, and does not get one either.
        new = [end, &new].concat();
    } else if !new.ends_with(b"\n") && (!at_end || bytes.is_empty() || bytes.ends_with(b"\n")) {
        new.extend_from_slice(end);
    }
    Ok(Edit::new(bytes, at, at, &new))
}

/// The lines of a text, each with its end.
pub(super) fn lines_of(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

/// Whether every line of a file ends in `\r\n`: in a mixed one nothing is assumed.
fn uses_crlf(bytes: &[u8]) -> bool {
    let mut ends = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        if at == 0 || bytes[at - 1] != b'\r' {
            return false;
        }
        ends += 1;
    }
    ends > 0
}

/// A text from a model as it would stand in this file.
fn for_file(bytes: &[u8], text: &str) -> Vec<u8> {
    if uses_crlf(bytes) && !text.contains('\r') {
        text.replace('\n', "\r\n").into_bytes()
    } else {
        text.as_bytes().to_vec()
    }
}

/// Every place where a text stands, overlapping ones too: each of them could be meant.
fn find_all(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    let Some(first) = text.first() else { return Vec::new() };
    let starts = bytes.iter().enumerate().filter(|(_, byte)| *byte == first);
    starts.map(|(at, _)| at).filter(|at| bytes[*at..].starts_with(text)).collect()
}

/// The line where a text stands that is the same but for blanks.
fn similar(bytes: &[u8], text: &[u8]) -> Option<usize> {
    let squeezed = |line: &[u8]| line.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<u8>>();
    let wanted: Vec<Vec<u8>> = lines_of(text).into_iter().map(squeezed).collect();
    if wanted.iter().all(Vec::is_empty) {
        return None;
    }
    let lines: Vec<Vec<u8>> = lines_of(bytes).into_iter().map(squeezed).collect();
    lines.windows(wanted.len()).position(|window| window == wanted).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{insert, lines_of, replace};

    fn replaced(bytes: &[u8], old: &str, new: &str) -> Result<Vec<u8>, String> {
        replace("FILE", bytes, old, new).map(|edit| edit.bytes).map_err(|error| error.to_string())
    }

    fn inserted(bytes: &[u8], line: u64, text: &str) -> Result<Vec<u8>, String> {
        insert("FILE", bytes, line, text).map(|edit| edit.bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_text_that_is_meant_changes() {
        let bytes = b"\xef\xbb\xbfone\r\n\ttwo \xff\nthree";
        assert_eq!(replaced(bytes, "two", "2").unwrap(), b"\xef\xbb\xbfone\r\n\t2 \xff\nthree");
        assert_eq!(replaced(b"a\r\nb\r\nc", "a\nb", "x\ny").unwrap(), b"x\r\ny\r\nc");
        assert_eq!(replaced(b"a\r\nb\nc", "b\nc", "x\ny").unwrap(), b"a\r\nx\ny");
    }

    #[test]
    fn a_text_that_stands_there_never_or_twice_is_refused_with_what_to_do() {
        let twice = replaced(b"a\nb\na\n", "a", "c").unwrap_err();
        assert!(twice.contains("2 times") && twice.contains("lines 1, 3"), "{twice}");
        assert!(replaced(b"aaa", "aa", "b").unwrap_err().contains("2 times"), "overlapping");
        assert!(replaced(b"a", "b", "c").unwrap_err().contains("does not stand in FILE."));
        assert!(replaced(b"x\nif a:\n\tb\n", "if a:\n    b", "c").unwrap_err().contains("line 2"));
        assert!(replaced(b"a", "", "c").unwrap_err().contains("empty"));
        assert!(replaced(b"a", "a", "a").unwrap_err().contains("same"));
    }

    #[test]
    fn a_line_is_inserted_with_the_ends_that_the_file_has() {
        assert_eq!(inserted(b"a\nb\n", 1, "x").unwrap(), b"a\nx\nb\n");
        assert_eq!(inserted(b"a\nb\n", 0, "x\ny\n").unwrap(), b"x\ny\na\nb\n");
        assert_eq!(inserted(b"a\nb", 2, "x").unwrap(), b"a\nb\nx");
        assert_eq!(inserted(b"a\nb\n", 2, "x").unwrap(), b"a\nb\nx\n");
        assert_eq!(inserted(b"a\r\nb\r\n", 1, "x\ny").unwrap(), b"a\r\nx\r\ny\r\nb\r\n");
        assert_eq!(inserted(b"", 0, "x").unwrap(), b"x\n");
        assert!(inserted(b"a\nb\n", 3, "x").unwrap_err().contains("2 lines"));
    }

    proptest! {
        #[test]
        fn a_replacement_taken_back_is_what_was_there(before in "[ab\n\r\t]{0,20}", after in "[ab\n\r\t]{0,20}", new in "[c-e\n]{1,9}") {
            let bytes = format!("{before}X{after}").into_bytes();
            let edited = replaced(&bytes, "X", &new).unwrap();
            let middle = &edited[before.len()..edited.len() - after.len()];
            prop_assert!(edited.starts_with(before.as_bytes()) && edited.ends_with(after.as_bytes()));
            prop_assert_eq!(String::from_utf8_lossy(middle).replace("\r\n", "\n"), new);
        }

        #[test]
        fn an_insertion_keeps_every_byte_that_was_there(text in "[ab\n]{0,30}", line in 0..40_usize, new in "[xy\n]{1,9}") {
            let bytes = text.as_bytes();
            match inserted(bytes, line as u64, &new) {
                Err(_) => prop_assert!(line > lines_of(bytes).len()),
                Ok(edited) => {
                    let at: usize = lines_of(bytes).iter().take(line).map(|line| line.len()).sum();
                    prop_assert!(edited.starts_with(&bytes[..at]) && edited.ends_with(&bytes[at..]));
                    prop_assert!(String::from_utf8(edited).unwrap().contains(&new));
                }
            }
        }
    }
}
