//! Whatever a user says about pods arrives.

use super::*;

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
