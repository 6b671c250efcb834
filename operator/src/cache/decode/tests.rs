//! What is kept of Jobs and pods as the API server sends them.

use serde_json::json;

use super::*;
use crate::facts::ServerRole;

fn metadata() -> serde_json::Value {
    json!({
        "name": "billing-3f2c9-s1-0-x", "namespace": "ml", "uid": "u-1", "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"batch.kubernetes.io/job-completion-index": "7", "sera.dev/owner": "billing"},
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "not-it"},
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job-uid", "controller": true},
        ],
        "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
    })
}

fn pod(status: &serde_json::Value) -> Option<PodFacts> {
    let pod = json!({"metadata": metadata(), "spec": {"containers": [{"name": "x", "env": []}]}, "status": status});
    serde_json::from_value::<WatchedPod>(pod).unwrap().facts()
}

#[test]
fn of_metadata_only_what_is_asked_for_is_kept() {
    let decoded: WatchedPod = serde_json::from_value(json!({"metadata": metadata(), "status": {}})).unwrap();
    assert_eq!(decoded.metadata.managed_fields, None);
    assert_eq!(decoded.metadata.name.as_deref(), Some("billing-3f2c9-s1-0-x"));
}

#[test]
fn a_finished_pod_keeps_the_last_words_of_its_program_and_of_nobody_else() {
    let facts = pod(&json!({
        "phase": "Failed",
        "containerStatuses": [
            {"name": "istio-proxy", "imageID": "other", "state": {"terminated": {"exitCode": 0, "message": "not this"}}},
            {"name": "sera", "imageID": "registry/rollout@sha256:77", "state": {"terminated": {
                "exitCode": 10, "reason": "Error", "message": "said", "finishedAt": "2026-01-01T00:00:09Z"}}},
        ],
    }))
    .unwrap();
    assert_eq!((facts.phase, facts.exit_code, facts.message.as_deref()), (PodPhase::Failed, Some(10), Some("said")));
    assert_eq!((facts.job, facts.index), ("job-uid".into(), 7));
    assert_eq!(facts.finished, Some("2026-01-01T00:00:09Z".parse().unwrap()));
    assert_eq!(facts.image.as_deref(), Some("registry/rollout@sha256:77"));
}

#[test]
fn a_container_that_goes_on_when_the_program_has_ended_is_named_and_a_sidecar_of_kubernetes_own_kind_is_not() {
    let outlived = |status: &serde_json::Value| {
        serde_json::from_value::<WatchedPod>(json!({"metadata": metadata(), "status": status})).unwrap().outlived()
    };
    let running = |name: &str| json!({"name": name, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}});
    let ended = |name: &str| json!({"name": name, "state": {"terminated": {"exitCode": 0}}});
    let of = |containers: [serde_json::Value; 2]| {
        let containers = containers.as_slice();
        outlived(
            &json!({"phase": "Running", "containerStatuses": containers, "initContainerStatuses": [running("slot-0")]}),
        )
    };
    assert_eq!(
        of([ended("sera"), running("istio-proxy")]).as_deref(),
        Some("container istio-proxy of pod billing-3f2c9-s1-0-x")
    );
    assert_eq!(of([running("sera"), running("istio-proxy")]), None);
    assert_eq!(of([running("sera"), ended("setup")]), None);
    assert_eq!(of([ended("sera"), ended("istio-proxy")]), None);
}

#[test]
fn of_what_holds_a_pod_up_the_most_telling_is_kept() {
    let reason = |status: &serde_json::Value| pod(status).unwrap().trouble.map(|trouble| trouble.reason.into_string());
    let scheduled = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"});
    assert_eq!(reason(&json!({"phase": "Pending", "conditions": [scheduled]})).as_deref(), Some("Unschedulable"));
    let pulling = json!({"name": "sera", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "nope"}}});
    assert_eq!(
        reason(&json!({"phase": "Pending", "containerStatuses": [pulling]})).as_deref(),
        Some("ImagePullBackOff")
    );
    assert_eq!(reason(&json!({"phase": "Failed", "reason": "Evicted", "message": "disk"})).as_deref(), Some("Evicted"));
    let initializing = json!({"name": "sera", "state": {"waiting": {"reason": "PodInitializing"}}});
    let sidecar = json!({"name": "slot-0", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}});
    let both = json!({"phase": "Pending", "containerStatuses": [initializing], "initContainerStatuses": [sidecar]});
    assert_eq!(reason(&both).as_deref(), Some("ErrImagePull"));
    let killed = json!({"name": "sera", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
    assert_eq!(reason(&json!({"phase": "Failed", "containerStatuses": [killed]})).as_deref(), Some("OOMKilled"));
    assert_eq!(reason(&json!({"phase": "Pending"})), None);
}

#[test]
fn of_what_a_pod_was_to_have_the_memory_of_its_program_is_kept() {
    let containers = json!([
        {"name": "istio-proxy", "resources": {"limits": {"memory": "1Gi"}}},
        {"name": "sera", "resources": {"limits": {"cpu": 2, "memory": "24Mi"}}},
    ]);
    let limit = |containers: &serde_json::Value| {
        let pod = json!({"metadata": metadata(), "spec": {"containers": containers}, "status": {"phase": "Failed"}});
        serde_json::from_value::<WatchedPod>(pod).unwrap().facts().unwrap().memory_limit
    };
    assert_eq!(limit(&containers).as_deref(), Some("24Mi"));
    assert_eq!(limit(&json!([{"name": "sera", "resources": {}}])), None);
}

#[test]
fn a_pod_whose_program_never_began_says_what_failed_before_it() {
    let program = json!({"name": "sera", "state": {"waiting": {"reason": "PodInitializing"}}});
    let end =
        |code: i32| json!({"terminated": {"exitCode": code, "reason": "Error", "message": "no room on /run/sera\n"}});
    let before = json!([{"name": "sandbox", "state": end(0)}, {"name": "image-0", "state": end(1)}]);
    let status = json!({"phase": "Failed", "containerStatuses": [program], "initContainerStatuses": before});
    let trouble = pod(&status).unwrap().trouble.unwrap();
    assert_eq!(&*trouble.reason, "InitContainerFailed");
    assert_eq!(&*trouble.message, "container image-0 ended with exit code 1: no room on /run/sera");
    let ended = json!({"name": "sera", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
    let both = json!({"phase": "Failed", "containerStatuses": [ended], "initContainerStatuses": before});
    assert_eq!(&*pod(&both).unwrap().trouble.unwrap().reason, "OOMKilled", "the program's own end is more telling");
}

#[test]
fn a_pod_that_is_taken_away_says_by_whom() {
    let ended = json!({"name": "sera", "state": {"terminated": {"exitCode": 143, "reason": "Error"}}});
    let disruption = |status: &str| json!({"type": "DisruptionTarget", "status": status, "reason": "PreemptionByScheduler", "message": "preempted"});
    let facts = |status| {
        pod(&json!({"phase": "Failed", "conditions": [disruption(status)], "containerStatuses": [ended]})).unwrap()
    };
    let taken = facts("True");
    assert!(taken.disrupted);
    assert_eq!(taken.trouble.unwrap().reason.as_ref(), "PreemptionByScheduler", "`Error` tells nothing");
    assert!(!facts("False").disrupted);
}

#[test]
fn a_pod_that_runs_or_that_no_job_controls_is_none_of_ours() {
    assert_eq!(pod(&json!({"phase": "Running"})), None);
    let orphan = json!({"metadata": {"name": "x", "uid": "u"}, "status": {"phase": "Pending"}});
    assert_eq!(serde_json::from_value::<WatchedPod>(orphan).unwrap().facts(), None);
}

#[test]
fn a_jobs_end_is_read_from_its_conditions_and_only_where_they_are_true() {
    let job = |conditions: &serde_json::Value| {
        let job = json!({"metadata": metadata(), "spec": {"suspend": true}, "status": {"active": 1, "conditions": conditions}});
        serde_json::from_value::<WatchedJob>(job).unwrap().facts()
    };
    let at = "2026-01-01T00:00:09Z";
    assert_eq!(job(&json!([{"type": "FailureTarget", "status": "True", "lastTransitionTime": at}])).end, None);
    assert_eq!(job(&json!([{"type": "Complete", "status": "False", "lastTransitionTime": at}])).end, None);
    let complete = job(&json!([{"type": "Complete", "status": "True", "lastTransitionTime": at}])).end.unwrap();
    assert_eq!((complete.at, complete.failure), (at.parse().unwrap(), None));
    let failed = job(
        &json!([{"type": "Failed", "status": "True", "lastTransitionTime": at, "reason": "PodFailurePolicy", "message": "m"}]),
    );
    assert_eq!(failed.end.unwrap().failure.unwrap().reason.as_ref(), "PodFailurePolicy");
    assert!(failed.suspended && failed.active == 1);
}

#[test]
fn what_a_job_asks_its_queue_for_is_read_from_its_label() {
    let request = |labels: serde_json::Value| {
        let job = json!({"metadata": {"name": "x", "uid": "u", "labels": labels}});
        serde_json::from_value::<WatchedJob>(job).unwrap().facts().request
    };
    assert_eq!(request(json!({"sera.dev/request": "3f2c"})).as_deref(), Some("3f2c"));
    assert_eq!(request(json!({"sera.dev/stage": "Training"})), None);
}

#[test]
fn a_deployment_is_complete_when_every_pod_is_new_answers_and_is_wanted() {
    let facts = |spec: u32, status: serde_json::Value| {
        let mut metadata = metadata();
        metadata["generation"] = json!(4);
        metadata["labels"] = json!({"sera.dev/student": "served", "sera.dev/generation": "9"});
        let deployment = json!({"metadata": metadata, "spec": {"replicas": spec}, "status": status});
        serde_json::from_value::<WatchedServer>(deployment).unwrap().facts()
    };
    let status = |of_generation: u32, all: u32, updated: u32, available: u32| {
        json!({
            "observedGeneration": of_generation, "replicas": all, "updatedReplicas": updated,
            "readyReplicas": available, "availableReplicas": available,
        })
    };
    let whole = facts(2, status(4, 2, 2, 2));
    assert_eq!((whole.complete, whole.ready, whole.role, whole.generation), (true, 2, ServerRole::Student, Some(9)));
    for (wanted, unfinished) in [
        (2, status(3, 2, 2, 2)),
        (2, status(4, 3, 2, 3)),
        (2, status(4, 2, 1, 2)),
        (2, status(4, 2, 2, 1)),
        (1, status(4, 2, 2, 2)),
        (1, json!({})),
    ] {
        assert!(!facts(wanted, unfinished.clone()).complete, "{wanted} of {unfinished}");
    }
    let gone = facts(0, json!({"observedGeneration": 4}));
    assert_eq!((gone.complete, gone.ready), (true, 0), "none is wanted, and none is there");
}

#[test]
fn a_deployment_says_why_it_gets_no_further() {
    let trouble = |conditions: serde_json::Value| {
        let deployment = json!({"metadata": metadata(), "status": {"conditions": conditions}});
        let facts = serde_json::from_value::<WatchedServer>(deployment).unwrap().facts();
        assert_eq!(facts.role, ServerRole::Teacher, "nothing says that it is a student");
        facts.trouble.map(|trouble| trouble.reason.to_string())
    };
    let late = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"});
    let quota = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"});
    let well = json!({"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": ""});
    assert_eq!(
        trouble(json!([late, quota])).as_deref(),
        Some("FailedCreate"),
        "the cause, rather than its consequence"
    );
    assert_eq!(trouble(json!([late])).as_deref(), Some("ProgressDeadlineExceeded"));
    assert_eq!(trouble(json!([well])), None);
}

#[test]
fn a_server_that_crashes_is_told_of_in_its_own_last_words() {
    let holdup = |state: serde_json::Value, last: serde_json::Value| {
        let container = json!({"name": "sera", "imageID": "x", "state": state, "lastState": last});
        let pod = json!({"metadata": metadata(), "status": {"phase": "Running", "containerStatuses": [container]}});
        let trouble = serde_json::from_value::<WatchedPod>(pod).unwrap().holdup();
        trouble.map(|trouble| (trouble.reason.to_string(), trouble.message.to_string()))
    };
    let backing_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}});
    let ended =
        json!({"terminated": {"exitCode": 10, "reason": "Error", "message": "model/config.json: no such file\n"}});
    let said = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
    assert_eq!(holdup(backing_off.clone(), ended), said("CrashLoopBackOff", "model/config.json: no such file"));
    assert_eq!(holdup(backing_off.clone(), json!({})), said("CrashLoopBackOff", "back-off 40s restarting"));
    assert_eq!(holdup(json!({"running": {}}), json!({})), None, "it is still being loaded");
    let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "loading shard 7\n"}});
    let advice = "the server was killed at its memory limit: raise spec.pods.teacher.resources.limits.memory";
    assert_eq!(holdup(backing_off, killed), said("OutOfMemory", advice));
}

#[test]
fn a_model_beside_the_program_that_crashes_is_told_of_in_its_own_last_words() {
    let trouble = |reason: &str, words: &str| {
        let last = json!({"terminated": {"exitCode": 1, "reason": reason, "message": words}});
        let model = json!({"name": "student", "imageID": "x", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": last});
        let program = json!({"name": "sera", "imageID": "x", "state": {"waiting": {"reason": "PodInitializing"}}});
        let status = json!({"phase": "Pending", "containerStatuses": [program], "initContainerStatuses": [model]});
        let mut metadata = metadata();
        metadata["ownerReferences"] =
            json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]);
        let pod: WatchedPod = serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap();
        let trouble = pod.facts().unwrap().trouble.unwrap();
        (trouble.reason.to_string(), trouble.message.to_string())
    };
    let (reason, message) = trouble("Error", "no such tokenizer\n");
    assert_eq!((reason.as_str(), message.as_str()), ("CrashLoopBackOff", "container student ended: no such tokenizer"));
    let (reason, message) = trouble("OOMKilled", "");
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("OutOfMemory", "container student was killed at its memory limit")
    );
}
