//! The patch of a rollout: the files that a sandbox says were changed, applied as bytes to the snapshot in a repository of our own, and diffed there
//! under a configuration of our own.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::PathBuf;

use sera_sandbox::paths::is_honest;
use sera_sandbox::wire::{ChangedFile, FileNow};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::paths::quoted;
use super::{CheckoutError, REPOSITORY, Tree};
use crate::git::Run;
use crate::sandbox::{Changes, Slot};

/// The longest patch, in bytes. Those that train have 40 lines.
const MAX_PATCH: usize = 16 << 20;
/// How many of the largest files are named where a patch is too long.
const NAMED: usize = 3;
/// The reference that a patch's files are committed to.
const WORK: &str = "refs/heads/work";
/// What stands before a path, so that one that begins with ':' is no pathspec with magic.
const HERE: &[u8] = b"./";
/// What `git diff` does whatever anybody's configuration says, spelt out: its own defaults. A fixed length of object ids makes equal changes equal
/// texts, whatever else the repository holds.
const DIFF: [&str; 11] = [
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--find-renames",
    "--diff-algorithm=myers",
    "--unified=3",
    "--abbrev=10",
    "--ignore-submodules=all",
];

/// A patch, as git prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Patch {
    /// The text; not all of it has to be UTF-8.
    pub(crate) text: Vec<u8>,
    /// What could not be part of it, in words.
    pub(crate) left_out: Vec<String>,
}

impl Patch {
    /// Whether nothing has changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Its text for readers; what is no UTF-8 is replaced.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

impl Tree {
    /// What a sandbox has changed, as a patch.
    pub(crate) async fn patch(&self, slot: &mut Slot) -> Result<Patch, CheckoutError> {
        let number = slot.number();
        let mut changes = slot.changed().await?;
        if changes.files.is_empty() {
            changes.finish().await?;
            return Ok(Patch::default());
        }
        let files = std::mem::take(&mut changes.files);
        if let Some(file) = files.iter().find(|file| !is_honest(&file.path.0)) {
            // The contents that follow are not worth taking: the sandbox is not used again.
            drop(changes);
            slot.condemn();
            return Err(CheckoutError::Path { path: String::from_utf8_lossy(&file.path.0).into_owned() });
        }
        let work = Work::create(self.folder.join(format!("patch-{number}")))?;
        let ignored = self.ignored(&work, &files).await?;
        let mut left_out = Vec::new();
        self.write_stream(&work, &files, &ignored, changes, &mut left_out).await?;
        self.import(&work).await?;
        match self.diff(&work).await? {
            Some(text) => Ok(Patch { text, left_out }),
            None => Err(CheckoutError::TooLong { limit: MAX_PATCH, largest: largest(&files) }),
        }
    }

    fn is_in_a_submodule(&self, path: &[u8]) -> bool {
        self.submodules
            .iter()
            .any(|module| path.strip_prefix(&module[..]).is_some_and(|rest| rest.first() == Some(&b'/')))
    }

    /// Those of the new files that the snapshot's own rules ignore.
    async fn ignored(&self, work: &Work, files: &[ChangedFile]) -> Result<BTreeSet<Vec<u8>>, CheckoutError> {
        let new = files.iter().filter(|file| file.now != FileNow::Gone && !self.tracked.contains(&file.path.0));
        let mut list = Vec::new();
        for file in new {
            list.extend_from_slice(HERE);
            list.extend_from_slice(&file.path.0);
            list.push(0);
        }
        if list.is_empty() {
            return Ok(BTreeSet::new());
        }
        let input = work.0.join("new.list");
        std::fs::write(&input, list)?;
        // Within the rules' folder, or git takes the paths to lead out of the repository.
        let (rules, repository) = (self.rules(), format!("--git-dir={}", self.git.home().join(REPOSITORY).display()));
        let (folder, tree) = (rules.to_string_lossy(), format!("--work-tree={}", rules.display()));
        let arguments = ["-C", &folder, &repository, &tree, "check-ignore", "-z", "--stdin", "--no-index"];
        // 1: none of them is ignored.
        let run = Run { arguments: &arguments, input_file: Some(&input), also_fine: Some(1), ..Run::default() };
        let listed = self.git.bytes(run).await?;
        Ok(listed.split(|byte| *byte == 0).filter_map(|path| Some(path.strip_prefix(HERE)?.to_vec())).collect())
    }

    /// Writes what `git fast-import` reads: the snapshot, without what is gone, and with what is there now.
    async fn write_stream(
        &self,
        work: &Work,
        files: &[ChangedFile],
        ignored: &BTreeSet<Vec<u8>>,
        mut changes: Changes<'_>,
        left_out: &mut Vec<String>,
    ) -> Result<(), CheckoutError> {
        let mut stream = BufWriter::new(File::create(work.stream()).await?);
        let head =
            format!("commit {WORK}\ncommitter sera <patch@sera.invalid> 0 +0000\ndata 0\nfrom {}\n", self.commit);
        stream.write_all(head.as_bytes()).await?;
        // First what is gone: a file may have become a directory.
        for file in files.iter().filter(|file| file.now == FileNow::Gone && self.tracked.contains(&file.path.0)) {
            stream.write_all(&[b"D ", &quoted(&file.path.0)[..], b"\n"].concat()).await?;
        }
        for file in files {
            let path = &file.path.0;
            let unwanted = self.is_in_a_submodule(path) || (!self.tracked.contains(path) && ignored.contains(path));
            match &file.now {
                FileNow::TooLarge { bytes } if !unwanted => {
                    left_out.push(format!("{} ({bytes} bytes)", String::from_utf8_lossy(path)));
                }
                FileNow::Gone | FileNow::TooLarge { .. } => {}
                FileNow::Link { target } => {
                    if !unwanted {
                        stream.write_all(&entry("120000", path, target.0.len() as u64)).await?;
                        stream.write_all(&[&target.0[..], b"\n"].concat()).await?;
                    }
                }
                FileNow::File { bytes, .. } if unwanted => changes.take(*bytes, async |_| Ok(())).await?,
                FileNow::File { bytes, executable } => {
                    let mode = if *executable { "100755" } else { "100644" };
                    stream.write_all(&entry(mode, path, *bytes)).await?;
                    changes.take(*bytes, async |piece| stream.write_all(piece).await).await?;
                    stream.write_all(b"\n").await?;
                }
            }
        }
        stream.write_all(b"\ndone\n").await?;
        stream.flush().await?;
        changes.finish().await?;
        Ok(())
    }

    async fn import(&self, work: &Work) -> Result<(), CheckoutError> {
        let main = self.git.home().join(REPOSITORY);
        std::fs::create_dir_all(work.repository().join("objects/info"))?;
        std::fs::create_dir_all(work.repository().join("refs"))?;
        std::fs::write(work.repository().join("HEAD"), "ref: refs/heads/main\n")?;
        std::fs::write(
            work.repository().join("objects/info/alternates"),
            format!("{}\n", main.join("objects").display()),
        )?;
        std::fs::copy(main.join("config"), work.repository().join("config"))?;
        let repository = format!("--git-dir={}", work.repository().display());
        let arguments = [
            &repository,
            "-c",
            "core.fsync=none",
            "-c",
            "fastimport.unpackLimit=0",
            "fast-import",
            "--quiet",
            "--done",
            "--date-format=raw",
        ];
        let stream = work.stream();
        self.git.output(Run { arguments: &arguments, input_file: Some(&stream), ..Run::default() }).await?;
        Ok(())
    }

    /// What git prints of the difference; none where that is too long, and git is stopped then.
    async fn diff(&self, work: &Work) -> Result<Option<Vec<u8>>, CheckoutError> {
        // Within the rules' folder, or git does not look for attributes there.
        let (rules, repository) = (self.rules(), format!("--git-dir={}", work.repository().display()));
        let (folder, tree) = (rules.to_string_lossy(), format!("--work-tree={}", rules.display()));
        let ends = [self.commit.as_str(), WORK, "--"];
        let arguments: Vec<&str> = ["-C", &folder, &repository, &tree].into_iter().chain(DIFF).chain(ends).collect();
        let (mut text, mut too_long) = (Vec::new(), false);
        let printed = self.git.run(Run { arguments: &arguments, ..Run::default() }, |bytes| {
            too_long = text.len() + bytes.len() > MAX_PATCH;
            if too_long {
                return Err(std::io::Error::other("it is too long"));
            }
            text.extend_from_slice(bytes);
            Ok(())
        });
        let printed = printed.await;
        match printed {
            Err(_) if too_long => Ok(None),
            printed => Ok(printed.map(|()| Some(text))?),
        }
    }
}

/// The largest of the files, in words: most likely they are why.
fn largest(files: &[ChangedFile]) -> Vec<String> {
    let mut sized: Vec<(u64, &ChangedFile)> = files
        .iter()
        .filter_map(|file| match file.now {
            FileNow::File { bytes, .. } => Some((bytes, file)),
            _ => None,
        })
        .collect();
    sized.sort_by_key(|(bytes, _)| Reverse(*bytes));
    let named = sized.iter().take(NAMED);
    named.map(|(bytes, file)| format!("{} ({bytes} bytes)", String::from_utf8_lossy(&file.path.0))).collect()
}

/// A file of the stream, up to its contents.
fn entry(mode: &str, path: &[u8], bytes: u64) -> Vec<u8> {
    [format!("M {mode} inline ").as_bytes(), &quoted(path), format!("\ndata {bytes}\n").as_bytes()].concat()
}

/// The folder of one patch in the making; it goes with it.
struct Work(PathBuf);

impl Work {
    fn create(folder: PathBuf) -> std::io::Result<Self> {
        let work = Self(folder);
        work.remove();
        std::fs::create_dir_all(&work.0)?;
        Ok(work)
    }

    fn stream(&self) -> PathBuf {
        self.0.join("stream")
    }

    fn repository(&self) -> PathBuf {
        self.0.join("work.git")
    }

    fn remove(&self) {
        if self.0.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.0)
        {
            tracing::debug!(folder = %self.0.display(), "cannot be deleted: {error}");
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.remove();
    }
}
