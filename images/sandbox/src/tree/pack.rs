//! The contents of files, one after the other in a file that has no name: no path leads there, so no command can read or change it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::libc;
use sha2::{Digest as _, Sha256};

use super::TreeError;
use super::node::Digest;

/// How much is read and written at once.
const CHUNK: usize = 256 << 10;
/// How much is gathered before it is written: most files are small.
const GATHERED: usize = 1 << 20;

/// The contents.
pub(crate) struct Pack {
    file: File,
    /// How much of it is in the file; what follows is gathered.
    written: u64,
    gathered: Vec<u8>,
    places: HashMap<Digest, (u64, u64)>,
    buffer: Vec<u8>,
}

impl Pack {
    /// An empty one on the file system of `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self, TreeError> {
        let mut options = File::options();
        options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
        let file = options.open(folder).map_err(TreeError::Pack)?;
        Ok(Self { file, written: 0, gathered: Vec::new(), places: HashMap::new(), buffer: vec![0; CHUNK] })
    }

    /// Keeps a content; what is kept already takes no more space. Answers its digest and its size.
    pub(crate) fn add(&mut self, content: &mut impl Read) -> Result<(Digest, u64), TreeError> {
        let mut digest = Sha256::new();
        let begin = self.end();
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TreeError::Pack(error)),
            };
            digest.update(&self.buffer[..count]);
            self.gathered.extend_from_slice(&self.buffer[..count]);
            if self.gathered.len() >= GATHERED {
                self.write().map_err(TreeError::Pack)?;
            }
        }
        if begin < self.written {
            self.write().map_err(TreeError::Pack)?;
        }
        let size = self.end() - begin;
        let digest: Digest = digest.finalize().into();
        match self.places.entry(digest) {
            Entry::Vacant(place) => {
                place.insert((begin, size));
            }
            // The next one is written over what is there already.
            Entry::Occupied(_) => {
                self.gathered.truncate(usize::try_from(begin.saturating_sub(self.written)).unwrap_or(0));
                self.written = self.written.min(begin);
            }
        }
        Ok((digest, size))
    }

    fn end(&self) -> u64 {
        self.written + self.gathered.len() as u64
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.gathered, self.written)?;
        self.written = self.end();
        self.gathered.clear();
        Ok(())
    }

    /// Writes a content to a file. One that is kept lies in the file whole, or is gathered whole.
    pub(crate) fn copy(&self, content: &Digest, to: &mut impl Write) -> io::Result<()> {
        let &(mut from, mut left) = self.places.get(content).ok_or(io::ErrorKind::NotFound)?;
        if let Some(gathered) = from.checked_sub(self.written) {
            let content = self.gathered.get(usize::try_from(gathered).unwrap_or(usize::MAX)..).unwrap_or_default();
            return to.write_all(&content[..content.len().min(usize::try_from(left).unwrap_or(usize::MAX))]);
        }
        let mut buffer = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        while left > 0 {
            let count = buffer.len().min(usize::try_from(left).unwrap_or(CHUNK));
            self.file.read_exact_at(&mut buffer[..count], from)?;
            to.write_all(&buffer[..count])?;
            from += count as u64;
            left -= count as u64;
        }
        Ok(())
    }

    /// The time of change that a file would get now: the kernel's clock for files is coarser than others.
    pub(crate) fn clock(&self) -> io::Result<(i64, i64)> {
        self.file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        let metadata = self.file.metadata()?;
        Ok((metadata.ctime(), metadata.ctime_nsec()))
    }
}

#[cfg(test)]
mod tests {
    use super::Pack;

    #[test]
    fn contents_come_back_and_equal_ones_are_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut pack = Pack::create(folder.path()).unwrap();
        let large: Vec<u8> = (0..700_001_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let (first, size) = pack.add(&mut &large[..]).unwrap();
        let (second, _) = pack.add(&mut &b"small"[..]).unwrap();
        assert_eq!((pack.add(&mut &large[..]).unwrap(), size), ((first, 700_001), 700_001));
        assert_eq!(pack.add(&mut &b"small"[..]).unwrap(), (second, 5));
        let huge: Vec<u8> = (0..3_000_001_u32).map(|at| u8::try_from(at % 249).unwrap()).collect();
        let (fourth, _) = pack.add(&mut &huge[..]).unwrap();
        assert_eq!(pack.add(&mut &huge[..]).unwrap(), (fourth, 3_000_001));
        let (third, _) = pack.add(&mut &b"other"[..]).unwrap();
        assert_eq!(pack.end(), 700_001 + 10 + 3_000_001);
        for (digest, content) in [(first, &large[..]), (second, b"small"), (third, b"other"), (fourth, &huge)] {
            let mut out = Vec::new();
            pack.copy(&digest, &mut out).unwrap();
            assert!(out == content);
        }
        assert!(pack.copy(&[0; 32], &mut Vec::new()).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
    }
}
