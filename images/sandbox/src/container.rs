//! What the container of a slot may take. Passing that ends the container, or with it the whole pod and the rollouts of all its slots.

use std::fs;

use crate::wire::Policy;

/// Where the kernel says how much memory a container may take: cgroups of version 2, and of version 1.
const MEMORY: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// What version 1 says where there is no limit is a number of this size; no machine has as much.
const NO_LIMIT: u64 = 1 << 60;
/// What part is left: of memory to the kernel, to this process, and to what is taken between two looks; of the disk to what is written between two.
const SPARE: u64 = 8;

/// How much of its container the slot's commands may take together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowance {
    pub(crate) disk_bytes: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
}

impl Allowance {
    /// Of this process's container, whose pod is evicted when files take so much.
    pub(crate) fn of_this_container(disk: Option<u64>) -> Self {
        let memory = MEMORY.iter().find_map(|path| fs::read_to_string(path).ok());
        Self { disk_bytes: disk.map(less_spare), memory_bytes: memory.as_deref().and_then(limit).map(less_spare) }
    }

    /// What the driver allows, where that is less.
    pub(crate) fn at_most(self, policy: &Policy) -> Policy {
        let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Policy {
            disk_bytes: least(policy.disk_bytes, self.disk_bytes),
            memory_bytes: least(policy.memory_bytes, self.memory_bytes),
            ..policy.clone()
        }
    }
}

/// A limit as the kernel states it; none where it states none.
fn limit(stated: &str) -> Option<u64> {
    stated.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

fn less_spare(limit: u64) -> u64 {
    limit - limit / SPARE
}

#[cfg(test)]
mod tests {
    use super::{Allowance, less_spare, limit};
    use crate::wire::Policy;

    #[test]
    fn a_container_s_memory_is_not_all_for_commands_and_no_limit_is_none() {
        assert_eq!(limit("2147483648\n").map(less_spare), Some(1_879_048_192));
        for no_limit in ["max\n", "9223372036854771712\n", "", "much"] {
            assert_eq!(limit(no_limit), None, "{no_limit:?}");
        }
    }

    #[test]
    fn the_lesser_limit_holds() {
        let policy = Policy {
            egress: false,
            landlock_required: true,
            env: Vec::new(),
            setup: None,
            setup_timeout_ms: 0,
            writable_paths: Vec::new(),
            disk_bytes: Some(10),
            memory_bytes: None,
            processes: None,
        };
        for (of_the_container, disk) in [(None, 10), (Some(9), 9), (Some(11), 10)] {
            let allowance = Allowance { disk_bytes: of_the_container, memory_bytes: Some(5) };
            let held = allowance.at_most(&policy);
            assert_eq!((held.disk_bytes, held.memory_bytes), (Some(disk), Some(5)));
        }
        assert_eq!(Allowance::default().at_most(&policy), policy);
    }
}
