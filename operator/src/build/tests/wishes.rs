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
    assert_eq!(
        job["spec"]["template"]["metadata"]["annotations"],
        json!({"note": "mine", "linkerd.io/inject": "disabled"})
    );
    assert_eq!(pod["containers"][0]["resources"], said["resources"]);
    assert!(
        pod["volumes"]
            .as_array()
            .unwrap()
            .contains(&json!({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}))
    );
}

#[test]
fn meshes_leave_alone_what_is_to_end_and_the_teacher_that_it_asks_unless_their_owner_wants_them_to() {
    let metadata = |stage, said: &Value| {
        let blueprint = blueprint("s3://acme/sera", settings(said.clone()));
        let template = match stage {
            None => written(teacher(&owner(), EDITION, blueprint.teacher.as_ref().unwrap(), &blueprint, &images())),
            Some(Stage::Serving) => {
                let student = student(&owner(), EDITION, blueprint.serving.as_ref().unwrap(), &blueprint, &images());
                serde_json::to_value(student).unwrap()
            }
            Some(stage) => built_of(stage, &blueprint),
        };
        template["spec"]["template"]["metadata"].clone()
    };
    let of_istio = |metadata: &Value| metadata["labels"].get("sidecar.istio.io/inject").cloned();
    let of_linkerd = |metadata: &Value| metadata["annotations"].get("linkerd.io/inject").cloned();
    let by_label = json!({
        "labels": {"sidecar.istio.io/inject": "true"}, "annotations": {"linkerd.io/inject": "enabled", "note": "mine"},
    });
    let by_annotation = json!({"annotations": {"sidecar.istio.io/inject": "true"}});
    for stage in WITH_JOBS.into_iter().map(Some).chain([None]) {
        let unsaid = metadata(stage, &json!({}));
        assert_eq!(
            (of_istio(&unsaid), of_linkerd(&unsaid)),
            (Some(json!("false")), Some(json!("disabled"))),
            "{stage:?}"
        );
        let said = metadata(stage, &by_label);
        assert_eq!((of_istio(&said), of_linkerd(&said)), (Some(json!("true")), Some(json!("enabled"))), "{stage:?}");
        assert_eq!(of_istio(&metadata(stage, &by_annotation)), None, "Istio would not read the annotation, {stage:?}");
    }
    let served = metadata(Some(Stage::Serving), &json!({}));
    assert_eq!((of_istio(&served), served.get("annotations")), (None, None), "the student's clients may be in a mesh");
}

#[test]
fn a_queued_job_is_born_suspended_and_carries_the_queues_label_and_what_it_asks_for() {
    let plain = built("s3://acme/sera", PodSettings::default());
    assert_eq!(plain["spec"]["suspend"], json!(false));
    let labels = plain["metadata"]["labels"].as_object().unwrap();
    assert!(!labels.contains_key("kueue.x-k8s.io/queue-name") && !labels.contains_key("sera.dev/request"));
    let blueprint = blueprint("s3://acme/sera", settings(json!({"queueName": "gpu"})));
    let queued = built_of(Stage::Snapshot, &blueprint);
    assert_eq!(queued["spec"]["suspend"], json!(true));
    assert_eq!(queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "gpu");
    assert_eq!(queued["metadata"]["labels"]["sera.dev/request"], *requests(&blueprint)[&Stage::Snapshot]);
}

#[test]
fn a_limit_that_is_said_of_programs_and_sandboxes_is_one_of_every_container_of_their_pods() {
    let own = json!({"limits": {"cpu": "2", "memory": "3Gi", "ephemeral-storage": "5Gi", "example.com/nic": "1"}, "requests": {"cpu": "7m"}});
    let of_slots = json!({"limits": {"cpu": "5m", "memory": "1Gi", "ephemeral-storage": "4Gi"}});
    let said = settings(json!({"resources": own}));
    let mut blueprint = blueprint("s3://acme/sera", said.clone());
    let slots: sera_crds::common::Resources = serde_json::from_value(of_slots).unwrap();
    blueprint.samples.as_mut().unwrap().slot_resources = Some(slots.clone());
    blueprint.evaluation.as_mut().unwrap().rollouts.slot_resources = Some(slots);
    let mut pods: Vec<Value> = WITH_JOBS.into_iter().map(|stage| pod(&built_of(stage, &blueprint)).clone()).collect();
    pods.extend(pods_of_engines(&said).into_iter().map(|(_, pod)| pod));
    let mut names = Vec::new();
    for container in pods.iter().flat_map(containers) {
        let (name, resources) = (container["name"].as_str().unwrap(), &container["resources"]);
        for resource in ["cpu", "memory", "ephemeral-storage"] {
            assert!(resources["limits"][resource].is_string(), "{resource} of {name}: {resources}");
        }
        let is_helper = ["install", "copy", "fetch", "student-fetch"].contains(&name);
        assert!(!is_helper || resources["limits"].get("example.com/nic").is_none(), "{name}: {resources}");
        let asked = &resources["requests"]["cpu"];
        match name {
            "install" | "copy" => assert!(asked.is_null(), "more than the limit is asked for: {resources}"),
            "fetch" | "student-fetch" => assert_eq!(asked, "7m"),
            _ => {}
        }
        names.push(name);
    }
    for name in ["install", "copy", "slot-1", "sera", "student", "student-fetch", "fetch"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
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
    // Where AWS and Azure, AWS' containers and pods, and Google tell who a pod is.
    for host in ["169.254.169.254", "169.254.170.2", "169.254.170.23", "metadata.google.internal"] {
        assert!(without.split(',').any(|without| without == host), "{host} is asked through the proxy: {without}");
    }
    assert!(!variables.iter().any(|variable| variable["name"] == "HTTP_PROXY"), "none was given");
    assert!(variables.contains(&json!({"name": "SERA_CA_CERTIFICATES", "value": "/etc/sera/ca/ca.crt"})));
}

/// The pods of teachers that engines serve: of a model in a bucket, and of a leader and a worker over nodes.
fn pods_of_engines(pods: &PodSettings) -> Vec<(Stage, Value)> {
    let blueprint = blueprint("s3://acme/sera", pods.clone());
    let model = contender("GLM", Some("s3://models/GLM"), Some("models-secret"));
    let deployed = |model| written(teacher(&owner(), EDITION, &HostedTeacher::Model(model), &blueprint, &images()));
    let groups = deployed(ServedModel { nodes: 2, ..model.clone() });
    let parts = ["leaderTemplate", "workerTemplate"];
    let parts = parts.map(|part| groups["spec"]["leaderWorkerTemplate"][part]["spec"].clone());
    parts.into_iter().chain([pod(&deployed(model)).clone()]).map(|pod| (Stage::Serving, pod)).collect()
}

#[test]
fn what_is_said_for_all_pods_reaches_each_of_them_and_of_proxy_and_authorities_no_sandbox_hears() {
    let said = json!({
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "low",
        "runtimeClassName": "gvisor",
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccountName": "reader",
        "proxy": {"http": "http://proxy.acme:3128", "https": "http://proxy.acme:3129"},
        "caSecretRef": {"name": "acme-ca"},
    });
    let heard =
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SERA_CA_CERTIFICATES"];
    let settings = settings(said.clone());
    let pods: Vec<(Stage, Value)> = every_pod_of(&settings).into_iter().chain(pods_of_engines(&settings)).collect();
    let mut sandboxed = 0;
    for (stage, pod) in &pods {
        for (field, said) in
            said.as_object().unwrap().iter().filter(|(field, _)| !["proxy", "caSecretRef"].contains(&&***field))
        {
            assert_eq!(pod[field], *said, "{field} of {stage}");
        }
        for container in containers(pod) {
            let name = container["name"].as_str().unwrap();
            let is_sandbox = ["install", "copy", "slot-"].iter().any(|of| name.starts_with(of));
            sandboxed += usize::from(is_sandbox);
            let variables = container["env"].as_array().map(Vec::as_slice).unwrap_or_default();
            let knows = |variable: &str| variables.iter().any(|known| known["name"] == variable);
            let volumes = pod["volumes"].as_array().unwrap();
            let authorities: Vec<&Value> =
                volumes.iter().filter(|volume| volume["secret"]["secretName"] == "acme-ca").collect();
            let mounts = container["volumeMounts"].as_array().unwrap();
            let sees = mounts.iter().any(|mount| {
                mount["mountPath"] == "/etc/sera/ca" && authorities.iter().any(|volume| volume["name"] == mount["name"])
            });
            for variable in heard {
                assert_eq!(knows(variable), !is_sandbox, "{variable} in {name} of {stage}");
            }
            assert_eq!(sees, !is_sandbox, "the authorities in {name} of {stage}: {mounts:?}");
        }
    }
    let names: Vec<&str> =
        pods.iter().flat_map(|(_, pod)| containers(pod)).map(|container| container["name"].as_str().unwrap()).collect();
    for name in ["student", "base", "student-fetch", "fetch"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert!(sandboxed > 4, "no sandbox was looked at: {names:?}");
}
