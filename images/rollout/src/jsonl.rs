//! Files of one JSON value a line, compressed with zstd: written with their digest, in one frame and always the same bytes for the same values, and
//! read back a line at a time. What the values are is not known here.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{Digest, Digester};

/// zstd's level: its own default, at some hundred megabytes a second.
const LEVEL: i32 = 3;
/// The longest line that is read, in bytes; what claims to be longer is not ours.
const MAX_LINE: u64 = 16 << 20;

/// Why such a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonlError {
    /// It is not what zstd wrote, or cannot be read at all.
    #[error("line {line} cannot be read: {source}")]
    Unreadable {
        /// The line, from 1.
        line: u64,
        /// What the system or zstd says.
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("line {line} is not what it should be: {source}")]
    Malformed {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A file in the making.
pub(crate) struct Writer(zstd::Encoder<'static, Digesting>);

/// What goes to the file, and its digest.
struct Digesting {
    file: BufWriter<File>,
    digester: Digester,
}

impl Writer {
    /// Begins a file, in place of what is there.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = zstd::Encoder::new(Digesting { file, digester: Digester::default() }, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self(encoder))
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, value)?;
        self.0.write_all(b"\n")
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> io::Result<Digest> {
        let mut written = self.0.finish()?;
        written.file.flush()?;
        Ok(written.digester.finish())
    }
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digester.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The values of a file, in order.
pub(crate) struct Reader<R: Read, T> {
    lines: BufReader<zstd::Decoder<'static, BufReader<R>>>,
    line: u64,
    buffer: Vec<u8>,
    value: PhantomData<T>,
}

impl<R: Read, T: DeserializeOwned> Reader<R, T> {
    /// Reads what `file` has.
    pub(crate) fn new(file: R) -> Result<Self, JsonlError> {
        let lines = zstd::Decoder::new(file).map_err(|source| JsonlError::Unreadable { line: 0, source })?;
        Ok(Self { lines: BufReader::new(lines), line: 0, buffer: Vec::new(), value: PhantomData })
    }
}

impl<R: Read, T: DeserializeOwned> Iterator for Reader<R, T> {
    type Item = Result<T, JsonlError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line += 1;
        let line = self.line;
        self.buffer.clear();
        match self.lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.buffer) {
            Ok(0) => None,
            Ok(_) => {
                Some(serde_json::from_slice(&self.buffer).map_err(|source| JsonlError::Malformed { line, source }))
            }
            Err(source) => Some(Err(JsonlError::Unreadable { line, source })),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::damaged;

    fn written(path: &Path, values: &[&str]) -> Digest {
        let mut writer = Writer::create(path).unwrap();
        values.iter().for_each(|value| writer.write(value).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_the_same_values_are_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        let digest = written(&one, &["a", "b\nc", ""]);
        assert_eq!(written(&other, &["a", "b\nc", ""]), digest);
        assert_eq!(Digest::of(&std::fs::read(&one).unwrap()), digest);
        let read: Result<Vec<String>, _> = Reader::new(File::open(&one).unwrap()).unwrap().collect();
        assert_eq!(read.unwrap(), ["a", "b\nc", ""]);
    }

    #[test]
    fn a_damaged_file_is_an_error_at_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        written(&path, &["a", "b"]);
        let numbers: Vec<Result<u32, _>> = Reader::new(File::open(&path).unwrap()).unwrap().collect();
        assert!(matches!(
            numbers[..],
            [Err(JsonlError::Malformed { line: 1, .. }), Err(JsonlError::Malformed { line: 2, .. })]
        ));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 3);
        let cut: Result<Vec<String>, _> = Reader::new(bytes.as_slice()).unwrap().collect();
        assert!(matches!(cut, Err(JsonlError::Unreadable { .. })));
    }

    /// What `written` makes of `"a"` and `"b\nc"`, without its checksum: damage that zstd does not see has to be seen by what reads the lines.
    fn packed(lines: &[u8]) -> Vec<u8> {
        zstd::encode_all(lines, LEVEL).unwrap()
    }

    proptest! {
        #[test]
        fn no_file_makes_the_reader_panic_or_go_on_for_ever(file in damaged(b"\"a\"\n\"b\\nc\"\n[1, {}]\n"), cut in any::<prop::sample::Index>(), with: u8) {
            let mut bytes = packed(&file);
            let lines = file.split(|byte| *byte == b'\n').count();
            prop_assert!(Reader::<_, String>::new(bytes.as_slice()).unwrap().count() <= lines);
            let at = cut.index(bytes.len());
            bytes[at] = with;
            if let Ok(reader) = Reader::<_, serde_json::Value>::new(bytes.as_slice()) {
                // An error of zstd is told again and again; whoever reads stops at the first.
                let _: Result<Vec<_>, _> = reader.collect();
            }
            if let Ok(reader) = Reader::<_, serde_json::Value>::new(file.as_slice()) {
                let _: Result<Vec<_>, _> = reader.collect();
            }
        }
    }
}
