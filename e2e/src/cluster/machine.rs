//! The machine, as far as a cluster could leave something on it: looked at before and after, the difference is what was
//! left. Other clusters that stand meanwhile are told apart, and do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::folder::ClusterFolder;
use super::node::network::link_name;
use super::process::{self, ProcessId};

/// Where the programs of a node put things when left to themselves.
const WATCHED_FILES: [&str; 12] = [
    "/etc/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/netns",
    "/run/xtables.lock",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/var/run/netns",
];

/// Where the machine's network links are listed.
const LINKS: &str = "/sys/class/net";

/// Sysctls that change by themselves, or by being read.
const RESTLESS_SYSCTLS: [&str; 7] =
    ["ns_last_pid", "random", "pty", "nf_conntrack_count", "stat_refresh", "kexec_load_limit_panic", "cad_pid"];

/// What is there now.
#[derive(Debug)]
pub struct Machine {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    sysctls: BTreeSet<String>,
    files: BTreeSet<String>,
}

/// What is there that was not there before.
#[derive(Debug, Default)]
pub struct Leftovers([Vec<String>; 6]);

impl Leftovers {
    /// What is counted, in the order of [`counts`](Self::counts).
    pub const HEADINGS: [&str; 6] = ["processes", "mounts", "links", "cgroups", "sysctls", "files"];

    /// How much of each is left.
    pub fn counts(&self) -> [usize; 6] {
        self.0.each_ref().map(Vec::len)
    }

    /// All that is left, a line each.
    pub fn lines(&self) -> Vec<String> {
        let each = Self::HEADINGS.iter().zip(&self.0);
        each.flat_map(|(heading, all)| all.iter().map(move |one| format!("{heading}: {one}"))).collect()
    }
}

impl Machine {
    /// Looks at it.
    pub fn look() -> Self {
        // A cluster may come or go while the machine is looked at: it is told apart if it stood at either end.
        let before = Others::standing();
        let (processes, links, cgroups, sysctls) = (Process::all(), entries(LINKS), cgroups(), sysctls());
        let others = before.and(Others::standing());
        Self {
            processes: leftover_processes(&processes, &others),
            mounts: mounts(),
            links: links.filter(|link| !others.links.contains(link)).collect(),
            cgroups: cgroups.into_iter().filter(|cgroup| !passes_through(cgroup, &others.cgroups)).collect(),
            sysctls: sysctls.into_iter().filter(|sysctl| !passes_through(sysctl, &others.links)).collect(),
            files: files(),
        }
    }

    /// What came since an earlier look.
    pub fn leftovers_since(&self, before: &Self) -> Leftovers {
        let new = |now: &BTreeSet<String>, then: &BTreeSet<String>| now.difference(then).cloned().collect();
        Leftovers([
            new(&self.processes, &before.processes),
            new(&self.mounts, &before.mounts),
            new(&self.links, &before.links),
            new(&self.cgroups, &before.cgroups),
            new(&self.sysctls, &before.sysctls),
            new(&self.files, &before.files),
        ])
    }
}

/// What belongs to clusters that are meant to be there.
#[derive(Default)]
struct Others {
    roots: BTreeSet<PathBuf>,
    links: BTreeSet<String>,
    cgroups: BTreeSet<String>,
}

impl Others {
    /// All clusters that have a record, whichever state folder they lie in: their processes name it.
    fn standing() -> Self {
        let listed = ClusterFolder::all().unwrap_or_default().into_iter();
        let running = process::pids().filter_map(process::mark_of).map(ClusterFolder::at);
        let mut others = Self::default();
        for folder in listed.chain(running) {
            if others.roots.contains(folder.root()) {
                continue;
            }
            let Ok(record) = folder.read_record() else { continue };
            others.roots.insert(folder.root().to_owned());
            if let Some(node) = record.node {
                others.cgroups.insert(node.cgroup);
                others.links.extend(node.network.map(link_name));
            }
        }
        others
    }

    fn and(mut self, mut more: Self) -> Self {
        self.roots.append(&mut more.roots);
        self.links.append(&mut more.links);
        self.cgroups.append(&mut more.cgroups);
        self
    }
}

/// A process, as far as it tells whose it is.
struct Process {
    name: String,
    parent: u32,
    mark: Option<PathBuf>,
    /// Whether it lives in a process namespace of its own, as containers do.
    elsewhere: bool,
}

impl Process {
    fn all() -> BTreeMap<u32, Self> {
        let own_namespace = fs::read_link("/proc/self/ns/pid").ok();
        let look = |pid| {
            ProcessId::of(pid).filter(|process| process.is_alive())?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned();
            let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
            let elsewhere = namespace.is_some() && namespace != own_namespace;
            Some((pid, Self { name, parent: process::parent_of(pid)?, mark: process::mark_of(pid), elsewhere }))
        };
        process::pids().filter_map(look).collect()
    }
}

/// Processes of clusters, but for those of a standing one: those with a mark, those below them, and those in a process
/// namespace of their own.
fn leftover_processes(all: &BTreeMap<u32, Process>, others: &Others) -> BTreeSet<String> {
    let owner = |pid: u32| {
        let mut next = all.get(&pid);
        // No chain of parents is as long as this, unless ids were reused while it was read.
        for _ in 0..64 {
            let process = next?;
            if process.mark.is_some() {
                return process.mark.as_ref();
            }
            next = all.get(&process.parent);
        }
        None
    };
    let is_left = |pid: u32, process: &Process| match owner(pid) {
        Some(root) => !others.roots.contains(root),
        None => process.elsewhere,
    };
    all.iter().filter(|(pid, one)| is_left(**pid, one)).map(|(pid, one)| format!("{pid} {}", one.name)).collect()
}

/// Whether a path leads through a folder of one of these names.
fn passes_through(path: &str, names: &BTreeSet<String>) -> bool {
    path.split('/').any(|part| names.contains(part))
}

/// Mount points and what is mounted there (proc(5), `mountinfo`).
fn mounts() -> BTreeSet<String> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parse = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        Some(format!("{} {}", mount.split_whitespace().nth(4)?, kind.split_whitespace().next()?))
    };
    mountinfo.lines().filter_map(parse).collect()
}

fn cgroups() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in super::cgroups::roots() {
        walk(&root, &mut |path, is_folder| {
            if is_folder {
                found.insert(path.display().to_string());
            }
            true
        });
    }
    found
}

fn sysctls() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/net"] {
        walk(Path::new(root), &mut |path, is_folder| {
            if path.file_name().and_then(OsStr::to_str).is_some_and(|name| RESTLESS_SYSCTLS.contains(&name)) {
                return false;
            }
            // Many can be written and not read.
            if !is_folder && let Ok(value) = fs::read_to_string(path) {
                found.insert(format!("{} = {}", path.display(), value.trim()));
            }
            true
        });
    }
    found
}

fn files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in WATCHED_FILES.map(Path::new) {
        if root.exists() {
            found.insert(root.display().to_string());
            found.extend(entries(root).map(|name| root.join(name).display().to_string()));
        }
    }
    found
}

/// Visits all below a folder; `visit` is told whether it is a folder, and says whether to go into it.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path, bool) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let path = entry.path();
        if visit(&path, is_folder) && is_folder {
            walk(&path, visit);
        }
    }
}

fn entries(folder: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_with_a_mark_is_left_over() {
        let before = Machine::look();
        let mut child = Command::new("sleep").arg("600").env(process::MARK, "/nowhere/left-over").spawn().unwrap();
        let left = Machine::look().leftovers_since(&before);
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = format!("processes: {} sleep", child.id());
        assert!(left.lines().contains(&expected), "{expected} is not among {:?}", left.lines());
    }
}
