//! Arguments of `snapshot` that say more about the source than where its commits are: GitHub, style examples and submodules.

use std::path::PathBuf;

use clap::Args;
use sera_crds::values::{GitUrl, HttpUrl, Timeout};

use crate::github::Repository;

/// What `snapshot` is told about the source beside its commits.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// The repository on GitHub, as OWNER/REPOSITORY: its newest issues are style examples, and the URL follows from it where there is no --url
    #[arg(long, env = "SERA_GITHUB", value_name = "OWNER/REPOSITORY")]
    pub(super) github: Option<Repository>,
    #[arg(
        long,
        env = "SERA_GITHUB_API_URL",
        value_name = "URL",
        default_value = "https://api.github.com",
        help = "GitHub's API; https://HOST/api/v3 for GitHub Enterprise Server"
    )]
    pub(super) github_api_url: HttpUrl,
    /// A folder with a file for each key of the Secret for GitHub: token, or appId, installationId and privateKey
    #[arg(long, env = "SERA_GITHUB_CREDENTIALS", value_name = "DIR")]
    pub(super) github_credentials: Option<PathBuf>,
    /// How long GitHub may take for the style examples, waits for its limits included; after that commit messages or the built-in ones are used
    #[arg(long, env = "SERA_GITHUB_TIMEOUT", value_name = "DURATION", default_value = "5m")]
    pub(super) github_timeout: Timeout,
    /// Take what is in the submodules too, in place of their names
    #[arg(long, env = "SERA_SUBMODULES")]
    pub(super) submodules: bool,
}

impl SourceArgs {
    /// Where the repository on GitHub is cloned from; none where it is not on GitHub.
    pub(super) fn clone_url(&self) -> Option<String> {
        let repository = self.github.as_ref()?;
        GitUrl::on_github(&self.github_api_url, repository.owner(), repository.name()).ok().map(|url| url.to_string())
    }
}
