//! Values: every one is documented, and a wrong one is refused with its name before anything is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Result, bail, ensure};
use libtest_mimic::Trial;
use sera_crds::common::{LocalRef, SecretRef};
use sera_crds::defaults::RunDefaults;
use sera_crds::run::Proxy;
use serde_json::{Value, json};

use crate::Host;
use crate::house::{Chart, House};

pub(crate) fn trials(host: &Host) -> Vec<Trial> {
    let mut trials = vec![
        host.trial("both charts are clean to helm lint", lint),
        host.trial("every run default that the operator knows can be given, and no other", run_defaults),
        host.trial("a namespace whose name is a number stays a name", numeric_namespace),
        host.trial("every value of the schema has its default in values.yaml, and the other way round", async |_| {
            Chart::ALL.into_iter().try_for_each(documented)
        }),
    ];
    trials.extend(refusals().into_iter().map(|(field, values)| {
        host.trial(format!("{values} is refused by the name of {field}"), async move |house: &House| {
            refused(house, field, &values).await
        })
    }));
    trials
}

async fn numeric_namespace(house: &House) -> Result<()> {
    let manifests = house.render(Chart::Operator, &json!({"watchNamespaces": ["2024"]})).await?;
    let of = |object: &Value| object["metadata"]["namespace"].clone();
    let namespaces: Vec<Value> = manifests.iter().map(of).filter(|namespace| !namespace.is_null()).collect();
    ensure!(namespaces.contains(&json!("2024")) && namespaces.iter().all(Value::is_string), "{namespaces:?}");
    Ok(())
}

async fn lint(house: &House) -> Result<()> {
    for chart in Chart::ALL {
        house.helm(&["lint", "--strict", "--quiet", &chart.folder().display().to_string()]).await?;
    }
    Ok(())
}

fn documented(chart: Chart) -> Result<()> {
    let read = |file: &str| fs::read_to_string(chart.folder().join(file));
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let values: Value = serde_yaml::from_str(&read("values.yaml")?)?;
    let (mut declared, mut given) = (BTreeSet::new(), BTreeSet::new());
    compare(&schema, &values, "", &mut declared, &mut given);
    // What a parent chart shares with all of its children is in the schema for it, and has no default of ours.
    declared.remove(".global");
    given.remove(".global");
    let different: Vec<_> = declared.symmetric_difference(&given).collect();
    ensure!(different.is_empty(), "in only one of values.yaml and values.schema.json: {different:?}");
    Ok(())
}

/// Notes the paths of a schema's properties and those of the values, as far down as the schema is closed.
fn compare(schema: &Value, values: &Value, at: &str, declared: &mut BTreeSet<String>, given: &mut BTreeSet<String>) {
    if schema["additionalProperties"] != json!(false) {
        return;
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        // Run defaults are the user's alone: absent is what each of them is by default.
        declared.insert(format!("{at}.{name}"));
        if name != "runDefaults" {
            compare(property, &values[name], &format!("{at}.{name}"), declared, given);
        }
    }
    given.extend(values.as_object().into_iter().flatten().map(|(name, _)| format!("{at}.{name}")));
}

async fn run_defaults(house: &House) -> Result<()> {
    let reference = |name: &str| Some(SecretRef { name: name.parse().ok()? });
    // Without `..`: a field that is added must be added here, and then to the chart.
    let known = RunDefaults {
        store: Some("s3://acme-ml/sera".parse()?),
        claim: None,
        store_credentials_secret_ref: reference("sera-s3"),
        proxy: Some(Proxy {
            http: Some("http://proxy.acme.internal:3128".parse()?),
            https: Some("http://proxy.acme.internal:3129".parse()?),
            no_proxy: vec![".acme.internal".to_owned()],
        }),
        ca_secret_ref: reference("acme-ca"),
        image_pull_secrets: vec![LocalRef { name: "mirror".parse()? }],
        queue_name: Some("ml".parse()?),
        node_selector: BTreeMap::from([("pool".to_owned(), "ml".parse()?)]),
        tolerations: serde_json::from_value(json!([
            {"key": "ml", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60},
        ]))?,
        priority_class_name: Some("batch".parse()?),
        runtime_class_name: Some("kata".parse()?),
    };
    let on_claim = RunDefaults { claim: Some("sera".parse()?), ..RunDefaults::default() };
    for defaults in [&known, &on_claim] {
        house.render(Chart::Operator, &json!({"runDefaults": defaults})).await?;
    }
    let names = |value: Value| value.as_object().map(|object| object.keys().cloned().collect::<BTreeSet<_>>());
    let given = names(serde_json::to_value(known)?).into_iter().chain(names(serde_json::to_value(on_claim)?)).flatten();
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(Chart::Operator.folder().join("values.schema.json"))?)?;
    let allowed = names(schema["properties"]["runDefaults"]["properties"].clone());
    ensure!(allowed == Some(given.collect()), "the schema allows {allowed:?}");
    Ok(())
}

/// Wrong values, each with the words by which the refusal must name it.
fn refusals() -> Vec<(&'static str, Value)> {
    vec![
        ("'replicaz' not allowed", json!({"replicaz": 2})),
        ("/replicas", json!({"replicas": "two"})),
        ("/replicas", json!({"replicas": -1})),
        ("/controller/concurrency", json!({"controller": {"concurrency": 0}})),
        ("/controller/qps", json!({"controller": {"qps": 0}})),
        ("/logging/format", json!({"logging": {"format": "xml"}})),
        ("/logging/level", json!({"logging": {"level": "info, debug"}})),
        ("/traces/endpoint", json!({"traces": {"endpoint": "otel-collector.monitoring:4318"}})),
        ("/traces/endpoint", json!({"traces": {"endpoint": "http://user:word@otel-collector.monitoring:4318"}})),
        ("/traces/env/0/name", json!({"traces": {"env": [{"name": "KUBECONFIG", "value": "/tmp"}]}})),
        ("/watchNamespaces", json!({"watchNamespaces": ["ml", "ml"]})),
        ("/watchNamespaces/0", json!({"watchNamespaces": ["Not_A_Namespace"]})),
        ("/images/operator/tag", json!({"images": {"operator": {"tag": "a tag"}}})),
        ("/images/rollout/digest", json!({"images": {"rollout": {"digest": "sha256:short"}}})),
        ("/images/operator/pullPolicy", json!({"images": {"operator": {"pullPolicy": "Sometimes"}}})),
        ("'pullPolice' not allowed", json!({"images": {"operator": {"pullPolice": "Always"}}})),
        ("/global/imageRegistry", json!({"global": {"imageRegistry": "https://registry.acme.internal"}})),
        ("/admissionPolicy/validationActions/0", json!({"admissionPolicy": {"validationActions": ["Ignore"]}})),
        ("/admissionPolicy/validationActions", json!({"admissionPolicy": {"validationActions": ["Deny", "Warn"]}})),
        ("/networkPolicy/apiServer/ports/0", json!({"networkPolicy": {"apiServer": {"ports": [70000]}}})),
        ("/networkPolicy/apiServer/cidrs/0", json!({"networkPolicy": {"apiServer": {"cidrs": ["10.0.0.1"]}}})),
        ("/podDisruptionBudget/maxUnavailable", json!({"podDisruptionBudget": {"maxUnavailable": 0}})),
        ("/test/landlock", json!({"test": {"landlock": "Maybe"}})),
        ("/test/store", json!({"test": {"store": "file:///srv/sera"}})),
        ("/test/timeout", json!({"test": {"timeout": "4"}})),
        ("test.storeCredentialsSecret needs test.store", json!({"test": {"storeCredentialsSecret": "s3"}})),
        (
            "test.namespace research is not among watchNamespaces",
            json!({"watchNamespaces": ["ml"], "test": {"namespace": "research"}}),
        ),
        ("'stores' not allowed", json!({"runDefaults": {"stores": "s3://acme-ml/sera"}})),
        ("/runDefaults/store", json!({"runDefaults": {"store": "file:///srv/sera"}})),
        ("/runDefaults/proxy/https", json!({"runDefaults": {"proxy": {"https": "proxy.acme.internal:3128"}}})),
        ("/runDefaults/nodeSelector/pool", json!({"runDefaults": {"nodeSelector": {"pool": "a b"}}})),
        ("/runDefaults/tolerations/0/effect", json!({"runDefaults": {"tolerations": [{"effect": "Never"}]}})),
        ("/runDefaults/priorityClassName", json!({"runDefaults": {"priorityClassName": "Batch"}})),
        ("/runDefaults/runtimeClassName", json!({"runDefaults": {"runtimeClassName": ""}})),
        ("/runtimeClassName", json!({"runtimeClassName": "gVisor"})),
        ("runDefaults.claim", json!({"runDefaults": {"store": "s3://acme-ml/sera", "claim": "sera"}})),
    ]
}

async fn refused(house: &House, field: &str, values: &Value) -> Result<()> {
    let Err(error) = house.render(Chart::Operator, values).await else { bail!("{values} was taken") };
    let message = format!("{error:#}");
    ensure!(message.contains(field), "{values} was refused without naming {field}:\n{message}");
    Ok(())
}
