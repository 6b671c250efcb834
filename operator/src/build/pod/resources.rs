//! What programs get where nobody says otherwise.

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};
use sera_crds::common::Resources;

/// What every container has: devices and huge pages are the program's alone.
const OF_EVERY_CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What a snapshot's pod asks for where nobody says otherwise: git packs one repository on one or two cores, in memory that grows with its size.
pub(in crate::build) const SNAPSHOT_RESOURCES: DefaultResources =
    DefaultResources { cpu: "250m", memory: "256Mi", memory_limit: "4Gi" };
/// A driver waits for a teacher most of the time; its memory is that of the conversations it holds.
pub(in crate::build) const DRIVER_RESOURCES: DefaultResources =
    DefaultResources { cpu: "250m", memory: "256Mi", memory_limit: "2Gi" };
/// Counting reads every trajectory once, a few at a time.
pub(in crate::build) const COUNTING_RESOURCES: DefaultResources =
    DefaultResources { cpu: "500m", memory: "512Mi", memory_limit: "2Gi" };
/// A trainer on CPUs holds weights, gradients and the optimizer's state of a small model; what a large one needs, and its GPUs, is up to its owner.
pub(in crate::build) const TRAINER_RESOURCES: DefaultResources =
    DefaultResources { cpu: "1", memory: "2Gi", memory_limit: "64Gi" };
/// A slot runs a repository's own tools; those of a large one want more, which `generation.sandbox.resources` says.
pub(in crate::build) const SLOT_RESOURCES: DefaultResources =
    DefaultResources { cpu: "100m", memory: "256Mi", memory_limit: "2Gi" };
/// The rehearsal teacher is no model, and keeps the conversations of its clients.
pub(in crate::build) const TEACHER_RESOURCES: DefaultResources =
    DefaultResources { cpu: "100m", memory: "64Mi", memory_limit: "1Gi" };
/// A server of small models computes all the time that it is asked; its memory is that of the weights and of the conversations it holds.
pub(in crate::build) const SERVER_RESOURCES: DefaultResources =
    DefaultResources { cpu: "500m", memory: "1Gi", memory_limit: "32Gi" };
/// An engine on GPUs holds in the memory of its node what it reads of a model's files, and what its processes share; how much depends on the model.
pub(in crate::build) const ENGINE_RESOURCES: DefaultResources =
    DefaultResources { cpu: "2", memory: "8Gi", memory_limit: "512Gi" };
/// What copies files needs next to nothing, but for the index of a large tree.
pub(in crate::build) const SMALL_RESOURCES: DefaultResources =
    DefaultResources { cpu: "10m", memory: "16Mi", memory_limit: "256Mi" };

/// Resources that a program gets where nobody says otherwise. There is no CPU limit: throttling makes nothing cheaper.
#[derive(Debug, Clone, Copy)]
pub(in crate::build) struct DefaultResources {
    cpu: &'static str,
    memory: &'static str,
    memory_limit: &'static str,
}

impl DefaultResources {
    pub(in crate::build) fn requirements(self) -> ResourceRequirements {
        let quantities = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect())
        };
        ResourceRequirements {
            requests: quantities(&[("cpu", self.cpu), ("memory", self.memory)]),
            limits: quantities(&[("memory", self.memory_limit)]),
            claims: None,
        }
    }

    /// The same for what runs before containers of which this is `said`, with each limit that they have and it lacks: a quota for processor time takes no
    /// pod that has a container without one. It costs nothing, since a pod asks for the most that it needs at any time.
    pub(in crate::build) fn before(self, said: Option<&Resources>) -> ResourceRequirements {
        let mut own = self.requirements();
        let (limits, requests) = (own.limits.get_or_insert_default(), own.requests.get_or_insert_default());
        for (name, limit) in said.iter().flat_map(|said| &said.limits) {
            if !OF_EVERY_CONTAINER.contains(&name.as_str()) || limits.contains_key(name) {
                continue;
            }
            limits.insert(name.clone(), limit.clone());
            // Ours may be above that limit. Where nothing is asked for, it is the limit.
            requests.remove(name);
            requests.extend(said.and_then(|said| Some((name.clone(), said.requests.get(name)?.clone()))));
        }
        own
    }
}
