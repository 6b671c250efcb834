//! The repository that the demo specialises to: this project itself, with its own history, served to the cluster's pods.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tokio::process::Command;

use crate::paths::{PathError, cache_root};
use sera_git_server::{GitServer, GitServerConfig};

/// The workspace's root, which is a clone of the project unless somebody unpacked an archive.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Fixed, because the run's spec names it and stays the same when the demo is run again; the address is the cluster's own.
const PORT: u16 = 8418;
const NAME: &str = "sera-operator.git";

/// Why there is no repository to serve.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// No folder to keep the copy in.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A folder could not be made.
    #[error("cannot make {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// git could not be run.
    #[error("cannot run git: install it")]
    NoGit(#[source] io::Error),
    /// git refused.
    #[error("`git {arguments}` ended with {status}: {complaint}")]
    Git {
        /// What it was told.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        complaint: String,
    },
    /// The server did not start.
    #[error("cannot serve the repository to the cluster")]
    Serve(#[source] anyhow::Error),
}

/// Copies the project's history and serves it at an address that pods reach. The server ends when the value is dropped.
pub(super) async fn serve(address: IpAddr) -> Result<(GitServer, String), RepositoryError> {
    let root = cache_root()?.join("demo");
    tokio::fs::create_dir_all(&root).await.map_err(|source| RepositoryError::Folder { path: root.clone(), source })?;
    let bare = root.join(NAME);
    if !bare.exists() {
        git(&["init", "--quiet", "--bare", "--initial-branch=main", &bare.display().to_string()]).await?;
    }
    publish(&bare).await?;
    let config = GitServerConfig { address: SocketAddr::new(address, PORT), ..GitServerConfig::new(root) };
    let server = GitServer::start(config).map_err(RepositoryError::Serve)?;
    let url = server.url(NAME);
    Ok((server, url))
}

/// Brings the copy up to date: the clone's HEAD becomes `main`.
async fn publish(bare: &Path) -> Result<(), RepositoryError> {
    let bare = format!("--git-dir={}", bare.display());
    git(&[&bare, "fetch", "--quiet", "--no-tags", "--update-shallow", WORKSPACE, "+HEAD:refs/heads/main"]).await
}

async fn git(arguments: &[&str]) -> Result<(), RepositoryError> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .output()
        .await
        .map_err(RepositoryError::NoGit)?;
    if output.status.success() {
        return Ok(());
    }
    Err(RepositoryError::Git {
        arguments: arguments.join(" "),
        status: output.status,
        complaint: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
