//! The real git, run in a world of its own (`home`), watched while it works and understood when it fails (`error`). What it is run for is not
//! decided here.

pub(crate) mod access;
mod error;
mod home;
mod report;
pub(crate) mod submodule;
pub(crate) mod url;

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

pub(crate) use error::GitError;
pub(crate) use home::Home;

use crate::progress::Step;
use report::Report;
use url::{RemoteUrl, Transport};

/// What is read at once from git, in bytes.
const CHUNK: usize = 16 << 10;
/// What a command may print that is kept in memory, in bytes: the first-parent history of a million commits has 100 MB.
const MAX_OUTPUT: usize = 512 << 20;
/// How much later than curl we lose patience with a silent server, so that git can say so itself.
const GRACE: Duration = Duration::from_secs(5);

/// git, for one repository.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    home: Home,
    url: RemoteUrl,
    silence: Duration,
}

/// One command for git.
#[derive(Default)]
pub(crate) struct Run<'a> {
    /// The command and its arguments.
    pub(crate) arguments: &'a [&'a str],
    /// Variables beside those of the home.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// What it reads from its standard input, while what it prints is read.
    pub(crate) input: &'a str,
    /// What it reads from its standard input in place of `input`, of any length.
    pub(crate) input_file: Option<&'a Path>,
    /// An exit status beside 0 that is no failure.
    pub(crate) also_fine: Option<i32>,
    /// Where its progress is shown; a command that has one is given up when it says nothing for too long.
    pub(crate) step: Option<&'a Step>,
}

impl Git {
    /// `silence`: how long a server may say nothing before it is given up.
    pub(crate) fn new(home: Home, url: RemoteUrl, silence: Duration) -> Self {
        Self { home, url, silence }
    }

    /// The same git, for a repository at another address: its messages name that. Credentials are still for their own host alone.
    pub(crate) fn at(&self, url: RemoteUrl) -> Self {
        Self { url, ..self.clone() }
    }

    /// The repository that this git is for.
    pub(crate) fn url(&self) -> &RemoteUrl {
        &self.url
    }

    /// The folder that it runs in, and that all repositories are in.
    pub(crate) fn home(&self) -> &Path {
        &self.home.folder
    }

    /// Refuses a private key that ssh could not use. ssh itself would only say that it was not let in.
    pub(crate) async fn check_key(&self) -> Result<(), GitError> {
        if self.url.transport != Transport::Ssh {
            return Ok(());
        }
        let checked = Command::new("ssh-keygen")
            .args(["-y", "-P", "", "-f", home::IDENTITY])
            .env_clear()
            .envs(self.home.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.home.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        match checked {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(GitError::classify("ssh-keygen", &String::from_utf8_lossy(&output.stderr), &self.url)),
            Err(error) => {
                tracing::debug!("the key cannot be looked at beforehand: {error}");
                Ok(())
            }
        }
    }

    /// Runs a command that is told nothing and prints little, and returns what it prints.
    pub(crate) async fn print(&self, arguments: &[&str]) -> Result<String, GitError> {
        self.output(Run { arguments, ..Run::default() }).await
    }

    /// Runs a command and returns what it prints. References may have names that are no UTF-8: they are mangled, and cannot be asked for.
    pub(crate) async fn output(&self, run: Run<'_>) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.bytes(run).await?).into_owned())
    }

    /// Runs a command and returns what it prints, as it is.
    pub(crate) async fn bytes(&self, run: Run<'_>) -> Result<Vec<u8>, GitError> {
        let mut printed = Vec::new();
        self.run(run, |bytes| {
            if printed.len() + bytes.len() > MAX_OUTPUT {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            printed.extend_from_slice(bytes);
            Ok(())
        })
        .await?;
        Ok(printed)
    }

    /// Runs a command and hands what it prints to `sink`, piece by piece.
    pub(crate) async fn run(
        &self,
        run: Run<'_>,
        sink: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), GitError> {
        tracing::debug!(arguments = ?run.arguments, "git");
        let (status, messages) = self.watch(&run, sink).await?;
        let fine = status.success() || run.also_fine.is_some_and(|code| status.code() == Some(code));
        if fine { Ok(()) } else { Err(GitError::classify(name(run.arguments), &messages, &self.url)) }
    }

    /// Runs a command to its end, or until it has been silent for too long.
    async fn watch(
        &self,
        run: &Run<'_>,
        mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(ExitStatus, String), GitError> {
        let mut group = Group::spawn(&self.home, run)?;
        let not_piped = || failed(run.arguments, "its output is not connected");
        let mut stdout = group.child.stdout.take().ok_or_else(not_piped)?;
        let mut stderr = group.child.stderr.take().ok_or_else(not_piped)?;
        let stdin = group.child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command that has failed already closes it; its messages are what counts.
                let _ = stdin.write_all(run.input.as_bytes()).await;
            }
        };
        tokio::pin!(feed);
        let mut feeding = true;

        let patience = self.silence + GRACE;
        let mut heard = Instant::now();
        let mut report = Report::new(run.step);
        let (mut out, mut err) = (Stream::new(), Stream::new());
        while out.open || err.open {
            tokio::select! {
                () = &mut feed, if feeding => feeding = false,
                piece = out.read(&mut stdout), if out.open => {
                    sink(piece).map_err(|error| sink_failed(run.arguments, &error))?;
                }
                piece = err.read(&mut stderr), if err.open => report.take(piece),
                () = sleep_until(heard + patience), if run.step.is_some() => {
                    return Err(GitError::Silent { url: self.url.text.clone(), silence: patience });
                }
            }
            heard = Instant::now();
        }
        let status = group.child.wait().await.map_err(|error| failed(run.arguments, &error.to_string()))?;
        group.reaped = true;
        Ok((status, report.finish()))
    }
}

/// Texts as lines, each with its end: what git reads.
pub(crate) fn lines(texts: impl Iterator<Item = String>) -> String {
    texts.fold(String::new(), |lines, text| lines + &text + "\n")
}

fn name<'a>(arguments: &[&'a str]) -> &'a str {
    arguments.iter().find(|argument| !argument.starts_with('-')).copied().unwrap_or("git")
}

fn failed(arguments: &[&str], detail: &str) -> GitError {
    GitError::Failed { command: name(arguments).to_owned(), detail: detail.to_owned() }
}

fn sink_failed(arguments: &[&str], error: &std::io::Error) -> GitError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => GitError::ScratchFull,
        _ => failed(arguments, &format!("its output cannot be kept: {error}")),
    }
}

/// One of git's two outputs.
struct Stream {
    open: bool,
    buffer: Vec<u8>,
}

impl Stream {
    fn new() -> Self {
        Self { open: true, buffer: vec![0; CHUNK] }
    }

    /// What has come; empty at the end, or where nothing more can be read.
    async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> &[u8] {
        let read = from.read(&mut self.buffer).await.unwrap_or(0);
        self.open = read > 0;
        &self.buffer[..read]
    }
}

/// git and the helpers that it starts, which end together: also when nobody waits for them any more.
struct Group {
    child: Child,
    reaped: bool,
}

impl Group {
    fn spawn(home: &Home, run: &Run<'_>) -> Result<Self, GitError> {
        let input = match run.input_file {
            Some(file) => Stdio::from(File::open(file).map_err(|error| failed(run.arguments, &error.to_string()))?),
            None if run.input.is_empty() => Stdio::null(),
            None => Stdio::piped(),
        };
        let mut command = Command::new("git");
        command
            .args(run.arguments)
            .env_clear()
            .envs(home.environment.iter().map(|(name, value)| (name, value)))
            .envs(run.environment.iter().copied())
            .current_dir(&home.folder)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| GitError::NotRun { problem: error.to_string() })?;
        Ok(Self { child, reaped: false })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let (false, Some(id)) = (self.reaped, id) {
            // It leads a group of its own, and has not been waited for: the number cannot be another's yet.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}
