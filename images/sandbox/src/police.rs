//! How much of the machine a slot takes: processes, memory and disk, looked at every few milliseconds while something runs. The limits lie below the
//! container's own, because passing those ends the whole pod.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, fchmod};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{SysconfVar, sysconf};

use crate::processes::{Process, Scope};
use crate::slot::MOST_PROCESSES;
use crate::tree::disk;
use crate::wire::{Limit, Policy};

/// How often processes are looked at.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long the files may go uncounted while something runs.
const DISK_EVERY: Duration = Duration::from_secs(10);
/// By what part of the limit the file system's free space may fall before the files are counted.
const DISK_STEP: u64 = 8;
/// The size of a block in what `stat` answers, whatever the file system's is.
const BLOCK: u64 = 512;

/// The limits of a slot, and what was seen last.
pub(crate) struct Police {
    scope: Scope,
    disk_bytes: Option<u64>,
    memory_bytes: Option<u64>,
    processes: Option<u32>,
    page: u64,
    counted: Option<(Instant, u64)>,
}

impl Police {
    pub(crate) fn new(policy: &Policy, scope: Scope) -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok());
        Self {
            scope,
            disk_bytes: policy.disk_bytes,
            memory_bytes: policy.memory_bytes,
            // Where the kernel cannot end all at once, there is always a limit.
            processes: policy.processes.or((scope == Scope::Descendants).then_some(MOST_PROCESSES)),
            page: page.unwrap_or(4096),
            counted: None,
        }
    }

    /// How often it wants to look.
    pub(crate) fn interval() -> Duration {
        INTERVAL
    }

    /// The limit that is passed, if any is.
    pub(crate) fn look(&mut self, roots: &[BorrowedFd<'_>]) -> Option<Limit> {
        let processes = self.scope.list();
        let tasks = processes.iter().map(|process| u64::from(process.threads)).sum::<u64>();
        if self.processes.is_some_and(|most| tasks > most.into()) {
            return Some(Limit::Processes);
        }
        if self.memory_bytes.is_some_and(|most| self.takes_more_memory(&processes, most)) {
            return Some(Limit::Memory);
        }
        self.disk_bytes.filter(|most| self.takes_more_disk(&processes, roots, *most)).map(|_| Limit::Disk)
    }

    /// Pages that processes share are counted once for each at first, because that is cheap; only where it is too much are they counted rightly.
    fn takes_more_memory(&self, processes: &[Process], most: u64) -> bool {
        let resident: u64 = processes.iter().map(|process| self.anonymous(process.pid)).sum();
        resident > most && processes.iter().map(|process| proportional(process.pid).unwrap_or(0)).sum::<u64>() > most
    }

    /// The bytes of a process that no file stands behind, by proc(5): what is resident, less what is shared.
    fn anonymous(&self, pid: i32) -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let mut pages = text.split_ascii_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
        let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        resident.saturating_sub(shared) * self.page
    }

    fn takes_more_disk(&mut self, processes: &[Process], roots: &[BorrowedFd<'_>], most: u64) -> bool {
        let free =
            roots.iter().filter_map(|root| fstatvfs(root).ok()).map(|stat| stat.blocks_free() * stat.fragment_size());
        let free = free.sum::<u64>();
        if let Some((at, before)) = self.counted
            && at.elapsed() < DISK_EVERY
            && before.saturating_sub(free) < most / DISK_STEP
        {
            return false;
        }
        self.counted = Some((Instant::now(), free));
        let mut count = Count::default();
        for root in roots {
            count.dir(*root);
        }
        for process in processes {
            count.deleted(process.pid);
        }
        count.bytes > most
    }
}

/// The bytes of a process with those that it shares divided among who has them, without those of files.
fn proportional(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib = text.lines().filter(|line| line.starts_with("Pss_Anon:") || line.starts_with("Pss_Shmem:"));
    let kib = kib.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    Some(kib.sum::<u64>() * 1024)
}

/// The bytes of files, each counted once whatever its names are.
#[derive(Default)]
struct Count {
    bytes: u64,
    linked: HashSet<(u64, u64)>,
}

impl Count {
    /// Everything beneath a directory. Each is opened when its turn comes, so that neither many in one nor many in each other are open at once.
    fn dir(&mut self, root: BorrowedFd<'_>) {
        let Ok(root) = root.try_clone_to_owned() else { return };
        let mut waiting = Vec::new();
        self.entries(Opened { dir: root, was: None }, &mut waiting);
        while let Some((within, name)) = waiting.pop() {
            match disk::open_dir_for_now(within.dir.as_fd(), &name) {
                Ok((dir, was)) => {
                    drop(within);
                    self.entries(Opened { dir, was }, &mut waiting);
                }
                // Nobody works on a tree of which more cannot be open at once.
                Err(Errno::EMFILE) => self.bytes = u64::MAX,
                Err(_) => {}
            }
        }
    }

    /// What is in a directory; the directories in it wait for their turn.
    fn entries(&mut self, opened: Opened, waiting: &mut Vec<(Rc<Opened>, OsString)>) {
        let opened = Rc::new(opened);
        for name in disk::names(&opened.dir).unwrap_or_default() {
            let Ok(stat) = disk::stat(&opened.dir, &name) else { continue };
            if stat.st_nlink < 2 || self.linked.insert((stat.st_dev, stat.st_ino)) {
                self.bytes = self.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK);
            }
            if disk::kind(&stat) == SFlag::S_IFDIR {
                waiting.push((Rc::clone(&opened), name));
            }
        }
    }

    /// Files that a process holds open and that have no name any more.
    fn deleted(&mut self, pid: i32) {
        let opened = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for metadata in opened.filter_map(|entry| fs::metadata(entry.path()).ok()) {
            let unnamed = metadata.is_file() && metadata.nlink() == 0;
            if unnamed && self.linked.insert((metadata.dev(), metadata.ino())) {
                self.bytes = self.bytes.saturating_add(metadata.blocks() * BLOCK);
            }
        }
    }
}

/// A directory that is counted. Commands may close one to themselves, and what is in it takes room all the same: it is open as long as it has to be.
struct Opened {
    dir: OwnedFd,
    /// The mode that it had, where it was closed.
    was: Option<Mode>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(mode) = self.was {
            // Whoever has removed it needs no mode.
            let _ = fchmod(&self.dir, mode);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::Count;

    #[test]
    fn a_file_is_counted_once_whatever_its_names_are_and_also_without_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(folder.path().join("a/b/file"), folder.path().join("a/again")).unwrap();
        let count = || {
            let mut count = Count::default();
            count.dir(File::open(folder.path()).unwrap().as_fd());
            count.deleted(std::process::id().cast_signed());
            count.bytes
        };
        let with_names = count();
        assert!((1 << 20..5 << 19).contains(&with_names), "{with_names}");
        let unnamed = File::create_new(folder.path().join("unnamed")).unwrap();
        fs::remove_file(folder.path().join("unnamed")).unwrap();
        std::io::Write::write_all(&mut &unnamed, &vec![2; 3 << 20]).unwrap();
        unnamed.sync_all().unwrap();
        assert!(count() >= with_names + (3 << 20));
    }
}
