//! What both kinds have in common: references, resources of containers, and the schemas of what is Kubernetes' own.

mod reference;
mod resources;
pub(crate) mod rule;
pub(crate) mod schema;

pub use reference::{EnvVar, LocalRef, SecretRef};
pub use resources::Resources;

pub use crate::values::quantity;

/// The API group of both kinds, and the prefix of labels and annotations that are the operator's own.
pub const GROUP: &str = "sera.dev";
/// The version of both kinds.
pub const VERSION: &str = "v1alpha1";
