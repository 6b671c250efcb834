//! Removing what an owner wants no more: each child under its uid, and with it what it controls.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Preconditions, PropagationPolicy},
    core::NamespaceResourceScope,
};
use sera_crds::RolloutBatch;
use serde::de::DeserializeOwned;

use super::{Applier, Error};
use crate::{
    build::LeaderWorkerSet,
    cache::WatchedJob,
    names::{Owner, is_controlled_by},
    observe::of_job,
    plan::{Removable, Removal},
};

/// How long the pods of a suspended object have, in seconds: with what it takes to notice, less than a minute in all.
const HURRIED_SECONDS: u32 = 45;

impl Applier {
    /// Removes one child, and with it what it controls: it is gone only when that is.
    pub(super) async fn remove(&self, owner: &Owner, removal: &Removal) -> Result<(), Error> {
        match removal.kind {
            Removable::Job => self.delete::<WatchedJob>(owner, removal, "Job").await,
            Removable::Batch => self.delete::<RolloutBatch>(owner, removal, "RolloutBatch").await,
            // First the Service: once what makes the pods is gone, nobody asks for it any more.
            Removable::Teacher => {
                self.delete_service(owner, owner.teacher_name()).await?;
                self.delete::<Deployment>(owner, removal, "Deployment").await
            }
            Removable::TeacherGroups => {
                self.delete_service(owner, owner.teacher_name()).await?;
                self.delete::<LeaderWorkerSet>(owner, removal, "LeaderWorkerSet").await
            }
            Removable::Student => {
                self.delete_service(owner, owner.student_name()).await?;
                self.delete::<Deployment>(owner, removal, "Deployment").await
            }
            Removable::PodsOfJob => self.hurry(owner, removal).await,
        }
    }

    async fn delete<K>(&self, owner: &Owner, removal: &Removal, what: &'static str) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        self.delete_child::<K>(owner, &removal.name, removal.uid.to_string(), what).await
    }

    async fn delete_child<K>(&self, owner: &Owner, name: &str, uid: String, what: &'static str) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &owner.namespace);
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match api.delete(name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            // Replaced by another of that name, or refused for now: taking it for gone would leave it there until something else asks for a pass.
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                Err(Error::OutOfDate { why: "a child that was to be removed could not be at this moment" })
            }
            Err(source) => Err(Error::Request { verb: "removed", what, name: name.to_owned(), source }),
        }
    }

    /// Shortens the time that is left to the pods of a Job that is being deleted; those that have less keep what they have.
    async fn hurry(&self, owner: &Owner, job: &Removal) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &owner.namespace);
        let pods = api.list_metadata(&of_job(&job.uid)).await;
        let failed =
            |verb| move |source| Error::Request { verb, what: "pods of the Job", name: job.name.to_string(), source };
        for pod in pods.map_err(failed("listed"))? {
            let has_time = pod.metadata.deletion_grace_period_seconds.is_none_or(|left| left > HURRIED_SECONDS.into());
            if !has_time || !is_controlled_by(&pod.metadata, &job.uid) {
                continue;
            }
            let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
            let parameters = DeleteParams {
                grace_period_seconds: Some(HURRIED_SECONDS),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            match api.delete(&pod.name_any(), &parameters).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                Err(source) => return Err(failed("ended")(source)),
            }
        }
        Ok(())
    }

    /// Removes the Service of a server, if it is ours.
    async fn delete_service(&self, owner: &Owner, name: String) -> Result<(), Error> {
        let api = Api::<Service>::namespaced(self.client.clone(), &owner.namespace);
        let there = api.get_metadata_opt(&name).await;
        let failed = |source| Error::Request { verb: "read", what: "Service", name: name.clone(), source };
        let ours = there.map_err(failed)?.filter(|there| is_controlled_by(&there.metadata, &owner.uid));
        let Some(uid) = ours.and_then(|there| there.uid()) else { return Ok(()) };
        self.delete_child::<Service>(owner, &name, uid, "Service").await
    }
}
