//! Removing what an owner wants no more: each child under its uid, and with it what it controls.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
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
    plan::{Removable, Removal},
};

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
