//! What is asked of the API server itself before a child is made that cannot be unmade: caches may be behind.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, Resource, ResourceExt, api::ListParams, core::NamespaceResourceScope};
use sera_crds::RolloutBatch;
use serde::de::DeserializeOwned;

use super::{Applier, Error};
use crate::{
    build::{HostedTeacher, LeaderWorkerSet},
    cache::WatchedJob,
    facts::JobFacts,
    names::{Kind, OWNER_UID, Owner, is_controlled_by},
    subject::Subject,
};

impl Applier {
    /// Whether the object is still as it was planned by, read from the API server itself: caches may be behind, and a child cannot be unmade. Between
    /// this and the POST, the lease keeps other replicas away.
    pub(super) async fn preflight<S: Subject>(&self, subject: &S, owner: &Owner) -> Result<(), Error> {
        let failed = |what| move |source| Error::Request { verb: "read", what, name: owner.name.clone(), source };
        let api = Api::<S>::namespaced(self.client.clone(), &owner.namespace);
        let live = api.get_metadata_opt(&owner.name).await.map_err(failed(S::KIND.as_str()))?;
        let is_same = live.is_some_and(|live| {
            live.metadata.uid.as_deref() == Some(owner.uid.as_str())
                && live.metadata.resource_version == subject.resource_version()
        });
        if is_same { Ok(()) } else { Err(Error::OutOfDate { why: "the object was changed meanwhile" }) }
    }

    /// Whether no other Job of the owner is at work, read from the API server as well. A batch that was deleted and made again by this name works at the
    /// same samples; what is still there of one is named: garbage collection takes its Job away in its own time, and then its pods, and that of a lost
    /// node never by itself.
    pub(super) async fn preflight_jobs(&self, owner: &Owner, name: &str) -> Result<Option<String>, Error> {
        let failed = |what| move |source| Error::Request { verb: "read", what, name: owner.name.clone(), source };
        let jobs = Api::<WatchedJob>::namespaced(self.client.clone(), &owner.namespace);
        let of_name = jobs.list(&ListParams::default().labels(&owner.at_work())).await.map_err(failed("Jobs of"))?;
        let at_work = of_name.items.into_iter().map(WatchedJob::facts);
        let at_work: Vec<JobFacts> = at_work.filter(|job| job.end.is_none() && *job.name != *name).collect();
        if at_work.iter().any(|job| job.controller.as_ref() == Some(&owner.uid)) {
            return Err(Error::OutOfDate { why: "another attempt's Job is still there" });
        }
        if owner.kind == Kind::Run {
            return Ok(None);
        }
        let pods = Api::<Pod>::namespaced(self.client.clone(), &owner.namespace);
        let of_namesakes = ListParams::default()
            .labels(&format!("{},{OWNER_UID}!={}", owner.at_work(), owner.uid))
            .fields("status.phase!=Succeeded,status.phase!=Failed")
            .limit(1);
        let pods = pods.list_metadata(&of_namesakes).await.map_err(failed("pods of"))?.items;
        let pod = pods.first().map(|pod| format!("pod {}", pod.name_any()));
        Ok(pod.or_else(|| at_work.first().map(|job| format!("Job {}", job.name))))
    }

    /// Whether no batch of the owner is there, whose Jobs may be at work.
    pub(super) async fn preflight_batches(&self, owner: &Owner) -> Result<(), Error> {
        let failed = |source| Error::Request { verb: "read", what: "batches of", name: owner.name.clone(), source };
        let batches = Api::<RolloutBatch>::namespaced(self.client.clone(), &owner.namespace);
        let of_owner = ListParams::default().labels(&format!("{OWNER_UID}={}", owner.uid));
        let there = batches.list_metadata(&of_owner).await.map_err(failed)?;
        if there.items.iter().any(|batch| is_controlled_by(&batch.metadata, &owner.uid)) {
            return Err(Error::OutOfDate { why: "a batch is still there" });
        }
        Ok(())
    }

    /// Whether the teacher is gone, whose place a training may need.
    pub(super) async fn preflight_teacher(&self, owner: &Owner, teacher: Option<&HostedTeacher>) -> Result<(), Error> {
        let is_there = if teacher.is_some_and(HostedTeacher::is_over_nodes) {
            self.has::<LeaderWorkerSet>(owner, owner.teacher_groups_name(), "LeaderWorkerSet").await?
        } else {
            self.has::<Deployment>(owner, owner.teacher_name(), "Deployment").await?
        };
        if is_there { Err(Error::OutOfDate { why: "the teacher is still there" }) } else { Ok(()) }
    }

    /// Whether a child of this name is there.
    async fn has<K>(&self, owner: &Owner, name: String, what: &'static str) -> Result<bool, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &owner.namespace);
        match api.get_metadata(&name).await {
            Ok(there) => Ok(is_controlled_by(&there.metadata, &owner.uid)),
            // Of a kind that the cluster does not have it is said in plain text, without a reason.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(source) => Err(Error::Request { verb: "read", what, name, source }),
        }
    }
}
