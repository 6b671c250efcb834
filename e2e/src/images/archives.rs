//! The folder of finished archives: what each is called, which are kept, and who may write. It builds nothing.

use std::fs::{self, DirEntry, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::suite::Suite;
use super::{Image, ImageArchive, ImageError};
use crate::progress::Progress;

/// Goes into every digest: raise it when the way images are built changes, so that older archives are not taken.
const RECIPE: &str = "2";
/// Hexadecimal digits of the digest in a tag: 64 bits tell any two apart.
const DIGEST_LENGTH: usize = 16;
/// How many archives of an image are kept: going back and forth between two branches builds nothing.
const KEPT: usize = 3;
/// What the folders of builds are called while they last.
const WORKSHOP: &str = "building-";
/// How much of a file is read at once while it is digested.
const CHUNK: usize = 1 << 20;

/// The folder.
pub(super) struct Archives {
    folder: PathBuf,
}

impl Archives {
    /// Opens the folder, and makes it where there is none.
    pub(super) fn open(folder: &Path) -> Result<Self, ImageError> {
        fs::create_dir_all(folder).map_err(ImageError::io("make", folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the image of this program is called: by the digest of everything that decides what is in it.
    pub(super) fn name(&self, image: Image, binary: &Path, beside: &[PathBuf]) -> Result<ImageArchive, ImageError> {
        let mut digest = Sha256::new();
        digest.update(RECIPE);
        digest.update(image.base().key(Suite::of_this_machine()?));
        digest.update(image.target());
        let dockerfile = image.dockerfile();
        for file in [binary, &dockerfile].into_iter().chain(beside.iter().map(PathBuf::as_path)) {
            digest_file(&mut digest, file)?;
        }
        let mut tag = hex::encode(digest.finalize());
        tag.truncate(DIGEST_LENGTH);
        Ok(ImageArchive {
            image,
            reference: format!("localhost/{}:{tag}", image.name()),
            path: self.folder.join(format!("{}-{tag}.tar", image.name())),
        })
    }

    /// Holds off other builders; the lock goes with the process that holds it.
    pub(super) async fn lock(&self, progress: &Progress) -> Result<File, ImageError> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(ImageError::io("make", &path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(ImageError::io("lock", &path)(source)),
        }
        progress.step("images: waiting for another build");
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        locked.map_err(io::Error::other).flatten().map_err(ImageError::io("lock", &path))
    }

    /// A folder for one build, on the same file system as the archives. Only for the holder of the lock: what a build that
    /// was killed has left is swept away.
    pub(super) fn workshop(&self) -> Result<TempDir, ImageError> {
        for left in self.entries(WORKSHOP)? {
            fs::remove_dir_all(left.path()).map_err(ImageError::io("remove", &left.path()))?;
        }
        let workshop = tempfile::Builder::new().prefix(WORKSHOP).tempdir_in(&self.folder);
        workshop.map_err(ImageError::io("make a folder in", &self.folder))
    }

    /// Takes a finished archive in, and lets go of the ones of the same image that were not used for longest.
    pub(super) fn keep(&self, archive: &ImageArchive, finished: &Path) -> Result<(), ImageError> {
        fs::rename(finished, &archive.path).map_err(ImageError::io("rename", finished))?;
        let mut older = self.of(archive.image)?;
        older.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        for (_, path) in older.into_iter().filter(|(_, path)| *path != archive.path).skip(KEPT - 1) {
            fs::remove_file(&path).map_err(ImageError::io("remove", &path))?;
        }
        Ok(())
    }

    /// The archives of an image, and when each was used last.
    fn of(&self, image: Image) -> Result<Vec<(SystemTime, PathBuf)>, ImageError> {
        let found = self.entries(&format!("{}-", image.name()))?.into_iter().map(|entry| {
            let used = entry.metadata().and_then(|metadata| metadata.modified());
            Ok((used.map_err(ImageError::io("look at", &entry.path()))?, entry.path()))
        });
        found.collect()
    }

    /// What lies in the folder under a name that begins so.
    fn entries(&self, prefix: &str) -> Result<Vec<DirEntry>, ImageError> {
        let entries = fs::read_dir(&self.folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(ImageError::io("list", &self.folder))?;
        entries.retain(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        Ok(entries)
    }
}

/// Whether the archive is there; if so, it counts as used now.
pub(super) fn is_kept(archive: &ImageArchive) -> Result<bool, ImageError> {
    match File::options().append(true).open(&archive.path) {
        Ok(file) => {
            file.set_modified(SystemTime::now()).map_err(ImageError::io("touch", &archive.path))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ImageError::io("open", &archive.path)(error)),
    }
}

/// Adds a file to a digest.
pub(super) fn digest_file(digest: &mut Sha256, path: &Path) -> Result<(), ImageError> {
    let mut file = File::open(path).map_err(ImageError::io("open", path))?;
    let length = file.metadata().map_err(ImageError::io("look at", path))?.len();
    // The length first, so that no two lists of files run together to the same bytes.
    digest.update(length.to_le_bytes());
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk).map_err(ImageError::io("read", path))? {
            0 => return Ok(()),
            count => digest.update(&chunk[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::{Archives, Image, KEPT, is_kept};

    #[test]
    fn another_program_is_another_tag_and_the_same_one_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives::open(folder.path()).unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        fs::write(&first, "a program").unwrap();
        fs::write(&second, "another program").unwrap();
        let name = |binary| archives.name(Image::Operator, binary, &[]).unwrap().reference;
        assert_eq!(name(&first), name(&first));
        assert_ne!(name(&first), name(&second));
        let rollout = archives.name(Image::Rollout, &first, &[]).unwrap().reference;
        assert_ne!(
            name(&first).rsplit_once(':').unwrap().1,
            rollout.rsplit_once(':').unwrap().1,
            "the Dockerfile counts"
        );
    }

    #[test]
    fn what_was_not_used_for_longest_is_let_go_of() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives::open(folder.path()).unwrap();
        let hour = Duration::from_hours(1);
        for age in 1..=4 {
            let file = File::create(folder.path().join(format!("sera-operator-{age}.tar"))).unwrap();
            file.set_modified(SystemTime::now() - hour * age).unwrap();
        }
        File::create(folder.path().join("sera-rollout-1.tar")).unwrap();
        let (binary, finished) = (folder.path().join("binary"), folder.path().join("finished"));
        fs::write(&binary, "a program").unwrap();
        fs::write(&finished, "an archive").unwrap();
        let archive = archives.name(Image::Operator, &binary, &[]).unwrap();
        assert!(!is_kept(&archive).unwrap());

        archives.keep(&archive, &finished).unwrap();

        assert!(is_kept(&archive).unwrap());
        let left = |name: &str| folder.path().join(name).exists();
        assert_eq!(archives.of(Image::Operator).unwrap().len(), KEPT);
        assert!(left("sera-operator-1.tar") && left("sera-operator-2.tar") && !left("sera-operator-3.tar"));
        assert!(left("sera-rollout-1.tar"), "the other image's archives are its own");
    }

    #[test]
    fn what_a_killed_build_left_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let archives = Archives::open(folder.path()).unwrap();
        let abandoned = archives.workshop().unwrap().keep();
        fs::write(abandoned.join("base.tar"), "half of it").unwrap();

        let workshop = archives.workshop().unwrap();

        assert!(!abandoned.exists() && workshop.path().is_dir());
    }
}
