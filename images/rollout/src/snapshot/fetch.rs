//! How commits are had from a server with as little as it allows: their history without files, then the chosen ones without history; from a
//! server that can give only everything, everything.

use std::io::ErrorKind;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

use super::revision::{References, RevisionError, Target};
use super::selection::{Commit, select};
use crate::failure::{Cause, Explain};
use crate::git::{Git, GitError, Run};
use crate::progress::{Progress, Step};

/// The repository for commits alone.
const HISTORY: &str = "history.git";
/// The repository for what is in the commits.
const CONTENT: &str = "content.git";
/// Where what was asked for is kept in either.
const SOURCE: &str = "refs/sera/source";
/// How much of a history is fetched for its messages alone, in commits: among so many, enough have something to say.
const MESSAGES: &str = "--depth=500";
/// The first pause before something is tried again; each is twice the one before, with jitter.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Why commits cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// git fails.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The revision is wrong.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// A repository in the scratch folder cannot be replaced.
    #[error("a repository in the scratch folder cannot be deleted: {0}")]
    Scratch(#[source] std::io::Error),
    /// git prints what it should not.
    #[error("git lists commits in a form that is not understood: '{line}'")]
    Listing {
        /// The line.
        line: String,
    },
}

impl Explain for FetchError {
    fn explain(&self) -> Cause {
        match self {
            Self::Git(error) => error.explain(),
            Self::Revision(error) => error.explain(),
            Self::Scratch(_) => Cause::unavailable("ScratchUnavailable"),
            Self::Listing { .. } => Cause::internal("GitFailed"),
        }
    }
}

/// Commits with their trees, in a repository below git's home.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The repository's folder.
    pub(crate) repository: &'static str,
    /// The name of its hash function.
    pub(crate) object_format: &'static str,
    /// Newest first.
    pub(crate) commits: Vec<Commit>,
}

/// What fetches.
pub(crate) struct Fetcher<'a> {
    git: &'a Git,
    progress: &'a Progress,
    retries: usize,
    references: References,
}

impl<'a> Fetcher<'a> {
    /// Asks the server what it has. `retries`: how often each request is tried again where that may help.
    pub(crate) async fn connect(git: &'a Git, progress: &'a Progress, retries: usize) -> Result<Self, FetchError> {
        let step = progress.step("asking for the references");
        let arguments = ["ls-remote", "--quiet", "--", &git.url().address];
        let listing =
            retried(retries, || git.output(Run { arguments: &arguments, step: Some(&step), ..Run::default() })).await?;
        let references = References::parse(&git.url().text, &listing)?;
        Ok(Self { git, progress, retries, references })
    }

    /// Fetches `count` commits of `revision`'s first-parent history, spread over `lookback_days`.
    pub(crate) async fn spread(&self, revision: &str, count: usize, lookback_days: u32) -> Result<Fetched, FetchError> {
        let target = self.references.find(revision)?;
        if count == 1 && !matches!(target, Target::Shortened(_)) {
            return self.newest(revision, &target).await;
        }
        let newest = self.history(revision, &target).await?;
        let listed = self.log(HISTORY, &["--first-parent", &newest]).await?;
        let chosen = select(listed, count, lookback_days);
        tracing::info!(newest, chosen = chosen.len(), "chose the commits");
        let ids: Vec<&str> = chosen.iter().map(|commit| commit.id.as_str()).collect();
        if self.is_complete(HISTORY, &ids).await? {
            return Ok(self.fetched(HISTORY, chosen));
        }
        self.content(&ids).await?;
        Ok(self.fetched(CONTENT, chosen))
    }

    /// Fetches just these commits, by their ids.
    pub(crate) async fn exactly(&self, ids: &[&str]) -> Result<Fetched, FetchError> {
        self.content(ids).await?;
        let commits = self.log(CONTENT, &[&["--no-walk=unsorted"], ids].concat()).await?;
        Ok(self.fetched(CONTENT, commits))
    }

    /// The repository with the messages of the commits that lead to `newest`: the history, if that was fetched, or its last piece.
    pub(crate) async fn messages(&self, newest: &str) -> Result<&'static str, FetchError> {
        if !self.git.home().join(HISTORY).exists() {
            self.create(HISTORY).await?;
            let step = self.progress.step("fetching commit messages");
            self.fetch(HISTORY, &["--filter=tree:0", MESSAGES], &[format!("+{newest}:{SOURCE}")], &step).await?;
        }
        Ok(HISTORY)
    }

    fn fetched(&self, repository: &'static str, commits: Vec<Commit>) -> Fetched {
        Fetched { repository, object_format: self.references.object_format(), commits }
    }

    /// Fetches the one commit that `target` points to, and nothing before it.
    async fn newest(&self, revision: &str, target: &Target) -> Result<Fetched, FetchError> {
        self.create(CONTENT).await?;
        let step = self.progress.step("fetching the newest commit");
        let start = self.fetch_target(CONTENT, target, &["--depth=1"], revision, &step).await?;
        let id = self.commit_id(CONTENT, revision, &start).await?;
        let commits = self.log(CONTENT, &["--no-walk", &id]).await?;
        Ok(self.fetched(CONTENT, commits))
    }

    /// Fetches the commits that lead to `target`, without their files where the server can leave them out, and returns the newest one's id.
    async fn history(&self, revision: &str, target: &Target) -> Result<String, FetchError> {
        self.create(HISTORY).await?;
        let step = self.progress.step("fetching the history");
        let start = self.fetch_target(HISTORY, target, &["--filter=tree:0"], revision, &step).await?;
        self.commit_id(HISTORY, revision, &start).await
    }

    /// Fetches what `target` means, less what `sparing` leaves out if the server can do so, and returns a name for it.
    async fn fetch_target(
        &self,
        repository: &str,
        target: &Target,
        sparing: &[&str],
        revision: &str,
        step: &Step,
    ) -> Result<String, FetchError> {
        let (start, wanted) = match target {
            Target::Reference(name) => (SOURCE.to_owned(), Some(name)),
            Target::Commit(id) => (id.clone(), Some(id)),
            Target::Shortened(id) => (id.clone(), None),
        };
        if let Some(wanted) = wanted {
            let outcome = self.fetch_sparingly(repository, sparing, &[format!("+{wanted}:{SOURCE}")], step).await;
            // A commit that is not offered by itself may still be part of what is.
            let look_further = matches!(target, Target::Commit(_))
                && matches!(outcome, Err(FetchError::Git(GitError::WholeOnly { .. })));
            if !look_further {
                outcome?;
                return Ok(start);
            }
        }
        let sparing = if repository == HISTORY { sparing } else { &[] };
        self.create(repository).await?;
        self.fetch_sparingly(repository, sparing, &everything(), step).await?;
        tracing::debug!(revision, "looked for it in all branches and tags");
        Ok(start)
    }

    /// Fetches commits with all that is in them, and nothing before them if the server can give commits by their ids.
    async fn content(&self, ids: &[&str]) -> Result<(), FetchError> {
        self.create(CONTENT).await?;
        let step = self.progress.step("fetching the commits");
        let wanted: Vec<String> = ids.iter().enumerate().map(|(n, id)| format!("+{id}:refs/sera/{n}")).collect();
        match self.fetch(CONTENT, &["--depth=1"], &wanted, &step).await {
            Err(GitError::WholeOnly { .. }) => {
                self.create(CONTENT).await?;
                Ok(self.fetch(CONTENT, &[], &everything(), &step).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    /// Fetches with the options that spare, or without where the server cannot.
    async fn fetch_sparingly(
        &self,
        repository: &str,
        sparing: &[&str],
        wanted: &[String],
        step: &Step,
    ) -> Result<(), FetchError> {
        match self.fetch(repository, sparing, wanted, step).await {
            Err(GitError::WholeOnly { detail, .. }) if !sparing.is_empty() => {
                tracing::info!(detail, "the server cannot leave anything out: fetching everything");
                self.create(repository).await?;
                Ok(self.fetch(repository, &[], wanted, step).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    async fn fetch(&self, repository: &str, options: &[&str], wanted: &[String], step: &Step) -> Result<(), GitError> {
        let repository = format!("--git-dir={repository}");
        let fixed =
            [repository.as_str(), "fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--update-shallow"];
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let arguments = [&fixed, options, &["--", "origin"], &wanted].concat();
        retried(self.retries, || self.git.output(Run { arguments: &arguments, step: Some(step), ..Run::default() }))
            .await?;
        Ok(())
    }

    /// Makes an empty repository that knows where to fetch from, in place of one that may be there: what a refused fetch leaves (a part of the
    /// commits, a border where histories end) would be taken for the whole by the next.
    async fn create(&self, repository: &str) -> Result<(), FetchError> {
        match tokio::fs::remove_dir_all(self.git.home().join(repository)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(FetchError::Scratch(error)),
            _ => {}
        }
        let format = format!("--object-format={}", self.references.object_format());
        self.git.print(&["init", "--quiet", "--bare", "--template=", &format, repository]).await?;
        let repository = format!("--git-dir={repository}");
        self.git.print(&[&repository, "config", "remote.origin.url", &self.git.url().address]).await?;
        Ok(())
    }

    /// The id of the commit that a name means.
    async fn commit_id(&self, repository: &str, revision: &str, name: &str) -> Result<String, FetchError> {
        let repository = format!("--git-dir={repository}");
        let url = || self.git.url().text.clone();
        let resolve = |what: String| {
            let repository = &repository;
            async move { self.git.print(&[repository, "rev-parse", "--verify", "--end-of-options", &what]).await }
        };
        match resolve(format!("{name}^{{commit}}")).await {
            Ok(id) => Ok(id.trim().to_owned()),
            Err(GitError::Failed { detail, .. }) if detail.contains("ambiguous") => {
                Err(RevisionError::Ambiguous { url: url(), revision: revision.to_owned() }.into())
            }
            Err(GitError::Failed { .. }) if resolve(format!("{name}^{{object}}")).await.is_ok() => {
                Err(RevisionError::NoCommit { url: url(), revision: revision.to_owned() }.into())
            }
            Err(GitError::Failed { .. }) => Err(self.references.not_found(revision).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether all that is in the commits is in the repository.
    async fn is_complete(&self, repository: &str, ids: &[&str]) -> Result<bool, GitError> {
        let repository = format!("--git-dir={repository}");
        let fixed = [repository.as_str(), "rev-list", "--objects", "--no-object-names", "--missing=print", "--no-walk"];
        // Only the mark of a missing object is looked for: of a large tree, everything else is listed too.
        let (mut missing, mut line_begins) = (false, true);
        let run = Run { arguments: &[&fixed, ids].concat(), ..Run::default() };
        self.git
            .run(run, |bytes| {
                for &byte in bytes {
                    missing |= line_begins && byte == b'?';
                    line_begins = byte == b'\n';
                }
                Ok(())
            })
            .await?;
        Ok(!missing)
    }

    /// Lists commits.
    async fn log(&self, repository: &str, which: &[&str]) -> Result<Vec<Commit>, FetchError> {
        let repository = format!("--git-dir={repository}");
        let fixed = [repository.as_str(), "log", "--format=%H %T %ct"];
        let listing = self.git.print(&[&fixed, which].concat()).await?;
        let parse = |line: &str| {
            let mut fields = line.split(' ');
            let (id, tree) = (fields.next()?.to_owned(), fields.next()?.to_owned());
            Some(Commit { id, tree, committed: fields.next()?.parse().ok()? })
        };
        listing.lines().map(|line| parse(line).ok_or_else(|| FetchError::Listing { line: line.to_owned() })).collect()
    }
}

/// All branches and tags: what a commit is searched in that the server does not give by its id.
fn everything() -> [String; 2] {
    ["+refs/heads/*:refs/sera/heads/*", "+refs/tags/*:refs/sera/tags/*"].map(str::to_owned)
}

/// Runs what may fail for now again, a few times.
async fn retried<F>(retries: usize, attempt: impl FnMut() -> F) -> Result<String, GitError>
where
    F: Future<Output = Result<String, GitError>>,
{
    attempt
        .retry(
            ExponentialBuilder::default()
                .with_min_delay(FIRST_PAUSE)
                .with_factor(2.0)
                .with_jitter()
                .with_max_times(retries),
        )
        .when(GitError::is_transient)
        .notify(|error, pause| tracing::warn!(seconds = pause.as_secs_f32(), "trying again: {error}"))
        .await
}
