//! How much memory a rank may use here: the machine's, or what its container is given of it, divided among the ranks that share it.

use std::path::Path;

/// Where the kernel says what the machine has.
const MACHINE: &str = "/proc/meminfo";
/// Where it says what this process has.
const STATUS: &str = "/proc/self/status";
/// Where it says what this container may have (cgroup v2, and v1 on older nodes).
const CONTAINER: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// What a rank may use of memory, in bytes; none where nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Available {
    /// Of the device that it computes on.
    pub device: Option<u64>,
    /// Of the host's; for a rank on processors that is the same memory.
    pub host: Option<u64>,
}

/// What one of `sharing` ranks may use, in bytes; none where the system does not say.
pub fn available_memory(sharing: u64) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let containers = CONTAINER.iter().filter_map(|path| limit(&read(path)));
    let all = containers.chain(machine(&read(MACHINE))).min()?;
    Some(all / sharing.max(1))
}

/// The most that this process has had resident so far, in bytes; none where the system does not say.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string(STATUS).ok()?;
    kibibytes(status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?)
}

/// What `/proc/meminfo` says there is.
fn machine(text: &str) -> Option<u64> {
    kibibytes(text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?)
}

/// A number of kB, in bytes.
fn kibibytes(text: &str) -> Option<u64> {
    text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A container's limit; `max` is none.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_the_container_say_what_there_is() {
        assert_eq!(machine("MemTotal:       24615124 kB\nMemFree:  1 kB\n"), Some(24_615_124 * 1024));
        assert_eq!((limit("max\n"), limit("8589934592\n"), machine("")), (None, Some(8 << 30), None));
        assert!(peak_memory().unwrap() > 1 << 20);
        let (alone, four) = (available_memory(1).unwrap(), available_memory(4).unwrap());
        assert!(alone > 1 << 28 && four == alone / 4);
    }
}
