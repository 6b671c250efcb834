//! Frames: bytes to and from a stream, every length bounded. What is in them is `wire`'s.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{FrameKind, MAX_DATA, MAX_JSON};

/// The length of what precedes a frame's bytes: its kind and its length.
pub const HEADER: usize = 5;

/// A frame, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The first byte names no kind.
    #[error("a frame of the kind {0}, which the protocol does not have")]
    Kind(u8),
    /// It is longer than its kind allows.
    #[error("a frame of {length} bytes, where {most} are allowed")]
    TooLong {
        /// Its length.
        length: u64,
        /// The longest that is allowed.
        most: u32,
    },
    /// A frame of another kind had to come.
    #[error("a frame of the kind {found:?} where {wanted:?} had to come")]
    Unexpected {
        /// What came.
        found: FrameKind,
        /// What had to come.
        wanted: FrameKind,
    },
    /// What it carries is not what the protocol says.
    #[error("a frame that cannot be understood: {0}")]
    Json(#[from] serde_json::Error),
    /// The stream broke, or ended within a frame.
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

impl FrameKind {
    /// The longest frame of this kind, in bytes.
    pub const fn longest(self) -> u32 {
        match self {
            Self::Json => MAX_JSON,
            Self::Data => MAX_DATA,
            Self::End => 0,
        }
    }
}

/// The bytes that precede a frame.
pub fn header(kind: FrameKind, length: usize) -> Result<[u8; HEADER], FrameError> {
    let bounded = u32::try_from(length).ok().filter(|length| *length <= kind.longest());
    let bounded = bounded.ok_or(FrameError::TooLong { length: length as u64, most: kind.longest() })?;
    let [a, b, c, d] = bounded.to_be_bytes();
    Ok([kind as u8, a, b, c, d])
}

/// What the bytes that precede a frame say: its kind, and its length, which is within bounds.
pub fn parse_header(header: [u8; HEADER]) -> Result<(FrameKind, usize), FrameError> {
    let [kind, length @ ..] = header;
    let kind = match kind {
        1 => FrameKind::Json,
        2 => FrameKind::Data,
        3 => FrameKind::End,
        other => return Err(FrameError::Kind(other)),
    };
    let length = u32::from_be_bytes(length);
    if length > kind.longest() {
        return Err(FrameError::TooLong { length: length.into(), most: kind.longest() });
    }
    Ok((kind, length as usize))
}

/// A request or an answer as a frame, for whoever writes bytes in a manner of their own.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)?;
    let header = header(FrameKind::Json, bytes.len() - HEADER)?;
    bytes[..HEADER].copy_from_slice(&header);
    Ok(bytes)
}

/// Takes a frame from the front of `buffer`, if a whole one is there: for whoever reads bytes in a manner of their own.
pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Frame>, FrameError> {
    let Some(first) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let (kind, length) = parse_header(*first)?;
    if buffer.len() - HEADER < length {
        return Ok(None);
    }
    let rest = buffer.split_off(HEADER + length);
    let mut body = std::mem::replace(buffer, rest);
    body.drain(..HEADER);
    Ok(Some(Frame { kind, body }))
}

/// Reads a frame; none where the stream ends before it.
pub fn read(stream: &mut impl Read) -> Result<Option<Frame>, FrameError> {
    let mut first = [0; 1];
    loop {
        match stream.read(&mut first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut length = [0; HEADER - 1];
    stream.read_exact(&mut length)?;
    let (kind, length) = parse_header([first[0], length[0], length[1], length[2], length[3]])?;
    // Grown as bytes come: a length alone takes no memory.
    let mut body = Vec::new();
    stream.take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(Frame { kind, body }))
}

/// Reads a request or an answer; none where the stream ends before it.
pub fn read_message<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, FrameError> {
    let Some(frame) = read(stream)? else { return Ok(None) };
    frame.message().map(Some)
}

/// Writes a request or an answer.
pub fn write_message(stream: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?)?;
    stream.flush()?;
    Ok(())
}

impl Frame {
    /// The request or answer in it.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        match self.kind {
            FrameKind::Json => Ok(serde_json::from_slice(&self.body)?),
            found => Err(FrameError::Unexpected { found, wanted: FrameKind::Json }),
        }
    }
}

/// The bytes of a stream of data frames, up to its end frame.
pub struct DataReader<'a, R> {
    stream: &'a mut R,
    frame: Vec<u8>,
    read: usize,
    ended: bool,
}

impl<'a, R: Read> DataReader<'a, R> {
    /// Begins where the first data frame has to come.
    pub fn new(stream: &'a mut R) -> Self {
        Self { stream, frame: Vec::new(), read: 0, ended: false }
    }

    /// Reads what is left, so that the next request is where it is looked for.
    pub fn finish(mut self) -> Result<(), FrameError> {
        while !self.ended {
            self.next()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(), FrameError> {
        let frame = read(self.stream)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        match frame.kind {
            FrameKind::Data => (self.frame, self.read) = (frame.body, 0),
            FrameKind::End => self.ended = true,
            FrameKind::Json => {
                return Err(FrameError::Unexpected { found: FrameKind::Json, wanted: FrameKind::Data });
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for DataReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.frame.len() && !self.ended {
            self.next().map_err(io::Error::other)?;
        }
        if self.ended {
            return Ok(0);
        }
        let count = buffer.len().min(self.frame.len() - self.read);
        buffer[..count].copy_from_slice(&self.frame[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// Writes bytes as data frames.
pub struct DataWriter<'a, W: Write> {
    stream: &'a mut W,
    pending: Vec<u8>,
}

/// How many bytes are gathered before a frame is written.
const CHUNK: usize = 256 << 10;

impl<'a, W: Write> DataWriter<'a, W> {
    /// Begins a stream of data frames.
    pub fn new(stream: &'a mut W) -> Self {
        Self { stream, pending: Vec::with_capacity(CHUNK) }
    }

    /// Writes the end frame.
    pub fn finish(mut self) -> Result<(), FrameError> {
        self.flush()?;
        self.stream.write_all(&header(FrameKind::End, 0)?)?;
        self.stream.flush()?;
        Ok(())
    }
}

impl<W: Write> Write for DataWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        if self.pending.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&header(FrameKind::Data, self.pending.len()).map_err(io::Error::other)?)?;
        self.stream.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{DataReader, DataWriter, FrameError, HEADER, encode, header, parse_header, read, take};
    use crate::wire::{Answer, EditOperation, FileNow, FrameKind, MAX_DATA, PathBytes, Request};

    #[test]
    fn a_length_beyond_its_bound_is_refused_before_anything_is_read() {
        let [a, b, c, d] = (MAX_DATA + 1).to_be_bytes();
        assert!(matches!(parse_header([2, a, b, c, d]), Err(FrameError::TooLong { .. })));
        assert!(matches!(parse_header([3, 0, 0, 0, 1]), Err(FrameError::TooLong { most: 0, .. })));
        assert!(matches!(parse_header([9, 0, 0, 0, 0]), Err(FrameError::Kind(9))));
        assert!(header(FrameKind::Data, MAX_DATA as usize + 1).is_err());
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_an_error_and_before_one_is_none() {
        let whole = encode(&Request::Changed).unwrap();
        assert!(read(&mut &whole[..0]).unwrap().is_none());
        for cut in 1..whole.len() {
            assert!(read(&mut &whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_path_that_is_not_utf8_comes_through() {
        for bytes in [b"src/\xff\n.go".to_vec(), "ä b".as_bytes().to_vec(), b"{\"hex\":\"00\"}".to_vec()] {
            let link = FileNow::Link { target: PathBytes(bytes) };
            assert_eq!(serde_json::from_slice::<FileNow>(&serde_json::to_vec(&link).unwrap()).unwrap(), link);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_take_more_than_came(bytes in vec(any::<u8>(), 0..200)) {
            let mut buffer = bytes.clone();
            if let Ok(Some(frame)) = take(&mut buffer) {
                prop_assert_eq!(frame.body.len() + HEADER + buffer.len(), bytes.len());
                prop_assert_eq!(&bytes[HEADER..HEADER + frame.body.len()], &frame.body[..]);
                let _ = frame.message::<Request>();
                let _ = frame.message::<Answer>();
            }
            let _ = read(&mut &bytes[..]);
        }

        #[test]
        fn what_is_read_at_once_and_byte_by_byte_is_the_same(path in ".*", text in ".*", cut in any::<prop::sample::Index>()) {
            let request = Request::Edit { operation: EditOperation::Create { path, text }, max_chars: 7 };
            let bytes = encode(&request).unwrap();
            let cut = cut.index(bytes.len());
            let mut buffer = bytes[..cut].to_vec();
            prop_assert!(take(&mut buffer).unwrap().is_none());
            buffer.extend_from_slice(&bytes[cut..]);
            buffer.push(0);
            let frame = take(&mut buffer).unwrap().unwrap();
            prop_assert_eq!(&buffer, &[0]);
            prop_assert_eq!(&frame, &read(&mut &bytes[..]).unwrap().unwrap());
            prop_assert_eq!(frame.message::<Request>().unwrap(), request);
        }

        #[test]
        fn data_comes_out_as_it_went_in(pieces in vec(vec(any::<u8>(), 0..200_000), 0..4)) {
            let mut stream = Vec::new();
            let mut writer = DataWriter::new(&mut stream);
            for piece in &pieces {
                writer.write_all(piece).unwrap();
            }
            writer.finish().unwrap();
            let mut stream = &stream[..];
            let mut out = Vec::new();
            DataReader::new(&mut stream).read_to_end(&mut out).unwrap();
            prop_assert_eq!(out, pieces.concat());
            prop_assert!(stream.is_empty());
        }
    }
}
