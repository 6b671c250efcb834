//! What a pod was to have, by its spec: the limits of its program.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;

use super::PROGRAM_CONTAINER;

/// A pod's spec, as far as we read it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct PodSpec {
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Clone, Deserialize)]
struct Container {
    name: Box<str>,
    #[serde(default)]
    resources: Resources,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Resources {
    #[serde(default)]
    limits: Limits,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Limits {
    memory: Option<Quantity>,
}

impl PodSpec {
    /// How much memory the program may take, as it was written.
    pub(super) fn memory_limit(&self) -> Option<Box<str>> {
        let program = self.containers.iter().find(|container| &*container.name == PROGRAM_CONTAINER)?;
        program.resources.limits.memory.as_ref().map(|limit| limit.0.as_str().into())
    }
}
