//! References to other objects of the same namespace, and plain environment variables.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{EnvName, ResourceName};

/// A Secret of the same namespace. Programs read its keys from files and never need the right to `get` Secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretRef {
    /// The Secret's name, in the namespace of this object.
    pub name: ResourceName,
}

/// Another object of the same namespace, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LocalRef {
    /// The object's name, in the namespace of this object.
    pub name: ResourceName,
}

/// An environment variable with a literal value. Secrets have no place here: what executes a model's commands sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct EnvVar {
    /// The variable's name: letters, digits and `_`.
    pub name: EnvName,
    /// The variable's value, at most 3072 characters. Nothing in it is expanded. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 3_072))]
    pub value: String,
}

impl From<ResourceName> for SecretRef {
    fn from(name: ResourceName) -> Self {
        Self { name }
    }
}
