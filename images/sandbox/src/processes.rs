//! The processes of a slot: which there are, what they take, and how all of them end.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid, getpid};

/// How long is waited for killed processes to end: one that the kernel holds in an I/O call ends when that does.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long between two looks while they end.
const PAUSE: Duration = Duration::from_micros(300);

/// The processes did not end.
#[derive(Debug, thiserror::Error)]
#[error("{left} processes of the slot do not end")]
pub(crate) struct Survivors {
    left: usize,
}

/// Which processes are the slot's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that this process can see, since it is the first of a PID namespace.
    Namespace,
    /// What descends from this process, which is where orphans come to.
    Descendants,
}

/// A process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    parent: i32,
    pub(crate) threads: u32,
}

impl Scope {
    /// What this process can do.
    pub(crate) fn of_this_process() -> Self {
        if getpid().as_raw() == 1 { Self::Namespace } else { Self::Descendants }
    }

    /// How many processes and threads the user of this process has, whoever started them.
    pub(crate) fn tasks_of_user() -> u32 {
        let user = geteuid().as_raw();
        let own = |pid: i32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| process.uid() == user);
        visible().iter().filter(|process| own(process.pid)).map(|process| process.threads).sum()
    }

    /// The slot's processes, those that have ended and not been waited for left out.
    pub(crate) fn list(self) -> Vec<Process> {
        let this = getpid().as_raw();
        let all: Vec<Process> = visible().into_iter().filter(|process| process.pid != this).collect();
        match self {
            Self::Namespace => all,
            Self::Descendants => descendants(this, all),
        }
    }

    /// Kills all of them and waits until none is left.
    pub(crate) fn kill_all(self) -> Result<(), Survivors> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self {
                // One call, under one lock of the kernel: no process can be born behind its back.
                Self::Namespace => drop(kill(Pid::from_raw(-1), Signal::SIGKILL)),
                Self::Descendants => self.stop_and_kill(until),
            }
            let children_left = reap().children_left;
            let left = self.list().len();
            if left == 0 && !children_left {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Survivors { left: left.max(1) });
            }
            sleep(PAUSE);
        }
    }

    /// Stops all of them before the first is killed: until no look finds one that is not stopped, some could still fork behind the killer's back. How
    /// many there can be, the kernel limits (`confine::limits`), so that this comes to an end.
    fn stop_and_kill(self, until: Instant) {
        let mut stopped = HashSet::new();
        let all = loop {
            let all = self.list();
            let running: Vec<i32> = all.iter().map(|process| process.pid).filter(|pid| stopped.insert(*pid)).collect();
            for pid in &running {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
            }
            if running.is_empty() || Instant::now() > until {
                break all;
            }
        };
        for process in all {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
}

/// What was waited for.
#[derive(Debug, Default)]
pub(crate) struct Reaped {
    pub(crate) ended: Vec<Pid>,
    children_left: bool,
}

/// Waits for every child that has ended, those of others included that came here as orphans.
pub(crate) fn reap() -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) => {
                reaped.children_left = true;
                return reaped;
            }
            Ok(status) => reaped.ended.extend(status.pid()),
            Err(Errno::EINTR) => {}
            Err(_) => return reaped,
        }
    }
}

/// All processes that /proc shows.
fn visible() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// Reads a line of `/proc/*/stat`. The name in it, between parentheses, may be anything.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields: Vec<&str> = std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace().collect();
    // proc(5): the state is the third field, the parent the fourth, the number of threads the twentieth.
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    Some(Process { pid, parent: fields.get(1)?.parse().ok()?, threads: fields.get(17)?.parse().ok()? })
}

fn descendants(of: i32, all: Vec<Process>) -> Vec<Process> {
    let parents: HashMap<i32, i32> = all.iter().map(|process| (process.pid, process.parent)).collect();
    all.into_iter().filter(|process| descends(process.pid, of, &parents)).collect()
}

fn descends(pid: i32, of: i32, parents: &HashMap<i32, i32>) -> bool {
    // The list is no single moment's: a number that came back could lead around in a circle.
    let mut seen = HashSet::new();
    let mut at = pid;
    while let Some(&parent) = parents.get(&at) {
        if parent == of {
            return true;
        }
        if !seen.insert(at) {
            return false;
        }
        at = parent;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{Process, descendants, parse};

    #[test]
    fn a_name_full_of_parentheses_does_not_confuse_the_reader() {
        let line = b"71 (a) R 1 (b)) S 40 71 71 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 77 1 2\n";
        let process = parse(71, line).unwrap();
        assert_eq!((process.parent, process.threads), (40, 9));
        assert!(parse(71, b"71 (gone) Z 40 71 71 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0\n").is_none());
        assert!(parse(71, b"").is_none());
    }

    #[test]
    fn descendants_are_found_through_any_number_of_parents() {
        let process = |pid, parent| Process { pid, parent, threads: 1 };
        let all =
            vec![process(10, 1), process(11, 10), process(12, 11), process(20, 2), process(30, 31), process(31, 30)];
        let mut found: Vec<i32> = descendants(10, all).iter().map(|process| process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [11, 12]);
    }
}
