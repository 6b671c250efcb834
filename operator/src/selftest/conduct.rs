//! How a self-test goes: what is asked of the API server, in which order, and that nothing stays.

use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, PostParams},
};
use sera_crds::RolloutBatch;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Error,
    objects::{FORBIDDEN_SECRET, Objects},
    story::Story,
};
use crate::runtime::{advice::explain, startup};

/// Between two looks at the batch.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the operator may take to say its first word about a batch: a new leader waits for the Lease of an old one, and reads all that there is.
pub(super) const FIRST_WORD: Duration = Duration::from_mins(1);
/// How long an API server may take to enforce a policy that was installed a moment ago.
const POLICY: Duration = Duration::from_secs(15);

/// A self-test that was begun.
pub(super) struct Test {
    pub(super) client: Client,
    pub(super) objects: Objects,
    pub(super) started: Instant,
}

impl Test {
    /// Makes the batch and follows it to its end.
    pub(super) async fn conduct(&self, with_policy: bool, story: &mut Story) -> Result<(), Error> {
        self.tell(&format!("namespace {}", self.client.default_namespace()));
        if let Some(missing) = startup::missing_kinds(&self.client).await {
            return Err(Error::Kinds(missing));
        }
        if with_policy {
            self.see_the_policy_refuse().await?;
            self.tell("the admission policy refuses a Secret that this account may not read");
        }
        if let Some(claim) = &self.objects.claim {
            self.create("make a PersistentVolumeClaim", claim).await?;
            self.tell(&format!(
                "no store is configured: PersistentVolumeClaim {} is made for this test",
                claim.name_any()
            ));
        }
        self.create("make a RolloutBatch", &self.objects.batch).await?;
        self.tell(&format!("RolloutBatch {} is made", self.objects.batch.name_any()));
        self.follow(story).await
    }

    /// Asks for a batch that must be refused, without making it.
    async fn see_the_policy_refuse(&self) -> Result<(), Error> {
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        while self.started.elapsed() < POLICY {
            match self.api::<RolloutBatch>().create(&dry, &self.objects.trespass).await {
                Ok(_) => tokio::time::sleep(AGAIN).await,
                Err(kube::Error::Api(status)) if status.message.contains(FORBIDDEN_SECRET) => {
                    return Ok(());
                }
                Err(source) => {
                    return Err(Error::Request {
                        what: "ask whether a RolloutBatch would be admitted",
                        source: Box::new(source),
                    });
                }
            }
        }
        Err(Error::PolicyAsleep)
    }

    async fn follow(&self, story: &mut Story) -> Result<(), Error> {
        let (batches, made) = (self.api::<RolloutBatch>(), Instant::now());
        loop {
            let batch = batches.get(&self.objects.batch.name_any()).await;
            let batch =
                batch.map_err(|source| Error::Request { what: "read the RolloutBatch", source: Box::new(source) })?;
            story.hear(batch.status.unwrap_or_default()).iter().for_each(|line| self.tell(line));
            if let Some(ending) = story.ending() {
                return ending.map(|words| self.tell(&words)).map_err(Error::Batch);
            }
            if story.is_empty() && made.elapsed() > FIRST_WORD {
                return Err(Error::NoOperator);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Deletes what was made; with the batch goes all that the operator made of it.
    pub(super) async fn clear_away(&self) {
        self.delete(&self.objects.batch).await;
        if let Some(claim) = &self.objects.claim {
            self.delete(claim).await;
        }
    }

    async fn create<K>(&self, what: &'static str, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let made = self.api::<K>().create(&PostParams::default(), object).await;
        made.map(drop).map_err(|source| Error::Request { what, source: Box::new(source) })
    }

    async fn delete<K>(&self, object: &K)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let name = format!("{} {}", K::kind(&()), object.name_any());
        match self.api::<K>().delete(&object.name_any(), &DeleteParams::default()).await {
            Ok(_) => self.tell(&format!("{name} is deleted")),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => self.tell(&format!("{name} stays, and goes with this pod: {}", explain(&error))),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::default_namespaced(self.client.clone())
    }

    fn tell(&self, line: &str) {
        println!("{:>4}s  {line}", self.started.elapsed().as_secs());
    }
}
