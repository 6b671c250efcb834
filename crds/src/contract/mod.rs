//! What sera-operator's programs hand each other: exit codes, termination messages and the manifests in the store.
//! Versioned, and free of Kubernetes: a person who runs a stage by hand sees the same files and codes as the operator
//! does.

mod exit;
mod snapshot;
mod termination;

pub use exit::ExitCode;
pub use snapshot::{BundleFile, SnapshotManifest, SnapshotSource, SnapshottedCommit};
pub use termination::{Artifact, Failure, FailureClass, Outcome, StageResult, Termination, TerminationError};

/// The version of every document in this module. A reader refuses a document of another version by name; a field may be
/// added without a new one.
pub const CONTRACT_VERSION: u32 = 1;
