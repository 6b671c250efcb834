//! What a Job asks its queue for. A Job that waits there cannot be changed, so it says in a label what it was made to ask for: one that asks for
//! something else than its owner wants by now is made anew.

use std::collections::BTreeMap;

use sera_crds::{
    run::PodRole,
    values::{Sha256, Stage},
};
use sha2::{Digest, Sha256 as Hasher};

use super::Blueprint;
use crate::{
    names::{QUEUE, REQUEST},
    plan::role,
};

/// How much of a digest the label has: a whole one has a digit more than a label may.
const DIGITS: usize = 32;

/// Of each stage that is queued, what its Job asks its queue for.
pub fn requests(blueprint: &Blueprint) -> BTreeMap<Stage, Box<str>> {
    Stage::ALL.iter().filter_map(|stage| Some((*stage, request(*stage, blueprint)?))).collect()
}

/// A digest of what the Job of a stage asks its queue for: the queue, how many pods, and all that the spec says of them. None of a stage that is not
/// queued.
fn request(stage: Stage, blueprint: &Blueprint) -> Option<Box<str>> {
    blueprint.pods.queue_name(role(stage))?;
    let settings = blueprint.settings(role(stage));
    let samples = blueprint.rollouts(stage);
    let samples = samples.map(|samples| (samples.shards(), samples.slots, &samples.slot_resources));
    let gang = blueprint.training.as_ref().filter(|_| stage == Stage::Training);
    let gang = gang.map(|parts| (parts.nodes, parts.gpus_per_node));
    // The two models that are compared are in the pod of their driver.
    let models = blueprint.evaluation.as_ref().filter(|_| stage == Stage::Evaluation);
    let models = models.map(|parts| (blueprint.settings(PodRole::Serve), parts.student.gpus, parts.base.gpus));
    // Its fields have an order, so equal requests have equal digests.
    let json = serde_json::to_vec(&(settings, samples, gang, models)).unwrap_or_default();
    let digest = Sha256::of_digest(Hasher::digest(json).into());
    Some(digest.as_str()[..DIGITS].into())
}

/// Has a Job wait in its queue, where the stage has one.
pub(super) fn enqueue(labels: &mut BTreeMap<String, String>, stage: Stage, blueprint: &Blueprint) {
    let queue = blueprint.pods.queue_name(role(stage)).map(ToString::to_string);
    for (label, value) in [(QUEUE, queue), (REQUEST, request(stage, blueprint).map(String::from))] {
        labels.extend(value.map(|value| (label.to_owned(), value)));
    }
}
