//! The ConfigMap of an object that holds the platform's defaults as they were when it was first seen.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::metadata;
use crate::names::Owner;

/// The key that the defaults stand under.
pub const DEFAULTS_KEY: &str = "run-defaults.yaml";

/// The ConfigMap with `defaults`, a YAML text. It cannot be changed, only deleted along with its owner.
pub fn defaults_config_map(owner: &Owner, defaults: String) -> ConfigMap {
    ConfigMap {
        metadata: metadata(owner, owner.defaults_name(), owner.labels()),
        data: Some(BTreeMap::from([(DEFAULTS_KEY.to_owned(), defaults)])),
        binary_data: None,
        immutable: Some(true),
    }
}
