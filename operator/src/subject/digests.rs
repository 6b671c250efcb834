//! Digests by which what an owner wants is told from what was wanted before: of the policy, and of what is asked of the dataset.

use sera_crds::{
    contract::{DatasetPlan, VerificationPlan},
    values::Sha256,
};
use serde::Serialize;
use sha2::{Digest, Sha256 as Hasher};

use crate::plan::Policy;

/// The policy, with the digest by which one is told from another.
pub(super) fn policy(verification: &VerificationPlan, student: Option<&str>) -> Policy {
    Policy {
        measure: verification.measure,
        threshold: verification.threshold.clone(),
        settings: digest(&(verification, student)),
    }
}

/// A digest of the policy and of what is asked of the dataset.
pub(super) fn dataset_digest(policy: &Policy, dataset: &DatasetPlan) -> Sha256 {
    digest(&(policy.settings.as_str(), dataset))
}

/// A sha256 of a document of ours, as JSON. Its fields have an order, so equal documents have equal digests.
fn digest(document: &impl Serialize) -> Sha256 {
    let json = serde_json::to_vec(document).unwrap_or_default();
    Sha256::of_digest(Hasher::digest(json).into())
}
