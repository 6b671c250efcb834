//! What a container asks for and may use.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A container's compute resources, as in a pod: `limits: {cpu: "4", memory: 8Gi, nvidia.com/gpu: 1}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// The most that the container may use, by resource name; at most 8. Absent: what the stage's own defaults say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::schema::quantities")]
    pub limits: BTreeMap<String, Quantity>,
    /// What the scheduler sets aside for the container, by resource name; at most 8. Absent: the limits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::schema::quantities")]
    pub requests: BTreeMap<String, Quantity>,
}

impl Resources {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty()
    }
}

impl From<Resources> for ResourceRequirements {
    fn from(resources: Resources) -> Self {
        let non_empty = |map: BTreeMap<String, Quantity>| (!map.is_empty()).then_some(map);
        Self { claims: None, limits: non_empty(resources.limits), requests: non_empty(resources.requests) }
    }
}
