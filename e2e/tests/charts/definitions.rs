//! The chart of the custom resources carries exactly what `crdgen` wrote, and keeps it when the chart goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::Host;
use crate::house::{Chart, House};

/// Where `crdgen` writes.
const GENERATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/manifests");
const KEEP: &str = "helm.sh/resource-policy";

pub(crate) fn trials(host: &Host) -> Vec<Trial> {
    vec![
        host.trial("the chart's custom resources are byte for byte the generated ones", async |_| same_files()),
        host.trial("rendering adds labels and the keep policy, and changes nothing else", only_metadata_is_added),
        host.trial("without keep, helm may delete the custom resources", keep_can_be_switched_off),
    ]
}

fn same_files() -> Result<()> {
    let (generated, carried) = (contents(Path::new(GENERATED))?, contents(&Chart::Definitions.folder().join("files"))?);
    ensure!(!generated.is_empty(), "{GENERATED} is empty");
    ensure!(
        generated.keys().eq(carried.keys()),
        "{:?} were generated, but the chart has {:?}",
        generated.keys(),
        carried.keys()
    );
    for (name, content) in &generated {
        let advice = format!("cp crds/manifests/{name} charts/sera-operator-crds/files/{name}");
        ensure!(carried.get(name) == Some(content), "the chart's {name} is another than the generated one: {advice}");
    }
    Ok(())
}

fn contents(folder: &Path) -> Result<BTreeMap<String, String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let read = entries.map(|entry| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?))
    });
    read.collect()
}

async fn only_metadata_is_added(house: &House) -> Result<()> {
    let rendered = house.render(Chart::Definitions, &json!({"labels": {"team": "platform"}})).await?;
    for (name, text) in contents(Path::new(GENERATED))? {
        let generated: Value = serde_yaml::from_str(&text)?;
        let mut found = rendered
            .iter()
            .find(|object| object["metadata"]["name"] == generated["metadata"]["name"])
            .with_context(|| format!("{name} was not rendered"))?
            .clone();
        let metadata = found["metadata"].as_object_mut().context("metadata is an object")?;
        let (labels, annotations) = (metadata.remove("labels"), metadata.remove("annotations"));
        ensure!(
            labels.is_some_and(|labels| labels["team"] == "platform"),
            "{name} has not the label that was asked for"
        );
        ensure!(annotations == Some(json!({KEEP: "keep"})), "{name} is annotated {annotations:?}");
        ensure!(found == generated, "{name} was changed by rendering");
    }
    Ok(())
}

async fn keep_can_be_switched_off(house: &House) -> Result<()> {
    let rendered = house.render(Chart::Definitions, &json!({"keep": false})).await?;
    for definition in rendered.of("CustomResourceDefinition") {
        ensure!(definition["metadata"]["annotations"][KEEP].is_null(), "{} is kept", definition["metadata"]["name"]);
    }
    Ok(())
}
