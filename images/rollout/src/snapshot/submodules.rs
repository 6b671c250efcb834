//! Submodules on request: trees in which the content of a submodule stands in place of its name, at any depth. Only what the repository's own way
//! to the server allows is followed, with credentials for its own host alone.

use std::collections::HashMap;

use crate::failure::{Cause, Explain, Field};
use crate::git::submodule::{self, Link};
use crate::git::url::{RemoteUrl, RemoteUrlError};
use crate::git::{Git, GitError, Run};
use crate::progress::Step;

/// How deep submodules of submodules are followed; deeper ones than a handful are nobody's intention.
const MAX_DEPTH: usize = 8;
/// How many are fetched for one tree: each is a connection, and the repository decides how many it names.
const MAX_LINKS: usize = 256;
/// The index that trees are put together in, in git's home.
const INDEX: &str = "submodules.index";

/// Why submodules cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmoduleError {
    /// git fails.
    #[error("the submodule at {path} cannot be taken: {source}")]
    Fetch {
        /// Where it is in its tree.
        path: String,
        /// Why not.
        source: GitError,
    },
    /// Its address is none.
    #[error("the submodule at {path} has an address that cannot be used: {source}; without submodules it stays a name")]
    Address {
        /// Where it is in its tree.
        path: String,
        /// Why not.
        source: RemoteUrlError,
    },
    /// It is reached in another way than the repository itself.
    #[error(
        "the submodule at {path} is at {url}, and the repository itself is reached in another way: only the way that was asked for is taken; without submodules it stays a name"
    )]
    OtherWay {
        /// Where it is in its tree.
        path: String,
        /// Its address.
        url: String,
    },
    /// There are too many, or they are nested too deeply.
    #[error(
        "the submodules are more than {MAX_LINKS}, or nested more than {MAX_DEPTH} deep: take the snapshot without submodules"
    )]
    TooMany,
    /// A tree cannot be read or written.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl Explain for SubmoduleError {
    fn explain(&self) -> Cause {
        match self {
            Self::Fetch { source, .. } | Self::Git(source) => source.explain(),
            Self::Address { .. } | Self::OtherWay { .. } | Self::TooMany => {
                Cause::configuration("SubmodulesUnusable", Field::Submodules)
            }
        }
    }
}

/// Puts the content of submodules into trees.
pub(crate) struct Submodules<'a> {
    git: &'a Git,
    repository: &'a str,
    step: &'a Step,
    /// The trees of commits that were fetched, by commit.
    known: HashMap<String, String>,
    fetched: usize,
}

impl<'a> Submodules<'a> {
    /// `repository`: where the trees are, below git's home.
    pub(crate) fn new(git: &'a Git, repository: &'a str, step: &'a Step) -> Self {
        Self { git, repository, step, known: HashMap::new(), fetched: 0 }
    }

    /// The tree that has in it what `tree` only names.
    pub(crate) async fn expand(&mut self, tree: &str) -> Result<String, SubmoduleError> {
        self.expand_at(tree, self.git.url().clone(), 0).await
    }

    async fn expand_at(&mut self, tree: &str, parent: RemoteUrl, depth: usize) -> Result<String, SubmoduleError> {
        let links = self.links(tree).await?;
        if links.is_empty() {
            return Ok(tree.to_owned());
        }
        if depth == MAX_DEPTH {
            return Err(SubmoduleError::TooMany);
        }
        let config = self.config(tree).await?;
        let mut replaced = Vec::new();
        for link in links {
            let Some(address) = submodule::address(&config, &link.path) else {
                tracing::warn!(path = link.path, "a submodule that .gitmodules does not name stays a name");
                continue;
            };
            let url = submodule::resolve(&address, &parent);
            let url = url.map_err(|source| SubmoduleError::Address { path: link.path.clone(), source })?;
            if url.transport != self.git.url().transport {
                return Err(SubmoduleError::OtherWay { path: link.path, url: url.text });
            }
            if !self.known.contains_key(&link.commit) {
                let content = self.fetch(&link, &url).await?;
                let expanded = Box::pin(self.expand_at(&content, url, depth + 1)).await?;
                self.known.insert(link.commit.clone(), expanded);
            }
            replaced.extend(self.known.get(&link.commit).map(|content| (link.path, content.clone())));
        }
        self.compose(tree, &replaced).await
    }

    async fn links(&self, tree: &str) -> Result<Vec<Link>, GitError> {
        let repository = format!("--git-dir={}", self.repository);
        let mut listing = Vec::new();
        let arguments = [&repository, "ls-tree", "-r", "-z", "--full-tree", tree];
        self.git
            .run(Run { arguments: &arguments, ..Run::default() }, |bytes| {
                listing.extend_from_slice(bytes);
                Ok(())
            })
            .await?;
        Ok(submodule::links(&listing))
    }

    /// What the tree's `.gitmodules` says; nothing where there is none.
    async fn config(&self, tree: &str) -> Result<String, GitError> {
        let repository = format!("--git-dir={}", self.repository);
        let listed = self.git.print(&[&repository, "ls-tree", "--full-tree", tree, "--", ".gitmodules"]).await?;
        let Some(blob) = listed.split_whitespace().nth(2) else { return Ok(String::new()) };
        self.git.print(&[&repository, "config", "--blob", blob, "--null", "--list"]).await
    }

    /// Fetches the commit, and returns its tree.
    async fn fetch(&mut self, link: &Link, url: &RemoteUrl) -> Result<String, SubmoduleError> {
        if self.fetched == MAX_LINKS {
            return Err(SubmoduleError::TooMany);
        }
        self.fetched += 1;
        let number = self.fetched;
        let git = self.git.at(url.clone());
        let failed = |source| SubmoduleError::Fetch { path: link.path.clone(), source };
        let repository = format!("--git-dir={}", self.repository);
        let fetch = async |depth: &[&str], wanted: &[String]| {
            let fixed =
                [repository.as_str(), "fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--update-shallow"];
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            let arguments = [&fixed, depth, &["--", &url.address], &wanted].concat();
            git.output(Run { arguments: &arguments, step: Some(self.step), ..Run::default() }).await
        };
        let alone = [format!("+{}:refs/sera/submodules/{number}", link.commit)];
        match fetch(&["--depth=1"], &alone).await {
            // A commit that is not offered by itself may still be part of what is.
            Err(GitError::WholeOnly { .. }) => {
                let everything =
                    ["heads", "tags"].map(|kind| format!("+refs/{kind}/*:refs/sera/submodules/{number}/{kind}/*"));
                fetch(&[], &everything).await.map_err(failed)?;
            }
            outcome => {
                outcome.map_err(failed)?;
            }
        }
        let tree = git.print(&[&repository, "rev-parse", "--verify", &format!("{}^{{tree}}", link.commit)]).await;
        Ok(tree.map_err(failed)?.trim().to_owned())
    }

    /// `tree` with other trees in place of its links.
    async fn compose(&self, tree: &str, replaced: &[(String, String)]) -> Result<String, SubmoduleError> {
        let repository = format!("--git-dir={}", self.repository);
        let home = self.git.home().to_string_lossy();
        let index = self.git.home().join(INDEX);
        let index = index.to_string_lossy();
        // git wants a work tree where a prefix is given, though it writes to the index alone.
        let environment = [("GIT_INDEX_FILE", index.as_ref()), ("GIT_WORK_TREE", home.as_ref())];
        let run = async |arguments: &[&str], input: &str| {
            let arguments = [&[repository.as_str()], arguments].concat();
            self.git.output(Run { arguments: &arguments, environment: &environment, input, ..Run::default() }).await
        };
        run(&["read-tree", tree], "").await?;
        for (path, content) in replaced {
            run(&["update-index", "-z", "--index-info"], &format!("0 {}\t{path}\0", "0".repeat(content.len()))).await?;
            run(&["read-tree", &format!("--prefix={path}/"), content], "").await?;
        }
        Ok(run(&["write-tree"], "").await?.trim().to_owned())
    }
}
