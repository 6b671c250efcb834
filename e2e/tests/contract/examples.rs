//! What a newcomer types first: every manifest of `examples/`, and the shortest run that is one.

use std::fs;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Asker, cases,
    server::{Effect, Kind, Server},
};

/// The folder of the examples.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

/// How long a run may be at its shortest, in lines.
const SHORTEST_LINES: usize = 12;

/// The statements about whole manifests.
pub(crate) fn trials(asker: &Asker) -> Result<Vec<Trial>> {
    let mut trials = vec![asker.trial(
        "admitted",
        format!("the shortest run has at most {SHORTEST_LINES} lines"),
        async |server: &Server| {
            let text = fs::read_to_string(cases::folder().join("shortest.yaml"))?;
            let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
            ensure!(lines <= SHORTEST_LINES, "it has {lines} lines");
            admits(server, &text).await
        },
    )];
    for entry in fs::read_dir(EXAMPLES).with_context(|| format!("cannot read {EXAMPLES}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_name().unwrap_or_default().display().to_string();
            trials.push(asker.trial("admitted", format!("the example {name}"), async move |server: &Server| {
                admits(server, &fs::read_to_string(&path)?).await
            }));
        }
    }
    Ok(trials)
}

/// Every document of ours in a manifest is admitted, and there is one; Secrets and claims beside them are not ours.
async fn admits(server: &Server, manifest: &str) -> Result<()> {
    let mut admitted = 0;
    for document in serde_yaml::Deserializer::from_str(manifest) {
        let mut object = Value::deserialize(document)?;
        if object["apiVersion"] != "sera.dev/v1alpha1" {
            continue;
        }
        let kind: Kind = serde_json::from_value(object["kind"].clone())?;
        // The namespace of the tests stands in for the example's.
        object["metadata"].as_object_mut().context("no metadata")?.remove("namespace");
        server.create(kind, &object, Effect::DryRun).await?.admitted()?;
        admitted += 1;
    }
    ensure!(admitted > 0, "the manifest holds no object of ours");
    Ok(())
}
