//! The lines of a file, as bytes with their numbers, a handful at a time: a dataset need not fit into memory as text.

use std::io::{BufRead, BufReader, Read};

/// How much text is in memory at once, in bytes, but for a line that alone is longer.
const AT_ONCE: usize = 32 * 1024 * 1024;

/// Reads lines in pieces.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    read: u64,
}

/// A line and its number, from 1.
pub(super) type Numbered = (u64, Vec<u8>);

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::new(input), read: 0 }
    }

    /// The next lines, without those that are blank; none at the end.
    pub(super) fn next(&mut self) -> std::io::Result<Vec<Numbered>> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while bytes < AT_ONCE {
            let mut line = Vec::new();
            if self.input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            self.read += 1;
            bytes += line.len();
            if !line.iter().all(u8::is_ascii_whitespace) {
                lines.push((self.read, line));
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_passed_over_and_counted() {
        let mut lines = Lines::new("a\n\n \r\nb".as_bytes());
        assert_eq!(lines.next().unwrap(), [(1, b"a\n".to_vec()), (4, b"b".to_vec())]);
        assert!(lines.next().unwrap().is_empty());
    }
}
