//! Whether there is room for what is about to be fetched, asked of the file system before the first byte comes.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::FetchError;

/// What stays free beside, in bytes: a disk that is full to the last one fails whoever writes next.
const BESIDE: u64 = 64 << 20;

/// Refuses what would not fit into the file system of `folder`.
pub(super) fn make_sure(uri: &str, folder: &Path, needed: u64) -> Result<(), FetchError> {
    let free = free(folder).map_err(|source| FetchError::Local { path: folder.to_owned(), source })?;
    refusal(uri, folder, needed, free)
}

fn refusal(uri: &str, folder: &Path, needed: u64, free: u64) -> Result<(), FetchError> {
    let needed = needed.saturating_add(BESIDE);
    if needed <= free {
        return Ok(());
    }
    let (needed, free) = (readable(needed), readable(free));
    Err(FetchError::Room { uri: uri.to_owned(), needed, free, folder: folder.to_owned() })
}

/// What this process may still write there, in bytes.
#[allow(clippy::useless_conversion, reason = "the kernel's types differ between machines")]
fn free(folder: &Path) -> std::io::Result<u64> {
    let found = statvfs(folder)?;
    Ok(u64::from(found.blocks_available()).saturating_mul(u64::from(found.fragment_size())))
}

/// Bytes for people.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn readable(bytes: u64) -> String {
    match bytes {
        1_073_741_824.. => format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30)),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_it_needs_and_what_there_is() {
        let folder = Path::new("/scratch");
        let error = refusal("s3://m/q", folder, 16 << 30, 3 << 20).unwrap_err().to_string();
        for part in ["s3://m/q", "16.06 GiB", "3.0 MiB", "/scratch", "--scratch"] {
            assert!(error.contains(part), "'{part}' is not in: {error}");
        }
        assert!(refusal("s3://m/q", folder, 1, BESIDE + 1).is_ok());
        let here = tempfile::tempdir().unwrap();
        assert!(make_sure("s3://m/q", here.path(), 1).is_ok() && make_sure("s3://m/q", here.path(), 1 << 60).is_err());
    }
}
