//! What a newcomer types first: every manifest of `examples/`, and the shortest run that is one.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
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

/// Every document of a manifest is admitted, the Secrets and claims beside ours too, and one is ours.
async fn admits(server: &Server, manifest: &str) -> Result<()> {
    let mut ours = 0;
    for document in serde_yaml::Deserializer::from_str(manifest) {
        let mut object = Value::deserialize(document)?;
        // The namespace of the tests stands in for the example's.
        object["metadata"].as_object_mut().context("no metadata")?.remove("namespace");
        let version = object["apiVersion"].as_str().context("no apiVersion")?;
        let (group, kind) = (version.rsplit_once('/').map(|(group, _)| group), object["kind"].clone());
        let answer = match (group, kind.as_str().context("no kind")?) {
            (Some("sera.dev"), _) => {
                ours += 1;
                server.create(Kind::deserialize(&kind)?, &object, Effect::DryRun).await?
            }
            (None, "Secret") => server.create_beside("secrets", &object, Effect::DryRun).await?,
            (None, "PersistentVolumeClaim") => {
                server.create_beside("persistentvolumeclaims", &object, Effect::DryRun).await?
            }
            (_, other) => bail!("nobody knows where a {other} of {version} goes"),
        };
        answer.admitted().with_context(|| format!("{} {}", object["kind"], object["metadata"]["name"]))?;
    }
    ensure!(ours > 0, "the manifest holds no object of ours");
    Ok(())
}
