//! Both controllers: watches fill the caches and wake objects, and each object that is woken gets a pass, on the leader alone and never two at once.

mod drivers;
mod pass;
mod telemetry;
mod wakes;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client, Resource,
    core::DeserializeGuard,
    runtime::{
        controller::{self, applier},
        reflector::{Store, store::Writer},
        watcher::Event,
    },
};
use sera_crds::{RolloutBatch, SpecializationRun};
use tokio::{sync::oneshot, task::JoinSet};

use self::{
    pass::{Passer, Written},
    telemetry::{Census, Telemetry},
    wakes::{Queue, Requests, Wakes},
};
use crate::{
    apply::Applier,
    build::{Images, NetworkRules},
    cache::{
        Sighting, Wake, WatchedGroups, WatchedJob, WatchedPod, WatchedServer, watch_children, watch_offered,
        watch_owners,
    },
    collector::Board,
    defaults::FixedDefaults,
    facts::{BatchFacts, Uid},
    names::Kind,
    observe::{Caches, Observer},
    report::Reporter,
    runtime::{Runtime, backoff::Backoff, metrics, passes::Passes, readiness::Startup},
    subject::{Subject, batch_facts},
};

/// How long requests for a pass over one object are gathered into one. A Job's end comes as two or three events within milliseconds; nobody waits
/// for a stage that takes minutes for this long.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// A running pod is none of our business until it ends, and there may be ten thousand of them.
const NOT_RUNNING: &str = "status.phase!=Running";

/// Why the controllers cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A metric cannot be registered.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// A watch ended, which it never does.
    #[error("a watch ended of its own accord; this is a defect of the operator")]
    WatchEnded,
}

/// Runs both controllers until the end is asked for, and the passes under way have ended.
pub async fn run(runtime: Runtime) -> Result<(), Error> {
    let shared = Shared::new(runtime)?;
    let mut watches = JoinSet::new();
    let scopes: Vec<Scope> = shared
        .scopes()
        .into_iter()
        .map(|namespace| Scope::watch(namespace.as_deref(), &shared, &mut watches))
        .collect();
    let stores = scopes.iter().map(|scope| (scope.runs.clone(), scope.batches.clone())).collect();
    shared.runtime.metrics.register(Census::of(stores, shared.runtime.config.outlook.dashboard_gauges))?;
    tokio::select! {
        () = work(scopes, &shared) => Ok(()),
        Some(_) = watches.join_next() => Err(Error::WatchEnded),
    }
}

/// Makes passes from the moment on when every cache is in sync, and not before: half a cache looks like lost children.
async fn work(mut scopes: Vec<Scope>, shared: &Shared) {
    let synced = async {
        for scope in &mut scopes {
            futures::future::join_all(scope.synced.drain(..)).await;
        }
    };
    if shared.runtime.shutdown.or(synced).await.is_none() {
        return;
    }
    shared.runtime.readiness.reached(Startup::Caches);
    let collecting = drivers::collect(&scopes, shared);
    let working = futures::future::join_all(scopes.into_iter().map(|scope| scope.work(shared)));
    tokio::select! {
        _ = working => {}
        () = collecting => {}
    }
}

/// What both controllers share, in every namespace.
struct Shared {
    runtime: Runtime,
    defaults: Arc<FixedDefaults>,
    written: Arc<Written>,
    telemetry: Telemetry,
    images: Arc<Images>,
    network: Option<Arc<NetworkRules>>,
    board: Board,
    run_passes: Passes,
    batch_passes: Passes,
}

impl Shared {
    fn new(runtime: Runtime) -> Result<Self, Error> {
        let concurrency = runtime.config.scope.concurrency.get();
        Ok(Self {
            defaults: Arc::new(FixedDefaults::new(runtime.config.scope.run_defaults.clone().unwrap_or_default())),
            written: Arc::default(),
            telemetry: Telemetry::new(&runtime.metrics)?,
            board: Board::default(),
            images: Arc::new(runtime.config.images.images()),
            network: runtime.config.scope.network_rules.clone().map(Arc::new),
            run_passes: runtime.metrics.passes("run", concurrency)?,
            batch_passes: runtime.metrics.passes("batch", concurrency)?,
            runtime,
        })
    }

    /// The namespaces that are watched one by one; or all of them by one watch.
    fn scopes(&self) -> Vec<Option<String>> {
        let namespaces = &self.runtime.config.scope.namespaces;
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(|name| Some(name.to_string())).collect() }
    }

    /// What the passes of one kind need.
    fn passer(&self, scope: &Scope, passes: Passes) -> Arc<Passer> {
        let Runtime { client, events, leadership, .. } = self.runtime.clone();
        Arc::new(Passer {
            observer: Observer::new(
                client.clone(),
                scope.caches.clone(),
                self.board.clone(),
                Arc::clone(&self.defaults),
                self.runtime.config.images.trainer_gpus,
            ),
            applier: Applier::new(
                client.clone(),
                Arc::clone(&self.defaults),
                Arc::clone(&self.images),
                self.network.clone(),
            ),
            reporter: Reporter::new(client, events),
            runs: scope.runs.clone(),
            written: Arc::clone(&self.written),
            leadership,
            passes,
            backoff: Backoff::new(),
            telemetry: self.telemetry.clone(),
        })
    }

    /// What to do about an object that is gone: nothing of it is kept in memory.
    fn forget(&self) -> impl Fn(&Uid) + Send + 'static {
        let (defaults, written) = (Arc::clone(&self.defaults), Arc::clone(&self.written));
        move |uid| {
            defaults.forget(uid);
            written.forget(uid);
        }
    }
}

/// One namespace, or all: what is known of it, and the way to its passes.
struct Scope {
    runs: Store<SpecializationRun>,
    batches: Store<RolloutBatch>,
    caches: Caches,
    wakes: Wakes,
    run_queue: Queue<SpecializationRun>,
    batch_queue: Queue<RolloutBatch>,
    synced: Vec<oneshot::Receiver<()>>,
}

impl Scope {
    /// Starts the watches of a namespace.
    fn watch(namespace: Option<&str>, shared: &Shared, watches: &mut JoinSet<()>) -> Self {
        let (run_writer, batch_writer) = (Writer::default(), Writer::default());
        let (runs, batches) = (run_writer.as_reader(), batch_writer.as_reader());
        let caches = Caches::default();
        let (run_backlog, batch_backlog) = (shared.run_passes.backlog(), shared.batch_passes.backlog());
        let (wakes, run_queue, batch_queue) =
            Wakes::new((runs.clone(), run_backlog.clone()), (batches.clone(), batch_backlog.clone()));
        let client = &shared.runtime.client;
        let mut synced = Vec::new();
        let mut signal = || {
            let (sender, receiver) = oneshot::channel();
            synced.push(receiver);
            sender
        };
        let wake = || {
            let wakes = wakes.clone();
            move |wake| wakes.wake(wake)
        };
        let wake_followers = || {
            let wakes = wakes.clone();
            move |wake| wakes.wake_with_followers(wake)
        };
        let of_runs = api::<DeserializeGuard<SpecializationRun>>(client, namespace);
        watches.spawn(watch_owners(of_runs, run_writer, wake_followers(), |_| {}, shared.forget(), signal()));
        let of_batches = api::<DeserializeGuard<RolloutBatch>>(client, namespace);
        let tell_runs = tell_runs(caches.clone(), wakes.clone());
        watches.spawn(watch_owners(of_batches, batch_writer, wake(), tell_runs, shared.forget(), signal()));
        watches.spawn(watch_children::<WatchedJob>(
            api(client, namespace),
            None,
            caches.jobs.clone(),
            wake(),
            signal(),
        ));
        watches.spawn(watch_children::<WatchedPod>(
            api(client, namespace),
            Some(NOT_RUNNING),
            caches.pods.clone(),
            wake(),
            signal(),
        ));
        watches.spawn(watch_children::<WatchedServer>(
            api(client, namespace),
            None,
            caches.servers.clone(),
            wake_followers(),
            signal(),
        ));
        watches.spawn(watch_offered::<WatchedGroups>(
            client.clone(),
            api(client, namespace),
            caches.offer.clone(),
            caches.groups.clone(),
            wake_followers(),
            signal(),
        ));
        Self { runs, batches, caches, wakes, run_queue, batch_queue, synced }
    }

    /// Makes passes until the end is asked for.
    async fn work(self, shared: &Shared) {
        let run_passer = shared.passer(&self, shared.run_passes.clone());
        let batch_passer = shared.passer(&self, shared.batch_passes.clone());
        let Runtime { config, shutdown, .. } = &shared.runtime;
        let concurrency = config.scope.concurrency.get();
        let runs = passes(self.runs, self.run_queue.until(shutdown), run_passer, concurrency);
        let batches = passes(self.batches, self.batch_queue.until(shutdown), batch_passer, concurrency);
        let wakes = self.wakes;
        // A new leader looks at everything once: what happened before was the old one's.
        let awake = shared.runtime.leadership.gained().for_each(|()| {
            wakes.wake(Wake::All);
            std::future::ready(())
        });
        tokio::select! {
            _ = async { tokio::join!(runs, batches) } => {}
            () = async { awake.await; std::future::pending().await } => {}
        }
    }
}

/// Keeps what runs know of the batches that they made, and wakes those that there is news for.
fn tell_runs(caches: Caches, wakes: Wakes) -> impl Fn(&Event<RolloutBatch>) {
    move |event| {
        let (Event::Apply(batch) | Event::Delete(batch) | Event::InitApply(batch)) = event else {
            // A list that is complete wakes everybody.
            let told: Event<Sighting<BatchFacts>> =
                if matches!(event, Event::Init) { Event::Init } else { Event::InitDone };
            caches.batches.take_in(told);
            return;
        };
        let child = batch_facts(batch);
        let Some(controller) = child.controller.clone() else { return };
        let sighting = Sighting { uid: child.uid.clone(), controller, child };
        let is_news = caches.batches.take_in(match event {
            Event::Delete(_) => Event::Delete(sighting),
            Event::InitApply(_) => Event::InitApply(sighting),
            _ => Event::Apply(sighting),
        });
        if let Some(run) = batch.awaited_run().filter(|_| is_news) {
            let namespace = batch.metadata.namespace.clone().unwrap_or_default();
            wakes.wake(Wake::One { kind: Kind::Run, namespace, name: run.to_owned() });
        }
    }
}

/// Makes the passes that are asked for, one at a time an object and so many at once as `concurrency` says, for as long as there are requests.
async fn passes<S: Subject>(store: Store<S>, requests: Requests<S>, passer: Arc<Passer>, concurrency: u16) {
    let config = controller::Config::default().concurrency(concurrency).debounce(DEBOUNCE);
    let reconcile = |subject, passer| Box::pin(pass::reconcile::<S>(subject, passer));
    let backlog = passer.passes.backlog().clone();
    applier(reconcile, pass::after_error, passer, store, requests, config)
        .for_each(|passed| {
            // What a pass has to say, it has said itself; an object that is gone by the time of its pass has had none.
            if let Err(controller::Error::ObjectNotFound(object)) = passed {
                backlog.forgotten(&wakes::path_of(object.namespace.as_deref(), &object.name));
            }
            std::future::ready(())
        })
        .await;
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    namespace.map_or_else(|| Api::all(client.clone()), |name| Api::namespaced(client.clone(), name))
}
