//! The gang that trains: told alike, found by name, with the devices it needs, and ended by the first pod that fails.

use sera_crds::contract::TrainingPlan;

use super::*;

/// A gang whose pods are of `pods`, each with so many GPUs.
fn gang(pods: Value, gpus: u32) -> Value {
    let mut blueprint = blueprint("pvc://data/sera", settings(pods));
    if let Some(training) = &mut blueprint.training {
        (training.gpus_per_node, training.ranks_per_node) = (gpus, gpus.max(2));
    }
    built_of(Stage::Training, &blueprint)
}

fn resources(job: &Value) -> &Value {
    &pod(job)["containers"][0]["resources"]
}

#[test]
fn a_trainer_is_told_its_gang_and_its_plan() {
    let job = gang(json!({}), 8);
    assert_eq!(job["metadata"]["name"], "billing-3f2c9-t3");
    assert_eq!(
        arguments(&job),
        [
            "launch",
            "--nproc-per-node=8",
            "--nnodes=2",
            "--master-addr=billing-3f2c9-t3-0.billing-3f2c9-ranks",
            "--master-port=29500",
            "--",
            "train",
            "--device=cuda",
            "--student=/mnt/student/q/Qwen3-8B",
            "--out=file:///mnt/store/sera/ml/billing/3f2c9a10-0000",
            "--store-credentials=/etc/sera/store",
            "--scratch=/tmp/work",
            "--cache=/tmp/work",
            "--attempt=3",
            "--listen=0.0.0.0:8080",
            "--termination-message=/dev/termination-log",
        ]
    );
    let variables = pod(&job)["containers"][0]["env"].as_array().unwrap();
    let named: Vec<&str> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(named, ["SERA_TRAINING", "SERA_RENDEZVOUS_ID", "SERA_START_DEADLINE"]);
    assert_eq!((&variables[1]["value"], &variables[2]["value"]), (&json!("billing-3f2c9-t3"), &json!("9m")));
    let plan: TrainingPlan = serde_json::from_str(variables[0]["value"].as_str().unwrap()).unwrap();
    assert_eq!(plan, TrainingPlan { epochs: 7, context_length: 4_096, ..TrainingPlan::default() });
    assert_eq!(pod(&job)["containers"][0]["image"], "registry.example/trainer:1");
}

#[test]
fn a_trainer_whose_plan_was_unlocked_is_told_since_which_attempt_it_is_what_it_is() {
    let mut blueprint = blueprint("pvc://data/sera", PodSettings::default());
    blueprint.training.as_mut().unwrap().since_attempt = Some(2);
    let job = built_of(Stage::Training, &blueprint);
    let arguments = arguments(&job);
    let at = arguments.iter().position(|argument| *argument == "--attempt=3").unwrap();
    assert_eq!(arguments[at + 1], "--since-attempt=2");
}

#[test]
fn a_student_that_is_built_in_needs_no_claim() {
    let mut blueprint = blueprint("pvc://data/sera", PodSettings::default());
    let training = blueprint.training.as_mut().unwrap();
    (training.student, training.gpus_per_node) = ("builtin://tiny".parse().unwrap(), 0);
    let job = built_of(Stage::Training, &blueprint);
    assert!(arguments(&job).contains(&"--device=cpu"));
    assert!(arguments(&job).contains(&"--student=builtin://tiny"));
    assert!(arguments(&job).contains(&"--out=file:///mnt/store/sera/ml/billing/3f2c9a10-0000"));
    let mounts = pod(&job)["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.contains(&json!({"name": "store", "mountPath": "/mnt/store"})), "it writes its checkpoints there");
    assert!(mounts.iter().all(|mount| mount["name"] != "student"));
}

/// A blueprint whose store and student are in buckets, each with a Secret of its own.
fn in_buckets() -> Blueprint {
    let mut blueprint = blueprint("s3://acme/sera", PodSettings::default());
    let (uri, secret) = ("gs://models/Qwen3-8B", Some("models-secret".to_owned()));
    if let (Some(training), Some(counting)) = (&mut blueprint.training, &mut blueprint.counting) {
        (training.student, training.student_credentials) = (uri.parse().unwrap(), secret.clone());
        (counting.student, counting.student_credentials) = (Some(uri.parse().unwrap()), secret);
    }
    blueprint
}

#[test]
fn a_store_and_a_student_in_buckets_are_named_with_a_secret_each_and_need_no_claim() {
    let job = built_of(Stage::Training, &in_buckets());
    for argument in [
        "--student=gs://models/Qwen3-8B",
        "--student-credentials=/etc/sera/student",
        "--out=s3://acme/sera/ml/billing/3f2c9a10-0000",
        "--store-credentials=/etc/sera/store",
        "--scratch=/tmp/work",
    ] {
        assert!(arguments(&job).contains(&argument), "{argument} is not among {:?}", arguments(&job));
    }
    let volumes = pod(&job)["volumes"].as_array().unwrap();
    let secrets: Vec<(&str, &str)> = volumes
        .iter()
        .filter_map(|volume| Some((volume["name"].as_str()?, volume["secret"]["secretName"].as_str()?)))
        .collect();
    assert_eq!(secrets, [("store-credentials", "s3-secret"), ("student-credentials", "models-secret")]);
    assert!(volumes.contains(&json!({"name": "scratch", "emptyDir": {}})), "what is fetched goes there");
    assert!(volumes.iter().all(|volume| volume.get("persistentVolumeClaim").is_none()), "{volumes:?}");
}

#[test]
fn a_student_in_a_bucket_is_read_as_who_the_pod_is_where_no_secret_is_named() {
    let mut blueprint = in_buckets();
    blueprint.training.as_mut().unwrap().student_credentials = None;
    let job = built_of(Stage::Training, &blueprint);
    assert!(arguments(&job).iter().all(|argument| !argument.starts_with("--student-credentials")));
    for stage in [Stage::Verification, Stage::Generation, Stage::Dataset] {
        let job = built_of(stage, &blueprint);
        assert!(arguments(&job).contains(&"--student-credentials=/etc/sera/student"), "{stage} counts its tokens");
    }
}

#[test]
fn a_students_claim_is_not_written_to() {
    let job = gang(json!({}), 1);
    let mounts = pod(&job)["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.contains(&json!({"name": "student", "mountPath": "/mnt/student", "readOnly": true})), "{mounts:?}");
}

#[test]
fn a_pod_a_node_starts_and_the_first_that_fails_ends_all_with_a_word_on_whose_doing_it_was() {
    let job = gang(json!({}), 1);
    let spec = &job["spec"];
    assert_eq!(
        (&spec["completionMode"], &spec["completions"], &spec["parallelism"]),
        (&json!("Indexed"), &json!(2), &json!(2))
    );
    assert_eq!((&spec["backoffLimit"], spec.get("backoffLimitPerIndex")), (&json!(0), None));
    let rules = spec["podFailurePolicy"]["rules"].as_array().unwrap();
    assert!(
        rules.iter().all(|rule| rule["action"] == "FailJob"),
        "an ignored pod would come back to a gang that is gone"
    );
    assert_eq!(rules[0]["onPodConditions"], json!([{"type": "DisruptionTarget", "status": "True"}]));
    assert_eq!(rules[1]["onExitCodes"]["values"], json!([143]));
    assert!(spec.get("activeDeadlineSeconds").is_none(), "a training may take days");
    assert!(pod(&job)["terminationGracePeriodSeconds"].as_i64().unwrap() >= 600, "a checkpoint takes its time");
}

#[test]
fn ranks_are_found_by_name_before_any_of_them_is_ready() {
    let service = serde_json::to_value(service_of(&owner(), Stage::Training).unwrap()).unwrap();
    let job = gang(json!({}), 1);
    assert_eq!(service["metadata"]["name"], pod(&job)["subdomain"]);
    assert_eq!(owner().rank_host("billing-3f2c9-t3", 0), "billing-3f2c9-t3-0.billing-3f2c9-ranks.ml.svc");
    assert_eq!(
        (&service["spec"]["clusterIP"], &service["spec"]["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    for (key, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(labels[key], *value);
    }
    assert_ne!(
        service["spec"]["selector"],
        serde_json::to_value(service_of(&owner(), Stage::Rollouts)).unwrap()["spec"]["selector"]
    );
}

#[test]
fn a_pod_has_a_gpu_for_each_rank_unless_its_owner_names_devices() {
    assert_eq!(resources(&gang(json!({}), 8))["limits"]["nvidia.com/gpu"], "8");
    assert!(resources(&gang(json!({}), 0))["limits"].get("nvidia.com/gpu").is_none());
    let roomy = json!({"resources": {"limits": {"memory": "1Ti"}, "requests": {"cpu": "90"}}});
    assert_eq!(
        *resources(&gang(roomy, 4)),
        json!({"limits": {"memory": "1Ti", "nvidia.com/gpu": "4"}, "requests": {"cpu": "90"}})
    );
    let others = json!({"resources": {"limits": {"memory": "1Ti", "amd.com/gpu": "4"}}});
    assert_eq!(*resources(&gang(others.clone(), 4)), others["resources"]);
}

#[test]
fn shared_memory_is_as_large_as_is_said_and_where_ranks_share_gpus_there_is_some() {
    let shared = |job: &Value| {
        let volumes = pod(job)["volumes"].as_array().unwrap();
        volumes.iter().find(|volume| volume["name"] == "shm").map(|volume| volume["emptyDir"].clone())
    };
    let memory = |size: &str| Some(json!({"medium": "Memory", "sizeLimit": size}));
    assert_eq!(shared(&gang(json!({"shmSize": "64Gi"}), 8)), memory("64Gi"));
    assert_eq!(shared(&gang(json!({}), 2)), memory("16Gi"));
    assert_eq!(shared(&gang(json!({}), 1)), None, "the runtime's own is enough");
}

#[test]
fn a_queued_gang_is_admitted_as_a_whole() {
    let job = gang(json!({"queueName": "gpu"}), 1);
    assert_eq!(
        (&job["spec"]["suspend"], &job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]),
        (&json!(true), &json!("gpu"))
    );
    assert_eq!(job["metadata"]["labels"]["sera.dev/request"].as_str().unwrap().len(), 32);
}
