//! The fourth step: making what the plan asks for, and removing what it no longer wants. A child is sent once and never changed; one that exists
//! already is ours only if our object controls it.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions, PropagationPolicy},
    core::Status,
};
use sera_crds::{
    contract::{Failure, FailureClass},
    values::Stage,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    build::{self, SecretField, SnapshotJob},
    cache::WatchedJob,
    defaults::{self, FixedDefaults},
    names::{MANAGER, OWNER_UID, Owner, is_controlled_by},
    plan::{Make, Plan, Removal, settle::Made},
    subject::{SnapshotWish, Subject},
};

/// Why applying failed; the pass is made again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not take or answer a request, for a reason that may pass.
    #[error("{what} '{name}' cannot be {verb}")]
    Request {
        /// What was being done.
        verb: &'static str,
        /// What to.
        what: &'static str,
        /// By which name.
        name: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// The platform's defaults cannot be written down.
    #[error(transparent)]
    Defaults(#[from] defaults::Error),
    /// What was planned by is no longer so: the object was changed, or a Job turned up that the caches did not show.
    #[error("the plan is out of date: {why}")]
    OutOfDate {
        /// What has changed.
        why: &'static str,
    },
}

/// The client that applying needs, and what it builds from beside the plan.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    defaults: Arc<FixedDefaults>,
    rollout_image: Arc<str>,
}

impl Applier {
    /// An applier whose Jobs run `rollout_image`.
    pub fn new(client: Client, defaults: Arc<FixedDefaults>, rollout_image: Arc<str>) -> Self {
        Self { client, defaults, rollout_image }
    }

    /// Brings about what `plan` asks for, and says what came of it.
    pub async fn apply<S: Subject>(
        &self,
        plan: &Plan,
        subject: &S,
        owner: &Owner,
        snapshot: Option<&SnapshotWish>,
    ) -> Result<Vec<Made>, Error> {
        for removal in &plan.remove {
            self.remove(owner, removal).await?;
        }
        let mut made = Vec::new();
        for make in &plan.make {
            made.extend(match (make, snapshot) {
                (Make::Defaults, _) => Some(self.fix_defaults(owner).await?),
                (Make::Job { stage, attempt }, Some(snapshot)) => {
                    self.preflight(subject, owner, &owner.job_name(*stage, *attempt)).await?;
                    let job = build::snapshot_job(&self.parts(owner, *attempt, snapshot));
                    Some(self.make_job(owner, *stage, job).await?)
                }
                // A Job is planned only where a snapshot is to be taken.
                (Make::Job { .. }, None) => None,
            });
        }
        Ok(made)
    }

    async fn fix_defaults(&self, owner: &Owner) -> Result<Made, Error> {
        let config_map = build::defaults_config_map(owner, self.defaults.text()?);
        Ok(match self.create(owner, &config_map, "ConfigMap").await? {
            Created::New(_) => {
                self.defaults.fixed(&owner.uid);
                Made::Defaults
            }
            // Ours already: the next pass reads what it holds.
            Created::Ours(_) => Made::Defaults,
            Created::Foreign => Made::NameTaken { kind: "ConfigMap", name: config_map.name_any() },
            Created::Refused(status) => Made::DefaultsRefused { message: status.message },
        })
    }

    async fn make_job(&self, owner: &Owner, stage: Stage, job: Job) -> Result<Made, Error> {
        Ok(match self.create(owner, &job, "Job").await? {
            Created::New(uid) | Created::Ours(uid) => Made::Job { stage, uid: uid.into() },
            Created::Foreign => Made::NameTaken { kind: "Job", name: job.name_any() },
            Created::Refused(status) => Made::JobRefused { stage, failure: refusal(&status) },
        })
    }

    /// Whether the world is still as it was planned by, read from the API server itself: caches may be behind, and a Job cannot be unmade. Between
    /// this and the POST, the lease keeps other replicas away.
    async fn preflight<S: Subject>(&self, subject: &S, owner: &Owner, name: &str) -> Result<(), Error> {
        let failed = |what| move |source| Error::Request { verb: "read", what, name: owner.name.clone(), source };
        let api = Api::<S>::namespaced(self.client.clone(), &owner.namespace);
        let live = api.get_metadata_opt(&owner.name).await.map_err(failed(S::KIND.as_str()))?;
        let is_same = live.is_some_and(|live| {
            live.metadata.uid.as_deref() == Some(owner.uid.as_str())
                && live.metadata.resource_version == subject.resource_version()
        });
        if !is_same {
            return Err(Error::OutOfDate { why: "the object was changed meanwhile" });
        }
        let jobs = Api::<WatchedJob>::namespaced(self.client.clone(), &owner.namespace);
        let of_owner = ListParams::default().labels(&format!("{OWNER_UID}={}", owner.uid));
        let others = jobs.list(&of_owner).await.map_err(failed("Jobs of"))?;
        let is_at_work = others
            .items
            .into_iter()
            .map(WatchedJob::facts)
            .any(|job| job.controller.as_ref() == Some(&owner.uid) && job.end.is_none() && *job.name != *name);
        if is_at_work {
            return Err(Error::OutOfDate { why: "another attempt's Job is still there" });
        }
        Ok(())
    }

    async fn create<K>(&self, owner: &Owner, child: &K, what: &'static str) -> Result<Created, Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &owner.namespace);
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let name = child.name_any();
        let failed = |verb| {
            let name = name.clone();
            move |source| Error::Request { verb, what, name, source }
        };
        match api.create(&parameters, child).await {
            Ok(created) => Ok(Created::New(created.uid().unwrap_or_default())),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let there = api.get_metadata_opt(&name).await.map_err(failed("read"))?;
                Ok(match there {
                    Some(there) if is_controlled_by(&there.metadata, &owner.uid) => {
                        Created::Ours(there.uid().unwrap_or_default())
                    }
                    Some(_) => Created::Foreign,
                    None => return Err(Error::OutOfDate { why: "a child of that name went away this moment" }),
                })
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => {
                Ok(Created::Refused(status))
            }
            Err(source) => Err(failed("made")(source)),
        }
    }

    /// Removes one Job, and with it its pods: it is gone only when they are.
    async fn remove(&self, owner: &Owner, removal: &Removal) -> Result<(), Error> {
        let api = Api::<WatchedJob>::namespaced(self.client.clone(), &owner.namespace);
        let preconditions = Preconditions { uid: Some(removal.uid.to_string()), resource_version: None };
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match api.delete(&removal.name, &parameters).await {
            Ok(_) => Ok(()),
            // Gone, or replaced by another of that name: either way this one is no more.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(source) => Err(Error::Request { verb: "removed", what: "Job", name: removal.name.to_string(), source }),
        }
    }

    fn parts<'a>(&'a self, owner: &'a Owner, attempt: u32, wish: &'a SnapshotWish) -> SnapshotJob<'a> {
        let secret =
            |named: &'a Option<(String, &'static str)>| named.as_ref().map(|(name, field)| SecretField { name, field });
        SnapshotJob {
            owner,
            attempt,
            image: &self.rollout_image,
            url: &wish.url,
            revision: &wish.revision,
            commits: wish.commits,
            git_credentials: secret(&wish.git_credentials),
            store: &wish.store,
            store_credentials: secret(&wish.store_credentials),
            pods: wish.pods.clone(),
        }
    }
}

/// What came of a POST.
enum Created {
    /// It was made; its uid.
    New(String),
    /// It was there already, and our object controls it; its uid.
    Ours(String),
    /// It was there already, and is none of ours.
    Foreign,
    /// The API server will not have it.
    Refused(Box<Status>),
}

/// What a refused Job means: a quota or a policy of the namespace, or something in `spec.pods` that only the API server can judge.
fn refusal(status: &Status) -> Failure {
    let (reason, field) = match status {
        status if status.is_invalid() => ("JobInvalid", Some("spec.pods".to_owned())),
        status if status.message.contains("exceeded quota") => ("QuotaExceeded", None),
        _ => ("PolicyRefused", None),
    };
    Failure {
        class: FailureClass::Configuration,
        reason: reason.to_owned(),
        field,
        message: format!("the API server refuses the Job: {}", status.message),
    }
}
