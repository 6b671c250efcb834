//! The programs that go into images: whether they are up to date, and how they are made smaller.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::process::Command;

use super::{ImageError, store};

/// A source that was written after the program was, if there is one: `cargo test -p` of another crate leaves programs as
/// they are. Cargo's list of sources lies beside the program.
pub(super) fn newer_source(binary: &Path) -> Option<PathBuf> {
    let built = modified(binary)?;
    let list = fs::read_to_string(binary.with_extension("d")).ok()?;
    let (_, sources) = list.split_once(": ")?;
    sources.split_whitespace().map(PathBuf::from).find(|source| modified(source).is_some_and(|at| at > built))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// Copies a program without its debugging information, which is most of it.
pub(super) async fn strip(binary: &Path, to: &Path) -> Result<(), ImageError> {
    let mut command = Command::new("strip");
    command.arg("--strip-debug").arg("-o").arg(to).arg(binary);
    store::output_of(&mut command).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::newer_source;

    #[test]
    fn a_source_that_is_newer_than_the_program_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (binary, source) = (folder.path().join("program"), folder.path().join("main.rs"));
        let list = format!("{}: {}\n", binary.display(), source.display());
        fs::write(folder.path().join("program.d"), list).unwrap();
        fs::write(&source, "fn main() {}").unwrap();
        let program = File::create(&binary).unwrap();

        program.set_modified(SystemTime::now() + Duration::from_mins(1)).unwrap();
        assert_eq!(newer_source(&binary), None);
        program.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
        assert_eq!(newer_source(&binary), Some(source));
    }
}
