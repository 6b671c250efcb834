//! What the two kinds have in common, seen from a pass: an identity, a memory in status, and a wish. Here, and only here, the API's types become the
//! domain's and back.

mod batch;
mod digests;
mod run;
mod settings;
mod status;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, sync::Arc};

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use sera_crds::{
    SpecializationRun,
    contract::FunctionSelection,
    defaults::{DefaultsError, RunDefaults},
    run::{GitSource, Output, Source},
    validate::FieldError,
    values::{Duration, StoreUri},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    build::{Blueprint, GitHubParts, SecretField, SnapshotParts},
    facts::Uid,
    names::{Kind, Owner},
    plan::{Finding, Intent, record::Record},
};

pub use batch::facts as batch_facts;

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

    /// What the owner wants, given the platform's defaults, and the run that it takes its word from.
    fn wish(&self, defaults: &RunDefaults, guide: &Guide) -> Wish;

    /// The run that this object takes its word from, where it does.
    fn awaited_run(&self) -> Option<&str>;

    /// Whether the owner wants the data to go with the object. It does not with one that takes its word from a run, which is gone perhaps by then.
    fn reclaims(&self) -> bool;

    /// Who children belong to.
    fn owner(&self) -> Owner {
        Owner {
            kind: Self::KIND,
            namespace: self.namespace().unwrap_or_default(),
            name: self.name_any(),
            uid: self.uid().unwrap_or_default().into(),
        }
    }

    /// The uid of the object that controls this one: of the run that made a batch.
    fn controller(&self) -> Option<Uid> {
        self.controller_reference().map(|owner| owner.uid.as_str().into())
    }

    /// What this object says of the one that controls it.
    fn controller_reference(&self) -> Option<&OwnerReference> {
        self.owner_references().iter().find(|owner| owner.controller == Some(true))
    }
}

/// The run that a batch takes its word from.
#[derive(Debug, Clone)]
pub enum Guide {
    /// There is none of that name, or none is asked for.
    Nobody,
    /// The run, and the platform's defaults as they were fixed for it; none while they are not.
    Run(Arc<SpecializationRun>, Option<Arc<RunDefaults>>),
}

/// What an owner wants: what is planned by, and what is built from.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// For the plan.
    pub intent: Intent,
    /// For the children that the plan may ask for; none where something is missing, which a finding says or the plan waits for.
    pub blueprint: Option<Blueprint>,
}

/// What decides which files are set aside for evaluation: the same for every run, so that runs of one repository can be compared.
const HELD_OUT_SEED: u64 = 42;

/// What a snapshot of `source` is made from.
fn snapshot_parts(source: &Source, git: &GitSource) -> SnapshotParts {
    let field = if source.git.is_some() {
        "spec.source.git.credentialsSecretRef"
    } else {
        "spec.source.github.credentialsSecretRef"
    };
    let secret = git.credentials_secret_ref.as_ref();
    SnapshotParts {
        url: git.url.to_string(),
        revision: git.revision.clone(),
        submodules: git.submodules,
        commits: source.commits,
        credentials: secret.map(|secret| SecretField { name: secret.name.to_string(), field }),
        functions: FunctionSelection {
            include: source.include.clone(),
            exclude: source.exclude.clone(),
            languages: source.languages.clone(),
            held_out_fraction: source.held_out_fraction.clone(),
            held_out_seed: HELD_OUT_SEED,
        },
        github: source.github.as_ref().map(|github| GitHubParts {
            repository: format!("{}/{}", github.owner, github.repository),
            api_url: github.api_url.to_string(),
            credentials: github.credentials_secret_ref.as_ref().map(|secret| secret.name.to_string()),
        }),
    }
}

fn store_credentials(output: &Output) -> Option<SecretField> {
    let secret = output.credentials_secret_ref.as_ref()?;
    Some(SecretField { name: secret.name.to_string(), field: "spec.output.credentialsSecretRef" })
}

/// The folder of `owner` in a store, which must fit what a store's address may be.
fn home(store: &StoreUri, owner: &Owner) -> Result<StoreUri, Finding> {
    let folder = store.folder_of(&owner.namespace, &owner.name, owner.uid.as_str());
    folder.parse().map_err(|_| Finding {
        field: "spec.output.store".to_owned(),
        message: format!("'{folder}' would be the folder of this object, and is too long for an address"),
    })
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

fn span(duration: &Duration) -> SignedDuration {
    SignedDuration::try_from(duration.span()).unwrap_or(SignedDuration::MAX)
}
