//! The fourth step: making what the plan asks for, and removing what it no longer wants. A child is sent once and never changed, but for what
//! serves, which is applied; one that exists already is ours only if our object controls it. What is asked first lives in `preflight`, how children go in `removing`.

mod preflight;
mod removing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::{core::v1::Service, networking::v1::NetworkPolicy};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::{NamespaceResourceScope, Status},
};
use sera_crds::{
    batch::SampleRange,
    contract::{Failure, FailureClass},
    values::Stage,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    build::{self, Blueprint, Images, NetworkRules, TeacherServer},
    defaults::{self, FixedDefaults},
    names::{MANAGER, Owner, RECLAIM, is_controlled_by},
    plan::{Make, Plan, record::Edition, settle::Made},
    subject::Subject,
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
    images: Arc<Images>,
    network: Option<Arc<NetworkRules>>,
}

/// Whose children are made, and what from.
struct Site<'a, S> {
    subject: &'a S,
    owner: &'a Owner,
    blueprint: Option<&'a Blueprint>,
    edition: Edition,
}

impl Applier {
    /// An applier whose pods run these images, behind policies by these rules where there are any.
    pub fn new(
        client: Client,
        defaults: Arc<FixedDefaults>,
        images: Arc<Images>,
        network: Option<Arc<NetworkRules>>,
    ) -> Self {
        Self { client, defaults, images, network }
    }

    /// Brings about what `plan` asks for, and says what came of it.
    pub async fn apply<S: Subject>(
        &self,
        plan: &Plan,
        subject: &S,
        owner: &Owner,
        blueprint: Option<&Blueprint>,
    ) -> Result<Vec<Made>, Error> {
        let site = Site { subject, owner, blueprint, edition: plan.edition };
        for removal in &plan.remove {
            self.remove(owner, removal).await?;
        }
        let mut made = Vec::new();
        for make in &plan.make {
            made.extend(match *make {
                Make::Defaults => Some(self.fix_defaults(owner).await?),
                Make::Teacher => self.make_teacher(&site).await?,
                Make::Student => self.make_student(&site).await?,
                Make::Job { stage, attempt } => self.make_job(&site, stage, attempt).await?,
                Make::Batch { number, from, count } => {
                    Box::pin(self.make_batch(&site, number, SampleRange { from, count })).await?
                }
            });
        }
        Ok(made)
    }

    /// Puts our finalizer on the object or takes it off, over the very version that was planned by.
    pub async fn hold<S: Subject>(&self, subject: &S, hold: bool) -> Result<(), Error> {
        let (name, namespace) = (subject.name_any(), subject.namespace().unwrap_or_default());
        let others = subject.finalizers().iter().map(String::as_str).filter(|finalizer| *finalizer != RECLAIM);
        let finalizers: Vec<&str> = others.chain(hold.then_some(RECLAIM)).collect();
        let metadata = json!({
            "uid": subject.uid(), "resourceVersion": subject.resource_version(), "finalizers": finalizers,
        });
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match Api::<S>::namespaced(self.client.clone(), &namespace).patch_metadata(&name, &parameters, &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                Err(Error::OutOfDate { why: "the object was changed meanwhile" })
            }
            Err(source) => Err(Error::Request { verb: "held", what: S::KIND.as_str(), name, source }),
        }
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
            Created::Hindered(made) => made,
            Created::Refused(status) => {
                Made::Refused { what: "the ConfigMap for the platform's defaults", message: status.message }
            }
        })
    }

    /// Makes a Job; none where there is nothing to make it from, and so no plan asks for it.
    async fn make_job<S: Subject>(
        &self,
        site: &Site<'_, S>,
        stage: Stage,
        attempt: u32,
    ) -> Result<Option<Made>, Error> {
        let Site { owner, blueprint, .. } = *site;
        let parts = blueprint
            .and_then(|blueprint| Some((blueprint, build::job(owner, stage, attempt, blueprint, &self.images)?)));
        let Some((blueprint, job)) = parts else { return Ok(None) };
        self.preflight(site.subject, owner).await?;
        if let Some(child) = self.preflight_jobs(owner, &job.name_any()).await? {
            return Ok(Some(Made::Awaits { stage, child }));
        }
        if matches!(stage, Stage::Training | Stage::Reclaim) {
            self.preflight_teacher(owner, blueprint.teacher.as_ref()).await?;
        }
        if stage == Stage::Reclaim {
            self.preflight_batches(owner).await?;
        }
        let policy = |rules: &NetworkRules| build::stage_policy(owner, stage, blueprint, rules);
        if let Some(refused) = self.fence(owner, policy).await? {
            return Ok(Some(refused));
        }
        if let Some(service) = build::service_of(owner, stage) {
            let service = self.apply_child(owner, &service, "Service").await?;
            if service != Made::Applied {
                return Ok(Some(service));
            }
        }
        Ok(Some(match self.create(owner, &job, "Job").await? {
            Created::New(uid) | Created::Ours(uid) => Made::Job { stage, uid: uid.into() },
            Created::Foreign => Made::NameTaken { kind: "Job", name: job.name_any() },
            Created::Hindered(made) => made,
            Created::Refused(status) => Made::JobRefused { stage, failure: refusal(&status) },
        }))
    }

    async fn make_batch<S: Subject>(
        &self,
        site: &Site<'_, S>,
        number: u32,
        samples: SampleRange,
    ) -> Result<Option<Made>, Error> {
        let Site { owner, .. } = *site;
        let Some(batch) = build::batch(owner, number, samples) else { return Ok(None) };
        self.preflight(site.subject, owner).await?;
        Ok(Some(match self.create(owner, &batch, "RolloutBatch").await? {
            Created::New(uid) | Created::Ours(uid) => Made::Batch { number, uid: uid.into() },
            Created::Foreign => Made::NameTaken { kind: "RolloutBatch", name: batch.name_any() },
            Created::Hindered(made) => made,
            Created::Refused(status) => Made::Refused { what: "a batch", message: status.message },
        }))
    }

    /// Applies what makes the pods of a teacher, and its Service, unless somebody else has one of those by its name.
    async fn make_teacher<S: Subject>(&self, site: &Site<'_, S>) -> Result<Option<Made>, Error> {
        let Site { owner, blueprint, .. } = *site;
        let parts = blueprint.and_then(|blueprint| Some((blueprint, blueprint.teacher.as_ref()?)));
        let Some((blueprint, teacher)) = parts else { return Ok(None) };
        let policy = |rules: &NetworkRules| build::teacher_policy(owner, teacher, rules);
        let service = build::teacher_service(owner, teacher);
        if let Some(refused) = self.before_server(site, policy, &service).await? {
            return Ok(Some(refused));
        }
        Ok(Some(match build::teacher(owner, site.edition, teacher, blueprint, &self.images) {
            TeacherServer::Deployment(deployment) => self.apply_child(owner, &*deployment, "Deployment").await?,
            TeacherServer::LeaderWorkerSet(groups) => self.apply_child(owner, &*groups, "LeaderWorkerSet").await?,
        }))
    }

    /// Applies the Deployment of the student, and its Service.
    async fn make_student<S: Subject>(&self, site: &Site<'_, S>) -> Result<Option<Made>, Error> {
        let Site { owner, blueprint, .. } = *site;
        let parts = blueprint.and_then(|blueprint| Some((blueprint, blueprint.serving.as_ref()?)));
        let Some((blueprint, parts)) = parts else { return Ok(None) };
        let deployment = build::student(owner, site.edition, parts, blueprint, &self.images);
        let policy = |rules: &NetworkRules| build::student_policy(owner, blueprint, rules);
        Ok(Some(match self.before_server(site, policy, &build::student_service(owner)).await? {
            Some(refused) => refused,
            None => self.apply_child(owner, &deployment, "Deployment").await?,
        }))
    }

    /// Applies the policy that holds pods before there are any; says what came of it only where it does not stand.
    async fn fence(
        &self,
        owner: &Owner,
        policy: impl FnOnce(&NetworkRules) -> NetworkPolicy,
    ) -> Result<Option<Made>, Error> {
        let Some(rules) = &self.network else { return Ok(None) };
        let made = self.apply_child(owner, &policy(rules), "NetworkPolicy").await?;
        Ok((made != Made::Applied).then_some(made))
    }

    /// Applies what has to stand before a server's pods are made; says what came of it only where something does not.
    async fn before_server<S: Subject>(
        &self,
        site: &Site<'_, S>,
        policy: impl FnOnce(&NetworkRules) -> NetworkPolicy,
        service: &Service,
    ) -> Result<Option<Made>, Error> {
        self.preflight(site.subject, site.owner).await?;
        if let Some(refused) = self.fence(site.owner, policy).await? {
            return Ok(Some(refused));
        }
        let service = self.apply_child(site.owner, service, "Service").await?;
        Ok((service != Made::Applied).then_some(service))
    }

    /// Applies a child server-side, unless somebody else has one by its name.
    async fn apply_child<K>(&self, owner: &Owner, child: &K, what: &'static str) -> Result<Made, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &owner.namespace);
        let name = child.name_any();
        let failed = |verb| {
            let name = name.clone();
            move |source| Error::Request { verb, what, name, source }
        };
        let there = api.get_metadata_opt(&name).await.map_err(failed("read"))?;
        if there.is_some_and(|there| !is_controlled_by(&there.metadata, &owner.uid)) {
            return Ok(Made::NameTaken { kind: what, name });
        }
        match api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(child)).await {
            Ok(_) => Ok(Made::Applied),
            Err(kube::Error::Api(status)) => match hindrance(&status, what) {
                Some(made) => Ok(made),
                None if is_refused(&status) => Ok(Made::Refused { what, message: status.message }),
                None => Err(failed("applied")(kube::Error::Api(status))),
            },
            Err(source) => Err(failed("applied")(source)),
        }
    }

    async fn create<K>(&self, owner: &Owner, child: &K, what: &'static str) -> Result<Created, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
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
                    // An object of the owner's name that was deleted takes its children along in its own time.
                    Some(there) if there.metadata.deletion_timestamp.is_some() => {
                        return Err(Error::OutOfDate { why: "another object of a child's name is going away" });
                    }
                    Some(_) => Created::Foreign,
                    None => return Err(Error::OutOfDate { why: "a child of that name went away this moment" }),
                })
            }
            Err(kube::Error::Api(status)) => match hindrance(&status, what) {
                Some(made) => Ok(Created::Hindered(made)),
                None if is_refused(&status) => Ok(Created::Refused(status)),
                None => Err(failed("made")(kube::Error::Api(status))),
            },
            Err(source) => Err(failed("made")(source)),
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
    /// Nothing of what was sent is to blame that it was not made.
    Hindered(Made),
    /// The API server will not have it.
    Refused(Box<Status>),
}

/// What keeps a child from being made that has nothing to do with what it is: its namespace is being deleted, or a webhook that has to be asked does
/// not answer, which goes on for as long as nobody is told of it.
fn hindrance(status: &Status, what: &'static str) -> Option<Made> {
    if is_going(status) {
        return Some(Made::NamespaceGoing);
    }
    let is_unanswered = status.code == 500 && status.message.contains("failed calling webhook");
    is_unanswered.then(|| Made::Unanswered { what, message: status.message.clone() })
}

/// Whether the API server will not have what was sent, and tells its reason to whoever can change that: it is forbidden, invalid, or denied by a
/// webhook, which may do so with any code (without one the API server makes it 400 and gives no reason). The other codes are about who asks, or when.
fn is_refused(status: &Status) -> bool {
    (400..500).contains(&status.code) && !matches!(status.code, 401 | 404 | 408 | 409 | 410 | 429)
}

/// Whether it is refused because the namespace is being deleted.
pub(crate) fn is_going(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_forbidden() && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
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
