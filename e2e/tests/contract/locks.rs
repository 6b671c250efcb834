//! Whether a lock was forgotten: every field of a run's spec is locked by some stage, or stays open on purpose.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::{
    Asker,
    schema::definition_path,
    server::{Kind, Server},
};

/// What no stage locks: these fields and all within them.
const OPEN: [&str; 10] = [
    ".spec.teacher.price",
    ".spec.teacher.serve.replicas",
    ".spec.generation.parallelBatches",
    ".spec.generation.budget",
    ".spec.output.reclaimPolicy",
    ".spec.serve",
    ".spec.suspend",
    ".spec.retry",
    ".spec.ttl",
    ".spec.pods",
];

/// The statement about locks as a whole; `cases/run/locks.yaml` tries them one by one.
pub(crate) fn trial(asker: &Asker) -> Trial {
    asker.trial("schema", "run locks every field that is not open on purpose", async |server: &Server| {
        let path = definition_path(Kind::SpecializationRun);
        let definition = server.get(&path).await?;
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let rules = schema["x-kubernetes-validations"].as_array().context("the schema has no rules")?;
        let locked: Vec<&str> = rules
            .iter()
            .filter(|rule| rule["rule"].as_str().is_some_and(|rule| rule.contains("lockedStages")))
            .filter_map(|rule| rule["fieldPath"].as_str())
            .collect();
        let mut forgotten = Vec::new();
        unlocked(".spec", &schema["properties"]["spec"], &locked, &mut forgotten);
        ensure!(forgotten.is_empty(), "neither locked nor open on purpose:\n{}", forgotten.join("\n"));
        Ok(())
    })
}

/// Collects the fields that no lock covers. A section is looked into only where a lock or an opening is inside of it.
fn unlocked(path: &str, schema: &Value, locked: &[&str], forgotten: &mut Vec<String>) {
    if locked.contains(&path) || OPEN.contains(&path) {
        return;
    }
    let within = format!("{path}.");
    if !locked.iter().chain(&OPEN).any(|field| field.starts_with(&within)) {
        forgotten.push(path.to_owned());
        return;
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        unlocked(&format!("{path}.{name}"), property, locked, forgotten);
    }
}
