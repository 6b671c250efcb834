//! Checkouts of a run's snapshots: what is put into a sandbox (`archive`), and the diff of what came back, made from a checkout of our own (`patch`).
//! Nothing that a model wrote is ever interpreted: neither its configuration nor its attributes, ignore rules or commits.

mod archive;
mod patch;
mod paths;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sera_crds::contract::SnapshottedCommit;
use sera_sandbox::wire::Fault;

use crate::failure::{Cause, Explain};
use crate::git::access::{Access, Login};
use crate::git::url::RemoteUrl;
use crate::git::{Git, GitError, Home, Run};
use crate::sandbox::SandboxError;

pub(crate) use patch::Patch;

/// The repository of all snapshots, in git's home.
const REPOSITORY: &str = "snapshots.git";
/// git on files of this machine is never silent for long, and is not watched.
const SILENCE: Duration = Duration::from_mins(1);
/// What git is not to do to a file on its way in or out: the tree in a sandbox has the bytes that the snapshot has, whatever its attributes say. This
/// file outranks them.
const UNCHANGED: &str = "* -text -ident -filter !working-tree-encoding -export-ignore -export-subst\n";

/// Why a snapshot cannot be checked out, or a patch cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckoutError {
    /// git fails.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The scratch folder is full or gone.
    #[error("the scratch folder cannot be used: {0}")]
    Scratch(#[from] std::io::Error),
    /// The sandbox fails to say what changed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A path that no honest sandbox sends.
    #[error("a sandbox sent a path that it must not send ({path})")]
    Path {
        /// The path, as far as it is text.
        path: String,
    },
    /// The patch is longer than any that could be used.
    #[error("the patch has more than {limit} bytes{}", named(largest))]
    TooLong {
        /// What is allowed.
        limit: usize,
        /// The largest of the files that have changed, with their sizes.
        largest: Vec<String>,
    },
    /// A sample names a snapshot that there is none of.
    #[error("the snapshot has no commit number {0}: its function index is of another snapshot")]
    NoSnapshot(u32),
}

impl CheckoutError {
    /// Whether there is only more than a patch may have, which whoever made it can delete.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Sandbox(SandboxError::Failed { fault: Fault::TooMuch, .. }))
    }
}

/// The largest files, after what they are too large for.
fn named(largest: &[String]) -> String {
    if largest.is_empty() { String::new() } else { format!("; the largest files in it are {}", largest.join(", ")) }
}

impl Explain for CheckoutError {
    fn explain(&self) -> Cause {
        match self {
            Self::Git(error) => error.explain(),
            Self::Sandbox(error) => error.explain(),
            Self::Scratch(_) => Cause::unavailable("ScratchFull"),
            Self::Path { .. } | Self::TooLong { .. } => Cause::internal("PatchUnusable"),
            Self::NoSnapshot(_) => Cause::conflict("SnapshotOfAnotherSource"),
        }
    }
}

/// All snapshots of a run, in one repository of ours.
#[derive(Debug)]
pub(crate) struct Snapshots {
    git: Git,
    folder: PathBuf,
    commits: Vec<SnapshottedCommit>,
}

/// One of them: what it tracks, and the tar file that a sandbox gets.
#[derive(Debug)]
pub(crate) struct Tree {
    git: Git,
    /// A folder of its own.
    folder: PathBuf,
    commit: String,
    archive: PathBuf,
    /// Every path that it tracks.
    tracked: BTreeSet<Vec<u8>>,
    /// Those of them that are other repositories, of which nothing is known.
    submodules: Vec<Vec<u8>>,
}

impl Snapshots {
    /// Unpacks the snapshots' bundle, which is in `bundle`, into `folder`.
    pub(crate) async fn open(
        folder: &Path,
        bundle: &Path,
        commits: &[SnapshottedCommit],
    ) -> Result<Self, CheckoutError> {
        let url =
            RemoteUrl::parse(&bundle.to_string_lossy()).map_err(|error| std::io::Error::other(error.to_string()))?;
        let access = Access { login: Login::Anonymous, ca: None };
        let home = Home::prepare(folder, &url, &access, SILENCE)?;
        let address = url.address.clone();
        let git = Git::new(home, url, SILENCE);
        // Object ids of sha256 are 64 digits long; a repository has to be told which it has.
        let sha256 = commits.first().is_some_and(|commit| commit.commit.len() == 64);
        let format = format!("--object-format={}", if sha256 { "sha256" } else { "sha1" });
        git.print(&["init", "--quiet", "--bare", "--template=", &format, REPOSITORY]).await?;
        let repository = format!("--git-dir={REPOSITORY}");
        git.print(&[&repository, "fetch", "--quiet", "--no-tags", &address, "refs/snapshots/*:refs/snapshots/*"])
            .await?;
        let folder = folder.to_owned();
        let information = folder.join(REPOSITORY).join("info");
        std::fs::create_dir_all(&information)?;
        std::fs::write(information.join("attributes"), UNCHANGED)?;
        Ok(Self { git, folder, commits: commits.to_vec() })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.commits.len()).unwrap_or(u32::MAX)
    }

    /// Makes the tree of snapshot `number`, once and for all its rollouts.
    pub(crate) async fn tree(&self, number: u32) -> Result<Tree, CheckoutError> {
        let commit = usize::try_from(number).ok().and_then(|position| self.commits.get(position));
        let commit = commit.ok_or(CheckoutError::NoSnapshot(number))?;
        let folder = self.folder.join(format!("tree-{number}"));
        std::fs::create_dir_all(&folder)?;
        let (tracked, submodules, rules) = list(&self.git, &commit.commit).await?;
        let tree = Tree {
            git: self.git.clone(),
            archive: folder.join("tree.tar"),
            folder,
            commit: commit.commit.clone(),
            tracked,
            submodules,
        };
        tree.check_out_rules(&rules).await?;
        tree.write_archive(&self.folder.join(REPOSITORY)).await?;
        Ok(tree)
    }
}

impl Tree {
    /// Its name, as sandboxes know it: the snapshot's commit says what its files are, and when they were modified.
    pub(crate) fn id(&self) -> &str {
        &self.commit
    }

    /// The tar file of it.
    pub(crate) fn archive(&self) -> &Path {
        &self.archive
    }

    /// Where the snapshot's ignore rules and attributes are checked out, and nothing else of it.
    fn rules(&self) -> PathBuf {
        self.folder.join("rules")
    }

    /// Checks out the files named `.gitignore` and `.gitattributes`: the only ones that git itself ever reads from a checkout.
    async fn check_out_rules(&self, rules: &[Vec<u8>]) -> Result<(), CheckoutError> {
        std::fs::create_dir_all(self.rules())?;
        if rules.is_empty() {
            return Ok(());
        }
        let list = self.folder.join("rules.list");
        std::fs::write(&list, rules.join(&0))?;
        let index = self.folder.join("rules.index");
        let (repository, tree) = (format!("--git-dir={REPOSITORY}"), format!("--work-tree={}", self.rules().display()));
        let arguments = [
            &repository,
            &tree,
            "--literal-pathspecs",
            "checkout",
            "--quiet",
            "--force",
            &self.commit,
            "--pathspec-from-file=-",
            "--pathspec-file-nul",
        ];
        let index = index.to_string_lossy();
        let environment = [("GIT_INDEX_FILE", index.as_ref())];
        let run = Run { arguments: &arguments, environment: &environment, input_file: Some(&list), ..Run::default() };
        self.git.output(run).await?;
        Ok(())
    }
}

/// The paths that a commit tracks, those that are other repositories, and its files of rules.
async fn list(git: &Git, commit: &str) -> Result<(BTreeSet<Vec<u8>>, Vec<Vec<u8>>, Vec<Vec<u8>>), GitError> {
    let repository = format!("--git-dir={REPOSITORY}");
    let arguments = [repository.as_str(), "ls-tree", "-r", "-z", "--full-tree", commit];
    let listed = git.bytes(Run { arguments: &arguments, ..Run::default() }).await?;
    let (mut tracked, mut submodules, mut rules) = (BTreeSet::new(), Vec::new(), Vec::new());
    for entry in listed.split(|byte| *byte == 0) {
        let Some(tab) = entry.iter().position(|byte| *byte == b'\t') else { continue };
        let (what, path) = (&entry[..tab], entry[tab + 1..].to_vec());
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if what.starts_with(b"160000 ") {
            submodules.push(path.clone());
        } else if what.starts_with(b"100") && matches!(name, b".gitignore" | b".gitattributes") {
            // A link of that name is followed neither by git nor by us.
            rules.push(path.clone());
        }
        tracked.insert(path);
    }
    Ok((tracked, submodules, rules))
}

#[cfg(test)]
mod tests;
