//! Digests by which what an owner wants is told from what was wanted before: of the policy, of the dataset, and of what Jobs ask their queues for.

use std::collections::BTreeMap;

use sera_crds::{
    contract::{DatasetPlan, VerificationPlan},
    run::PodRole,
    values::{Sha256, Stage},
};
use serde::Serialize;
use sha2::{Digest, Sha256 as Hasher};

use crate::{
    build::Blueprint,
    plan::{Policy, role},
};

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

/// Of each stage that is queued, a digest of what its Job asks its queue for: all that is said of its pods, and how many there are.
pub(super) fn requests(blueprint: &Blueprint) -> BTreeMap<Stage, Sha256> {
    Stage::ALL.iter().filter_map(|stage| Some((*stage, request(*stage, blueprint)?))).collect()
}

fn request(stage: Stage, blueprint: &Blueprint) -> Option<Sha256> {
    let settings = blueprint.settings(role(stage));
    settings.queue_name.as_ref()?;
    let samples = blueprint.rollouts(stage);
    let samples = samples.map(|samples| (samples.shards(), samples.slots, &samples.slot_resources));
    let gang = blueprint.training.as_ref().filter(|_| stage == Stage::Training);
    let gang = gang.map(|parts| (parts.nodes, parts.gpus_per_node));
    // The two models that are compared are in the pod of their driver.
    let models = blueprint.evaluation.as_ref().filter(|_| stage == Stage::Evaluation);
    let models = models.map(|parts| (blueprint.settings(PodRole::Serve), parts.student.gpus, parts.base.gpus));
    Some(digest(&(settings, samples, gang, models)))
}

/// A sha256 of a document of ours, as JSON. Its fields have an order, so equal documents have equal digests.
fn digest(document: &impl Serialize) -> Sha256 {
    let json = serde_json::to_vec(document).unwrap_or_default();
    Sha256::of_digest(Hasher::digest(json).into())
}
