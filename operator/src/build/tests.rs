//! Facts about the objects that are built: what Kubernetes' restricted Pod Security level asks for, that no secret leaves its Secret, and that
//! whatever a user says about pods arrives.

use sera_crds::{
    run::{Commits, PodSettings},
    values::StoreUri,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    facts::Uid,
    names::{Kind, Owner, PROGRAM_CONTAINER},
};

fn owner() -> Owner {
    Owner { kind: Kind::Run, namespace: "ml".into(), name: "billing".into(), uid: Uid::from("3f2c9a10-0000") }
}

fn settings(json: Value) -> PodSettings {
    serde_json::from_value(json).unwrap()
}

fn built(store: &str, pods: PodSettings) -> Value {
    let (owner, store) = (owner(), store.parse::<StoreUri>().unwrap());
    let job = snapshot_job(&SnapshotJob {
        owner: &owner,
        attempt: 3,
        image: "registry.example/rollout:1",
        url: "https://git.example/a.git",
        revision: "main",
        commits: Commits { count: 4, lookback_days: 30 },
        git_credentials: Some(SecretField { name: "git-secret", field: "spec.source.git.credentialsSecretRef" }),
        store: &store,
        store_credentials: Some(SecretField { name: "s3-secret", field: "spec.output.credentialsSecretRef" }),
        pods,
    });
    serde_json::to_value(job).unwrap()
}

fn pod(job: &Value) -> &Value {
    &job["spec"]["template"]["spec"]
}

fn arguments(job: &Value) -> Vec<&str> {
    pod(job)["containers"][0]["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect()
}

#[test]
fn a_pod_satisfies_the_restricted_level_and_holds_no_token() {
    let job = built("s3://acme/sera", PodSettings::default());
    let pod = pod(&job);
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], json!(true));
    assert_eq!(pod["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}));
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], json!(false));
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(security["readOnlyRootFilesystem"], json!(true));
        assert!(security.get("privileged").is_none());
    }
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod.get(host).is_none());
    }
    let allowed = ["name", "secret", "emptyDir", "persistentVolumeClaim"];
    for volume in pod["volumes"].as_array().unwrap() {
        assert!(volume.as_object().unwrap().keys().all(|key| allowed.contains(&key.as_str())), "{volume}");
    }
}

#[test]
fn secrets_are_files_of_optional_volumes_and_never_arguments_or_variables() {
    let job = built("s3://acme/sera", PodSettings::default());
    let secrets: Vec<_> =
        pod(&job)["volumes"].as_array().unwrap().iter().filter_map(|volume| volume.get("secret")).collect();
    assert_eq!(secrets.len(), 2);
    for secret in secrets {
        assert_eq!((&secret["optional"], &secret["defaultMode"]), (&json!(true), &json!(0o440)));
    }
    let container = &pod(&job)["containers"][0];
    assert_eq!(container["env"], json!([]));
    assert!(container.get("envFrom").is_none());
    for name in ["git-secret", "s3-secret"] {
        assert!(!arguments(&job).iter().any(|argument| argument.contains(name)));
    }
}

#[test]
fn the_program_is_told_what_to_take_and_which_fields_to_name() {
    let job = built("s3://acme/sera", PodSettings::default());
    assert_eq!(
        arguments(&job),
        [
            "snapshot",
            "--url=https://git.example/a.git",
            "--revision=main",
            "--commits=4",
            "--lookback-days=30",
            "--store=s3://acme/sera/ml/billing/3f2c9a10-0000",
            "--scratch=/tmp/work",
            "--termination-message=/dev/termination-log",
            "--git-credentials=/etc/sera/git",
            "--git-credentials-field=spec.source.git.credentialsSecretRef",
            "--store-credentials=/etc/sera/store",
            "--store-credentials-field=spec.output.credentialsSecretRef",
        ]
    );
}

#[test]
fn a_claim_is_mounted_whole_and_becomes_a_folder() {
    for (store, folder) in [
        ("pvc://data/sera/runs", "--store=file:///mnt/store/sera/runs/ml/billing/3f2c9a10-0000"),
        ("pvc://data", "--store=file:///mnt/store/ml/billing/3f2c9a10-0000"),
    ] {
        let job = built(store, PodSettings::default());
        assert!(arguments(&job).contains(&folder), "{:?}", arguments(&job));
        let volumes = pod(&job)["volumes"].as_array().unwrap();
        assert!(
            volumes.contains(&json!({"name": "store", "persistentVolumeClaim": {"claimName": "data"}})),
            "{volumes:?}"
        );
        let mounts = pod(&job)["containers"][0]["volumeMounts"].as_array().unwrap();
        assert!(mounts.contains(&json!({"name": "store", "mountPath": "/mnt/store"})), "{mounts:?}");
    }
}

#[test]
fn a_job_fails_at_once_where_another_try_would_end_the_same_and_disruptions_do_not_count() {
    let job = built("s3://acme/sera", PodSettings::default());
    let spec = &job["spec"];
    assert_eq!((&spec["completionMode"], &spec["completions"]), (&json!("Indexed"), &json!(1)));
    let rules = spec["podFailurePolicy"]["rules"].as_array().unwrap();
    assert_eq!(rules[0]["action"], "Ignore");
    assert_eq!(rules[0]["onPodConditions"], json!([{"type": "DisruptionTarget", "status": "True"}]));
    let codes = json!({"containerName": PROGRAM_CONTAINER, "operator": "In", "values": [2, 10, 12]});
    assert_eq!((&rules[1]["action"], &rules[1]["onExitCodes"]), (&json!("FailJob"), &codes));
    assert!(spec["ttlSecondsAfterFinished"].is_null(), "the operator decides when a Job goes");
    assert_eq!(pod(&job)["containers"][0]["name"], PROGRAM_CONTAINER);
}

#[test]
fn a_child_is_controlled_by_its_owner_and_labelled_with_it() {
    let job = built("s3://acme/sera", PodSettings::default());
    let metadata = &job["metadata"];
    assert_eq!(metadata["name"], "billing-3f2c9-s3");
    let reference = json!([{
        "apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun", "name": "billing", "uid": "3f2c9a10-0000",
        "controller": true, "blockOwnerDeletion": true,
    }]);
    assert_eq!(metadata["ownerReferences"], reference);
    let labels = json!({
        "app.kubernetes.io/name": "sera", "app.kubernetes.io/managed-by": "sera-operator", "sera.dev/kind": "SpecializationRun",
        "sera.dev/owner": "billing", "sera.dev/owner-uid": "3f2c9a10-0000", "sera.dev/stage": "Snapshot", "sera.dev/attempt": "3",
    });
    assert_eq!(metadata["labels"], labels);
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels, "or the pods would be missing from the watch");
}

#[test]
fn what_a_user_says_about_pods_arrives_and_cannot_take_our_labels_over() {
    let said = json!({
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "low",
        "runtimeClassName": "gvisor",
        "imagePullSecrets": [{"name": "pull"}],
        "labels": {"team": "ml", "app.kubernetes.io/managed-by": "helm"},
        "annotations": {"note": "mine"},
        "serviceAccountName": "reader",
        "resources": {"limits": {"memory": "1Gi"}},
        "shmSize": "64Mi",
    });
    let job = built("s3://acme/sera", settings(said.clone()));
    let pod = pod(&job);
    for field in [
        "nodeSelector",
        "tolerations",
        "affinity",
        "priorityClassName",
        "runtimeClassName",
        "imagePullSecrets",
        "serviceAccountName",
    ] {
        assert_eq!(pod[field], said[field], "{field}");
    }
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["app.kubernetes.io/managed-by"]), (&json!("ml"), &json!("sera-operator")));
    assert_eq!(job["spec"]["template"]["metadata"]["annotations"], said["annotations"]);
    assert_eq!(pod["containers"][0]["resources"], said["resources"]);
    assert!(
        pod["volumes"]
            .as_array()
            .unwrap()
            .contains(&json!({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}))
    );
}

#[test]
fn a_queued_job_is_born_suspended_and_carries_the_queues_label() {
    let plain = built("s3://acme/sera", PodSettings::default());
    assert_eq!(plain["spec"]["suspend"], json!(false));
    assert!(plain["metadata"]["labels"].get("kueue.x-k8s.io/queue-name").is_none());
    let queued = built("s3://acme/sera", settings(json!({"queueName": "gpu"})));
    assert_eq!(queued["spec"]["suspend"], json!(true));
    assert_eq!(queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "gpu");
}

#[test]
fn a_proxy_is_told_in_both_spellings_and_an_authority_as_a_file() {
    let said = json!({
        "proxy": {"https": "http://proxy.acme:3128", "noProxy": ["10.0.0.0/8"]},
        "caSecretRef": {"name": "acme-ca"},
    });
    let job = built("s3://acme/sera", settings(said));
    let variables = pod(&job)["containers"][0]["env"].as_array().unwrap();
    for name in ["HTTPS_PROXY", "https_proxy"] {
        assert!(variables.contains(&json!({"name": name, "value": "http://proxy.acme:3128"})), "{name}");
    }
    let without = variables.iter().find(|variable| variable["name"] == "NO_PROXY").unwrap()["value"].as_str().unwrap();
    assert!(without.contains(".svc") && without.ends_with("10.0.0.0/8"), "{without}");
    assert!(!variables.iter().any(|variable| variable["name"] == "HTTP_PROXY"), "none was given");
    assert!(variables.contains(&json!({"name": "SERA_CA_CERTIFICATES", "value": "/etc/sera/ca/ca.crt"})));
}

#[test]
fn the_defaults_cannot_be_changed_once_they_are_fixed() {
    let config_map = defaults_config_map(&owner(), "store: s3://acme/sera\n".into());
    assert_eq!(config_map.immutable, Some(true));
    assert_eq!(config_map.metadata.name.as_deref(), Some("billing-3f2c9-defaults"));
    assert_eq!(config_map.data.unwrap()[DEFAULTS_KEY], "store: s3://acme/sera\n");
}
