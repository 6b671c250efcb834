//! The pod of an evaluation: a driver and its sandboxes as in rollouts, and the two models that are compared beside it.

use super::*;

fn evaluation(store: &str) -> Value {
    built_of(Stage::Evaluation, &blueprint(store, PodSettings::default()))
}

fn container<'a>(job: &'a Value, name: &str) -> &'a Value {
    let containers = pod(job)["initContainers"].as_array().unwrap();
    containers.iter().find(|container| container["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// What a container mounts, by the kind of volume behind it: what it is of, and where it is mounted.
fn mounted(job: &Value, container: &Value) -> Vec<(String, String)> {
    let volumes = pod(job)["volumes"].as_array().unwrap();
    container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("a mount has its volume");
            let of = [&volume["secret"]["secretName"], &volume["persistentVolumeClaim"]["claimName"]];
            let of = of.into_iter().find_map(Value::as_str).unwrap_or("empty");
            (of.to_owned(), mount["mountPath"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn the_driver_is_told_what_is_asked_and_where_each_model_answers() {
    let job = evaluation("s3://acme/sera");
    let arguments = arguments(&job);
    for argument in [
        "evaluate",
        "--samples=64",
        "--seeds=2",
        "--min-effect=0.1",
        "--teacher-url=https://teacher.example/v1",
        "--teacher-model=GLM-4.6",
        "--teacher-credentials=/etc/sera/teacher",
        "--student-url=http://127.0.0.1:8001/v1",
        "--student-model=student",
        "--base-url=http://127.0.0.1:8002/v1",
        "--base-model=base",
        "--sandbox=/run/sera/slots",
        "--slots=2",
        "--store=s3://acme/sera/ml/billing/3f2c9a10-0000",
        "--store-credentials=/etc/sera/store",
    ] {
        assert!(arguments.contains(&argument), "{argument} is not among {arguments:?}");
    }
    assert!(
        !arguments.iter().any(|argument| argument.starts_with("--rehearsals") || argument.starts_with("--timeout"))
    );
    assert_eq!((&job["spec"]["completions"], &job["spec"]["activeDeadlineSeconds"]), (&json!(1), &Value::Null));
    assert_eq!(pod(&job)["subdomain"], "billing-3f2c9-drivers", "the operator finds it by name");
}

#[test]
fn both_models_answer_before_the_first_slot_is_there_and_before_the_driver_begins() {
    let job = evaluation("s3://acme/sera");
    let names: Vec<&str> = pod(&job)["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["student-fetch", "student", "base", "install", "copy", "slot-0", "slot-1"]);
    for (name, port) in [("student", 8001), ("base", 8002)] {
        let server = container(&job, name);
        let probe = &server["startupProbe"];
        assert_eq!((&server["restartPolicy"], &probe["httpGet"]["port"]), (&json!("Always"), &json!(port)));
        let patience = probe["periodSeconds"].as_i64().unwrap() * probe["failureThreshold"].as_i64().unwrap();
        assert_eq!((patience, &server["livenessProbe"]), (3600, &Value::Null));
        assert!(texts(&server["args"]).contains(&format!("--port={port}").as_str()));
        assert_eq!(server["resources"]["limits"]["nvidia.com/gpu"], "2");
    }
    assert_eq!(
        pod(&job)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"],
        Value::Null,
        "the driver computes nothing"
    );
}

#[test]
fn each_model_sees_its_own_files_and_secrets_and_sandboxes_see_none() {
    let job = evaluation("pvc://store/runs");
    let seen = |name: &str| mounted(&job, container(&job, name));
    let has = |name: &str, of: &str, at: &str| seen(name).contains(&(of.to_owned(), at.to_owned()));
    assert!(has("student", "store", "/mnt/model"));
    assert!(
        texts(&container(&job, "student")["args"]).contains(&"--model=/mnt/model/runs/ml/billing/3f2c9a10-0000/model")
    );
    assert!(
        has("base", "models", "/mnt/model") && !seen("base").iter().any(|(of, _)| of == "s3-secret" || of == "store")
    );
    assert!(texts(&container(&job, "base")["args"]).contains(&"--model=/mnt/model/q/Qwen3-8B"));
    for slot in ["slot-0", "slot-1"] {
        assert!(seen(slot).iter().all(|(of, _)| of == "empty"), "{:?}", seen(slot));
    }
    let names: Vec<&str> =
        pod(&job)["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    let distinct: std::collections::BTreeSet<&&str> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}

#[test]
fn a_student_in_a_bucket_is_fetched_for_its_engine_by_who_alone_holds_the_key() {
    let job = evaluation("s3://acme/sera");
    let (fetch, student) = (container(&job, "student-fetch"), container(&job, "student"));
    assert!(texts(&fetch["args"]).contains(&"--model=s3://acme/sera/ml/billing/3f2c9a10-0000/model"));
    assert!(texts(&student["args"]).contains(&"--model=/mnt/fetched/model"));
    let has_key = |container: &Value| mounted(&job, container).iter().any(|(of, _)| of == "s3-secret");
    assert!(has_key(fetch) && !has_key(student));
    let at = |container: &Value| mounted(&job, container).iter().any(|(_, at)| at == "/mnt/fetched");
    assert!(at(fetch) && at(student));
    assert_eq!(
        pod(&job)["initContainers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|container| container["name"] == "base-fetch")
            .count(),
        0
    );
}

#[test]
fn a_builtin_model_is_served_by_its_name_and_a_rehearsal_is_said_to_be_one() {
    let mut blueprint = blueprint("pvc://store/runs", PodSettings::default());
    let evaluation = blueprint.evaluation.as_mut().unwrap();
    for (model, at) in
        [(&mut evaluation.student, None), (&mut evaluation.base, Some("builtin://tiny".parse().unwrap()))]
    {
        *model = ServedModel { engine: ServingEngine::Builtin, at, gpus: 0, ..model.clone() };
    }
    evaluation.rollouts.teacher.is_rehearsal = true;
    let job = built_of(Stage::Evaluation, &blueprint);
    assert!(arguments(&job).contains(&"--rehearsals=teacher"));
    let base = texts(&container(&job, "base")["args"]);
    assert!(base.contains(&"--model=builtin://tiny") && base.contains(&"--listen=0.0.0.0:8002"), "{base:?}");
    assert_eq!(container(&job, "base")["image"], "registry.example/teacher:1");
}
