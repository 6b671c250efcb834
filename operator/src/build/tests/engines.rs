//! The engines that serve models: what each is told, and what its pods need.

use super::*;

/// A teacher of two copies over eight GPUs each, on a claim.
fn served(engine: ServingEngine) -> ServedModel {
    ServedModel {
        engine,
        image: None,
        at: Some("pvc://models/zai/GLM-4.5-Air".parse().unwrap()),
        credentials: None,
        name: "GLM-4.5-Air".into(),
        context: Some(131_072),
        tool_calls: ToolCallFormat::Hermes,
        replicas: 2,
        gpus: 8,
        nodes: 1,
        arguments: Vec::new(),
        variables: Vec::new(),
    }
}

fn deployed(model: ServedModel) -> Value {
    let blueprint = blueprint("s3://acme/sera", PodSettings::default());
    written(teacher(&owner(), EDITION, &HostedTeacher::Model(model), &blueprint, &images()))
}

fn container(deployment: &Value) -> &Value {
    &pod(deployment)["containers"][0]
}

#[test]
fn vllm_is_told_the_model_its_name_its_context_and_how_it_calls_tools() {
    let deployment = deployed(served(ServingEngine::Vllm));
    let container = container(&deployment);
    assert_eq!(
        (&container["image"], &container["command"]),
        (&json!("registry.example/vllm:1"), &json!(["vllm", "serve"]))
    );
    assert_eq!(
        container["args"],
        json!([
            "--model=/mnt/model/zai/GLM-4.5-Air",
            "--served-model-name=GLM-4.5-Air",
            "--host=0.0.0.0",
            "--port=8000",
            "--enable-prompt-tokens-details",
            "--tensor-parallel-size=8",
            "--max-model-len=131072",
            "--enable-auto-tool-choice",
            "--tool-call-parser=hermes",
        ])
    );
    let mount = json!({"name": "model", "mountPath": "/mnt/model", "readOnly": true});
    assert!(container["volumeMounts"].as_array().unwrap().contains(&mount), "{container}");
}

#[test]
fn a_small_model_in_a_bucket_is_fetched_with_its_secret() {
    let model = ServedModel {
        at: Some("s3://models/small".parse().unwrap()),
        credentials: Some("models-secret".into()),
        gpus: 0,
        ..served(ServingEngine::Builtin)
    };
    let deployment = deployed(model);
    let container = container(&deployment);
    assert_eq!(
        container["args"],
        json!([
            "serve",
            "--model=s3://models/small",
            "--served-model-name=GLM-4.5-Air",
            "--listen=0.0.0.0:8000",
            "--log-format=json",
            "--scratch=/tmp/work",
            "--store-credentials=/etc/sera/store",
        ])
    );
    let volumes = pod(&deployment)["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["secret"]["secretName"] == "models-secret"), "{volumes:?}");
    assert!(volumes.iter().all(|volume| volume.get("persistentVolumeClaim").is_none()), "{volumes:?}");
}

#[test]
fn a_model_in_a_bucket_is_fetched_for_an_engine_that_reads_folders_and_the_engine_holds_no_key() {
    for (engine, flag) in [(ServingEngine::Vllm, "--model"), (ServingEngine::Sglang, "--model-path")] {
        let model = ServedModel {
            at: Some("s3://models/GLM".parse().unwrap()),
            credentials: Some("models-secret".into()),
            ..served(engine)
        };
        let deployment = deployed(model);
        let fetch = &pod(&deployment)["initContainers"][0];
        assert_eq!((&fetch["name"], &fetch["image"]), (&json!("fetch"), &json!("registry.example/teacher:1")));
        let told = [
            "fetch",
            "--model=s3://models/GLM",
            "--to=/mnt/fetched",
            "--log-format=json",
            "--store-credentials=/etc/sera/store",
        ];
        assert_eq!(fetch["args"], json!(told));
        let engine = container(&deployment);
        let place = json!(format!("{flag}=/mnt/fetched/model"));
        assert!(engine["args"].as_array().unwrap().contains(&place), "{}", engine["args"]);
        let mount = |container: &Value, name: &str| {
            let mounts = container["volumeMounts"].as_array().unwrap();
            mounts.iter().find(|mount| mount["name"] == name).map(|mount| mount["readOnly"] == json!(true))
        };
        assert_eq!((mount(fetch, "fetched"), mount(engine, "fetched")), (Some(false), Some(true)));
        assert_eq!((mount(fetch, "store-credentials"), mount(engine, "store-credentials")), (Some(true), None));
        assert!(fetch.get("restartPolicy").is_none(), "it ends before the engine begins");
        assert_eq!(fetch["resources"]["limits"].get("nvidia.com/gpu"), None);
        let volumes = pod(&deployment)["volumes"].as_array().unwrap();
        let names: std::collections::BTreeSet<&str> =
            volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), volumes.len(), "{names:?}");
    }
}

#[test]
fn sglang_is_told_the_same_in_its_own_words() {
    let deployment = deployed(ServedModel { tool_calls: ToolCallFormat::Xml, ..served(ServingEngine::Sglang) });
    let container = container(&deployment);
    assert_eq!(
        (&container["image"], &container["command"]),
        (&json!("registry.example/sglang:1"), &json!(["python3", "-m", "sglang.launch_server"]))
    );
    assert_eq!(
        container["args"],
        json!([
            "--model-path=/mnt/model/zai/GLM-4.5-Air",
            "--served-model-name=GLM-4.5-Air",
            "--host=0.0.0.0",
            "--port=8000",
            "--enable-cache-report",
            "--enable-metrics",
            "--tp-size=8",
            "--context-length=131072",
            "--tool-call-parser=qwen3_coder",
        ])
    );
}

#[test]
fn what_the_owner_says_is_not_said_twice_and_comes_last() {
    let arguments = vec!["--tool-call-parser=glm45".to_owned(), "--max-model-len".to_owned(), "65536".to_owned()];
    let deployment = deployed(ServedModel { arguments, gpus: 1, ..served(ServingEngine::Vllm) });
    let told = container(&deployment)["args"].as_array().unwrap().clone();
    let told: Vec<&str> = told.iter().filter_map(Value::as_str).collect();
    assert_eq!(
        told[told.len() - 4..],
        ["--enable-auto-tool-choice", "--tool-call-parser=glm45", "--max-model-len", "65536"]
    );
    assert!(!told.contains(&"--tool-call-parser=hermes") && !told.contains(&"--max-model-len=131072"), "{told:?}");
    assert!(!told.iter().any(|flag| flag.starts_with("--tensor-parallel-size")), "one GPU needs no word");
}

#[test]
fn a_large_model_may_load_for_an_hour_and_is_restarted_when_it_hangs_afterwards() {
    let deployment = deployed(served(ServingEngine::Vllm));
    let container = container(&deployment);
    let startup = &container["startupProbe"];
    let patience = startup["periodSeconds"].as_i64().unwrap() * startup["failureThreshold"].as_i64().unwrap();
    assert!(patience >= 3_600, "{startup}");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/health");
    assert!(deployment["spec"]["progressDeadlineSeconds"].as_i64().unwrap() > patience);
    let small = deployed(ServedModel { gpus: 0, ..served(ServingEngine::Builtin) });
    assert!(pod(&small)["containers"][0].get("livenessProbe").is_none(), "it answers while it computes");
}

#[test]
fn a_copy_has_its_gpus_and_shared_memory_and_gives_them_up_before_the_next_one_asks() {
    let deployment = deployed(served(ServingEngine::Vllm));
    assert_eq!(container(&deployment)["resources"]["limits"]["nvidia.com/gpu"], "8");
    let volumes = pod(&deployment)["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["emptyDir"]["medium"] == "Memory"), "{volumes:?}");
    assert_eq!(
        deployment["spec"]["strategy"]["rollingUpdate"],
        json!({"maxSurge": 0, "maxUnavailable": 1}),
        "a third set of GPUs may not be there"
    );
}

#[test]
fn an_engine_writes_to_its_scratch_alone_and_asks_nobody_outside() {
    let variables = vec![serde_json::from_value(json!({"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"})).unwrap()];
    let deployment = deployed(ServedModel { variables, ..served(ServingEngine::Vllm) });
    let said = container(&deployment)["env"].as_array().unwrap();
    for (name, value) in
        [("HOME", "/tmp/work"), ("TMPDIR", "/tmp/work"), ("HF_HUB_OFFLINE", "1"), ("VLLM_LOGGING_LEVEL", "DEBUG")]
    {
        assert!(said.contains(&json!({"name": name, "value": value})), "{name}: {said:?}");
    }
    assert_eq!(container(&deployment)["securityContext"]["readOnlyRootFilesystem"], true);
}

#[test]
fn an_engine_may_have_an_image_of_its_owner_s() {
    let image = Some("registry.acme/vllm-of-ours:3".parse().unwrap());
    let deployment = deployed(ServedModel { image, ..served(ServingEngine::Vllm) });
    assert_eq!(container(&deployment)["image"], "registry.acme/vllm-of-ours:3");
}

/// A teacher whose copies are spread over two nodes with eight GPUs each.
fn over_nodes(engine: ServingEngine, arguments: &[&str]) -> Value {
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    deployed(ServedModel { gpus: 16, nodes: 2, arguments, ..served(engine) })
}

/// The arguments of a leader and of a worker.
fn of_parts(groups: &Value) -> [Vec<&str>; 2] {
    ["leaderTemplate", "workerTemplate"].map(|part| {
        let container = &groups["spec"]["leaderWorkerTemplate"][part]["spec"]["containers"][0];
        container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect()
    })
}

#[test]
fn a_copy_over_nodes_is_a_group_of_which_the_leader_answers() {
    let groups = over_nodes(ServingEngine::Vllm, &[]);
    assert_eq!(
        (&groups["apiVersion"], &groups["kind"], &groups["metadata"]["name"]),
        (&json!("leaderworkerset.x-k8s.io/v1"), &json!("LeaderWorkerSet"), &json!("billing-3f2c9-t")),
        "its controller makes a Service of this name: it is not the teacher's own"
    );
    let (spec, template) = (&groups["spec"], &groups["spec"]["leaderWorkerTemplate"]);
    assert_eq!((&spec["replicas"], &template["size"]), (&json!(2), &json!(2)));
    assert_eq!(template["restartPolicy"], "RecreateGroupOnPodRestart");
    assert_eq!(groups["metadata"]["labels"]["sera.dev/generation"], "7");
    for part in ["leaderTemplate", "workerTemplate"] {
        let pod = &template[part]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "8", "of each node: {container}");
        assert_eq!((&pod["restartPolicy"], &pod["automountServiceAccountToken"]), (&json!("Always"), &json!(false)));
        assert!(pod["volumes"].to_string().contains("16Gi"), "NCCL's shared memory: {pod}");
        assert_eq!(container.get("readinessProbe").is_some(), part == "leaderTemplate", "{container}");
        assert_eq!(container.get("ports").is_some(), part == "leaderTemplate", "{container}");
    }
    let model = HostedTeacher::Model(ServedModel { gpus: 16, nodes: 2, ..served(ServingEngine::Vllm) });
    let service = serde_json::to_value(teacher_service(&owner(), &model)).unwrap();
    let selector = service["spec"]["selector"].as_object().unwrap();
    assert_eq!(selector["leaderworkerset.sigs.k8s.io/worker-index"], "0", "{selector:?}");
    let labels = &template["leaderTemplate"]["metadata"]["labels"];
    assert!(selector.iter().all(|(key, value)| key.contains("leaderworkerset") || labels[key] == *value), "{labels}");
}

#[test]
fn engines_are_told_of_the_other_nodes_and_an_owners_word_goes_before() {
    let vllm = over_nodes(ServingEngine::Vllm, &[]);
    let [leader, worker] = of_parts(&vllm);
    let meeting = ["--node-rank=$(LWS_WORKER_INDEX)", "--master-addr=$(LWS_LEADER_ADDRESS)"];
    for said in ["--tensor-parallel-size=8", "--pipeline-parallel-size=2", "--nnodes=2"] {
        assert!(leader.contains(&said) && worker.contains(&said), "{said}: {leader:?} {worker:?}");
    }
    assert!(leader.ends_with(&meeting) && worker.ends_with(&meeting), "{leader:?} {worker:?}");
    assert!(worker.contains(&"--headless") && !leader.contains(&"--headless"), "{leader:?} {worker:?}");

    let sglang = over_nodes(ServingEngine::Sglang, &[]);
    let [leader, worker] = of_parts(&sglang);
    let meeting = ["--node-rank=$(LWS_WORKER_INDEX)", "--dist-init-addr=$(LWS_LEADER_ADDRESS):20000"];
    assert!(leader.contains(&"--tp-size=16") && leader.contains(&"--nnodes=2"), "{leader:?}");
    assert!(leader.ends_with(&meeting), "{leader:?}");
    assert_eq!(leader, worker, "its workers know by their rank that they answer nobody");

    let own =
        over_nodes(ServingEngine::Vllm, &["--tensor-parallel-size=16", "--pipeline-parallel-size=1", "--x=$(HOME)"]);
    let [leader, _] = of_parts(&own);
    let sizes: Vec<_> = leader.iter().filter(|argument| argument.contains("parallel-size")).collect();
    assert_eq!(sizes, [&"--tensor-parallel-size=16", &"--pipeline-parallel-size=1"]);
    assert!(leader.contains(&"--x=$$(HOME)"), "what an owner writes means what it says: {leader:?}");
}

#[test]
fn no_engine_is_told_to_cut_a_conversation_that_is_too_long() {
    // By these either takes less of a conversation than it was sent, and says nothing; unasked it refuses what is too long.
    let cutting = ["--allow-auto-truncate", "--truncate-prompt-tokens", "--truncation-side"];
    for engine in [ServingEngine::Vllm, ServingEngine::Sglang] {
        let [leader, _] = of_parts(&over_nodes(engine, &[])).map(|part| part.join(" "));
        let on_one = container(&deployed(served(engine)))["args"].to_string();
        let without_limit = container(&deployed(ServedModel { context: None, ..served(engine) }))["args"].to_string();
        for told in [leader, on_one, without_limit] {
            assert!(told.contains("GLM-4.5-Air"), "{told}");
            assert!(!cutting.iter().any(|flag| told.contains(flag)), "{told}");
        }
    }
}
