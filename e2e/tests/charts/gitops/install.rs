//! The examples by which Argo CD and Flux install the charts: what they name is there, and the charts take their values.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::root;
use crate::house::{Chart, House, Manifests, NAMESPACE, RELEASE};

/// The objects of an example, of one kind.
fn objects(file: &str, kind: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(root().join("docs/gitops").join(file))?;
    let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    let all = documents.collect::<Result<Vec<_>, _>>().context("the example is YAML")?;
    Ok(all.into_iter().filter(|object| object["kind"] == kind).collect())
}

/// What the two installations of an example render, by pointers to the chart and the values in each: first the definitions, then the operator.
async fn rendered(house: &House, installs: &[Value], chart: &str, values: &str) -> Result<[Manifests; 2]> {
    ensure!(installs.len() == 2, "{} things are installed, not two", installs.len());
    let one = async |install: &Value, expected: Chart| {
        let path = install.pointer(chart).and_then(Value::as_str).context("it names a chart")?;
        let folder = fs::canonicalize(root().join(path))?;
        ensure!(folder == fs::canonicalize(expected.folder())?, "{path} is not the chart that is expected");
        let given = install.pointer(values).cloned().unwrap_or_else(|| json!({}));
        house.render(expected, &given).await
    };
    Ok([one(&installs[0], Chart::Definitions).await?, one(&installs[1], Chart::Operator).await?])
}

/// Whether the operator's account may make Leases by what was rendered.
fn makes_leases(rendered: &Manifests) -> bool {
    let mut rules = rendered.of("Role").into_iter().flat_map(|role| role["rules"].as_array().into_iter().flatten());
    rules.any(|rule| rule["resources"] == json!(["leases"]) && rule["verbs"] == json!(["create"]))
}

pub(super) async fn argo(house: &House) -> Result<()> {
    let applications = objects("argocd-install.yaml", "Application")?;
    for (application, release) in applications.iter().zip([format!("{RELEASE}-crds"), RELEASE.to_owned()]) {
        ensure!(application["spec"]["source"]["helm"]["releaseName"] == release, "{application}");
        ensure!(application["spec"]["destination"]["namespace"] == NAMESPACE, "{application}");
    }
    let (chart, values) = ("/spec/source/path", "/spec/source/helm/valuesObject");
    let [definitions, operator] = rendered(house, &applications, chart, values).await?;
    // Neither by a definition that is gone from git nor by an Application that goes is a run deleted.
    for definition in definitions.of("CustomResourceDefinition") {
        let options = definition["metadata"]["annotations"]["argocd.argoproj.io/sync-options"].as_str();
        ensure!(options == Some("Prune=false,Delete=false"), "a definition has {options:?}");
    }
    let options = &applications[0]["spec"]["syncPolicy"]["syncOptions"];
    ensure!(options.as_array().is_some_and(|all| all.contains(&json!("ServerSideApply=true"))), "{options}");
    ensure!(makes_leases(&operator), "nobody would make the Lease, which Argo CD leaves out");
    Ok(())
}

pub(super) async fn flux(house: &House) -> Result<()> {
    let file = "flux-install.yaml";
    let (sources, releases) = (objects(file, "GitRepository")?, objects(file, "HelmRelease")?);
    let [_, operator] = rendered(house, &releases, "/spec/chart/spec/chart", "/spec/values").await?;
    for release in &releases {
        let source = &release["spec"]["chart"]["spec"]["sourceRef"];
        ensure!(source["kind"] == "GitRepository" && source["name"] == sources[0]["metadata"]["name"], "{release}");
        ensure!(release["metadata"]["namespace"] == NAMESPACE, "{release}");
    }
    ensure!(releases[1]["metadata"]["name"] == RELEASE, "{}", releases[1]);
    ensure!(releases[1]["spec"]["dependsOn"] == json!([{"name": releases[0]["metadata"]["name"]}]), "{}", releases[1]);
    ensure!(!makes_leases(&operator) && operator.of("Lease").len() == 1, "the Lease is not the chart's alone");
    Ok(())
}
