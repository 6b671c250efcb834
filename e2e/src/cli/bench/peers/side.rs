//! What either controller goes through: it is started, given many objects that are held, started anew beside them, left alone, and told news that asks
//! for nothing.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use sera_e2e::cluster::Cluster;
use serde_json::json;
use tokio::task::JoinSet;

use super::Peers;
use crate::cli::bench::operator::name_of;
use crate::cli::bench::process::{Process, until};

/// How many requests are under way at once while objects are made and touched.
const AT_ONCE: usize = 16;
/// A controller is at rest when it has made no pass for so long.
const QUIET: Duration = Duration::from_secs(5);

/// A controller, and the kind of its objects.
pub(super) trait Side: 'static {
    /// The namespace of its objects, which is its own.
    const NAMESPACE: &'static str;

    /// The kind of its objects.
    fn kind(&self) -> ApiResource;

    /// What has to be there before them, as manifests.
    fn ground(&self) -> String;

    /// The object of a number.
    fn object(&self, number: u32) -> serde_json::Value;

    /// Whether the controller has said of an object all that there is to say.
    fn is_seen(object: &DynamicObject) -> bool;

    /// Starts the controller.
    fn start(&self, kubeconfig: &Path) -> impl Future<Output = Result<Process>>;
}

/// What was seen of a controller.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) ready_when_empty: Duration,
    pub(super) made: Duration,
    pub(super) first_sight: Duration,
    pub(super) first_requests: f64,
    pub(super) first_memory: (f64, f64),
    pub(super) ready_beside_all: Duration,
    pub(super) start_requests: f64,
    pub(super) rest_memory: (f64, f64),
    pub(super) rest_processor: f64,
    pub(super) rest_requests: f64,
    pub(super) touched_passes: f64,
    pub(super) touched_requests: f64,
    pub(super) touched_processor: f64,
}

/// Has one controller go through it; its namespace is gone afterwards.
pub(super) async fn measure<S: Side>(cluster: &Cluster, side: &S, peers: &Peers) -> Result<Figures> {
    let (kubeconfig, kind) = (cluster.kubeconfig_path(), side.kind());
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), S::NAMESPACE, &kind);
    make_ground(cluster, side).await?;

    let controller = side.start(&kubeconfig).await?;
    let ready_when_empty = controller.ready_after;
    at_rest(&controller).await?;
    let before = controller.metrics().await?;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let mut watch = JoinSet::new();
    watch.spawn(note_seen::<S>(api.clone(), Arc::clone(&seen)));
    let start = Instant::now();
    make(&api, side, peers.objects).await?;
    let made = start.elapsed();
    let all = peers.objects as usize;
    until("every object was looked at", || async {
        Ok(seen.lock().unwrap_or_else(PoisonError::into_inner).len() == all)
    })
    .await?;
    let first_sight = start.elapsed();
    watch.shutdown().await;
    at_rest(&controller).await?;
    let first_requests = controller.metrics().await?.requests() - before.requests();
    let first_memory = controller.memory()?;
    controller.end().await?;

    let controller = side.start(&kubeconfig).await?;
    let ready_beside_all = controller.ready_after;
    let objects = f64::from(peers.objects);
    until("every object was looked at again", || async { Ok(controller.metrics().await?.passes() >= objects) }).await?;
    at_rest(&controller).await?;
    let (before, processor) = (controller.metrics().await?, controller.processor()?);
    tokio::time::sleep(Duration::from_secs(peers.seconds.into())).await;
    let (rested, rest_processor) = (controller.metrics().await?, controller.processor()? - processor);
    let rest_memory = controller.memory()?;
    touch(&api, peers.objects).await?;
    at_rest(&controller).await?;
    let touched = controller.metrics().await?;
    let touched_processor = controller.processor()? - processor - rest_processor;
    controller.end().await?;
    remove_ground(cluster, S::NAMESPACE).await?;
    Ok(Figures {
        ready_when_empty,
        made,
        first_sight,
        first_requests,
        first_memory,
        ready_beside_all,
        start_requests: before.requests(),
        rest_memory,
        rest_processor,
        rest_requests: rested.requests() - before.requests(),
        touched_passes: touched.passes() - rested.passes(),
        touched_requests: touched.requests() - rested.requests(),
        touched_processor,
    })
}

async fn make_ground<S: Side>(cluster: &Cluster, side: &S) -> Result<()> {
    let metadata = ObjectMeta { name: Some(S::NAMESPACE.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(cluster.client()).create(&PostParams::default(), &namespace).await?;
    let ground = side.ground();
    if !ground.is_empty() {
        cluster.apply_in(S::NAMESPACE, &ground).await?;
    }
    Ok(())
}

/// Nothing of one is there while the other is measured: a controller may keep in memory what is not its own.
async fn remove_ground(cluster: &Cluster, namespace: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(cluster.client());
    namespaces.delete(namespace, &DeleteParams::default()).await?;
    until("the namespace is gone", || async { Ok(namespaces.get_opt(namespace).await?.is_none()) }).await
}

/// Waits until a controller has made no pass for a while.
async fn at_rest(controller: &Process) -> Result<()> {
    let mut last = controller.metrics().await?.passes();
    loop {
        tokio::time::sleep(QUIET).await;
        let now = controller.metrics().await?.passes();
        if now <= last {
            return Ok(());
        }
        last = now;
    }
}

async fn make<S: Side>(api: &Api<DynamicObject>, side: &S, count: u32) -> Result<()> {
    stream::iter(0..count)
        .map(async |number| {
            let object = serde_json::from_value(side.object(number))?;
            Box::pin(api.create(&PostParams::default(), &object)).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Notes the names of those that the controller has looked at.
async fn note_seen<S: Side>(api: Api<DynamicObject>, seen: Arc<Mutex<BTreeSet<String>>>) -> Result<()> {
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(object) = events.try_next().await? {
        if S::is_seen(&object) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(object.name_any());
        }
    }
    Ok(())
}

/// Changes an annotation of every object: news that asks for nothing.
async fn touch(api: &Api<DynamicObject>, count: u32) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"bench": "touched"}}}));
    stream::iter(0..count)
        .map(async |number| {
            Box::pin(api.patch_metadata(&name_of(number), &PatchParams::default(), &patch)).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}
