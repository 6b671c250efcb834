//! A user of the command line with a state folder of their own, for tests about how clusters end.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long to wait for what takes seconds on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A user of the command line, with a state folder apart from everybody else's.
pub(crate) struct Home {
    state: TempDir,
}

impl Home {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { state: TempDir::with_prefix("e2e-")? })
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sera-e2e"));
        command.args(arguments).env("SERA_STATE_DIR", self.state.path()).env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        Ok(self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?} ended with {}: {complaint}", output.status);
        Ok(output)
    }

    /// Files that stand for clusters.
    pub(crate) fn clusters(&self) -> usize {
        let clusters = self.state.path().join("clusters");
        let entries = clusters.read_dir().into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().is_dir()).count()
    }

    /// The processes of this user's clusters: those whose environment names the state folder, but for the command line's own.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mark = format!("SERA_E2E_CLUSTER={}", self.state.path().display());
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let marked = entries.filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&mark)
        });
        marked.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    pub(crate) fn until_processes(&self, count: usize) -> Result<()> {
        let start = Instant::now();
        while self.processes().len() < count {
            ensure!(start.elapsed() < PATIENCE, "{count} processes never came");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A test that failed half-way leaves nothing either.
        for name in ["default", "next"] {
            let _ = self.command(&["down", "--name", name]).output();
        }
    }
}

/// Sends a signal to a command under way.
pub(crate) fn signal(owner: &Child, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(owner.id())?), signal)?)
}
