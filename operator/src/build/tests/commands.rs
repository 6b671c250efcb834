//! What each stage's program is told.

use super::*;

#[test]
fn a_run_that_adopts_runs_adopt_with_the_earlier_folder_and_no_key_of_the_repository() {
    let adopting = |from: &str| {
        let mut blueprint = blueprint("pvc://claim/sera", PodSettings::default());
        let through = sera_crds::values::AdoptableStage::Generation;
        blueprint.adoption = Some(AdoptionParts {
            from: from.parse().unwrap(),
            repository: "https://git.example/a.git".into(),
            through,
            run: "billing".into(),
        });
        built_of(Stage::Snapshot, &blueprint)
    };
    let job = adopting("pvc://earlier/sera/ml/old/77aa");
    let told = arguments(&job);
    assert_eq!(told[0], "adopt");
    for argument in [
        "--from=file:///mnt/snapshot/sera/ml/old/77aa",
        "--from-address=pvc://earlier/sera/ml/old/77aa",
        "--repository=https://git.example/a.git",
        "--through=Generation",
        "--run=billing",
    ] {
        assert!(told.contains(&argument), "{told:?}");
    }
    assert!(pod(&job)["containers"][0]["env"].to_string().contains("SERA_VERIFICATION"));
    let volumes = pod(&job)["volumes"].to_string();
    assert!(
        volumes.contains("earlier") && !volumes.contains("git-secret") && !volumes.contains("github-secret"),
        "{volumes}"
    );
    let bucket = adopting("s3://acme/sera/ml/old/77aa");
    assert!(arguments(&bucket).contains(&"--from=s3://acme/sera/ml/old/77aa"));
}

#[test]
fn what_deletes_the_data_is_told_whose_it_is_and_sees_no_claim_but_the_store_s() {
    let mut blueprint = blueprint("pvc://claim/sera", PodSettings::default());
    blueprint.snapshot_at = Some("pvc://earlier/sera/ml/old/77aa".parse().unwrap());
    let job = built_of(Stage::Reclaim, &blueprint);
    assert_eq!(
        arguments(&job),
        [
            "erase",
            "--prefix=ml/billing/3f2c9a10-0000",
            "--store=file:///mnt/store/sera/ml/billing/3f2c9a10-0000",
            "--store-credentials=/etc/sera/store",
            "--store-credentials-field=spec.output.credentialsSecretRef",
            "--scratch=/tmp/work",
            "--termination-message=/dev/termination-log",
        ]
    );
    let volumes = pod(&job)["volumes"].to_string();
    assert!(volumes.contains("claim") && !volumes.contains("earlier") && !volumes.contains("models"), "{volumes}");
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
            "--submodules",
            "--commits=4",
            "--lookback-days=30",
            "--git-credentials=/etc/sera/git",
            "--git-credentials-field=spec.source.git.credentialsSecretRef",
            "--include=src/**",
            "--exclude=src/old/**",
            "--languages=Go",
            "--languages=Rust",
            "--held-out-fraction=0.1",
            "--held-out-seed=42",
            "--github=acme/billing",
            "--github-api-url=https://api.github.example",
            "--github-credentials=/etc/sera/github",
            "--store=s3://acme/sera/ml/billing/3f2c9a10-0000",
            "--store-credentials=/etc/sera/store",
            "--store-credentials-field=spec.output.credentialsSecretRef",
            "--scratch=/tmp/work",
            "--termination-message=/dev/termination-log",
        ]
    );
}

#[test]
fn a_driver_sticks_to_copies_of_a_teacher_that_the_operator_runs_and_asks_another_by_its_name() {
    for is_hosted in [true, false] {
        let mut blueprint = blueprint("s3://acme/sera", PodSettings::default());
        blueprint.samples.as_mut().unwrap().teacher.is_hosted = is_hosted;
        let job = built_of(Stage::Rollouts, &blueprint);
        assert_eq!(arguments(&job).contains(&"--teacher-by-address"), is_hosted);
    }
}

#[test]
fn a_driver_is_told_its_samples_its_teacher_and_its_slots_and_has_a_pod_for_each_shard() {
    let job = built_of(Stage::Rollouts, &blueprint("s3://acme/sera", PodSettings::default()));
    assert_eq!((&job["spec"]["completions"], &job["spec"]["parallelism"]), (&json!(3), &json!(3)));
    assert!(job["spec"].get("activeDeadlineSeconds").is_none(), "its pods may wait for nodes");
    assert_eq!(
        arguments(&job),
        [
            "rollout",
            "--batch=billing-3",
            "--first=17",
            "--count=8",
            "--shard-size=3",
            "--teacher-url=https://teacher.example/v1",
            "--teacher-model=GLM-4.6",
            "--teacher-credentials=/etc/sera/teacher",
            "--sandbox=/run/sera/slots",
            "--slots=2",
            "--listen=0.0.0.0:8080",
            // Two rounds of four rollouts of two hours, and one more.
            "--timeout=1020m",
            "--store=s3://acme/sera/ml/billing/3f2c9a10-0000",
            "--store-credentials=/etc/sera/store",
            "--store-credentials-field=spec.output.credentialsSecretRef",
            "--scratch=/tmp/work",
            "--termination-message=/dev/termination-log",
        ]
    );
    let variables = pod(&job)["containers"][0]["env"].as_array().unwrap();
    let plan: RolloutPlan = serde_json::from_str(variables[0]["value"].as_str().unwrap()).unwrap();
    assert_eq!((&variables[0]["name"], plan), (&json!("SERA_PLAN"), RolloutPlan::default()));
    assert_eq!(variables[1], json!({"name": "SERA_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}));
}

#[test]
fn counting_is_told_the_policy_and_the_student_and_whether_it_is_a_dry_run() {
    let mut blueprint = blueprint("s3://acme/sera", PodSettings::default());
    let verification = built_of(Stage::Verification, &blueprint);
    assert_eq!(arguments(&verification)[..4], ["verify", "--batch=billing-3", "--first=17", "--count=8"]);
    assert!(arguments(&verification).contains(&"--student=/mnt/student/q/Qwen3-8B"));
    let told = |job: &Value| {
        let variables = pod(job)["containers"][0]["env"].as_array().unwrap();
        variables.iter().map(|variable| variable["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(&verification), ["SERA_VERIFICATION"]);
    blueprint.samples = None;
    assert!(arguments(&built_of(Stage::Verification, &blueprint)).contains(&"--batches=billing-1..2"));
    for (stage, is_dry) in [(Stage::Generation, true), (Stage::Dataset, false)] {
        let job = built_of(stage, &blueprint);
        assert_eq!(arguments(&job)[..2], ["dataset", "--batches=billing-1..2"]);
        assert_eq!(arguments(&job).contains(&"--dry-run"), is_dry);
        assert_eq!(told(&job), ["SERA_VERIFICATION", "SERA_DATASET"]);
    }
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
fn claims_of_others_are_mounted_to_be_read() {
    let mut blueprint = blueprint("pvc://data/sera", PodSettings::default());
    blueprint.snapshot_at = Some("pvc://old/sera/ml/a/1".parse().unwrap());
    let rollouts = built_of(Stage::Rollouts, &blueprint);
    assert!(arguments(&rollouts).contains(&"--snapshot=file:///mnt/snapshot/sera/ml/a/1"));
    let verification = built_of(Stage::Verification, &blueprint);
    for (job, name, path) in [(rollouts, "snapshot", "/mnt/snapshot"), (verification, "student", "/mnt/student")] {
        let mounts = pod(&job)["containers"][0]["volumeMounts"].as_array().unwrap();
        assert!(mounts.contains(&json!({"name": name, "mountPath": path, "readOnly": true})), "{mounts:?}");
    }
}
