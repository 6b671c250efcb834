//! What people and other programs do to a run while it is at work: each deed when so many calls were made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use sera_crds::{RolloutBatch, SpecializationRun};
use serde_json::{Value, json};

use super::course::Course;
use super::field::RUN;
use super::operator::LEASE;
use super::persist::{PATIENCE, persistently};
use super::script::Deed;

/// Between two looks at how many calls were made.
const LOOK: Duration = Duration::from_millis(30);

/// The run of a namespace, untyped: as JSON it is small, and what the operator's own types leave out is seen.
pub(super) fn runs(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<SpecializationRun>(&()))
}

/// Does what the script says, each deed in its turn.
pub(super) async fn run(course: Arc<Course>, client: Client) {
    let mut deeds = course.script.deeds.clone();
    deeds.sort_by_key(|(calls, _)| *calls);
    let doer = Doer { runs: runs(&client, &course.namespace), client, course: Arc::clone(&course) };
    for (calls, deed) in deeds {
        while course.calls() < calls {
            tokio::time::sleep(LOOK).await;
        }
        course.note(&format!("somebody does it: {deed:?}"));
        course.sets_about(true);
        if let Err(error) = doer.does(deed).await {
            // What is done already, or locked by now, cannot be done.
            course.note(&format!("  which cannot be done: {error:#}"));
        }
        course.sets_about(false);
    }
}

struct Doer {
    client: Client,
    runs: Api<DynamicObject>,
    course: Arc<Course>,
}

impl Doer {
    async fn does(&self, deed: Deed) -> Result<()> {
        match deed {
            Deed::Suspend(time) => {
                self.change(&json!({"suspend": true})).await?;
                tokio::time::sleep(time).await;
                self.change(&json!({"suspend": false})).await
            }
            Deed::Retry => self.change(&json!({"retry": Timestamp::now().as_millisecond().to_string()})).await,
            Deed::EditThreshold => self.change(&json!({"generation": {"verification": {"threshold": "0.7"}}})).await,
            Deed::DeleteJob => {
                self.delete_first::<Job>(|job| job.status.as_ref().is_some_and(|status| status.active > Some(0))).await
            }
            Deed::DeleteBatch => self.delete_batch().await,
            Deed::DeleteTeacher => self.delete_first::<Deployment>(|_| true).await,
            Deed::StealLease => self.steal_lease().await,
            Deed::Recreate => self.recreate().await,
        }
    }

    async fn change(&self, spec: &Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        // What is given back after a suspension must arrive, whatever the API server is at.
        persistently(|| async { Box::pin(self.runs.patch(RUN, &PatchParams::default(), &patch)).await }).await?;
        Ok(())
    }

    async fn delete_first<K>(&self, is_meant: impl Fn(&K) -> bool) -> Result<()>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.course.namespace);
        let all = persistently(|| async { api.list(&ListParams::default()).await }).await?;
        let victim = all.items.iter().find(|object| is_meant(object)).context("there is none")?;
        api.delete(&victim.name_any(), &DeleteParams::background()).await?;
        self.course.note(&format!("  {} is deleted", victim.name_any()));
        Ok(())
    }

    async fn delete_batch(&self) -> Result<()> {
        let resource = ApiResource::erase::<RolloutBatch>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.course.namespace, &resource);
        let all = api.list(&ListParams::default()).await?;
        let victim = all.items.last().context("there is none")?.name_any();
        api.delete(&victim, &DeleteParams::default()).await?;
        self.course.note(&format!("  {victim} is deleted"));
        Ok(())
    }

    async fn steal_lease(&self) -> Result<()> {
        let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
            Api::namespaced(self.client.clone(), &self.course.namespace);
        let now = Timestamp::now();
        let thief = json!({"spec": {
            "holderIdentity": "a-thief", "leaseDurationSeconds": 1,
            "acquireTime": format!("{now:.6}"), "renewTime": format!("{now:.6}"),
        }});
        leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(thief)).await?;
        Ok(())
    }

    async fn recreate(&self) -> Result<()> {
        let before = self.runs.get(RUN).await?.uid();
        self.runs.delete(RUN, &DeleteParams::background()).await?;
        let run = serde_json::from_value(self.course.run.clone())?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.runs.create(&PostParams::default(), &run).await {
                Ok(made) => {
                    self.course.note(&format!("  {:?} is followed by {:?}", before, made.uid()));
                    return Ok(());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        self.course.wrong("the run could not be made again");
        Ok(())
    }
}
