//! `spec.pods`: what a user may say about the pods of each role, and nothing else of them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    common::{LocalRef, Resources, SecretRef},
    values::{HttpUrl, LabelValue, QueueName, ResourceName, choice},
};

choice! {
    /// What a pod is for.
    PodRole: "a role" {
        /// Takes the snapshot.
        Snapshot = "snapshot",
        /// Drives rollouts, with its sandboxes.
        Rollout = "rollout",
        /// Verifies.
        Verify = "verify",
        /// Builds the dataset.
        Dataset = "dataset",
        /// Serves the teacher.
        Teacher = "teacher",
        /// Trains.
        Train = "train",
        /// Evaluates.
        Evaluate = "evaluate",
        /// Serves the student.
        Serve = "serve",
    }
}

/// What is said about pods, by role. A role's own word goes before `default`'s. Changes apply to the next attempt. All
/// roles together have at most 64 entries in maps and lists, and 4096 characters of annotations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [few_entries(), short_annotations()]))]
pub struct Pods {
    /// For every role that does not say otherwise. Maps are merged by key, everything else is replaced as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<PodSettings>,
    /// For the pod that takes the snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<PodSettings>,
    /// For the pods that drive rollouts; `resources` are the driver's, `generation.sandbox.resources` those of each
    /// slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<PodSettings>,
    /// For the pods that verify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<PodSettings>,
    /// For the pod that builds the dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PodSettings>,
    /// For the pods that serve the teacher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PodSettings>,
    /// For the pods that train.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PodSettings>,
    /// For the pod that evaluates: the driver, with sandboxes and the two models beside it. What the models may use, `serve`
    /// says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<PodSettings>,
    /// For the pods that serve the student.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serve: Option<PodSettings>,
}

/// What may be said about the pods of one role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSettings {
    /// Labels that a node must have, as in a pod; at most 16. The platform's `runDefaults.nodeSelector` is added. Absent:
    /// those alone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::common::schema::node_selector")]
    pub node_selector: BTreeMap<String, LabelValue>,
    /// Taints that the pods put up with, as in a pod; at most 8. Absent: the platform's `runDefaults.tolerations`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::common::schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Rules about nodes and neighbours, as in a pod (`kubectl explain pod.spec.affinity`). Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::common::schema::affinity")]
    pub affinity: Option<Affinity>,
    /// The PriorityClass of the pods. Absent: the platform's `runDefaults.priorityClassName`; without that the cluster's
    /// default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<ResourceName>,
    /// The RuntimeClass of the pods, such as `gvisor`. Absent: the platform's `runDefaults.runtimeClassName`; without that
    /// the node's default runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<ResourceName>,
    /// Secrets (kubernetes.io/dockerconfigjson) with which images are pulled; at most 4. Absent: the platform's
    /// `runDefaults.imagePullSecrets`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<LocalRef>,
    /// Further labels of the pods; at most 16, none under sera.dev/. Absent: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::common::schema::labels")]
    pub labels: BTreeMap<String, LabelValue>,
    /// Further annotations of the pods; at most 8 of at most 1024 characters, none under sera.dev/. Absent: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::common::schema::annotations")]
    pub annotations: BTreeMap<String, String>,
    /// The Kueue queue that the Jobs wait in. Absent: the platform's `runDefaults.queueName`; without that they are not
    /// queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_name: Option<QueueName>,
    /// The ServiceAccount of the pods, for the identity that a cloud gives it; no token of it is mounted. Absent: the
    /// namespace's `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<ResourceName>,
    /// The resources of the pods' main container. Absent: what its role needs of a small repository or model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The size of /dev/shm, such as `64Gi`; it counts as memory. Absent: the runtime's 64 MiB, or 16Gi where a pod has
    /// more than one GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::common::schema::quantity")]
    pub shm_size: Option<Quantity>,
    /// The HTTP proxy that git, stores and endpoints are reached through. Absent: the platform's `runDefaults.proxy`;
    /// without that there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// The Secret whose key `ca.crt` holds authorities (PEM) that are trusted beside the system's, for git, stores and
    /// endpoints. Absent: the platform's `runDefaults.caSecretRef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretRef>,
}

/// An HTTP proxy, as the environment variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// The proxy for `http://` addresses; at most 128 characters. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 128))]
    pub http: Option<HttpUrl>,
    /// The proxy for `https://` addresses; at most 128 characters. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 128))]
    pub https: Option<HttpUrl>,
    /// Hosts, domains and address ranges that are reached without it; at most 16 of at most 128 characters. The
    /// cluster's own services are always among them. Absent: only those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9.*:/_\[\]-]+$")), extend("x-kubernetes-list-type" = "atomic"))]
    pub no_proxy: Vec<String>,
}

/// What says where a pod's Secrets are sent: a batch takes it from its run, whose Secrets they are.
pub(crate) const RUNS_OWN: [&str; 2] = ["proxy", "caSecretRef"];

/// The most labels, annotations, node labels, tolerations, pull secrets, proxy exceptions and quantities that all roles have together: each role may
/// have many, not all of them, so that the largest run is still admitted quickly.
const MAX_ENTRIES: u32 = 64;
/// The most characters that the annotations of all roles have together.
const MAX_ANNOTATION_CHARS: u32 = 4_096;

/// That the lists and maps of all roles are not too many together.
fn few_entries() -> Rule {
    const LISTS: [&[&str]; 8] = [
        &["nodeSelector"],
        &["tolerations"],
        &["imagePullSecrets"],
        &["labels"],
        &["annotations"],
        &["proxy", "noProxy"],
        &["resources", "limits"],
        &["resources", "requests"],
    ];
    // The roles as one list, so that each is looked up once: every look costs the API server a copy of its fields' names. Without `dyn` they would be of
    // types of their own, which no list takes.
    let present =
        roles().map(|role| format!("(!has(self.{role}) ? [] : [dyn(self.{role})])")).collect::<Vec<_>>().join(" + ");
    let counts = LISTS.map(|path| where_present("role", path, |field| format!("size({field})"))).join(" + ");
    Rule::new(format!("({present}).map(role, {counts}).sum() <= {MAX_ENTRIES}"))
        .message(format!("the maps and lists of all roles must have at most {MAX_ENTRIES} entries together; say what holds for all under default").as_str())
}

/// That the annotations of all roles are not too long together.
fn short_annotations() -> Rule {
    let chars = |field: &str| format!("{field}.map(k, size({field}[k])).sum()");
    let lengths = roles().map(|role| where_present("self", &[role, "annotations"], chars));
    Rule::new(format!("[{}].sum() <= {MAX_ANNOTATION_CHARS}", lengths.collect::<Vec<_>>().join(", "))).message(
        format!("the annotations of all roles must have at most {MAX_ANNOTATION_CHARS} characters together").as_str(),
    )
}

/// The names under which something is said of pods: of all, and of those of each role.
pub(crate) fn roles() -> impl Iterator<Item = &'static str> {
    std::iter::once("default").chain(PodRole::ALL.iter().map(|role| role.as_str()))
}

/// A number of the field at a path from `root`, and 0 where one of the names on the way is absent.
fn where_present(root: &str, path: &[&str], number: impl Fn(&str) -> String) -> String {
    let steps: Vec<String> = path
        .iter()
        .scan(root.to_owned(), |field, name| {
            field.push('.');
            field.push_str(name);
            Some(field.clone())
        })
        .collect();
    let present: Vec<String> = steps.iter().map(|step| format!("has({step})")).collect();
    format!("({} ? {} : 0)", present.join(" && "), steps.last().map_or_else(String::new, |field| number(field)))
}

impl Pods {
    /// What is said of one role alone, without `default`.
    fn of(&self, role: PodRole) -> Option<&PodSettings> {
        match role {
            PodRole::Snapshot => self.snapshot.as_ref(),
            PodRole::Rollout => self.rollout.as_ref(),
            PodRole::Verify => self.verify.as_ref(),
            PodRole::Dataset => self.dataset.as_ref(),
            PodRole::Teacher => self.teacher.as_ref(),
            PodRole::Train => self.train.as_ref(),
            PodRole::Evaluate => self.evaluate.as_ref(),
            PodRole::Serve => self.serve.as_ref(),
        }
    }

    /// What the spec says, with the name under which it says so.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &PodSettings)> {
        let roles = PodRole::ALL.iter().map(|role| (role.as_str(), self.of(*role)));
        [("default", self.default.as_ref())]
            .into_iter()
            .chain(roles)
            .filter_map(|(name, settings)| Some((name, settings?)))
    }

    /// These words over the other's, role by role.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        let both = |own: Option<PodSettings>, other: Option<PodSettings>| match (own, other) {
            (Some(own), Some(other)) => Some(own.over(other)),
            (own, other) => own.or(other),
        };
        Self {
            default: both(self.default, other.default),
            snapshot: both(self.snapshot, other.snapshot),
            rollout: both(self.rollout, other.rollout),
            verify: both(self.verify, other.verify),
            dataset: both(self.dataset, other.dataset),
            teacher: both(self.teacher, other.teacher),
            train: both(self.train, other.train),
            evaluate: both(self.evaluate, other.evaluate),
            serve: both(self.serve, other.serve),
        }
    }

    /// The queue that the Jobs of a role wait in, where they do.
    pub fn queue_name(&self, role: PodRole) -> Option<&QueueName> {
        let own = self.of(role).and_then(|settings| settings.queue_name.as_ref());
        own.or_else(|| self.default.as_ref()?.queue_name.as_ref())
    }

    /// What applies to the pods of a role: its own word over `default`'s.
    pub fn settings(&self, role: PodRole) -> PodSettings {
        let default = self.default.clone().unwrap_or_default();
        match self.of(role) {
            Some(own) => own.clone().over(default),
            None => default,
        }
    }
}

impl PodSettings {
    /// These settings, and the others' where these say nothing. Maps are merged by key.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            node_selector: merged(self.node_selector, other.node_selector),
            tolerations: first_filled(self.tolerations, other.tolerations),
            affinity: self.affinity.or(other.affinity),
            priority_class_name: self.priority_class_name.or(other.priority_class_name),
            runtime_class_name: self.runtime_class_name.or(other.runtime_class_name),
            image_pull_secrets: first_filled(self.image_pull_secrets, other.image_pull_secrets),
            labels: merged(self.labels, other.labels),
            annotations: merged(self.annotations, other.annotations),
            queue_name: self.queue_name.or(other.queue_name),
            service_account_name: self.service_account_name.or(other.service_account_name),
            resources: self.resources.or(other.resources),
            shm_size: self.shm_size.or(other.shm_size),
            proxy: self.proxy.or(other.proxy),
            ca_secret_ref: self.ca_secret_ref.or(other.ca_secret_ref),
        }
    }
}

fn merged<V>(own: BTreeMap<String, V>, mut other: BTreeMap<String, V>) -> BTreeMap<String, V> {
    other.extend(own);
    other
}

fn first_filled<T>(own: Vec<T>, other: Vec<T>) -> Vec<T> {
    if own.is_empty() { other } else { own }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_role_goes_before_default_and_maps_are_merged_by_key() {
        let pods: Pods = serde_json::from_value(json!({
            "default": {"queueName": "all", "labels": {"team": "ml", "tier": "low"}, "tolerations": [{"key": "spot"}], "priorityClassName": "batch"},
            "train": {"queueName": "gpu", "labels": {"tier": "high"}, "tolerations": [{"key": "gpu"}]},
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(pods.settings(PodRole::Train)).unwrap(),
            json!({"queueName": "gpu", "labels": {"team": "ml", "tier": "high"}, "tolerations": [{"key": "gpu"}], "priorityClassName": "batch"})
        );
        assert_eq!(Some(pods.settings(PodRole::Verify)), pods.default);
    }

    #[test]
    fn every_role_has_a_field_of_its_name() {
        for role in PodRole::ALL {
            let pods: Pods = serde_json::from_value(json!({role.as_str(): {"queueName": "own"}})).unwrap();
            assert_eq!(pods.given().map(|(name, _)| name).collect::<Vec<_>>(), [role.as_str()]);
        }
    }
}
