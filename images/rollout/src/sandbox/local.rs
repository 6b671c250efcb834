//! How a sandbox is reached: a socket that a container of this pod, or a process that is started here, listens on.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::SandboxError;

/// How long a process of this machine may take to listen.
const START: Duration = Duration::from_secs(30);
/// Variables of this process that commands may have: where programs are, and how text is written.
const INHERITED: [&str; 4] = ["PATH", "LANG", "LC_ALL", "TZ"];
/// How often a socket is looked for.
const EVERY: Duration = Duration::from_millis(20);

/// Starts a sandbox whose files are in `folder`, and which shows them at `workspace` where the kernel lets it.
pub(super) async fn start(program: &Path, folder: &Path, workspace: &str) -> Result<(UnixStream, Option<Child>), SandboxError> {
    std::fs::create_dir_all(folder).map_err(SandboxError::Scratch)?;
    let socket = folder.join("socket");
    let process = Command::new(program)
        .args(["serve", "--workspace", workspace, "--inherit-env"])
        .arg("--local")
        .arg(folder)
        .arg("--socket")
        .arg(&socket)
        // Commands get these variables and no others: this process may have been given keys in its own.
        .env_clear()
        .envs(INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| SandboxError::NotStarted { program: program.to_owned(), source })?;
    Ok((connect(&socket, START).await?, Some(process)))
}

/// Waits until somebody listens on `socket`.
pub(super) async fn connect(socket: &Path, patience: Duration) -> Result<UnixStream, SandboxError> {
    let until = Instant::now() + patience;
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= until => {
                return Err(SandboxError::Absent { socket: socket.to_owned(), waited: patience, problem: error.to_string() });
            }
            Err(_) => sleep(EVERY).await,
        }
    }
}
