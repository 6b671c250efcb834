//! What a command printed, as much of it as is kept: the beginning and the end.

use std::collections::VecDeque;

/// What is kept of an output that may be endless.
#[derive(Debug)]
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// How many bytes each half may have.
    half: usize,
    total: u64,
}

impl Capture {
    /// Keeps `most` bytes.
    pub(crate) fn new(most: u32) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), half: most as usize / 2, total: 0 }
    }

    /// Takes more of it.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (first, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.half)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.half);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// What is told of it, and how many bytes are left out.
    pub(crate) fn finish(self) -> (String, u64) {
        let tail = Vec::from(self.tail);
        let cut = self.total - (self.head.len() + tail.len()) as u64;
        if cut == 0 {
            return (String::from_utf8_lossy(&[self.head, tail].concat()).into_owned(), 0);
        }
        let (head, tail) = (whole_front(&self.head), whole_back(&tail));
        let text =
            format!("{}\n[… {cut} bytes left out …]\n{}", String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        (text, cut)
    }
}

/// Without the beginning of a character that was cut at the end.
fn whole_front(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(&bytes[bytes.len().saturating_sub(3)..]) {
        Err(error) if error.error_len().is_none() => {
            let partial = bytes.len().min(3) - error.valid_up_to();
            &bytes[..bytes.len() - partial]
        }
        _ => bytes,
    }
}

/// Without the end of a character that was cut at the beginning.
fn whole_back(bytes: &[u8]) -> &[u8] {
    let partial = bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    &bytes[partial..]
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::Capture;

    #[test]
    fn a_long_output_keeps_its_beginning_and_its_end_and_says_what_is_missing() {
        let mut capture = Capture::new(8);
        capture.push(b"abcdefghij");
        capture.push(b"klm");
        assert_eq!(capture.finish(), ("abcd\n[… 5 bytes left out …]\njklm".to_owned(), 5));
    }

    #[test]
    fn a_character_is_not_cut_in_two() {
        let mut capture = Capture::new(10);
        capture.push("abcdäxyzöuvw€".as_bytes());
        let (text, _) = capture.finish();
        assert_eq!(text, "abcd\n[… 7 bytes left out …]\nvw€");
        let mut capture = Capture::new(8);
        capture.push("abcdefg€€".as_bytes());
        assert_eq!(capture.finish().0, "abcd\n[… 5 bytes left out …]\n€");
    }

    proptest! {
        #[test]
        fn what_fits_is_whole_and_what_does_not_is_counted(pieces in vec(vec(any::<u8>(), 0..50), 0..8), most in 0..200_u32) {
            let all = pieces.concat();
            let mut capture = Capture::new(most);
            for piece in &pieces {
                capture.push(piece);
            }
            let (text, cut) = capture.finish();
            let kept = all.len().min(most as usize / 2 * 2);
            prop_assert_eq!(cut, (all.len() - kept) as u64);
            if cut == 0 {
                prop_assert_eq!(text, String::from_utf8_lossy(&all));
            }
        }
    }
}
