//! What a kubelet would say of pods in a bench that has no node.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use sera_crds::contract::{Artifact, StageResult, Termination};
use serde_json::{Value, json};

/// The status of a pod whose program is at work.
pub(super) fn running() -> Value {
    let now = now();
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}));
    json!({"status": {"phase": "Running", "startTime": now, "conditions": conditions}})
}

/// The status of a pod that has taken a snapshot.
pub(super) fn snapshot_is_taken(pod: &Pod) -> Value {
    let (now, words) = (now(), Termination::succeeded(snapshot()).to_json());
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
        let ended =
            json!({"exitCode": 0, "reason": "Completed", "message": words, "startedAt": now, "finishedAt": now});
        json!({
            "name": container.name, "image": container.image, "imageID": "", "restartCount": 0, "ready": false,
            "state": {"terminated": ended},
        })
    });
    let containers: Vec<Value> = containers.collect();
    json!({"status": {"phase": "Succeeded", "startTime": now, "containerStatuses": containers}})
}

fn snapshot() -> StageResult {
    let manifest = Artifact { path: "snapshot/manifest.json".to_owned(), sha256: "0".repeat(64) };
    StageResult::Snapshot { manifest, commit: "0".repeat(40), commits: 1, bundle_bytes: 4096 }
}

fn now() -> String {
    format!("{:.0}", Timestamp::now())
}
