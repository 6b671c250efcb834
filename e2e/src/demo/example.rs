//! The example that the demo applies: the file that the documentation shows, with this machine's repository in the place of the reader's.

use std::path::PathBuf;

use serde::Deserialize;
use serde_yaml::Value;

/// The file, as it is in the repository.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart-rehearsal.yaml");

/// Why the example cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ExampleError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not YAML.
    #[error("examples/quickstart-rehearsal.yaml is not valid YAML")]
    Yaml(#[from] serde_yaml::Error),
    /// It has no run.
    #[error("examples/quickstart-rehearsal.yaml has no SpecializationRun with spec.source.git.url")]
    NoRun,
}

/// The manifests to apply, and the name of the run among them.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) manifests: String,
    pub(super) run: String,
}

/// Reads the example, puts all of it into `namespace`, and points its run at `repository`.
pub(super) fn of_repository(repository: &str, namespace: &str) -> Result<Example, ExampleError> {
    let text =
        std::fs::read_to_string(EXAMPLE).map_err(|source| ExampleError::Read { path: EXAMPLE.into(), source })?;
    adapted(&text, repository, namespace)
}

fn adapted(text: &str, repository: &str, namespace: &str) -> Result<Example, ExampleError> {
    let mut documents =
        serde_yaml::Deserializer::from_str(text).map(Value::deserialize).collect::<Result<Vec<_>, _>>()?;
    let run =
        documents.iter_mut().find(|document| document["kind"] == "SpecializationRun").ok_or(ExampleError::NoRun)?;
    let name = run["metadata"]["name"].as_str().ok_or(ExampleError::NoRun)?.to_owned();
    let url = run.get_mut("spec").and_then(|spec| spec.get_mut("source")?.get_mut("git")?.get_mut("url"));
    *url.ok_or(ExampleError::NoRun)? = repository.into();
    for metadata in documents.iter_mut().filter_map(|document| document.get_mut("metadata")?.as_mapping_mut()) {
        metadata.insert("namespace".into(), namespace.into());
    }
    let documents = documents.iter().map(serde_yaml::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(Example { manifests: documents.join("---\n"), run: name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_repository_and_the_namespace_are_changed() {
        let text = "kind: PersistentVolumeClaim\nmetadata: {name: store}\n---\nkind: SpecializationRun\nmetadata: {name: quick}\nspec: {suspend: false, source: {git: {url: https://example.com/a.git, revision: main}}}\n";
        let example = adapted(text, "http://10.0.0.1:8418/b.git", "demo").unwrap();
        assert_eq!(example.run, "quick");
        let changed: Vec<Value> = serde_yaml::Deserializer::from_str(&example.manifests)
            .map(|document| Value::deserialize(document).unwrap())
            .collect();
        assert_eq!(changed[0]["metadata"]["name"], "store");
        assert_eq!(changed[0]["metadata"]["namespace"], "demo");
        assert_eq!(changed[1]["metadata"]["namespace"], "demo");
        assert_eq!(changed[1]["spec"]["source"]["git"]["url"], "http://10.0.0.1:8418/b.git");
        assert_eq!(changed[1]["spec"]["source"]["git"]["revision"], "main");
        assert_eq!(changed[1]["spec"]["suspend"], false);
    }

    #[test]
    fn an_example_without_a_run_is_refused_by_name() {
        assert!(matches!(adapted("kind: Secret\n", "x", "demo"), Err(ExampleError::NoRun)));
    }
}
