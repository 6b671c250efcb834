//! What the API server cannot check by itself: globs, names that are keys of maps, and sums over sections. Pure; the
//! operator turns what is found into the condition `Validated=False`.

use std::{collections::BTreeMap, fmt};

use crate::{
    batch::BatchSpec,
    common::{GROUP, Resources},
    run::{Environment, PodSettings, Pods, RUNS_OWN, RolloutSettings, RunSpec, Source, Training},
    values::{ContainerPath, Glob},
};

/// A field that says what cannot be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, such as `spec.source.include[0]`.
    pub field: String,
    /// What is wrong and what would be right, in lower case.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that is wrong with a run's spec and that its schema admits; empty when nothing is.
pub fn validate_run(spec: &RunSpec) -> Vec<FieldError> {
    let mut found = Findings::default();
    found.source(&spec.source);
    found.rollouts(&spec.generation.rollouts);
    found.training(&spec.training);
    found.pods(spec.pods.as_ref());
    found.0
}

/// Everything that is wrong with a batch's spec and that its schema admits; empty when nothing is.
pub fn validate_batch(spec: &BatchSpec) -> Vec<FieldError> {
    let mut found = Findings::default();
    spec.source.iter().for_each(|source| found.source(source));
    spec.generation.iter().for_each(|rollouts| found.rollouts(rollouts));
    found.pods(spec.pods.as_ref());
    found.way_out(spec);
    found.0
}

/// Directories of a container that belong to the kernel or to the operator's own mounts. Commands have `/tmp` to themselves anyway.
const RESERVED_DIRECTORIES: [&str; 6] = ["/proc", "/sys", "/dev", "/etc/sera", "/run/sera", "/tmp"];
/// The longest name of a label or annotation, without its prefix.
const MAX_KEY_NAME: usize = 63;
/// The longest prefix of one: a DNS subdomain.
const MAX_KEY_PREFIX: usize = 253;

#[derive(Default)]
struct Findings(Vec<FieldError>);

impl Findings {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    fn source(&mut self, source: &Source) {
        self.globs("spec.source.include", &source.include);
        self.globs("spec.source.exclude", &source.exclude);
    }

    fn globs(&mut self, field: &str, globs: &[Glob]) {
        for (at, glob) in globs.iter().enumerate() {
            if let Err(error) = globset::Glob::new(glob.as_str()) {
                self.add(format!("{field}[{at}]"), format!("'{glob}' is not a glob: {}", error.kind()));
            }
        }
    }

    fn rollouts(&mut self, rollouts: &RolloutSettings) {
        self.environment(&rollouts.environment);
        self.resources("spec.generation.sandbox.resources", rollouts.sandbox.resources.as_ref());
    }

    fn environment(&mut self, environment: &Environment) {
        self.directory("spec.generation.environment.workingDir", &environment.working_dir);
        for (at, path) in environment.writable_paths.iter().enumerate() {
            let field = format!("spec.generation.environment.writablePaths[{at}]");
            self.directory(&field, path);
            if below(path.as_str(), environment.working_dir.as_str()) {
                self.add(&field, format!("'{path}' is within workingDir, which is writable already; leave it out"));
            } else if below(environment.working_dir.as_str(), path.as_str()) {
                self.add(
                    &field,
                    format!("'{path}' holds workingDir, which is emptied for each rollout; name a directory beside it"),
                );
            }
            let before = &environment.writable_paths[..at];
            let meets =
                |other: &&ContainerPath| below(path.as_str(), other.as_str()) || below(other.as_str(), path.as_str());
            if let Some(other) = before.iter().find(meets) {
                self.add(field, format!("'{path}' and '{other}' lie in each other; keep the outer one"));
            }
        }
    }

    fn directory(&mut self, field: &str, path: &ContainerPath) {
        if let Some(reserved) = RESERVED_DIRECTORIES.iter().find(|reserved| below(path.as_str(), reserved)) {
            self.add(
                field,
                format!("'{path}' lies in {reserved}, which is not the image's own; choose another directory"),
            );
        } else if let Some(reserved) = RESERVED_DIRECTORIES.iter().find(|reserved| below(reserved, path.as_str())) {
            self.add(
                field,
                format!("'{path}' holds {reserved}, which is not the image's own; choose a directory beside it"),
            );
        }
    }

    fn training(&mut self, training: &Training) {
        let ranks = training.world_size();
        if training.global_batch < ranks {
            let message = format!(
                "{} lines a step cannot be divided over {ranks} ranks; make it at least {ranks}",
                training.global_batch
            );
            self.add("spec.training.globalBatch", message);
        }
    }

    fn pods(&mut self, pods: Option<&Pods>) {
        for (role, settings) in pods.into_iter().flat_map(Pods::given) {
            self.pod_settings(&format!("spec.pods.{role}"), settings);
        }
    }

    /// Of batches that were made before the API server refused it.
    fn way_out(&mut self, spec: &BatchSpec) {
        let pods = spec.pods.iter().filter(|_| spec.run_ref.is_some()).flat_map(Pods::given);
        for (role, settings) in pods {
            let said = [settings.proxy.is_some(), settings.ca_secret_ref.is_some()];
            for (field, _) in RUNS_OWN.iter().zip(said).filter(|(_, is_said)| *is_said) {
                self.add(format!("spec.pods.{role}.{field}"), "a batch of a run takes it from its run: leave it out");
            }
        }
    }

    fn pod_settings(&mut self, field: &str, settings: &PodSettings) {
        self.keys(&format!("{field}.nodeSelector"), &settings.node_selector);
        self.keys(&format!("{field}.labels"), &settings.labels);
        self.keys(&format!("{field}.annotations"), &settings.annotations);
        self.own_keys(&format!("{field}.labels"), &settings.labels);
        self.own_keys(&format!("{field}.annotations"), &settings.annotations);
        self.resources(&format!("{field}.resources"), settings.resources.as_ref());
    }

    fn resources(&mut self, field: &str, resources: Option<&Resources>) {
        if let Some(resources) = resources {
            self.keys(&format!("{field}.limits"), &resources.limits);
            self.keys(&format!("{field}.requests"), &resources.requests);
        }
    }

    fn keys<V>(&mut self, field: &str, map: &BTreeMap<String, V>) {
        for key in map.keys().filter(|key| !is_qualified_name(key)) {
            let message = format!(
                "'{key}' is not a key: expected at most {MAX_KEY_NAME} letters, digits, '-', '_' and '.', with a DNS name and '/' before it or not, such as example.com/team"
            );
            self.add(field, message);
        }
    }

    fn own_keys<V>(&mut self, field: &str, map: &BTreeMap<String, V>) {
        for key in map.keys().filter(|key| is_ours(key)) {
            self.add(field, format!("'{key}' is the operator's own; choose a key outside of {GROUP}"));
        }
    }
}

/// Whether a path is a directory or lies in it.
fn below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a label or annotation belongs to the operator: its prefix is the API group or a domain below it.
fn is_ours(key: &str) -> bool {
    key.split_once('/').is_some_and(|(prefix, _)| {
        prefix == GROUP || prefix.strip_suffix(GROUP).is_some_and(|rest| rest.ends_with('.'))
    })
}

/// Kubernetes' rule for keys of labels, annotations and resources.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(|prefix| prefix.len() <= MAX_KEY_PREFIX && prefix.split('.').all(is_dns_label));
    prefix_fits
        && name.len() <= MAX_KEY_NAME
        && bounded_by_alphanumerics(name, |c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_dns_label(label: &str) -> bool {
    bounded_by_alphanumerics(label, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn bounded_by_alphanumerics(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty()
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The fields that are found wrong in a run that says the shortest possible and what is given.
    fn fields_of(section: &str, value: Value) -> Vec<String> {
        let mut spec = json!({
            "source": {"git": {"url": "https://git.example/a.git"}},
            "teacher": {"rehearsal": {}},
            "generation": {"acceptedTrajectories": 1},
            "training": {"student": {"uri": "builtin://tiny"}},
        });
        merge(&mut spec[section], value);
        validate_run(&serde_json::from_value(spec).unwrap()).into_iter().map(|error| error.field).collect()
    }

    fn merge(into: &mut Value, from: Value) {
        match from {
            Value::Object(fields) if into.is_object() => {
                fields.into_iter().for_each(|(name, value)| merge(&mut into[name], value));
            }
            other => *into = other,
        }
    }

    #[test]
    fn a_plain_run_is_valid() {
        assert_eq!(
            fields_of("source", json!({"include": ["src/**/*.{py,pyi}", "[a-z]*.rs"], "exclude": ["**/test_*"]})),
            [""; 0]
        );
    }

    #[test]
    fn bad_globs_are_named_by_their_place() {
        let found = fields_of("source", json!({"include": ["src/**", "src/[a-"], "exclude": ["{a,b"]}));
        assert_eq!(found, ["spec.source.include[1]", "spec.source.exclude[0]"]);
    }

    #[test]
    fn directories_that_hold_each_other_or_the_operator_s_own_are_refused() {
        let places = |places: &[&str]| {
            let found =
                fields_of("generation", json!({"environment": {"workingDir": "/srv/app", "writablePaths": places}}));
            found.into_iter().map(|field| field.replace("spec.generation.environment.", "")).collect::<Vec<_>>()
        };
        assert_eq!(places(&["/opt/venv", "/opt/cache", "/opt/venv2"]), [""; 0]);
        for refused in ["/tmp", "/tmp/cache", "/run", "/run/sera/home", "/etc", "/srv", "/srv/app/build"] {
            assert_eq!(places(&[refused]), ["writablePaths[0]"], "{refused}");
        }
        assert_eq!(places(&["/opt/a/b", "/opt/a"]), ["writablePaths[1]"]);
        assert_eq!(places(&["/opt/a", "/opt/a/b"]), ["writablePaths[1]"]);
    }

    #[test]
    fn directories_of_the_kernel_and_within_the_working_directory_are_refused() {
        let environment =
            json!({"environment": {"workingDir": "/proc/1", "writablePaths": ["/devel", "/dev/shm", "/proc/1/x"]}});
        let found = fields_of("generation", environment);
        let writable = |at: u32| format!("spec.generation.environment.writablePaths[{at}]");
        assert_eq!(found, ["spec.generation.environment.workingDir".to_owned(), writable(1), writable(2), writable(2)]);
    }

    #[test]
    fn a_step_has_at_least_one_line_for_each_rank() {
        let training = |batch: u32| json!({"globalBatch": batch, "nodes": 2, "gpusPerNode": 4});
        assert_eq!(fields_of("training", training(8)), [""; 0]);
        assert_eq!(fields_of("training", training(7)), ["spec.training.globalBatch"]);
    }

    #[test]
    fn keys_that_kubernetes_would_refuse_and_keys_of_ours_are_found_before_a_pod_is_made() {
        let pods = json!({
            "default": {"labels": {"example.com/team": "a", "-bad": "b"}, "annotations": {"x.sera.dev/y": "z", "notsera.dev/y": "z"}},
            "train": {"resources": {"limits": {"nvidia.com/gpu": 1, "a/b/c": 1}}, "nodeSelector": {"Upper.example/x": "y"}},
        });
        let found = fields_of("pods", pods);
        assert_eq!(
            found,
            [
                "spec.pods.default.labels",
                "spec.pods.default.annotations",
                "spec.pods.train.nodeSelector",
                "spec.pods.train.resources.limits"
            ]
        );
    }

    #[test]
    fn a_batch_of_a_run_does_not_say_where_the_run_s_secrets_go() {
        let found = |run_ref: Value| -> Vec<String> {
            let mut spec = json!({
                "samples": {"from": 0, "count": 1},
                "pods": {"default": {"caSecretRef": {"name": "mine"}}, "rollout": {"proxy": {"http": "http://proxy.example"}}},
            });
            merge(&mut spec, run_ref);
            validate_batch(&serde_json::from_value(spec).unwrap()).into_iter().map(|error| error.field).collect()
        };
        assert_eq!(
            found(json!({"runRef": {"name": "billing"}})),
            ["spec.pods.default.caSecretRef", "spec.pods.rollout.proxy"]
        );
        assert!(found(json!({})).is_empty());
    }
}
