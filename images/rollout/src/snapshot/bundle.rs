//! The bundle: one parentless commit a snapshot, with the source's tree and time and nothing else of it. The same commits give the same bytes,
//! wherever they were fetched from and in whatever packs they came (git and zlib of one version given).

use std::io::{BufWriter, Write};

use sera_crds::contract::SnapshottedCommit;

use super::fetch::Fetched;
use super::part::Part;
use super::selection::Commit;
use crate::failure::{Cause, Explain, Field};
use crate::git::{Git, GitError, Run, lines};
use crate::progress::Step;
use crate::store::Digester;

/// Who makes snapshots; part of every snapshot commit's id.
const NAME: &str = "sera";
/// The address that goes with the name; `.invalid` belongs to nobody (RFC 2606).
const EMAIL: &str = "snapshot@sera.invalid";
/// What all snapshots say: the source's own message could give away what comes next.
const MESSAGE: &str = "snapshot";
/// The file's name, in git's home and in the store.
const FILE: &str = "repository.bundle";

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// git fails.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A commit is of a year that no calendar has.
    #[error("commit {commit} was made at {seconds} s after 1970, which is no time: take another revision")]
    Time {
        /// The commit.
        commit: String,
        /// Its time.
        seconds: i64,
    },
    /// The file cannot be written.
    #[error("cannot write the bundle to the scratch folder: {0}")]
    Write(#[source] std::io::Error),
}

impl Explain for BundleError {
    fn explain(&self) -> Cause {
        match self {
            Self::Git(error) => error.explain(),
            Self::Time { .. } => Cause::configuration("RepositoryMalformed", Field::Revision),
            Self::Write(_) => Cause::unavailable("ScratchFull"),
        }
    }
}

/// Makes the parentless commits that stand for what was fetched, newest first.
pub(crate) async fn commits(git: &Git, fetched: &Fetched) -> Result<Vec<SnapshottedCommit>, BundleError> {
    let mut commits = Vec::with_capacity(fetched.commits.len());
    for (position, original) in fetched.commits.iter().enumerate() {
        commits.push(snapshot(git, fetched.repository, original, position).await?);
    }
    Ok(commits)
}

/// Packs these commits, which are in the repository of what was fetched, into a bundle in git's home.
pub(crate) async fn write(
    git: &Git,
    fetched: &Fetched,
    commits: &[SnapshottedCommit],
    step: &Step,
) -> Result<Part, BundleError> {
    let file = git.home().join(FILE);
    let mut output = BufWriter::new(std::fs::File::create(&file).map_err(BundleError::Write)?);
    let mut digester = Digester::default();
    let header = header(fetched.object_format, commits);
    digester.update(header.as_bytes());
    output.write_all(header.as_bytes()).map_err(BundleError::Write)?;

    let repository = format!("--git-dir={}", fetched.repository);
    let wanted = lines(commits.iter().map(|commit| commit.commit.clone()));
    let run = Run { arguments: &pack_arguments(&repository), input: &wanted, step: Some(step), ..Run::default() };
    git.run(run, |bytes| {
        digester.update(bytes);
        output.write_all(bytes)
    })
    .await?;
    output.flush().map_err(BundleError::Write)?;
    Ok(Part::new(FILE, file, digester.finish()))
}

/// How git packs: everything compared and compressed anew, by one thread, with the settings written out, so that nothing depends on how the
/// objects came or on who packs them.
fn pack_arguments(repository: &str) -> [&str; 14] {
    [
        repository,
        "pack-objects",
        "--no-use-bitmap-index",
        "--revs",
        "--stdout",
        "--progress",
        "--no-reuse-delta",
        "--no-reuse-object",
        "--delta-base-offset",
        "--threads=1",
        "--window=10",
        "--window-memory=128m",
        "--depth=50",
        "--compression=6",
    ]
}

/// The bundle's header: version 2 of the format, or 3 where the hash function has to be named (gitformat-bundle).
fn header(object_format: &str, commits: &[SnapshottedCommit]) -> String {
    let version = if object_format == "sha1" {
        "# v2 git bundle\n".to_owned()
    } else {
        format!("# v3 git bundle\n@object-format={object_format}\n")
    };
    let head = commits.first().map(|newest| format!("{} HEAD\n", newest.commit)).unwrap_or_default();
    let references = lines(commits.iter().map(|commit| format!("{} {}", commit.commit, commit.reference)));
    format!("{version}{head}{references}\n")
}

/// Makes the parentless commit that stands for `original`.
async fn snapshot(
    git: &Git,
    repository: &str,
    original: &Commit,
    position: usize,
) -> Result<SnapshottedCommit, BundleError> {
    let committed_at = jiff::Timestamp::from_second(original.committed)
        .map_err(|_| BundleError::Time { commit: original.id.clone(), seconds: original.committed })?;
    let date = format!("@{} +0000", original.committed);
    let environment = [
        ("GIT_AUTHOR_NAME", NAME),
        ("GIT_AUTHOR_EMAIL", EMAIL),
        ("GIT_AUTHOR_DATE", &date),
        ("GIT_COMMITTER_NAME", NAME),
        ("GIT_COMMITTER_EMAIL", EMAIL),
        ("GIT_COMMITTER_DATE", &date),
    ];
    let repository = format!("--git-dir={repository}");
    let arguments = [&repository, "commit-tree", "-m", MESSAGE, &original.tree];
    let commit = git.output(Run { arguments: &arguments, environment: &environment, ..Run::default() }).await?;
    Ok(SnapshottedCommit {
        original: original.id.clone(),
        commit: commit.trim().to_owned(),
        tree: original.tree.clone(),
        reference: format!("refs/snapshots/{position}"),
        committed_at,
    })
}
