//! Processes of a cluster as the machine sees them: told from reused process ids by their start time, and from other
//! processes by a mark in their environment, so that even one that was never recorded is found. What is run is decided
//! elsewhere.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The environment variable that every process of a cluster carries; its value is the cluster's folder.
pub(super) const MARK: &str = "SERA_E2E_CLUSTER";
/// The environment variable that names the component a process was started as.
pub(super) const COMPONENT: &str = "SERA_E2E_COMPONENT";

/// The start time's place in `/proc/<pid>/stat`, counted after the command's closing bracket (proc(5): field 22).
const START_TIME_AFTER_COMMAND: usize = 19;
/// The state's place there (field 3).
const STATE_AFTER_COMMAND: usize = 0;
/// The place there of how many threads there are (field 20).
const THREADS_AFTER_COMMAND: usize = 17;
/// The parent's place there (field 4).
const PARENT_AFTER_COMMAND: usize = 1;

/// One process, now and for ever: its id and when it started, in clock ticks since the machine did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pid: i32,
    started: u64,
}

impl ProcessId {
    /// The process that has this id now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let started = stat_field(pid, START_TIME_AFTER_COMMAND)?.parse().ok()?;
        Some(Self { pid, started })
    }

    pub(super) fn pid(self) -> i32 {
        self.pid
    }

    /// Whether the process is there and has not ended, with all of its threads. One that has, and that this process started, is put to rest.
    pub(super) fn is_alive(self) -> bool {
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        let threads = stat_field(self.pid, THREADS_AFTER_COMMAND).and_then(|count| count.parse().ok());
        stat_field(self.pid, STATE_AFTER_COMMAND).is_some_and(|state| !has_ended(&state, threads.unwrap_or_default()))
            && stat_field(self.pid, START_TIME_AFTER_COMMAND).is_some_and(|at| at == self.started.to_string())
    }

    /// Sends a signal. That the process has ended already is no error.
    pub(super) fn signal(self, signal: Signal) -> io::Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a process in this state, with so many threads, holds nothing any more. Its first thread may be dead while others, which a busy machine has not let
/// die yet, still have its sockets.
fn has_ended(state: &str, threads: u32) -> bool {
    state == "X" || (state == "Z" && threads <= 1)
}

fn stat_field(pid: i32, after_command: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may itself hold spaces and brackets: only the last bracket closes it.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(after_command).map(str::to_owned)
}

/// The living processes that carry a cluster's mark.
pub(super) fn marked(cluster: &Path) -> Vec<ProcessId> {
    let marked = pids().filter(|&pid| mark_of(pid).is_some_and(|mark| mark == cluster));
    marked.filter_map(ProcessId::of).filter(|id| id.is_alive()).collect()
}

/// The ids of all processes that are there.
pub(super) fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The folder of the cluster whose mark a process carries.
pub(super) fn mark_of(pid: u32) -> Option<PathBuf> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut values = environment.split(|&byte| byte == 0).filter_map(|variable| {
        let value = variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?;
        Some(PathBuf::from(OsStr::from_bytes(value)))
    });
    values.next()
}

/// The id of a process's parent.
pub(super) fn parent_of(pid: u32) -> Option<u32> {
    stat_field(i32::try_from(pid).ok()?, PARENT_AFTER_COMMAND)?.parse().ok()
}

/// Kills processes until `find` finds none, or the time is over; says how many are left.
pub(super) fn kill_all(find: impl Fn() -> Vec<ProcessId>, within: Duration) -> usize {
    let mut left = Vec::new();
    let gone = super::wait::poll_until(within, || {
        left = find();
        for process in &left {
            // Not permitted, or gone between the look and the blow: the next look tells.
            let _ = process.signal(Signal::SIGKILL);
        }
        left.is_empty()
    });
    if gone { 0 } else { left.len() }
}

/// Whether a program can be found on the `PATH`, or in the folders that hold system programs.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(OsStr::new(program)).is_file())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_found_by_its_mark_and_killed() {
        let cluster = Path::new("/nowhere/a-cluster-of-this-test");
        let mut child = Command::new("sleep").arg("600").env(MARK, cluster).spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        assert!(id.is_alive());
        // The kernel shows a program's environment a moment after the program has taken the place of its parent's.
        let is_found = super::super::wait::poll_until(Duration::from_secs(5), || marked(cluster) == [id]);
        assert!(is_found, "found {:?} instead of {id:?}", marked(cluster));
        assert_eq!(kill_all(|| marked(cluster), Duration::from_secs(5)), 0);
        assert!(!id.is_alive());
        // It was put to rest by `is_alive`, so there is nothing to wait for any more.
        assert!(child.try_wait().is_err());
    }

    #[test]
    fn a_process_has_ended_when_the_last_of_its_threads_has() {
        assert!(has_ended("Z", 1) && has_ended("Z", 0) && has_ended("X", 2));
        assert!(!has_ended("Z", 2) && !has_ended("S", 1) && !has_ended("T", 3));
    }

    #[test]
    fn another_process_under_a_reused_id_is_not_mistaken_for_the_first() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { started: own.started + 1, ..own }.is_alive());
    }
}
