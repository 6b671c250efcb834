//! Requests for passes, from whoever has news to the queue of the kind that they are about.

use std::{convert::Infallible, time::Instant};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
    stream::BoxStream,
};
use kube::runtime::reflector::{ObjectRef, Store};
use sera_crds::{RolloutBatch, SpecializationRun};

use crate::{
    cache::Wake,
    names::Kind,
    runtime::{backlog::Backlog, shutdown::Shutdown},
    subject::Subject,
};

/// Where requests for passes are left; clones share the queues. The queues have no bound of their own: whoever reads them reads at once, and keeps
/// one request an object.
#[derive(Clone)]
pub(super) struct Wakes {
    runs: Line<SpecializationRun>,
    batches: Line<RolloutBatch>,
}

/// The way to the passes of one kind.
#[derive(Clone)]
struct Line<S: Subject> {
    queue: UnboundedSender<ObjectRef<S>>,
    store: Store<S>,
    backlog: Backlog,
}

/// Requests for the passes of one kind.
pub(super) type Requests<S> = BoxStream<'static, Result<ObjectRef<S>, Infallible>>;

/// Where the passes of one kind are asked for.
pub(super) struct Queue<S: Subject>(UnboundedReceiver<ObjectRef<S>>);

/// An object as logs and the backlog name it.
pub(super) fn path_of(namespace: Option<&str>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

impl Wakes {
    /// The way to both kinds' passes, and its other ends; what is asked for is noted in the backlog of its kind.
    pub(super) fn new(
        runs: (Store<SpecializationRun>, Backlog),
        batches: (Store<RolloutBatch>, Backlog),
    ) -> (Self, Queue<SpecializationRun>, Queue<RolloutBatch>) {
        let (runs, run_queue) = Line::new(runs);
        let (batches, batch_queue) = Line::new(batches);
        (Self { runs, batches }, run_queue, batch_queue)
    }

    /// Asks for the passes that `wake` is about.
    pub(super) fn wake(&self, wake: Wake) {
        match wake {
            Wake::One { kind: Kind::Run, namespace, name } => self.runs.one(&namespace, &name),
            Wake::One { kind: Kind::Batch, namespace, name } => self.batches.one(&namespace, &name),
            Wake::All => {
                self.runs.all();
                self.batches.all();
            }
        }
    }

    /// Asks for the passes that news of a run is about: its own, and those of the batches that wait for it.
    pub(super) fn wake_with_followers(&self, wake: Wake) {
        if let Wake::One { kind: Kind::Run, namespace, name } = &wake {
            for batch in self.batches.store.state() {
                if batch.awaited_run() == Some(name) && batch.metadata.namespace.as_ref() == Some(namespace) {
                    self.batches.send(ObjectRef::from_obj(&*batch));
                }
            }
        }
        self.wake(wake);
    }
}

impl<S: Subject> Line<S> {
    fn new((store, backlog): (Store<S>, Backlog)) -> (Self, Queue<S>) {
        let (queue, requests) = unbounded();
        (Self { queue, store, backlog }, Queue(requests))
    }

    fn one(&self, namespace: &str, name: &str) {
        self.send(ObjectRef::new(name).within(namespace));
    }

    fn all(&self) {
        for object in self.store.state() {
            self.send(ObjectRef::from_obj(&*object));
        }
    }

    fn send(&self, object: ObjectRef<S>) {
        self.backlog.requested(path_of(object.namespace.as_deref(), &object.name), Instant::now());
        // The other end goes away when the process ends, and then nobody wants a pass any more.
        let _ = self.queue.unbounded_send(object);
    }
}

impl<S: Subject> Queue<S> {
    /// The requests, until the end is asked for.
    pub(super) fn until(self, shutdown: &Shutdown) -> Requests<S> {
        self.0.map(Ok).take_until(shutdown.requested()).boxed()
    }
}
