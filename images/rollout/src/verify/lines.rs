//! Lines as Python sees them: where `str.splitlines` ends one, and what `str.strip` takes for blank. Patches are bytes here and text there; the
//! two agree, because Python reads bytes that are no UTF-8 with `errors="surrogateescape"`: one character for each, never a line's end, never blank,
//! and equal only to itself. A character of several bytes that ends a line begins with a byte that begins nothing else, so that its bytes can be
//! looked for wherever they stand.

use super::feeds::LineFeeds;

/// The lines of a text, without their ends. As in Python, there is no empty line after the last end.
pub(super) struct Lines<'a> {
    text: &'a [u8],
    from: usize,
    ends: Ends,
}

/// How the next end of a line is found.
enum Ends {
    /// There is no other than LF in the whole text, as in nearly all of them.
    LineFeeds(LineFeeds),
    /// There may be any.
    Any,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        let ends = LineFeeds::of(text).map_or(Ends::Any, Ends::LineFeeds);
        Self { text, from: 0, ends }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = self.text.len();
        if self.from >= length {
            return None;
        }
        let (end, next) = match &mut self.ends {
            Ends::LineFeeds(found) => found.next().map_or((length, length), |end| (end, end + 1)),
            Ends::Any => next_end(self.text, self.from),
        };
        let line = &self.text[self.from..end];
        self.from = next;
        Some(line)
    }
}

/// Whether a line is one that a patch adds or removes, by its first characters alone: what the paper's code looks at.
pub(super) fn is_change(line: &[u8]) -> bool {
    match line {
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => false,
        [b'+' | b'-', ..] => true,
        _ => false,
    }
}

/// Whether Python's `strip` leaves nothing of a text.
pub(super) fn is_blank(mut text: &[u8]) -> bool {
    // Most lines have something at their end, and indentation before it.
    if text.last().is_some_and(u8::is_ascii_graphic) {
        return false;
    }
    while !text.is_empty() {
        match blank_at(text) {
            0 => return false,
            bytes => text = &text[bytes..],
        }
    }
    true
}

/// The bytes of the blank character that a text begins with, or 0: Python's `str.isspace`, which knows U+001C to U+001F and U+0085 and does not
/// know U+200B, U+FEFF, U+180E or NUL.
fn blank_at(text: &[u8]) -> usize {
    match text {
        [b'\t'..=b'\r' | 0x1c..=0x20, ..] => 1,
        [0xc2, 0x85 | 0xa0, ..] => 2,
        [0xe1, 0x9a, 0x80, ..]
        | [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf, ..]
        | [0xe2, 0x81, 0x9f, ..]
        | [0xe3, 0x80, 0x80, ..] => 3,
        _ => 0,
    }
}

/// Where the line that begins at `from` ends, and where the next one begins.
fn next_end(text: &[u8], from: usize) -> (usize, usize) {
    let mut at = from;
    while let Some(word) = text[at..].first_chunk::<8>() {
        // The first byte of the eight is the lowest of the word.
        let skipped = suspects(u64::from_le_bytes(*word), b'\n').trailing_zeros() as usize / 8;
        at += skipped;
        if skipped < 8 {
            match end_at(&text[at..]) {
                0 => at += 1,
                bytes => return (at, at + bytes),
            }
        }
    }
    while at < text.len() {
        match end_at(&text[at..]) {
            0 => at += 1,
            bytes => return (at, at + bytes),
        }
    }
    (text.len(), text.len())
}

/// The bytes of the end of a line that a text begins with, or 0.
fn end_at(text: &[u8]) -> usize {
    match text {
        [b'\r', b'\n', ..] | [0xc2, 0x85, ..] => 2,
        [b'\n'..=b'\r' | 0x1c..=0x1e, ..] => 1,
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
        _ => 0,
    }
}

/// Whether LF alone ends lines in a text, and nothing is blank but what ASCII has for it.
pub(super) fn is_plain(text: &[u8]) -> bool {
    const STRIDE: usize = 32;
    let (strides, rest) = text.as_chunks::<STRIDE>();
    let is_plain =
        |at: usize| matches!(text[at], ..0x0b | b' '..0x80) || text[at] >= 0x80 && blank_at(&text[at..]) == 0;
    let are_suspect = |stride: &[u8; STRIDE]| {
        let (words, _) = stride.as_chunks::<8>();
        words.iter().fold(0, |found, word| found | suspects(u64::from_ne_bytes(*word), 0x0b)) != 0
    };
    let mut suspects = strides.iter().enumerate().filter(|(_, stride)| are_suspect(stride));
    suspects.all(|(number, _)| (number * STRIDE..(number + 1) * STRIDE).all(is_plain))
        && (text.len() - rest.len()..text.len()).all(is_plain)
}

/// Eight bytes at once: the highest bit of each that lies between `from` and the space, or is not ASCII.
pub(super) fn suspects(word: u64, from: u8) -> u64 {
    /// The same byte in all eight places.
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    // What is added to a byte below 128 sets its highest bit from a limit on, and never carries into the next byte.
    let low = word & all(0x7f);
    let reaches = |limit: u8| low.wrapping_add(all(0x80 - limit));
    (word | reaches(from) & !reaches(b' ')) & all(0x80)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        Lines::of(text.as_bytes()).map(|line| std::str::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn lines_end_where_python_ends_them() {
        let ends =
            ["\n", "\r\n", "\r", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"];
        for end in ends {
            assert_eq!(lines(&format!("a{end}b")), ["a", "b"], "{end:?}");
            assert_eq!(lines(&format!("a{end}")), ["a"], "{end:?}");
            assert_eq!(lines(&format!("a{end}{end}b")), ["a", "", "b"], "{end:?}");
        }
        assert_eq!(lines("\n\r"), ["", ""], "in this order they are two");
        assert_eq!(lines(""), [""; 0]);
        for other in ["\u{1f}", "\u{200b}", "\0", "\u{2027}", "\u{202a}", "\u{a0}", "\t", "é", "â"] {
            assert_eq!(lines(&format!("a{other}b\n")).len(), 1, "{other:?}");
        }
    }

    #[test]
    fn blank_is_what_python_strips() {
        let blank = "\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2000}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
        assert!(is_blank(blank.as_bytes()) && is_blank(b""));
        for other in ["\u{200b}", "\u{feff}", "\u{180e}", "\0", "x", "\u{2fff}"] {
            assert!(!is_blank(other.as_bytes()), "{other:?}");
        }
        assert!(
            !is_blank(&[0x85]) && !is_blank(&[0xa0]) && !is_blank(&[0xe2, 0x80]),
            "bytes that are no UTF-8 are not blank"
        );
    }

    #[test]
    fn bytes_that_are_no_utf8_end_no_line_and_hide_no_end() {
        let found = |text: &'static [u8]| Lines::of(text).collect::<Vec<_>>();
        assert_eq!(found(b"a\x85b"), [b"a\x85b"]);
        assert_eq!(found(b"a\xe2\xc2\x85b"), [b"a\xe2".as_slice(), b"b"], "a broken character before an end");
        assert_eq!(found(b"a\xf0\x9f\nb"), [b"a\xf0\x9f".as_slice(), b"b"]);
    }

    #[test]
    fn the_first_characters_decide_what_a_change_is() {
        for change in ["+", "-", "+x", "--", "++", "-- x", "++i", "+-+"] {
            assert!(is_change(change.as_bytes()), "{change}");
        }
        for other in ["", " ", " +x", "+++", "---", "+++ b/x", "--- a/x", "---x", "@@ -1 +1 @@", "diff"] {
            assert!(!is_change(other.as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn looking_at_many_bytes_at_a_time_misses_nothing(parts in proptest::collection::vec(prop_oneof![
            4 => Just("plain text, more or less\n\t".as_bytes().to_vec()), 2 => Just("é…—".as_bytes().to_vec()),
            1 => proptest::sample::select(vec!["\r", "\u{85}", "\u{2028}", "\u{a0}", "\u{3000}", "\u{1f}"]).prop_map(|text| text.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..3),
        ], 0..6)) {
            let text = parts.concat();
            let strange = |at: usize| matches!(text[at], 0x0b..=0x1f) || text[at] >= 0x80 && blank_at(&text[at..]) > 0;
            prop_assert_eq!(is_plain(&text), !(0..text.len()).any(strange));
        }

        #[test]
        fn both_ways_to_find_ends_agree(text in "[a+\\- \n]{0,60}") {
            prop_assert!(is_plain(text.as_bytes()));
            let slow: Vec<&[u8]> = Lines { text: text.as_bytes(), from: 0, ends: Ends::Any }.collect();
            prop_assert_eq!(Lines::of(text.as_bytes()).collect::<Vec<_>>(), slow);
        }
    }
}
