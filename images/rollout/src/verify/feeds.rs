//! Where the lines of a text end in which LF alone ends them, as in nearly all patches. Lines are short, and what looks for the next end takes as long to
//! begin as to find it: so all ends are found at once, without a branch that depends on how long a line is.

use std::vec::IntoIter;

use super::lines::{is_plain, suspects};

/// How much of a text is looked at together: a bit each in a word.
const BLOCK: usize = 64;
/// How many ends of lines such a block has at the most in nearly all cases.
const FEW: usize = 4;
/// How long a line is at the least, on average, for a first guess at how many there are.
const BYTES_A_LINE: usize = 24;

/// The places of the line feeds of a text, in order.
pub(super) struct LineFeeds(IntoIter<u32>);

impl LineFeeds {
    /// Of a text in which nothing else ends a line, and nothing is blank but what ASCII has for it; none of another, or of one of 4 GiB.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        u32::try_from(text.len() + BLOCK).ok()?;
        let mut places = Vec::with_capacity(text.len() / BYTES_A_LINE + FEW);
        let (blocks, rest) = text.as_chunks();
        let (mut from, mut is_suspect) = (0, false);
        let mut look = |block: &[u8; BLOCK]| {
            let Look { line_feeds, suspect } = Look::at(block);
            is_suspect |= suspect;
            note(&mut places, from, line_feeds);
            from += 64;
        };
        blocks.iter().for_each(&mut look);
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        look(&last);
        (!is_suspect || is_plain(text)).then(|| Self(places.into_iter()))
    }
}

impl Iterator for LineFeeds {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0.next().map(|place| place as usize)
    }
}

/// Writes down where a block that begins at `from` has its line feeds.
fn note(places: &mut Vec<u32>, from: u32, mut line_feeds: u64) {
    let (before, number) = (places.len(), line_feeds.count_ones() as usize);
    let mut next = || {
        let place = from + line_feeds.trailing_zeros();
        line_feeds &= line_feeds.wrapping_sub(1);
        place
    };
    // As many as there mostly are, whether there are or not: that is quicker than to ask.
    places.extend([(); FEW].map(|()| next()));
    for _ in FEW..number {
        places.push(next());
    }
    places.truncate(before + number);
}

/// What a block has.
struct Look {
    /// A bit for each of its bytes, from the lowest on: whether it is a line feed.
    line_feeds: u64,
    /// Whether a byte may be something else that ends a line, or is blank.
    suspect: bool,
}

impl Look {
    fn at(block: &[u8; BLOCK]) -> Self {
        /// Gathers the highest bits of eight bytes, once they are their lowest ones, in the highest byte.
        const GATHER: u64 = 0x0102_0408_1020_4080;
        let (words, _) = block.as_chunks::<8>();
        let (mut line_feeds, mut suspect) = (0, 0);
        for (number, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            suspect |= suspects(word, 0x0b);
            line_feeds |= ((of_word(word) >> 7).wrapping_mul(GATHER) >> 56) << (8 * number);
        }
        Self { line_feeds, suspect: suspect != 0 }
    }
}

/// The highest bit of each of eight bytes that is a line feed.
fn of_word(word: u64) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
    let differs = word ^ u64::from_ne_bytes([b'\n'; 8]);
    !(((differs & LOW) + LOW) | differs) & !LOW
}

#[cfg(test)]
mod tests {
    use memchr::memchr_iter;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn places(text: &[u8]) -> Option<Vec<usize>> {
        LineFeeds::of(text).map(Iterator::collect)
    }

    #[test]
    fn a_text_has_none_where_something_else_ends_a_line_or_is_blank() {
        for text in ["a\rb", "a\u{c}b\n", "\u{2028}", "\u{a0}\n", "a\u{85}"] {
            assert_eq!(places(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(places("é\n\tü\n".as_bytes()), Some(vec![2, 6]));
        assert_eq!(places(b""), Some(vec![]));
        assert_eq!(places(&[b'\n'; 200]), Some((0..200).collect()));
    }

    proptest! {
        #[test]
        fn every_line_feed_is_found_in_its_place(text in vec(prop_oneof![Just(b'\n'), Just(0x8a), Just(0x0b), b' '..0x7f], 0..300)) {
            let expected = is_plain(&text).then(|| memchr_iter(b'\n', &text).collect::<Vec<_>>());
            prop_assert_eq!(places(&text), expected);
        }
    }
}
