//! The components of an embedded cluster, one by one: starting them, and the fault kit that kills, stops and restarts
//! them under a test.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::embedded::Embedded;
use super::folder::{ClusterFolder, ComponentRecord, FolderError};
use super::namespaces;
use super::process::{COMPONENT, MARK, ProcessId};
use super::wait::poll_until;

/// How long a killed process may take to be gone; the kernel needs milliseconds.
const KILLED_WITHIN: Duration = Duration::from_secs(10);
/// How many lines of a log are worth showing when a component did not do what it should.
const LAST_LINES: usize = 8;
/// How much of a line is shown, in characters: what etcd logs before a panic holds a whole trace.
const LONGEST_LINE: usize = 500;

/// Why a component could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The cluster has no such component.
    #[error("there is no component {name:?} here; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The cluster is not one of ours.
    #[error("the components of the cluster in KUBECONFIG are not ours to touch: unset it to boot a cluster")]
    Foreign,
    /// Its process could not be started.
    #[error("cannot start {name}")]
    Start {
        /// The component.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A signal did not arrive.
    #[error("cannot signal {name}")]
    Signal {
        /// The component.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It did not end.
    #[error("{name} was killed and is still there")]
    Unkillable {
        /// The component.
        name: String,
    },
    /// What was done could not be recorded.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// One component of an embedded cluster.
#[derive(Debug)]
pub struct Component<'a> {
    cluster: &'a Embedded,
    name: String,
}

impl<'a> Component<'a> {
    pub(super) fn new(cluster: &'a Embedded, name: &str) -> Self {
        Self { cluster, name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file of its log.
    pub fn log(&self) -> PathBuf {
        self.cluster.folder().log(&self.name)
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        last_lines(self.cluster.folder(), &self.name)
    }

    /// Whether its process is there (stopped counts).
    pub fn is_running(&self) -> bool {
        self.process().is_some_and(ProcessId::is_alive)
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub fn kill(&self) -> Result<(), ComponentError> {
        self.signal(Signal::SIGKILL)?;
        let gone = poll_until(KILLED_WITHIN, || !self.is_running());
        if gone { Ok(()) } else { Err(ComponentError::Unkillable { name: self.name.clone() }) }
    }

    /// Freezes it: it neither answers nor ends.
    pub fn stop(&self) -> Result<(), ComponentError> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on after [`stop`](Self::stop).
    pub fn cont(&self) -> Result<(), ComponentError> {
        self.signal(Signal::SIGCONT)
    }

    /// Starts it again as it was started first, after killing what is left of it.
    pub fn restart(&self) -> Result<(), ComponentError> {
        self.kill()?;
        self.cluster.start_again(&self.name)
    }

    fn process(&self) -> Option<ProcessId> {
        self.cluster.record().components.get(&self.name).and_then(|component| component.process)
    }

    fn signal(&self, signal: Signal) -> Result<(), ComponentError> {
        let Some(process) = self.process() else { return Ok(()) };
        process.signal(signal).map_err(|source| ComponentError::Signal { name: self.name.clone(), source })
    }
}

/// Starts a component's process in the cluster's folder, inside of the node's namespaces where there is a node.
pub(super) fn spawn(
    folder: &ClusterFolder,
    init: Option<ProcessId>,
    name: &str,
    component: &ComponentRecord,
) -> io::Result<ProcessId> {
    let (program, arguments) = component.command.split_first().ok_or_else(|| io::Error::other("no program"))?;
    let log = open_log(folder, name)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder.root());
    // Nothing of the caller's environment: a proxy or a debug switch would change what is tested.
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", folder.root()).env(MARK, folder.root()).env(COMPONENT, name);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: Ctrl-C on the terminal is for the one who booted the cluster, who then takes it down in order.
    command.process_group(0);
    let child = match init {
        Some(init) => namespaces::inside(init, || command.spawn())?,
        None => command.spawn()?,
    };
    ProcessId::of(child.id()).ok_or_else(|| io::Error::other("it ended at once"))
}

fn open_log(folder: &ClusterFolder, name: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(folder.log(name))
}

/// The end of a component's log.
pub(super) fn last_lines(folder: &ClusterFolder, name: &str) -> String {
    let log = fs::read(folder.log(name)).unwrap_or_default();
    telling(&String::from_utf8_lossy(&log))
}

/// The last lines that say something: of a Go program that panicked, those before the trace.
fn telling(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let trace = lines.iter().rposition(|line| line.starts_with("panic: ") || line.starts_with("fatal error: "));
    let end = trace.map_or(lines.len(), |panic| panic + 1);
    let shown = lines[end.saturating_sub(LAST_LINES)..end].iter().map(|line| ellipsis(line));
    shown.collect::<Vec<_>>().join("\n")
}

fn ellipsis(line: &str) -> Cow<'_, str> {
    match line.char_indices().nth(LONGEST_LINE) {
        None => line.into(),
        Some((end, _)) => format!("{}…", &line[..end]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::telling;

    #[test]
    fn of_a_panic_its_cause_is_shown_and_not_its_trace() {
        let log = "{\"msg\":\"failed to create WAL\",\"error\":\"no space left on device\"}\npanic: failed to create WAL\n\ngoroutine 1 [running]:\n";
        let log = format!("{log}{}", "main.main()\n\tmain.go:31 +0x28\n".repeat(20));
        let shown = telling(&log);
        assert!(shown.contains("no space left on device") && shown.ends_with("panic: failed to create WAL"), "{shown}");
    }

    #[test]
    fn of_a_long_log_the_end_is_shown_and_of_long_lines_the_beginning() {
        let shown = telling(&format!("first\n{}last {}\n", "between\n".repeat(20), "é".repeat(1000)));
        assert!(!shown.contains("first") && shown.contains("between\nlast é") && shown.ends_with("é…"), "{shown}");
    }
}
