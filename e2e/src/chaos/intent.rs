//! Intent first: a Job is made only when status, as the API server has it, names its attempt, and has locked what the stage works from. It is looked up
//! at the very moment when an operator asks for the Job.

use bytes::Bytes;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::Resource;
use sera_crds::{RolloutBatch, SpecializationRun};
use serde_json::Value;

use super::course::Course;

/// The stages that lock a part of a run's spec by themselves.
const LOCKING: [&str; 4] = ["Snapshot", "Dataset", "Training", "Evaluation"];

/// Looks whether this Job may be made now.
pub(super) async fn check(course: &Course, client: &Client, job: &Bytes) {
    let Ok(job) = serde_json::from_slice::<Value>(job) else {
        course.wrong("a Job is to be made from what is no JSON");
        return;
    };
    let label = |key: &str| job["metadata"]["labels"][key].as_str().unwrap_or_default().to_owned();
    let (kind, owner, stage, attempt) =
        (label("sera.dev/kind"), label("sera.dev/owner"), label("sera.dev/stage"), label("sera.dev/attempt"));
    let is_run = kind == "SpecializationRun";
    let resource =
        if is_run { ApiResource::erase::<SpecializationRun>(&()) } else { ApiResource::erase::<RolloutBatch>(&()) };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &course.namespace, &resource);
    let name = job["metadata"]["name"].as_str().unwrap_or_default();
    // An object that went away this moment takes the Job along, and an API server that does not answer will not make it either.
    let Ok(Some(object)) = api.get_opt(&owner).await else { return };
    if object.meta().uid.as_deref() != Some(&label("sera.dev/owner-uid")) {
        return;
    }
    let status = &object.data["status"];
    let known = status["latestAttempts"].as_array().into_iter().flatten().find(|known| known["stage"] == *stage);
    let number = known.and_then(|known| known["number"].as_u64()).unwrap_or_default();
    if number.to_string() != attempt {
        course.wrong(format!("Job {name} is made while status knows of attempt {number} of {stage}"));
    }
    let locked = status["lockedStages"].as_array().into_iter().flatten().any(|locked| *locked == *stage);
    if is_run && LOCKING.contains(&stage.as_str()) && !locked {
        course.wrong(format!("Job {name} is made while {stage} is not locked"));
    }
    if known.is_some_and(|known| known["outcome"].is_string()) {
        course.wrong(format!("Job {name} is made though status says that its attempt has ended"));
    }
}
