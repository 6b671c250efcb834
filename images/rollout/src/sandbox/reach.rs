//! How a sandbox is reached: a process that is started here, or a container of this pod that listens on a socket.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::SandboxError;

/// Variables of this process that a sandbox is started with: where programs are, how text is written, and whose secrets are kept from commands (they
/// have a HOME of their own). No other: it may have been given keys in them.
const INHERITED: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TZ", "HOME"];
/// How often a socket is looked for.
const EVERY: Duration = Duration::from_millis(20);

/// Starts a sandbox whose files are in `folder`, and which shows them at `workspace` where the kernel lets it. What is `hidden` its commands cannot
/// read, but for those files.
pub(super) fn start(
    program: &Path,
    folder: &Path,
    hidden: &[PathBuf],
    workspace: &str,
) -> Result<(UnixStream, Child), SandboxError> {
    std::fs::create_dir_all(folder).map_err(SandboxError::Scratch)?;
    // What is not there need not be hidden; the rest by its whole path, which is what the program takes.
    let hidden = hidden.iter().filter_map(|path| path.canonicalize().ok());
    let (ours, theirs) = StdStream::pair().map_err(SandboxError::Scratch)?;
    let input = theirs.try_clone().map_err(SandboxError::Scratch)?;
    let process = Command::new(program)
        .args(["serve", "--stdio", "--workspace", workspace, "--local"])
        .arg(folder)
        .args(hidden.flat_map(|path| [OsString::from("--hide"), path.into()]))
        .env_clear()
        .envs(INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
        .stdin(Stdio::from(OwnedFd::from(input)))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| SandboxError::NotStarted { program: program.to_owned(), source })?;
    ours.set_nonblocking(true).map_err(SandboxError::Scratch)?;
    Ok((UnixStream::from_std(ours).map_err(SandboxError::Scratch)?, process))
}

/// Waits until somebody listens on `socket`.
pub(super) async fn connect(socket: &Path, patience: Duration) -> Result<UnixStream, SandboxError> {
    let until = Instant::now() + patience;
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= until => {
                return Err(SandboxError::Absent {
                    socket: socket.to_owned(),
                    waited: patience,
                    problem: error.to_string(),
                });
            }
            Err(_) => sleep(EVERY).await,
        }
    }
}
