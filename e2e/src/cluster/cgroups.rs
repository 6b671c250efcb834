//! The cgroup of one node, at the root of every hierarchy of the machine: kubelet makes its own below it, so that removing
//! it removes all of them. Both versions of cgroups are known; limits are kubelet's business.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wait::poll_until;

/// How long the kernel may take to empty a cgroup whose processes were killed.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// The controllers that kubelet insists on in version 2 (pkg/kubelet/cm, `cgroupManagerImpl`).
const CONTROLLERS_V2: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// What a version 1 cpuset must be told before it takes a process.
const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Where a hierarchy is mounted, and of which version it is.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    unified: bool,
}

/// Makes the cgroup in every hierarchy.
pub(super) fn create(name: &str) -> io::Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.root.join(name);
        fs::create_dir_all(&group)?;
        if hierarchy.unified {
            for folder in [&hierarchy.root, &group] {
                enable_controllers(folder)?;
            }
        } else if hierarchy.root.join("cpuset.cpus").exists() {
            for file in CPUSET_FILES {
                fs::write(group.join(file), fs::read(hierarchy.root.join(file))?)?;
            }
        }
    }
    Ok(())
}

/// Removes the cgroup and all below it; its processes must have been killed.
pub(super) fn remove(name: &str) -> io::Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.root.join(name);
        let mut last = None;
        let gone = poll_until(EMPTY_WITHIN, || match remove_tree(&group) {
            Ok(()) => true,
            Err(error) => {
                last = Some(error);
                false
            }
        });
        if let (false, Some(error)) = (gone, last) {
            return Err(error);
        }
    }
    Ok(())
}

/// Lets a version 2 cgroup's children have the controllers that are to be had (a hybrid machine has them elsewhere).
fn enable_controllers(group: &Path) -> io::Result<()> {
    let available = fs::read_to_string(group.join("cgroup.controllers"))?;
    let wanted: Vec<String> = CONTROLLERS_V2
        .iter()
        .filter(|name| available.split_whitespace().any(|there| there == **name))
        .map(|name| format!("+{name}"))
        .collect();
    if wanted.is_empty() { Ok(()) } else { fs::write(group.join("cgroup.subtree_control"), wanted.join(" ")) }
}

/// A cgroup's folder is removed by rmdir alone, and its files go with it: the deepest first.
fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where the hierarchies are mounted.
pub(super) fn roots() -> Vec<PathBuf> {
    hierarchies().unwrap_or_default().into_iter().map(|hierarchy| hierarchy.root).collect()
}

fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(parse_hierarchies(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// The hierarchies of a mountinfo (proc(5)): five fields, options, a dash, then the type.
fn parse_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let parse = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let root = PathBuf::from(mount.split_whitespace().nth(4)?);
        match kind.split_whitespace().next()? {
            "cgroup" => Some(Hierarchy { root, unified: false }),
            "cgroup2" => Some(Hierarchy { root, unified: true }),
            _ => None,
        }
    };
    mountinfo.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_hierarchies_are_found() {
        let mountinfo = "\
25 30 0:22 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw
31 25 0:28 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
";
        let expected = [("/sys/fs/cgroup/unified", true), ("/sys/fs/cgroup/memory", false)]
            .map(|(root, unified)| Hierarchy { root: root.into(), unified });
        assert_eq!(parse_hierarchies(mountinfo), expected);
    }
}
