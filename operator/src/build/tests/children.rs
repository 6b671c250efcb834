//! Whose children are, by what names they are found, and how Jobs fail.

use super::*;

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
    let mut labels = json!({
        "app.kubernetes.io/name": "sera", "app.kubernetes.io/managed-by": "sera-operator", "sera.dev/kind": "SpecializationRun",
        "sera.dev/owner": "billing", "sera.dev/owner-uid": "3f2c9a10-0000", "sera.dev/stage": "Snapshot", "sera.dev/attempt": "3",
    });
    assert_eq!(metadata["labels"], labels);
    labels["sidecar.istio.io/inject"] = json!("false");
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels, "or the pods would be missing from the watch");
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
fn the_rehearsal_teacher_is_found_by_the_name_that_drivers_are_told() {
    let blueprint = blueprint("s3://acme/sera", PodSettings::default());
    let rehearsal = blueprint.teacher.as_ref().unwrap();
    let service = serde_json::to_value(teacher_service(&owner(), rehearsal)).unwrap();
    assert_eq!(teacher_url(&owner()), "http://billing-3f2c9-teacher.ml.svc:8000/v1");
    assert_eq!(
        (&service["metadata"]["name"], &service["spec"]["clusterIP"]),
        (&json!("billing-3f2c9-teacher"), &json!("None"))
    );
    assert_eq!(service["spec"]["ports"][0]["port"], json!(8000));
    let deployment = written(teacher(&owner(), EDITION, rehearsal, &blueprint, &images()));
    assert_eq!(service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]);
    let labels = deployment["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
    for (key, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(labels[key], *value);
    }
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"][0]["args"],
        json!(["rehearse", "--listen=0.0.0.0:8000", "--seed=7", "--shares=full=0.6,partial=0.3,miss=0.1"])
    );
    assert_eq!(deployment["metadata"]["ownerReferences"], service["metadata"]["ownerReferences"]);
}

#[test]
fn a_student_is_served_from_the_store_by_the_name_of_its_run_and_as_its_owner_says() {
    let blueprint = blueprint("pvc://data/sera", PodSettings::default());
    let parts = blueprint.serving.clone().unwrap();
    let deployment = serde_json::to_value(student(&owner(), EDITION, &parts, &blueprint, &images())).unwrap();
    let container = &pod(&deployment)["containers"][0];
    assert_eq!(
        container["args"],
        json!([
            "serve",
            "--model=/mnt/model/sera/ml/billing/3f2c9a10-0000/model",
            "--served-model-name=billing",
            "--listen=0.0.0.0:8000",
            "--log-format=json",
            "--max-batch=4",
        ])
    );
    let mount = json!({"name": "model", "mountPath": "/mnt/model", "readOnly": true});
    assert!(container["volumeMounts"].as_array().unwrap().contains(&mount), "{container}");
    assert_eq!(
        (&container["image"], &deployment["spec"]["replicas"]),
        (&json!("registry.example/teacher:1"), &json!(3))
    );
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/health");
    assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError", "its last words say why it broke");
    assert_eq!(deployment["metadata"]["labels"]["sera.dev/generation"], "7");
    assert_eq!(deployment["metadata"]["labels"]["sera.dev/run-generation"], "3");
    assert!(
        deployment["spec"]["template"]["metadata"]["labels"].get("sera.dev/generation").is_none(),
        "an edit of something else restarts no server"
    );
    let other = ServedModel { image: Some("engine.example/own:2".parse().unwrap()), ..parts };
    let other = serde_json::to_value(student(&owner(), EDITION, &other, &blueprint, &images())).unwrap();
    assert_eq!(pod(&other)["containers"][0]["image"], "engine.example/own:2");
}

#[test]
fn clients_find_the_student_by_one_address() {
    let service = serde_json::to_value(student_service(&owner())).unwrap();
    assert_eq!(student_url(&owner()), "http://billing-3f2c9-student.ml.svc:8000/v1");
    assert_eq!(service["metadata"]["name"], "billing-3f2c9-student");
    assert!(service["spec"].get("clusterIP").is_none(), "any copy answers, and nobody has to choose");
    let rehearsal = blueprint("s3://acme/sera", PodSettings::default()).teacher.unwrap();
    let of_teacher = serde_json::to_value(teacher_service(&owner(), &rehearsal)).unwrap();
    assert_ne!(service["spec"]["selector"], of_teacher["spec"]["selector"], "a teacher's pods are none of a student's");
}

#[test]
fn every_driver_is_found_by_its_pods_name_below_the_service() {
    let service = serde_json::to_value(service_of(&owner(), Stage::Rollouts).unwrap()).unwrap();
    let job = built_of(Stage::Rollouts, &blueprint("s3://acme/sera", PodSettings::default()));
    assert_eq!(service["metadata"]["name"], pod(&job)["subdomain"]);
    assert_eq!(owner().driver_host("billing-3f2c9-r3", 2), "billing-3f2c9-r3-2.billing-3f2c9-drivers.ml.svc");
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    for (key, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(labels[key], *value);
    }
    assert!(pod(&built("s3://acme/sera", PodSettings::default())).get("subdomain").is_none());
}

#[test]
fn a_batch_of_a_run_says_which_samples_and_whose() {
    let made = serde_json::to_value(batch(&owner(), 3, SampleRange { from: 16, count: 8 }).unwrap()).unwrap();
    assert_eq!(made["metadata"]["name"], "billing-3");
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "3f2c9a10-0000");
    assert_eq!(made["spec"]["runRef"], json!({"name": "billing"}));
    assert_eq!(made["spec"]["samples"], json!({"from": 16, "count": 8}));
    assert!(made["spec"].get("teacher").is_none() && made["spec"].get("generation").is_none());
}

#[test]
fn the_defaults_cannot_be_changed_once_they_are_fixed() {
    let config_map = defaults_config_map(&owner(), "store: s3://acme/sera\n".into());
    assert_eq!(config_map.immutable, Some(true));
    assert_eq!(config_map.metadata.name.as_deref(), Some("billing-3f2c9-defaults"));
    assert_eq!(config_map.data.unwrap()[DEFAULTS_KEY], "store: s3://acme/sera\n");
}
