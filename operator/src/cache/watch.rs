//! The watches: what they bring is decoded, kept, and answered by waking the object that it matters to. They run on every replica from the start:
//! a standby is warm.

use futures::{Stream, StreamExt, future::ready, pin_mut};
use kube::{
    Api, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{Children, Sighting, WatchedGroups, WatchedJob, WatchedPod, WatchedServer};
use crate::{
    facts::{JobFacts, PodFacts, ServerFacts, Uid},
    names::{self, KIND, Kind, OWNER},
    runtime::advice,
    subject::Subject,
};

/// What the API server answers to a watch whose version it has forgotten.
const GONE: u16 = 410;

/// Whose pass is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// One object's.
    One {
        /// Its kind.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Every object's: so much is new that nobody knows whose turn it is.
    All,
}

/// A kind of children that is watched.
pub trait WatchedChild:
    Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static
{
    /// What is kept of one.
    type Facts: PartialEq + Send + Sync;

    /// What is kept of this one, under its controller's uid; none where nobody of ours can be its controller.
    fn sighting(self) -> Option<Sighting<Self::Facts>>;
}

impl WatchedChild for WatchedJob {
    type Facts = JobFacts;

    fn sighting(self) -> Option<Sighting<JobFacts>> {
        let child = self.facts();
        Some(Sighting { uid: child.uid.clone(), controller: child.controller.clone()?, child })
    }
}

impl WatchedChild for WatchedPod {
    type Facts = PodFacts;

    fn sighting(self) -> Option<Sighting<PodFacts>> {
        let child = self.facts()?;
        Some(Sighting { uid: child.uid.clone(), controller: child.job.clone(), child })
    }
}

impl WatchedChild for WatchedServer {
    type Facts = ServerFacts;

    fn sighting(self) -> Option<Sighting<ServerFacts>> {
        let child = self.facts();
        Some(Sighting { uid: child.uid.clone(), controller: child.controller.clone()?, child })
    }
}

impl WatchedChild for WatchedGroups {
    type Facts = ServerFacts;

    fn sighting(self) -> Option<Sighting<ServerFacts>> {
        let child = self.facts();
        Some(Sighting { uid: child.uid.clone(), controller: child.controller.clone()?, child })
    }
}

/// Keeps `children` as the API server has them, for ever; `synced` learns when they are whole for the first time.
pub async fn watch_children<W: WatchedChild>(
    api: Api<W>,
    fields: Option<&'static str>,
    children: Children<W::Facts>,
    wake: impl Fn(Wake),
    synced: oneshot::Sender<()>,
) {
    let mut config = watcher::Config::default().labels(&names::ours());
    if let Some(fields) = fields {
        config = config.fields(fields);
    }
    let events = without_expiry(watcher(api, config)).default_backoff();
    pin_mut!(events);
    let mut synced = Some(synced);
    while let Some(event) = events.next().await {
        let Some(event) = logged(W::kind(&()).as_ref(), event) else { continue };
        let owner = owner_of(&event);
        let is_whole = matches!(event, Event::InitDone);
        let Some(event) = sighted(event) else { continue };
        let is_news = children.take_in(event);
        if is_whole {
            tell(&mut synced);
            wake(Wake::All);
        } else if let Some(owner) = owner.filter(|_| is_news) {
            wake(owner);
        }
    }
}

/// How many runs or batches are listed at once.
const OWNERS_A_PAGE: u32 = 50;

/// Keeps a store of objects as the API server has them, for ever. An object that does not parse is said so and left out, instead of hiding all
/// others; `seen` sees every event, and `gone` learns of the uids of those that are deleted.
pub async fn watch_owners<S: Subject>(
    api: Api<DeserializeGuard<S>>,
    mut store: Writer<S>,
    wake: impl Fn(Wake),
    seen: impl Fn(&Event<S>),
    gone: impl Fn(&Uid),
    synced: oneshot::Sender<()>,
) {
    // A page is in memory several times over while it is parsed, and what was taken for it once is not given back.
    let events = without_expiry(watcher(api, watcher::Config::default().page_size(OWNERS_A_PAGE))).default_backoff();
    pin_mut!(events);
    let reader = store.as_reader();
    let mut synced = Some(synced);
    while let Some(event) = events.next().await {
        let Some(event) = logged(S::kind(&()).as_ref(), event).and_then(parsed) else { continue };
        let wanted = match &event {
            Event::Apply(object) => {
                let known = reader.get(&kube::runtime::reflector::ObjectRef::from_obj(object));
                known.is_none_or(|known| is_news(&*known, object)).then(|| wake_for(S::KIND, object))
            }
            Event::Delete(object) => {
                gone(&object.owner().uid);
                // Whoever waits for it learns that it is gone.
                Some(wake_for(S::KIND, object))
            }
            Event::InitDone => Some(Wake::All),
            Event::Init | Event::InitApply(_) => None,
        };
        store.apply_watcher_event(&event);
        seen(&event);
        if matches!(event, Event::InitDone) {
            tell(&mut synced);
        }
        if let Some(wanted) = wanted {
            wake(wanted);
        }
    }
}

/// Whether a plan could come out differently: the spec, or what status remembers, has changed. Our own writes of mere words have not.
fn is_news<S: Subject>(known: &S, object: &S) -> bool {
    let (before, after) = (known.meta(), object.meta());
    if before.uid != after.uid
        || before.generation != after.generation
        || before.deletion_timestamp != after.deletion_timestamp
        || before.finalizers != after.finalizers
    {
        return true;
    }
    let (before, after) = (known.record(), object.record());
    before.observed_generation != after.observed_generation
        || before.phase != after.phase
        || before.attempts != after.attempts
        || before.retry != after.retry
        || before.locked != after.locked
        || before.snapshot != after.snapshot
        || before.generation != after.generation
        || before.verification != after.verification
        || before.dataset != after.dataset
}

fn wake_for(kind: Kind, object: &impl ResourceExt) -> Wake {
    Wake::One { kind, namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// The owner that a child's labels name. They may be forged: then somebody gets a pass that finds nothing to do.
fn owner_of<W: ResourceExt>(event: &Event<W>) -> Option<Wake> {
    let (Event::Apply(child) | Event::Delete(child)) = event else { return None };
    let labels = child.labels();
    Some(Wake::One {
        kind: Kind::from_label(labels.get(KIND)?)?,
        namespace: child.namespace()?,
        name: labels.get(OWNER)?.clone(),
    })
}

fn sighted<W: WatchedChild>(event: Event<W>) -> Option<Event<Sighting<W::Facts>>> {
    Some(match event {
        Event::Apply(child) => Event::Apply(child.sighting()?),
        Event::Delete(child) => Event::Delete(child.sighting()?),
        Event::InitApply(child) => Event::InitApply(child.sighting()?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

fn parsed<S: Subject>(event: Event<DeserializeGuard<S>>) -> Option<Event<S>> {
    Some(match event {
        Event::Apply(object) => Event::Apply(light(object)?),
        Event::Delete(object) => Event::Delete(light(object)?),
        Event::InitApply(object) => Event::InitApply(light(object)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// The object without what nobody here reads and often is the larger half of it: who wrote which field, and annotations.
fn light<S: Subject>(object: DeserializeGuard<S>) -> Option<S> {
    match object.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            object.meta_mut().annotations = None;
            Some(object)
        }
        Err(error) => {
            let (namespace, name) =
                (error.metadata.namespace.unwrap_or_default(), error.metadata.name.unwrap_or_default());
            tracing::warn!(
                "{} {namespace}/{name} is left alone, since it does not parse: are the custom resources and the operator of one release? {}",
                S::KIND.as_str(),
                error.error
            );
            None
        }
    }
}

/// The events without word that the version which a watch goes on from is too old. That is no failure to wait after, and after a storm the wait would be
/// a minute: everything is listed at once. Only where the last list itself is too old already, the word is handed on, so that there is a wait.
fn without_expiry<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
) -> impl Stream<Item = watcher::Result<Event<K>>> {
    let mut is_listed = false;
    events.filter(move |event| {
        let is_expired = matches!(event, Err(watcher::Error::WatchError(status)) if status.code == GONE);
        let is_kept = !is_expired || is_listed;
        is_listed = matches!(event, Ok(Event::InitDone));
        ready(is_kept)
    })
}

fn logged<K>(kind: &str, event: watcher::Result<Event<K>>) -> Option<Event<K>> {
    event
        .inspect_err(|error| {
            tracing::warn!("the watch of {kind} objects is interrupted and begins again: {}", advice::chain(error));
        })
        .ok()
}

fn tell(synced: &mut Option<oneshot::Sender<()>>) {
    if let Some(synced) = synced.take() {
        // Nobody waits any more where the process is ending.
        let _ = synced.send(());
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use kube::{
        core::Status,
        runtime::watcher::{self, Event},
    };

    use super::{GONE, without_expiry};

    fn refused(code: u16) -> watcher::Result<Event<()>> {
        Err(watcher::Error::WatchError(Status { code, ..Status::default() }.boxed()))
    }

    async fn kept(events: Vec<watcher::Result<Event<()>>>) -> String {
        let kept = without_expiry(stream::iter(events)).collect::<Vec<_>>().await;
        kept.iter().map(|event| if event.is_ok() { '+' } else { '!' }).collect()
    }

    #[tokio::test]
    async fn a_watch_whose_version_is_too_old_lists_anew_without_a_wait_unless_it_has_just_listed() {
        let (init, listed, news) = (|| Ok(Event::Init), || Ok(Event::InitDone), || Ok(Event::Apply(())));
        assert_eq!(kept(vec![refused(503), refused(GONE), init(), listed(), news()]).await, "!+++");
        assert_eq!(kept(vec![listed(), news(), refused(GONE), init()]).await, "+++");
        assert_eq!(kept(vec![init(), listed(), refused(GONE), init(), listed(), refused(GONE)]).await, "++!++!");
    }
}
