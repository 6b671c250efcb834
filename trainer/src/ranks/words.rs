//! Words: what ranks tell each other besides numbers, as JSON behind a length. The length is bounded, and no memory is taken before the bytes have
//! come.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wait::{until, wait};

/// The longest word in bytes: the table of the largest world (`MAX_WORLD` addresses of at most 54 bytes) fits.
pub(super) const MAX_WORD: usize = 64 * 1024;
/// How many bytes are read at once.
const READ: usize = 4096;
/// How long a full socket is waited for. Words are few and small: one that is full has had no reader for long.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Why no word came, or none could be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum WordError {
    /// The other side ended the connection.
    #[error("its connection closed")]
    Closed,
    /// The connection failed.
    #[error("its connection failed ({0})")]
    Io(#[from] io::Error),
    /// What came is longer than any word.
    #[error("it sent what is no word of a training's ranks (a length of {0} bytes)")]
    TooLong(usize),
    /// What came is no word.
    #[error("it sent what is no word of a training's ranks ({0})")]
    Unreadable(#[from] serde_json::Error),
    /// Nothing came in time.
    #[error("it was silent for too long")]
    Late,
}

/// A connection that carries words.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The connection, for what is not a word.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(super) fn say(&self, word: &impl Serialize) -> Result<(), WordError> {
        let frame = encode(word)?;
        let mut rest = &frame[..];
        while !rest.is_empty() {
            match (&self.stream).write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_to_write()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait_to_write(&self) -> Result<(), WordError> {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
        wait(&mut fds, Some(WRITE_LIMIT))?;
        if fds[0].any() == Some(false) { Err(WordError::Late) } else { Ok(()) }
    }

    /// Takes in what has come, without waiting. Whether anything had.
    pub(super) fn fill(&mut self) -> Result<bool, WordError> {
        let mut bytes = [0; READ];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(WordError::Closed),
            Ok(read) => {
                self.buffer.extend_from_slice(&bytes[..read]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The next word, if all of it has been taken in.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WordError> {
        let Some(bytes) = take(&mut self.buffer)? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Waits for the next word, at most until then.
    pub(super) fn hear<T: DeserializeOwned>(&mut self, latest: Instant) -> Result<T, WordError> {
        loop {
            if let Some(word) = self.next()? {
                return Ok(word);
            }
            let left = until(latest);
            wait(&mut [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)], Some(left))?;
            if !self.fill()? && left.is_zero() {
                return Err(WordError::Late);
            }
        }
    }
}

fn encode(word: &impl Serialize) -> Result<Vec<u8>, WordError> {
    let body = serde_json::to_vec(word)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_WORD);
    let length = length.ok_or(WordError::TooLong(body.len()))?;
    Ok([&length.to_le_bytes(), &body[..]].concat())
}

/// Takes the first whole word's bytes out of the buffer.
fn take(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, WordError> {
    let Some((length, rest)) = buffer.split_first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_WORD {
        return Err(WordError::TooLong(length));
    }
    if rest.len() < length {
        return Ok(None);
    }
    let body = rest[..length].to_vec();
    buffer.drain(..4 + length);
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_come_out_as_they_went_in_however_they_are_cut(
            words in prop::collection::vec(".{0,40}", 1..5),
            cut in 1usize..9,
        ) {
            let sent: Vec<u8> = words.iter().flat_map(|word| encode(word).unwrap()).collect();
            let (mut buffer, mut heard) = (Vec::new(), Vec::new());
            for piece in sent.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(bytes) = take(&mut buffer).unwrap() {
                    heard.push(serde_json::from_slice::<String>(&bytes).unwrap());
                }
            }
            prop_assert_eq!(heard, words);
        }

        #[test]
        fn any_bytes_are_words_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let before = bytes.len();
            match take(&mut bytes) {
                Ok(Some(word)) => prop_assert_eq!(word.len() + 4 + bytes.len(), before),
                Ok(None) => prop_assert_eq!(bytes.len(), before),
                Err(error) => prop_assert!(error.to_string().contains("no word"), "{}", error),
            }
        }
    }

    #[test]
    fn a_word_that_would_be_too_long_is_not_sent() {
        assert!(matches!(encode(&"a".repeat(MAX_WORD)), Err(WordError::TooLong(_))));
    }
}
