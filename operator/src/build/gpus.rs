//! What pods with GPUs need where nobody says otherwise.

use k8s_openapi::{
    api::core::v1::{PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use sera_crds::run::PodSettings;

/// The resource that a node offers GPUs by where nobody says otherwise.
const GPU: &str = "nvidia.com/gpu";

/// The size of /dev/shm that the API promises to pods with more than one GPU: NCCL's ranks hand each other tensors there.
const SHARED_MEMORY: &str = "16Gi";

/// What is said about the pods, and what follows from so many GPUs where nothing is said of it.
pub(super) fn settings(said: PodSettings, gpus: u32) -> PodSettings {
    let needed = (gpus > 1).then(|| Quantity(SHARED_MEMORY.to_owned()));
    PodSettings { shm_size: said.shm_size.clone().or(needed), ..said }
}

/// Gives the pod's program so many GPUs.
pub(super) fn give(pod: &mut PodSpec, gpus: u32) {
    for container in &mut pod.containers {
        container.resources = container.resources.take().map(|resources| with_gpus(resources, gpus));
    }
}

/// The resources with so many GPUs, unless they have devices of some kind already: a vendor's own, or parts of one. Such resources, and only they,
/// are named below a domain.
pub(super) fn with_gpus(mut resources: ResourceRequirements, gpus: u32) -> ResourceRequirements {
    let named = resources.limits.iter().chain(&resources.requests).flat_map(|amounts| amounts.keys());
    if gpus > 0 && !named.into_iter().any(|name| name.contains('/')) {
        resources.limits.get_or_insert_default().insert(GPU.to_owned(), Quantity(gpus.to_string()));
    }
    resources
}
