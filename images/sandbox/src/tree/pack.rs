//! The contents of files, one after the other in a file that has no name: no path leads there, so no command can read or change it.

use std::collections::HashMap;
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

/// The contents.
pub(crate) struct Pack {
    file: File,
    end: u64,
    places: HashMap<Digest, (u64, u64)>,
    buffer: Vec<u8>,
}

impl Pack {
    /// An empty one on the file system of `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self, TreeError> {
        let mut options = File::options();
        options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
        let file = options.open(folder).map_err(TreeError::Pack)?;
        Ok(Self { file, end: 0, places: HashMap::new(), buffer: vec![0; CHUNK] })
    }

    /// Keeps a content; what is kept already takes no more space. Answers its digest and its size.
    pub(crate) fn add(&mut self, content: &mut impl Read) -> Result<(Digest, u64), TreeError> {
        let mut digest = Sha256::new();
        let mut size = 0;
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TreeError::Pack(error)),
            };
            digest.update(&self.buffer[..count]);
            self.file.write_all_at(&self.buffer[..count], self.end + size).map_err(TreeError::Pack)?;
            size += count as u64;
        }
        let digest: Digest = digest.finalize().into();
        // Only a content that was not there moves the end: the other's bytes are written over by the next.
        if !self.places.contains_key(&digest) {
            self.places.insert(digest, (self.end, size));
            self.end += size;
        }
        Ok((digest, size))
    }

    /// Writes a content to a file.
    pub(crate) fn copy(&self, content: &Digest, to: &mut impl Write) -> io::Result<()> {
        let &(mut from, mut left) = self.places.get(content).ok_or(io::ErrorKind::NotFound)?;
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

    /// How many bytes are kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::Pack;

    #[test]
    fn contents_come_back_and_equal_ones_are_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut pack = Pack::create(folder.path()).unwrap();
        let large: Vec<u8> = (0..700_001_u32).map(|at| (at % 251) as u8).collect();
        let (first, size) = pack.add(&mut &large[..]).unwrap();
        let (second, _) = pack.add(&mut &b"small"[..]).unwrap();
        assert_eq!((pack.add(&mut &large[..]).unwrap(), size), ((first, 700_001), 700_001));
        let (third, _) = pack.add(&mut &b"other"[..]).unwrap();
        assert_eq!(pack.bytes(), 700_001 + 10);
        for (digest, content) in [(first, &large[..]), (second, b"small"), (third, b"other")] {
            let mut out = Vec::new();
            pack.copy(&digest, &mut out).unwrap();
            assert!(out == content);
        }
        assert!(pack.copy(&[0; 32], &mut Vec::new()).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
    }
}
