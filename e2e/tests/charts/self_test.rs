//! What `helm test` makes, as the chart renders it: a pod that may do what it does and no more, where the operator serves. That it tells a working
//! installation from a broken one is the node's tests' business.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use sera_e2e::images::{Image, program};
use serde_json::{Value, json};

use crate::Host;
use crate::deployment::admitted_as_restricted;
use crate::house::{Chart, House, NAMESPACE, texts};

pub(crate) fn trials(host: &Host) -> Vec<Trial> {
    vec![
        host.trial("the self-test's pod is admitted where the restricted Pod Security level is enforced", restricted),
        host.trial("the self-test takes every flag that the chart gives it", flags_exist),
        host.trial("the self-test works in the store that is configured, and else makes a claim for it", stores),
        host.trial("the self-test may make batches and what its store needs, and nothing else", rights),
        host.trial("the self-test works where the operator serves", namespaces),
        host.trial("nothing that selects the operator's pods selects the self-test's", selected_by_nobody),
        host.trial("the self-test does not ask for a policy that is off or only warns", policy),
        host.trial("the self-test's pod goes when it has passed, where helm reads its log first", goes),
        host.trial("the self-test can be left out", left_out),
    ]
}

async fn restricted(house: &House) -> Result<()> {
    let pod = house.render_test(&json!({})).await?.one("Pod")?.clone();
    admitted_as_restricted(house, pod).await
}

/// The arguments of the pod's one container.
async fn arguments(house: &House, values: &Value) -> Result<Vec<String>> {
    let rendered = house.render_test(values).await?;
    let arguments = &rendered.one("Pod")?["spec"]["containers"][0]["args"];
    Ok(texts(arguments).into_iter().map(str::to_owned).collect())
}

async fn flags_exist(house: &House) -> Result<()> {
    for test in [
        json!({"storageClassName": "fast", "landlock": "BestEffort", "timeout": "90s"}),
        json!({"store": "s3://acme-ml/sera", "storeCredentialsSecret": "sera-s3"}),
    ] {
        let arguments = arguments(house, &json!({"test": test})).await?;
        // With --help at the end every flag before it is parsed, value and all, and nothing is started.
        let output = Command::new(program(Image::Operator)?).args(&arguments).arg("--help").output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?} are refused: {complaint}");
        ensure!(String::from_utf8_lossy(&output.stdout).contains("--own-claim"), "{arguments:?} are another command's");
    }
    Ok(())
}

async fn stores(house: &House) -> Result<()> {
    let has = |arguments: &[String], flag: &str| arguments.iter().any(|argument| argument.starts_with(flag));
    let bare = arguments(house, &json!({"test": {"storageClassName": "fast"}})).await?;
    ensure!(has(&bare, "--own-claim") && has(&bare, "--storage-class=fast") && !has(&bare, "--store"), "{bare:?}");
    for defaults in [json!({"store": "s3://acme-ml/sera"}), json!({"claim": "sera"})] {
        let given = arguments(house, &json!({"runDefaults": defaults})).await?;
        ensure!(!has(&given, "--own-claim") && !has(&given, "--store"), "{given:?}");
    }
    let values = json!({
        "runDefaults": {"store": "s3://acme-ml/sera"}, "test": {"store": "gs://acme/test", "storeCredentialsSecret": "gcs"},
    });
    let own = arguments(house, &values).await?;
    ensure!(has(&own, "--store=gs://acme/test") && has(&own, "--store-credentials=gcs"), "{own:?}");
    Ok(())
}

/// What may be done to which resources, by their names.
async fn granted(house: &House, values: &Value) -> Result<BTreeMap<String, Vec<String>>> {
    let rendered = house.render_test(values).await?;
    let (role, binding) = (rendered.one("Role")?, rendered.one("RoleBinding")?);
    ensure!(binding["roleRef"]["name"] == role["metadata"]["name"], "{binding}");
    ensure!(binding["subjects"][0]["name"] == rendered.one("ServiceAccount")?["metadata"]["name"], "{binding}");
    ensure!(binding["subjects"][0]["name"] == rendered.one("Pod")?["spec"]["serviceAccountName"], "{binding}");
    let rules = role["rules"].as_array().context("there are rules")?;
    let of_rule = |rule: &Value| {
        let verbs: Vec<String> = texts(&rule["verbs"]).into_iter().map(str::to_owned).collect();
        let about = [texts(&rule["resources"]), texts(&rule["resourceNames"])].concat().join("/");
        (about, verbs)
    };
    Ok(rules.iter().map(of_rule).collect())
}

async fn rights(house: &House) -> Result<()> {
    let batches = ("rolloutbatches".to_owned(), ["create", "get", "delete"].map(str::to_owned).to_vec());
    let claims = ("persistentvolumeclaims".to_owned(), ["create", "delete"].map(str::to_owned).to_vec());
    let secret = ("secrets/sera-s3".to_owned(), vec!["get".to_owned()]);
    let on_claim = json!({"runDefaults": {"claim": "sera"}});
    let in_bucket = json!({"test": {"store": "s3://acme-ml/sera", "storeCredentialsSecret": "sera-s3"}});
    for (values, expected) in [
        (json!({}), vec![batches.clone(), claims]),
        (on_claim, vec![batches.clone()]),
        (in_bucket, vec![batches, secret]),
    ] {
        let granted = granted(house, &values).await?;
        ensure!(granted == expected.into_iter().collect(), "with {values}: {granted:?}");
    }
    Ok(())
}

async fn namespaces(house: &House) -> Result<()> {
    for (values, expected) in [
        (json!({}), NAMESPACE),
        (json!({"watchNamespaces": ["ml", "research"]}), "ml"),
        (json!({"watchNamespaces": ["ml", NAMESPACE]}), NAMESPACE),
        (json!({"watchNamespaces": ["ml", "research"], "test": {"namespace": "research"}}), "research"),
    ] {
        let rendered = house.render_test(&values).await?;
        for object in rendered.iter() {
            ensure!(object["metadata"]["namespace"] == expected, "with {values}: {object}");
        }
        let subject = &rendered.one("RoleBinding")?["subjects"][0];
        ensure!(subject["namespace"] == expected, "with {values}: {subject}");
    }
    Ok(())
}

async fn selected_by_nobody(house: &House) -> Result<()> {
    let (rendered, test) = (house.render(Chart::Operator, &json!({})).await?, house.render_test(&json!({})).await?);
    let labels = &test.one("Pod")?["metadata"]["labels"];
    for (kind, selector) in [
        ("Service", "/spec/selector"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("Deployment", "/spec/selector/matchLabels"),
    ] {
        let selector = rendered.one(kind)?.pointer(selector).and_then(Value::as_object).context("a selector")?;
        ensure!(selector.iter().any(|(key, value)| labels[key] != *value), "the {kind} selects the self-test's pod");
    }
    let own = &test.one("NetworkPolicy")?["spec"];
    let selector = own["podSelector"]["matchLabels"].as_object().context("a selector")?;
    ensure!(selector.iter().all(|(key, value)| labels[key] == *value), "its own policy selects {selector:?}");
    ensure!(own["egress"].as_array().is_some_and(|rules| rules.len() == 2) && own["ingress"].is_null(), "{own}");
    Ok(())
}

async fn policy(house: &House) -> Result<()> {
    for (values, expected) in [
        (json!({}), "--admission-policy=on"),
        (json!({"admissionPolicy": {"enabled": false}}), "--admission-policy=off"),
        (json!({"admissionPolicy": {"validationActions": ["Warn", "Audit"]}}), "--admission-policy=off"),
    ] {
        let arguments = arguments(house, &values).await?;
        ensure!(arguments.iter().any(|argument| argument == expected), "with {values}: {arguments:?}");
    }
    Ok(())
}

async fn goes(house: &House) -> Result<()> {
    let version = house.helm(&["version", "--template={{.Version}}"]).await?;
    let numbers: Vec<u32> =
        version.trim().trim_start_matches('v').splitn(3, '.').take(2).map_while(|part| part.parse().ok()).collect();
    ensure!(numbers >= vec![4, 1], "this test is about a newer helm than {version}");
    let pod = house.render_test(&json!({})).await?.one("Pod")?.clone();
    let policy = &pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"];
    ensure!(policy == "before-hook-creation,hook-succeeded", "it goes by {policy}");
    Ok(())
}

async fn left_out(house: &House) -> Result<()> {
    let rendered = house.render_test(&json!({"test": {"enabled": false}})).await?;
    ensure!(rendered.iter().next().is_none(), "something is left of it");
    Ok(())
}
