//! Who may ask the pods of a run, and whom they may ask.

use super::*;

const ON_CLAIM: &str = "pvc://claim/sera";
const IN_BUCKET: &str = "s3://acme/sera";

fn rules() -> NetworkRules {
    serde_json::from_value(json!({"askers": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]})).unwrap()
}

fn policy_of(stage: Stage, blueprint: &Blueprint) -> Value {
    serde_json::to_value(stage_policy(&owner(), stage, blueprint, &rules())).unwrap()
}

/// The rules of a policy whose peers or ports hold `text`.
fn with<'a>(policy: &'a Value, way: &str, text: &str) -> Vec<&'a Value> {
    policy["spec"][way].as_array().unwrap().iter().filter(|rule| rule.to_string().contains(text)).collect()
}

fn of_claim() -> Blueprint {
    let mut blueprint = blueprint(ON_CLAIM, PodSettings::default());
    blueprint.snapshot_at = None;
    blueprint.counting.as_mut().unwrap().student = Some("pvc://models/student".parse().unwrap());
    blueprint.training.as_mut().unwrap().student = "pvc://models/student".parse().unwrap();
    blueprint.samples.as_mut().unwrap().teacher.is_hosted = true;
    blueprint
}

#[test]
fn every_stage_s_policy_selects_its_own_pods_and_rules_both_ways() {
    for stage in WITH_JOBS {
        let policy = policy_of(stage, &of_claim());
        let job = built_of(stage, &of_claim());
        let pods = &policy["spec"]["podSelector"]["matchLabels"];
        for (label, value) in pods.as_object().unwrap() {
            assert_eq!(&job["spec"]["template"]["metadata"]["labels"][label], value, "{stage}: {label}");
        }
        assert!(pods.as_object().unwrap().len() == 2, "{stage}: {pods}");
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]), "{stage}");
        assert_eq!(policy["metadata"]["ownerReferences"], job["metadata"]["ownerReferences"], "{stage}");
    }
}

#[test]
fn drivers_on_a_claim_reach_names_and_their_teacher_and_nothing_else() {
    let policy = policy_of(Stage::Rollouts, &of_claim());
    assert_eq!(policy["spec"]["egress"].as_array().unwrap().len(), 2, "{policy}");
    assert_eq!(with(&policy, "egress", "53").len(), 1);
    let to_teacher = with(&policy, "egress", "sera.dev/teacher");
    assert_eq!(to_teacher[0]["ports"], json!([{"protocol": "TCP", "port": 8000}]));
    assert!(to_teacher[0]["to"][0].get("namespaceSelector").is_none(), "a teacher of another namespace: {policy}");
}

#[test]
fn an_endpoint_a_bucket_and_a_sandbox_with_a_network_open_the_outside() {
    let is_open =
        |blueprint: &Blueprint| !with(&policy_of(Stage::Rollouts, blueprint), "egress", "0.0.0.0/0").is_empty();
    assert!(!is_open(&of_claim()));
    let mut endpoint = of_claim();
    endpoint.samples.as_mut().unwrap().teacher.is_hosted = false;
    let mut sandbox = of_claim();
    sandbox.samples.as_mut().unwrap().plan.sandbox.network = sera_crds::values::NetworkMode::Egress;
    let mut bucket = of_claim();
    bucket.home = IN_BUCKET.parse().unwrap();
    let mut snapshot = of_claim();
    snapshot.snapshot_at = Some(IN_BUCKET.parse().unwrap());
    for blueprint in [&endpoint, &sandbox, &bucket, &snapshot] {
        assert!(is_open(blueprint));
    }
}

#[test]
fn link_local_addresses_are_closed_unless_the_pod_s_identity_is_what_it_shows() {
    let mut bucket = of_claim();
    bucket.home = IN_BUCKET.parse().unwrap();
    let closed = policy_of(Stage::Dataset, &bucket);
    assert_eq!(with(&closed, "egress", "169.254.0.0/16").len(), 1, "{closed}");
    bucket.store_credentials = None;
    let open = policy_of(Stage::Dataset, &bucket);
    assert!(open["spec"]["egress"].as_array().unwrap().contains(&json!({})), "{open}");
}

#[test]
fn counting_on_a_claim_reaches_nobody_and_a_student_in_a_bucket_is_fetched() {
    for stage in [Stage::Verification, Stage::Generation, Stage::Dataset, Stage::Training] {
        let mut blueprint = of_claim();
        let is_open = |blueprint: &Blueprint| !with(&policy_of(stage, blueprint), "egress", "0.0.0.0/0").is_empty();
        assert!(!is_open(&blueprint), "{stage}");
        blueprint.counting.as_mut().unwrap().student = Some("gs://models/student".parse().unwrap());
        blueprint.counting.as_mut().unwrap().student_credentials = Some("models".into());
        blueprint.training.as_mut().unwrap().student = "gs://models/student".parse().unwrap();
        blueprint.training.as_mut().unwrap().student_credentials = Some("models".into());
        assert!(is_open(&blueprint), "{stage}");
    }
}

#[test]
fn adopting_from_a_claim_reaches_nobody_and_from_a_bucket_the_outside() {
    let mut blueprint = of_claim();
    let is_open =
        |blueprint: &Blueprint| !with(&policy_of(Stage::Snapshot, blueprint), "egress", "0.0.0.0/0").is_empty();
    assert!(is_open(&blueprint), "a repository is outside");
    for (from, open) in [("pvc://earlier/sera/ml/old/77aa", false), ("s3://acme/sera/ml/old/77aa", true)] {
        let through = sera_crds::values::AdoptableStage::Dataset;
        blueprint.adoption = Some(AdoptionParts {
            from: from.parse().unwrap(),
            repository: "https://git.example/a.git".into(),
            through,
            run: "billing".into(),
        });
        assert_eq!(is_open(&blueprint), open, "{from}");
    }
}

#[test]
fn the_repository_that_is_brought_along_is_asked_of_nobody_but_its_style_is_of_github() {
    let mut blueprint = of_claim();
    let is_open =
        |blueprint: &Blueprint| !with(&policy_of(Stage::Snapshot, blueprint), "egress", "0.0.0.0/0").is_empty();
    let snapshot = |blueprint: &mut Blueprint, github| {
        let parts = blueprint.snapshot.as_mut().unwrap();
        (parts.url, parts.github) = (sera_crds::values::GitUrl::REHEARSAL.to_owned(), github);
    };
    let github = blueprint.snapshot.as_ref().unwrap().github.clone();
    assert!(github.is_some(), "this test cannot fail");
    snapshot(&mut blueprint, None);
    assert!(!is_open(&blueprint));
    snapshot(&mut blueprint, github);
    assert!(is_open(&blueprint));
}

#[test]
fn what_deletes_the_data_reaches_a_bucket_and_of_a_claim_nobody() {
    let is_open =
        |blueprint: &Blueprint| !with(&policy_of(Stage::Reclaim, blueprint), "egress", "0.0.0.0/0").is_empty();
    assert!(!is_open(&of_claim()));
    assert!(is_open(&blueprint("s3://acme/sera", PodSettings::default())));
}

#[test]
fn where_a_platform_names_its_outside_nothing_else_is_reached() {
    let rules: NetworkRules =
        serde_json::from_value(json!({"outside": [{"ipBlock": {"cidr": "10.7.0.0/16"}}]})).unwrap();
    let policy = stage_policy(&owner(), Stage::Snapshot, &of_claim(), &rules);
    let policy = serde_json::to_value(policy).unwrap();
    assert_eq!(policy["spec"]["egress"][1], json!({"to": [{"ipBlock": {"cidr": "10.7.0.0/16"}}]}));
    assert_eq!(policy["spec"]["egress"].as_array().unwrap().len(), 2);
}

#[test]
fn ranks_reach_each_other_at_every_port_and_others_only_ask_how_far_they_are() {
    let policy = policy_of(Stage::Training, &of_claim());
    for (way, side) in [("ingress", "from"), ("egress", "to")] {
        let ranks = with(&policy, way, "3f2c9a10-0000");
        assert_eq!(ranks.len(), 1, "{policy}");
        assert!(
            ranks[0].get("ports").is_none()
                && ranks[0][side][0]["podSelector"]["matchLabels"]["sera.dev/stage"] == "Training"
        );
    }
    assert_eq!(with(&policy, "ingress", "prometheus")[0]["ports"], json!([{"protocol": "TCP", "port": PROGRESS_PORT}]));
}

#[test]
fn who_has_nothing_to_tell_is_asked_by_nobody() {
    for stage in [Stage::Snapshot, Stage::Verification, Stage::Generation, Stage::Dataset, Stage::Reclaim] {
        assert_eq!(policy_of(stage, &of_claim())["spec"]["ingress"], json!([]), "{stage}");
    }
}

#[test]
fn the_nodes_of_a_teachers_copy_reach_each_other_and_names_and_nobody_else() {
    let at = Some("pvc://models/GLM".parse().unwrap());
    let teacher = HostedTeacher::Model(ServedModel { nodes: 2, at, ..of_claim().serving.unwrap() });
    let policy = serde_json::to_value(teacher_policy(&owner(), &teacher, &rules())).unwrap();
    let each_other = json!([{"podSelector": policy["spec"]["podSelector"]}]);
    assert_eq!(policy["spec"]["ingress"][1], json!({"from": each_other}));
    assert_eq!(policy["spec"]["egress"].as_array().unwrap().len(), 2, "{policy}");
    assert_eq!(with(&policy, "egress", "53").len(), 1);
    assert!(policy["spec"]["egress"].as_array().unwrap().contains(&json!({"to": each_other})), "{policy}");
}

#[test]
fn a_teacher_answers_drivers_alone_and_a_student_everybody() {
    let blueprint = of_claim();
    let teacher =
        serde_json::to_value(teacher_policy(&owner(), blueprint.teacher.as_ref().unwrap(), &rules())).unwrap();
    assert_eq!(teacher["spec"]["egress"], json!([]));
    let asked = &teacher["spec"]["ingress"][0];
    let asking = json!([{"key": "sera.dev/stage", "operator": "In", "values": ["Rollouts", "Evaluation"]}]);
    assert_eq!(asked["from"][0]["podSelector"]["matchExpressions"], asking);
    let deployment = super::teacher(&owner(), EDITION, blueprint.teacher.as_ref().unwrap(), &blueprint, &images());
    let labels = written(deployment)["spec"]["template"]["metadata"]["labels"].clone();
    let selector = &teacher["spec"]["podSelector"];
    assert_eq!(labels["sera.dev/owner-uid"], selector["matchLabels"]["sera.dev/owner-uid"]);
    assert!(labels.get(selector["matchExpressions"][0]["key"].as_str().unwrap()).is_some(), "{labels} {selector}");

    let student = serde_json::to_value(student_policy(&owner(), &blueprint, &rules())).unwrap();
    assert_eq!(student["spec"]["ingress"], json!([{"ports": [{"protocol": "TCP", "port": 8000}]}]));
    assert_ne!(student["metadata"]["name"], teacher["metadata"]["name"]);
}
