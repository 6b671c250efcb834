//! What the two kinds have in common, seen from a pass: an identity, a memory in status, and a wish. Here, and only here, the API's types become the
//! domain's and back.

mod batch;
mod run;
mod status;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use jiff::SignedDuration;
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use sera_crds::{
    defaults::{DefaultsError, RunDefaults},
    run::{Commits, GitSource, Output, PodRole, PodSettings, Pods, Source, Teacher, TeacherBackend},
    validate::FieldError,
    values::{Duration, ReclaimPolicy, StoreUri},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    names::{Kind, Owner},
    plan::{Finding, Intent, RunSnapshot, record::Record},
};

/// A kind that passes are made over.
pub trait Subject:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Which of them.
    const KIND: Kind;

    /// What status remembers.
    fn record(&self) -> Record;

    /// This object with `record` as its status; what status says beside that stays.
    #[must_use]
    fn with_record(&self, record: &Record) -> Self;

    /// The status as JSON, null where there is none.
    fn status_json(&self) -> serde_json::Value;

    /// What the owner wants, given the platform's defaults and how far the runs of the namespace are.
    fn wish(&self, defaults: &RunDefaults, runs: &dyn Fn(&str) -> RunSnapshot) -> Wish;

    /// The run that this object waits for, where it does.
    fn awaited_run(&self) -> Option<&str>;

    /// Who children belong to.
    fn owner(&self) -> Owner {
        Owner {
            kind: Self::KIND,
            namespace: self.namespace().unwrap_or_default(),
            name: self.name_any(),
            uid: self.uid().unwrap_or_default().into(),
        }
    }
}

/// What an owner wants: what is planned by, and what is built from.
#[derive(Debug, Clone)]
pub struct Wish {
    /// For the plan.
    pub intent: Intent,
    /// For the Job of a snapshot, where one is taken.
    pub snapshot: Option<SnapshotWish>,
}

/// What the Job of a snapshot is made from.
#[derive(Debug, Clone)]
pub struct SnapshotWish {
    /// The repository's address.
    pub url: String,
    /// The branch, tag or commit.
    pub revision: String,
    /// Which commits are taken.
    pub commits: Commits,
    /// The Secret with the repository's credentials, and the field that names it.
    pub git_credentials: Option<(String, &'static str)>,
    /// The store.
    pub store: StoreUri,
    /// The Secret with the store's credentials, and the field that names it.
    pub store_credentials: Option<(String, &'static str)>,
    /// What is said about the snapshot's pods.
    pub pods: PodSettings,
}

/// What a snapshot of `source` is made from.
fn snapshot_wish(
    source: &Source,
    git: GitSource,
    store: StoreUri,
    output: &Output,
    pods: Option<&Pods>,
) -> SnapshotWish {
    let git_field = if source.git.is_some() {
        "spec.source.git.credentialsSecretRef"
    } else {
        "spec.source.github.credentialsSecretRef"
    };
    let store_secret = output.credentials_secret_ref.as_ref();
    SnapshotWish {
        url: git.url.to_string(),
        revision: git.revision,
        commits: source.commits,
        git_credentials: git.credentials_secret_ref.map(|secret| (secret.name.to_string(), git_field)),
        store,
        store_credentials: store_secret.map(|secret| (secret.name.to_string(), "spec.output.credentialsSecretRef")),
        pods: pods.map(|pods| pods.settings(PodRole::Snapshot)).unwrap_or_default(),
    }
}

impl From<FieldError> for Finding {
    fn from(error: FieldError) -> Self {
        Self { field: error.field, message: error.message }
    }
}

fn finding(error: &DefaultsError) -> Finding {
    let (field, message) = (error.field(), error.to_string());
    // Their sentences begin with the field, and so does what is made of a finding.
    let message =
        message.strip_prefix(field).map_or(message.clone(), |rest| rest.trim_start_matches([':', ' ']).to_owned());
    Finding { field: field.to_owned(), message }
}

fn unsupported_output(output: &Output) -> Option<String> {
    (output.reclaim_policy == ReclaimPolicy::Delete).then(|| {
        "spec.output.reclaimPolicy: deleting the data along with the object is not part of this release; use Retain"
            .to_owned()
    })
}

/// The teacher in a word: its model, or `rehearsal`, so that nobody takes a rehearsal for more.
fn teacher_word(teacher: &Teacher) -> String {
    match &teacher.backend {
        TeacherBackend::Endpoint(endpoint) => endpoint.model.clone(),
        TeacherBackend::Serve(service) => service.model.uri.to_string(),
        TeacherBackend::Rehearsal(_) => "rehearsal".to_owned(),
    }
}

fn span(duration: &Duration) -> SignedDuration {
    SignedDuration::try_from(duration.span()).unwrap_or(SignedDuration::MAX)
}
