//! Files that are there whole or not at all, whatever ends the process or the machine: written beside, synced, renamed, and the folder synced too;
//! and the digests that prove it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sera_crds::contract::FileDigest;
use sha2::{Digest, Sha256};

/// How much of a file is in memory while it is digested, in bytes.
const PIECE: usize = 1024 * 1024;

/// Writes a file in one piece.
pub(crate) fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let beside = beside(path);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        // What is left of it is in the way of nobody; that it cannot be removed either changes nothing about the error.
        let _ = std::fs::remove_file(&beside);
    }
    written?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes what was renamed, created or removed in a folder last.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?.sync_all()
}

/// A file's name, size and sha256.
pub(crate) fn digest(path: &Path) -> std::io::Result<FileDigest> {
    digest_open(&File::open(path)?, path)
}

/// The same of a file that is open, and goes by this path.
pub(crate) fn digest_open(file: &File, path: &Path) -> std::io::Result<FileDigest> {
    let (mut digest, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let read = file.read_at(&mut piece, bytes)?;
        if read == 0 {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(FileDigest { name, bytes, sha256: hex::encode(digest.finalize()) });
        }
        digest.update(&piece[..read]);
        bytes += read as u64;
    }
}

/// A name that only this process uses.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for content in ["long content", "short"] {
            write(&path, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("missing/a.json"), b"x").is_err());
    }
}
