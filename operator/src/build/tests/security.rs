//! What keeps pods in their bounds: the restricted level, who sees which secret, and sandboxes that share nothing.

use super::*;

#[test]
fn every_pod_satisfies_the_restricted_level_and_holds_no_token() {
    for (stage, pod) in every_pod() {
        assert_eq!(pod["automountServiceAccountToken"], json!(false), "{stage}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], json!(true));
        assert_eq!(pod["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}));
        for container in containers(&pod) {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], json!(false));
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
            assert_eq!(security["readOnlyRootFilesystem"], json!(true));
            assert_ne!(security.get("runAsUser"), Some(&json!(0)));
            assert!(security.get("privileged").is_none());
            assert!(container["resources"]["limits"]["memory"].is_string(), "{container}");
        }
        for host in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
            assert!(pod.get(host).is_none());
        }
        let allowed = ["name", "secret", "emptyDir", "persistentVolumeClaim", "projected"];
        for volume in pod["volumes"].as_array().unwrap() {
            assert!(volume.as_object().unwrap().keys().all(|key| allowed.contains(&key.as_str())), "{volume}");
        }
    }
}

#[test]
fn secrets_are_files_of_optional_volumes_and_never_arguments_or_variables() {
    for (stage, pod) in every_pod() {
        for volume in pod["volumes"].as_array().unwrap() {
            if let Some(secret) = volume.get("secret") {
                assert_eq!((&secret["optional"], &secret["defaultMode"]), (&json!(true), &json!(0o440)), "{stage}");
            }
            for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
                assert_eq!(source["secret"]["optional"], json!(true), "{stage}");
            }
        }
        for container in containers(&pod) {
            assert!(container.get("envFrom").is_none());
            let told = format!("{}{}", container["args"], container["env"]);
            for name in ["git-secret", "github-secret", "s3-secret", "teacher-secret", "authority-secret"] {
                assert!(!told.contains(name), "{stage}: {told}");
            }
        }
    }
}

#[test]
fn each_program_sees_the_secrets_that_it_needs_and_a_sandbox_none() {
    let seen = |pod: &Value, container: &Value| -> Vec<String> {
        let is_secret = |volume: &&Value| volume.get("secret").is_some() || volume.get("projected").is_some();
        let secrets = pod["volumes"].as_array().unwrap().iter().filter(is_secret).map(|volume| &volume["name"]);
        let mounts = container["volumeMounts"].as_array().unwrap();
        secrets
            .filter(|name| mounts.iter().any(|mount| mount["name"] == **name))
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    for (stage, pod) in every_pod() {
        let expected: &[&str] = match stage {
            Stage::Snapshot => &["git-credentials", "github-credentials", "store-credentials"],
            Stage::Rollouts | Stage::Evaluation => &["store-credentials", "teacher-credentials"],
            Stage::Serving if pod["containers"][0]["args"][0] == "rehearse" => &[],
            _ => &["store-credentials"],
        };
        assert_eq!(seen(&pod, &pod["containers"][0]), expected, "{stage}");
        for container in pod["initContainers"].as_array().into_iter().flatten() {
            // The student's files are the run's own, and in a bucket here.
            let fetches = container["name"] == "student-fetch";
            let expected: &[&str] = if fetches { &["student-store-credentials"] } else { &[] };
            assert_eq!(seen(&pod, container), expected, "{}", container["name"]);
        }
    }
}

#[test]
fn slots_are_sidecars_of_which_each_has_a_user_and_files_of_its_own() {
    let mut blueprint = blueprint("pvc://data", PodSettings::default());
    blueprint.samples = Some(samples(json!({"workingDir": "/src", "writablePaths": ["/opt/venv"]})));
    let job = built_of(Stage::Rollouts, &blueprint);
    let pod = pod(&job);
    let [install, copy, venv, other_venv, first, second] = pod["initContainers"].as_array().unwrap().as_slice() else {
        panic!("{pod}")
    };
    assert_eq!((&install["image"], install.get("restartPolicy")), (&json!("registry.example/sandbox:1"), None));
    let users = ["--accounts=/run/sera/users", "--users=65600-65601", "--home=/run/sera/home"];
    let arguments = [&["copy", "/src", "/run/sera/image"][..], &users].concat();
    assert_eq!(copy["args"], json!(arguments), "before something is mounted over it");
    for (slot, container) in [venv, other_venv].into_iter().enumerate() {
        assert_eq!(container["args"], json!(["copy", "/opt/venv", "/run/sera/image"]));
        let to = json!({"name": format!("slot-{slot}"), "mountPath": "/run/sera/image", "subPath": "writable-0"});
        assert!(container["volumeMounts"].as_array().unwrap().contains(&to), "{container}");
    }
    for (slot, container) in [first, second].into_iter().enumerate() {
        assert_eq!(container["restartPolicy"], "Always", "a sidecar");
        assert_eq!(container["image"], "registry.example/environment:1");
        assert_eq!(container["securityContext"]["runAsUser"], json!(65_600 + slot));
        let disk = json!(format!("--disk-limit={}", 10_u64 << 30));
        assert!(container["args"].as_array().unwrap().contains(&disk), "what evicts the pod: {container}");
        let mounts = container["volumeMounts"].as_array().unwrap();
        let own: Vec<&str> = mounts
            .iter()
            .filter(|mount| mount["name"] == format!("slot-{slot}"))
            .map(|mount| mount["mountPath"].as_str().unwrap())
            .collect();
        assert_eq!(own, ["/run/sera/slot", "/src", "/tmp", "/run/sera/home", "/opt/venv"]);
        for (path, file) in [("/etc/passwd", "passwd"), ("/etc/group", "group")] {
            let users = json!({"name": "users", "mountPath": path, "subPath": file, "readOnly": true});
            assert!(mounts.contains(&users), "{mounts:?}");
        }
        let foreign = mounts.iter().filter(|mount| mount["name"] != format!("slot-{slot}"));
        assert!(foreign.into_iter().all(|mount| mount["readOnly"] == json!(true)), "{mounts:?}");
    }
    let driver = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    for slot in 0..2 {
        let name = format!("slot-{slot}");
        let shared: Vec<&Value> = driver.iter().filter(|mount| mount["name"] == name).collect();
        let expected = json!({"name": name, "mountPath": format!("/run/sera/slots/{slot}"), "subPath": "shared"});
        assert_eq!(shared, [&expected], "the driver sees no file of a model");
    }
}

#[test]
fn an_environment_may_name_its_image_and_its_user() {
    let mut blueprint = blueprint("pvc://data", PodSettings::default());
    let environment = json!({"image": "acme/env:2", "user": {"uid": 1000, "gid": 50}, "readOnlyRootFilesystem": false});
    blueprint.samples = Some(samples(environment));
    let job = built_of(Stage::Rollouts, &blueprint);
    let slot = &pod(&job)["initContainers"][2];
    let security = &slot["securityContext"];
    assert_eq!(
        (&slot["image"], &security["runAsUser"], &security["runAsGroup"]),
        (&json!("acme/env:2"), &json!(1000), &json!(50))
    );
    assert_eq!(security["readOnlyRootFilesystem"], json!(false));
}

#[test]
fn a_slot_has_the_resources_that_its_owner_says() {
    let mut blueprint = blueprint("pvc://data", PodSettings::default());
    let said = json!({"limits": {"memory": "6Gi", "ephemeral-storage": "7Gi"}, "requests": {"cpu": "300m"}});
    blueprint.samples.as_mut().unwrap().slot_resources = serde_json::from_value(said.clone()).unwrap();
    let job = built_of(Stage::Rollouts, &blueprint);
    let slots = pod(&job)["initContainers"].as_array().unwrap();
    let of_slots: Vec<&Value> = slots.iter().filter(|slot| slot["restartPolicy"] == "Always").collect();
    assert_eq!(of_slots.len(), 2);
    assert!(of_slots.iter().all(|slot| slot["resources"] == said), "{of_slots:?}");
    let disk = json!(format!("--disk-limit={}", 7_u64 << 30));
    assert!(of_slots.iter().all(|slot| slot["args"].as_array().unwrap().contains(&disk)), "{of_slots:?}");
    assert_ne!(slots[0]["resources"], said, "what only installs a program has its own");
}
