//! The platform's defaults (`runDefaults` in Helm's values) and their merge with a spec. Pure: the same two always make
//! the same effective spec.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use serde::{Deserialize, Serialize};

use crate::{
    batch::BatchSpec,
    common::{LocalRef, SecretRef},
    run::{GitSource, Output, PodSettings, Pods, Proxy, RunSpec, Source},
    values::{GitUrl, LabelValue, QueueName, ResourceName, StoreUri},
};

/// What a platform team says once for all runs. A field has a default here or in the schema, never both; what a run
/// says itself goes before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RunDefaults {
    /// The store of runs that name none: `spec.output.store`. Not together with `claim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreUri>,
    /// The ReadWriteMany claim that is the store of runs that name none, for clusters without an object store. Every
    /// namespace with runs has one of this name. Not together with `store`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<ResourceName>,
    /// The Secret with the credentials of `store`, in each run's namespace: `spec.output.credentialsSecretRef`. It does
    /// not apply to a run that names a store of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_credentials_secret_ref: Option<SecretRef>,
    /// The HTTP proxy: `spec.pods.default.proxy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// The Secret whose key `ca.crt` is trusted, in each run's namespace: `spec.pods.default.caSecretRef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretRef>,
    /// The Secrets with which images are pulled, in each run's namespace: `spec.pods.default.imagePullSecrets`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalRef>,
    /// The Kueue queue: `spec.pods.default.queueName`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_name: Option<QueueName>,
    /// Labels that the nodes of all pods must have: `spec.pods.default.nodeSelector`. A run's own are added, and go before
    /// by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, LabelValue>,
    /// Taints that all pods put up with: `spec.pods.default.tolerations`. A run that says some has those alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// The `PriorityClass` of all pods: `spec.pods.default.priorityClassName`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<ResourceName>,
    /// The `RuntimeClass` of all pods: `spec.pods.default.runtimeClassName`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<ResourceName>,
}

/// Why a spec and the defaults make no effective spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefaultsError {
    /// Neither the spec nor the platform names a store.
    #[error("spec.output.store is required: neither this object nor the platform's runDefaults name a store")]
    StoreMissing,
    /// The platform names a store in two ways.
    #[error("runDefaults.store and runDefaults.claim exclude each other")]
    StoreTwice,
    /// The address that follows from owner and repository is none.
    #[error("spec.source.github: no git URL follows from apiUrl, owner and repository; name it in spec.source.git.url")]
    GitUrl,
}

impl DefaultsError {
    /// The field that must change.
    pub fn field(&self) -> &'static str {
        match self {
            Self::StoreMissing => "spec.output.store",
            Self::StoreTwice => "runDefaults.claim",
            Self::GitUrl => "spec.source.git.url",
        }
    }
}

/// A run's spec over the platform's defaults: nothing that a stage needs is missing in it.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveRun {
    /// The spec, with the defaults where it says nothing.
    pub spec: RunSpec,
    /// Where the run keeps its data.
    pub store: StoreUri,
    /// Where the repository is cloned from, and with which credentials.
    pub git: GitSource,
}

/// The spec of a batch of its own over the platform's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveBatch {
    /// The spec, with the defaults where it says nothing.
    pub spec: BatchSpec,
    /// Where the batch keeps its data.
    pub store: StoreUri,
    /// Where the repository is cloned from, and with which credentials; absent where the batch names a snapshot.
    pub git: Option<GitSource>,
}

/// A run's spec over the platform's defaults.
pub fn effective_run(mut spec: RunSpec, defaults: &RunDefaults) -> Result<EffectiveRun, DefaultsError> {
    let store = merge_output(&mut spec.output, defaults)?;
    spec.pods = Some(merge_pods(spec.pods.take(), defaults));
    let git = git_of(&spec.source)?;
    Ok(EffectiveRun { spec, store, git })
}

/// The spec of a batch of its own over the platform's defaults. A batch with `runRef` takes everything from its run's
/// effective spec instead.
pub fn effective_batch(mut spec: BatchSpec, defaults: &RunDefaults) -> Result<EffectiveBatch, DefaultsError> {
    let mut output = spec.output.take().unwrap_or_default();
    let store = merge_output(&mut output, defaults)?;
    spec.output = Some(output);
    spec.pods = Some(merge_pods(spec.pods.take(), defaults));
    let git = spec.source.as_ref().map(git_of).transpose()?;
    Ok(EffectiveBatch { spec, store, git })
}

/// Fills in the store; the platform's credentials belong to the platform's store alone.
fn merge_output(output: &mut Output, defaults: &RunDefaults) -> Result<StoreUri, DefaultsError> {
    if let Some(store) = &output.store {
        return Ok(store.clone());
    }
    let store = match (&defaults.store, &defaults.claim) {
        (Some(_), Some(_)) => return Err(DefaultsError::StoreTwice),
        (Some(store), None) => store.clone(),
        (None, Some(claim)) => StoreUri::on_claim(claim),
        (None, None) => return Err(DefaultsError::StoreMissing),
    };
    output.store = Some(store.clone());
    if output.credentials_secret_ref.is_none() {
        output.credentials_secret_ref.clone_from(&defaults.store_credentials_secret_ref);
    }
    Ok(store)
}

/// Puts the platform's words below `pods.default`.
fn merge_pods(pods: Option<Pods>, defaults: &RunDefaults) -> Pods {
    let platform = PodSettings {
        proxy: defaults.proxy.clone(),
        ca_secret_ref: defaults.ca_secret_ref.clone(),
        image_pull_secrets: defaults.image_pull_secrets.clone(),
        queue_name: defaults.queue_name.clone(),
        node_selector: defaults.node_selector.clone(),
        tolerations: defaults.tolerations.clone(),
        priority_class_name: defaults.priority_class_name.clone(),
        runtime_class_name: defaults.runtime_class_name.clone(),
        ..PodSettings::default()
    };
    let mut pods = pods.unwrap_or_default();
    pods.default = Some(pods.default.take().unwrap_or_default().over(platform));
    pods
}

/// Where a source is cloned from: `git`, or what follows from `github`.
fn git_of(source: &Source) -> Result<GitSource, DefaultsError> {
    if let Some(git) = &source.git {
        return Ok(git.clone());
    }
    let github = source.github.as_ref().ok_or(DefaultsError::GitUrl)?;
    let url = GitUrl::on_github(&github.api_url, &github.owner, &github.repository);
    let url = url.map_err(|_| DefaultsError::GitUrl)?;
    Ok(GitSource::at_head(url, github.credentials_secret_ref.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(sections: Value) -> RunSpec {
        let mut spec = json!({
            "source": {"git": {"url": "https://git.example/a.git"}},
            "teacher": {"rehearsal": {}},
            "generation": {"acceptedTrajectories": 1},
            "training": {"student": {"uri": "builtin://tiny"}},
        });
        if let (Some(spec), Value::Object(sections)) = (spec.as_object_mut(), sections) {
            spec.extend(sections);
        }
        serde_json::from_value(spec).unwrap()
    }

    fn platform(fields: Value) -> RunDefaults {
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn a_run_that_says_nothing_gets_all_that_the_platform_says() {
        let defaults = platform(json!({
            "store": "s3://acme/sera", "storeCredentialsSecretRef": {"name": "s3"}, "proxy": {"https": "http://proxy:3128"},
            "caSecretRef": {"name": "ca"}, "imagePullSecrets": [{"name": "pull"}], "queueName": "gpu",
            "nodeSelector": {"pool": "ml"}, "tolerations": [{"key": "spot"}], "priorityClassName": "batch", "runtimeClassName": "kata",
        }));
        let run = effective_run(run(json!({})), &defaults).unwrap();
        assert_eq!(run.store.as_str(), "s3://acme/sera");
        assert_eq!(
            serde_json::to_value(&run.spec.output).unwrap(),
            json!({"store": "s3://acme/sera", "credentialsSecretRef": {"name": "s3"}, "reclaimPolicy": "Retain"})
        );
        assert_eq!(
            serde_json::to_value(&run.spec.pods).unwrap(),
            json!({"default": {
                "proxy": {"https": "http://proxy:3128"}, "caSecretRef": {"name": "ca"}, "imagePullSecrets": [{"name": "pull"}], "queueName": "gpu",
                "nodeSelector": {"pool": "ml"}, "tolerations": [{"key": "spot"}], "priorityClassName": "batch", "runtimeClassName": "kata",
            }})
        );
    }

    #[test]
    fn what_a_run_says_goes_before_and_its_own_store_does_not_get_the_platforms_credentials() {
        let defaults = platform(
            json!({"store": "s3://acme/sera", "storeCredentialsSecretRef": {"name": "s3"}, "queueName": "gpu"}),
        );
        let own = json!({"output": {"store": "gs://mine/runs"}, "pods": {"default": {"queueName": "mine"}, "train": {"queueName": "large"}}});
        let run = effective_run(run(own), &defaults).unwrap();
        assert_eq!((run.store.as_str(), run.spec.output.credentials_secret_ref), ("gs://mine/runs", None));
        let queue = |role| run.spec.pods.as_ref().unwrap().settings(role).queue_name.unwrap().to_string();
        assert_eq!(
            (queue(crate::run::PodRole::Verify), queue(crate::run::PodRole::Train)),
            ("mine".into(), "large".into())
        );
    }

    #[test]
    fn what_a_run_says_of_its_nodes_is_added_to_the_platforms_labels_and_stands_instead_of_all_else() {
        let defaults = platform(json!({
            "claim": "sera", "nodeSelector": {"pool": "ml", "zone": "a"}, "tolerations": [{"key": "spot"}],
            "priorityClassName": "batch", "runtimeClassName": "kata",
        }));
        let own = json!({"pods": {
            "default": {"nodeSelector": {"pool": "mine"}, "priorityClassName": "urgent"},
            "rollout": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "gpu"}], "runtimeClassName": "gvisor"},
        }});
        let pods = effective_run(run(own), &defaults).unwrap().spec.pods.unwrap();
        let settings = |role| serde_json::to_value(pods.settings(role)).unwrap();
        assert_eq!(
            settings(crate::run::PodRole::Rollout),
            json!({
                "nodeSelector": {"pool": "mine", "zone": "a", "disk": "ssd"}, "tolerations": [{"key": "gpu"}],
                "priorityClassName": "urgent", "runtimeClassName": "gvisor",
            })
        );
        assert_eq!(
            settings(crate::run::PodRole::Train),
            json!({
                "nodeSelector": {"pool": "mine", "zone": "a"}, "tolerations": [{"key": "spot"}],
                "priorityClassName": "urgent", "runtimeClassName": "kata",
            })
        );
    }

    #[test]
    fn a_claim_is_a_store() {
        let run = effective_run(run(json!({})), &platform(json!({"claim": "sera"}))).unwrap();
        assert_eq!((run.store.as_str(), run.store.claim()), ("pvc://sera", Some("sera")));
    }

    #[test]
    fn without_a_store_the_field_is_named() {
        let error = effective_run(run(json!({})), &RunDefaults::default()).unwrap_err();
        assert_eq!(
            (error.field(), error.to_string().contains("spec.output.store is required")),
            ("spec.output.store", true)
        );
        let twice = platform(json!({"store": "s3://acme/sera", "claim": "sera"}));
        assert_eq!(effective_run(run(json!({})), &twice), Err(DefaultsError::StoreTwice));
    }

    #[test]
    fn the_repositorys_url_follows_from_github() {
        let store = platform(json!({"claim": "sera"}));
        for (api, url) in [
            ("https://api.github.com", "https://github.com/acme/billing.git"),
            ("https://api.acme.ghe.com", "https://acme.ghe.com/acme/billing.git"),
            ("https://github.acme.internal/api/v3/", "https://github.acme.internal/acme/billing.git"),
        ] {
            let github = json!({"owner": "acme", "repository": "billing", "apiUrl": api, "credentialsSecretRef": {"name": "app"}});
            let git = effective_run(run(json!({"source": {"github": github}})), &store).unwrap().git;
            assert_eq!((git.url.as_str(), git.revision.as_str()), (url, "HEAD"));
            assert_eq!(git.credentials_secret_ref.unwrap().name.as_str(), "app");
        }
    }

    #[test]
    fn a_batch_of_its_own_takes_the_same_defaults() {
        let spec = json!({"snapshot": {"uri": "s3://acme/sera/ml/a/1"}, "teacher": {"rehearsal": {}}, "generation": {}, "samples": {"count": 8}});
        let batch = effective_batch(
            serde_json::from_value(spec).unwrap(),
            &platform(json!({"claim": "sera", "queueName": "gpu"})),
        )
        .unwrap();
        assert_eq!((batch.store.as_str(), batch.git), ("pvc://sera", None));
        assert_eq!(batch.spec.pods.unwrap().default.unwrap().queue_name.unwrap().as_str(), "gpu");
    }

    #[test]
    fn unknown_defaults_are_refused_by_name() {
        let error = serde_json::from_value::<RunDefaults>(json!({"stoer": "s3://acme/sera"})).unwrap_err();
        assert!(error.to_string().contains("stoer"), "{error}");
    }
}
