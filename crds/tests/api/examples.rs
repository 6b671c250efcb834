//! Every file of `examples/` is a document of the types: what it says comes back, and it can be worked from.

use std::{fs, path::PathBuf};

use sera_crds::{
    RolloutBatch, SpecializationRun,
    defaults::{RunDefaults, effective_batch, effective_run},
    validate::{validate_batch, validate_run},
};
use serde::Deserialize;
use serde_json::Value;

/// Every document of every example, with the name of its file.
fn documents() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut documents = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            documents.push((name.clone(), Value::deserialize(document).unwrap()));
        }
    }
    assert!(documents.len() >= 10, "only {} documents", documents.len());
    documents
}

/// What `written` says and `read` does not, as a path; nothing is lost where there is none. Defaults may have been added.
fn lost(path: &str, written: &Value, read: Option<&Value>) -> Option<String> {
    match (written, read) {
        (Value::Object(written), Some(Value::Object(read))) => {
            written.iter().find_map(|(name, value)| lost(&format!("{path}.{name}"), value, read.get(name)))
        }
        (Value::Array(written), Some(Value::Array(read))) if written.len() == read.len() => written
            .iter()
            .zip(read)
            .enumerate()
            .find_map(|(at, (value, read))| lost(&format!("{path}[{at}]"), value, Some(read))),
        // Kubernetes writes quantities as texts, whichever way they were given.
        (Value::Number(number), Some(Value::String(text))) if number.to_string() == *text => None,
        (written, Some(read)) if written == read => None,
        _ => Some(path.to_owned()),
    }
}

#[test]
fn nothing_of_an_example_is_lost_in_the_types() {
    for (file, document) in documents() {
        let read = match document["kind"].as_str().unwrap() {
            "SpecializationRun" => {
                serde_json::to_value(serde_json::from_value::<SpecializationRun>(document.clone()).unwrap())
            }
            "RolloutBatch" => serde_json::to_value(serde_json::from_value::<RolloutBatch>(document.clone()).unwrap()),
            "Secret" | "PersistentVolumeClaim" => continue,
            other => panic!("{file} has a {other}"),
        };
        assert_eq!(lost("", &document, Some(&read.unwrap())), None, "{file}");
    }
}

#[test]
fn every_example_can_be_worked_from() {
    let platform = RunDefaults { claim: Some("sera".parse().unwrap()), ..RunDefaults::default() };
    for (file, document) in documents() {
        let errors = match document["kind"].as_str().unwrap() {
            "SpecializationRun" => {
                let run: SpecializationRun = serde_json::from_value(document).unwrap();
                validate_run(&effective_run(run.spec, &platform).unwrap().spec)
            }
            "RolloutBatch" => {
                let batch: RolloutBatch = serde_json::from_value(document).unwrap();
                validate_batch(&effective_batch(batch.spec, &platform).unwrap().spec)
            }
            _ => continue,
        };
        assert_eq!(errors, [], "{file}");
    }
}

#[test]
fn only_the_example_of_defaults_needs_the_platform_to_name_a_store() {
    for (file, document) in documents().into_iter().filter(|(_, document)| document["kind"] == "SpecializationRun") {
        let run: SpecializationRun = serde_json::from_value(document).unwrap();
        assert_eq!(effective_run(run.spec, &RunDefaults::default()).is_err(), file == "with-defaults.yaml", "{file}");
    }
}

#[test]
fn the_minimal_run_has_at_most_12_lines() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/minimal.yaml");
    assert!(fs::read_to_string(path).unwrap().lines().count() <= 12);
}
