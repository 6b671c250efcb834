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

/// Whether `docs/memory.md` says that the training fits GPUs of 80 GB: where it is on GPUs, and its student has a table there.
fn fits(page: &str, run: &SpecializationRun) -> Option<bool> {
    let training = &run.spec.training;
    let uri = training.student.uri.to_string();
    let (_, table) = page.split_once(&format!("\n## {}\n", uri.rsplit('/').next()?))?;
    let ranks = training.nodes * training.gpus_per_node;
    if ranks == 0 {
        return None;
    }
    assert!(run.spec.dataset.context_length <= 32_768, "the page has nothing for lines that long");
    let written = serde_json::to_value(training).unwrap();
    let method = if written["method"]["full"].is_null() { "LoRA" } else { "full" };
    // One rank has nobody to divide with.
    let sharding = if ranks == 1 { "None" } else { written["sharding"].as_str().unwrap() };
    let row = format!("| {method} | {ranks} | {sharding} |");
    let row = table.lines().take_while(|line| !line.starts_with("## ")).find(|line| line.starts_with(&row)).unwrap();
    let [.., of_80, _, _] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
    Some(if of_80.trim() == "with `offload`" { training.offload } else { of_80.trim() == "yes" })
}

#[test]
fn every_example_with_gpus_fits_80_gb_as_the_page_on_memory_counts() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/memory.md");
    let page = fs::read_to_string(page).unwrap();
    let runs = documents().into_iter().filter(|(_, document)| document["kind"] == "SpecializationRun");
    let judged =
        runs.filter_map(|(file, document)| Some((file, fits(&page, &serde_json::from_value(document).unwrap())?)));
    let judged: Vec<(String, bool)> = judged.collect();
    assert!(judged.len() >= 8, "the page knows the students of {judged:?} only");
    assert!(judged.iter().all(|(_, fits)| *fits), "{judged:?}");
}
