//! The API types of sera-operator (`sera.dev/v1alpha1`), and the contract between its programs. No client and no I/O
//! lives here.

#[cfg(feature = "kube")]
pub mod batch;
#[cfg(feature = "kube")]
pub mod common;
#[cfg(feature = "kube")]
pub mod conditions;
pub mod contract;
#[cfg(feature = "kube")]
pub mod defaults;
#[cfg(feature = "kube")]
pub mod definition;
#[cfg(feature = "kube")]
pub mod reference;
#[cfg(feature = "kube")]
pub mod run;
#[cfg(feature = "kube")]
pub mod validate;
pub mod values;

#[cfg(feature = "kube")]
pub use batch::RolloutBatch;
#[cfg(feature = "kube")]
pub use run::SpecializationRun;
