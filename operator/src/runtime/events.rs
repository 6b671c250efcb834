//! Events on objects (`events.k8s.io/v1`), published beside the passes: a pass hands them over and never waits or fails for
//! them. `kube`'s own recorder is not used: it drops the note of a repeated reason, publishes inside the caller, and bounds
//! neither its rate nor its cache.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{self, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use prometheus::{IntCounterVec, Opts, Registry};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::{
    advice::explain,
    gate,
    metrics::{self, registered},
    throttle::{Bucket, Limit},
};

/// How many events may wait to be published. A pass makes one or two, so this is a thousand objects that all change at once.
const QUEUE: usize = 2048;
/// How many different events, and how many objects' budgets, are remembered.
const REMEMBERED: usize = 4096;
/// How long the API server keeps an event by default: within it a repetition is counted on the first one.
const KEPT: Duration = Duration::from_hours(1);
/// A repeated event is written at most this often; what was repeated in between is counted then.
const REPEAT_EVERY: Duration = Duration::from_mins(1);
/// What one object may have: bursts as long as its whole life needs, then one in half a minute.
const PER_OBJECT: Limit = Limit::every(Duration::from_secs(30), NonZeroU32::new(25).unwrap());
/// The API server's limit on a note, in bytes.
const NOTE_BYTES: usize = 1024;
/// The first part of an event's name; the object's name is cut to it, so that the whole stays a legal name.
const NAME_BYTES: usize = 200;
/// Who reports, in every event.
const CONTROLLER: &str = "sera-operator";

/// Whether an event is news or trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something happened.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// News or trouble.
    pub severity: Severity,
    /// Why, in one `CamelCase` word, from a closed set.
    pub reason: &'static str,
    /// What was done about it, or with it, in one `CamelCase` word.
    pub action: &'static str,
    /// A sentence for people; what exceeds 1 KiB is cut off.
    pub note: String,
}

/// Where passes leave their events; clones share the queue.
#[derive(Clone, Debug)]
pub struct EventPublisher {
    queue: mpsc::Sender<Order>,
    metrics: EventMetrics,
}

#[derive(Debug)]
enum Order {
    Publish(Box<(ObjectReference, Event)>),
    Flush(oneshot::Sender<()>),
}

impl EventPublisher {
    /// Starts publishing with `client`, as the replica `instance`, until the last clone is gone.
    pub fn start(client: Client, instance: String, metrics: EventMetrics) -> Self {
        let (queue, orders) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            instance,
            metrics: metrics.clone(),
            known: HashMap::new(),
            budgets: HashMap::new(),
            told: None,
        };
        tokio::spawn(writer.run(orders));
        Self { queue, metrics }
    }

    /// Publishes `event` about `object` some time soon; or counts it as dropped, when too many wait.
    pub fn publish(&self, object: &ObjectReference, event: Event) {
        if self.queue.try_send(Order::Publish(Box::new((object.clone(), event)))).is_err() {
            self.metrics.count(Fate::Dropped);
        }
    }

    /// Waits until what was handed over so far is published, `patience` at most.
    pub async fn flush(&self, patience: Duration) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.queue.send(Order::Flush(done)).await.is_ok() {
                // An error says that the publisher has ended, and then nothing is left to wait for.
                let _ = flushed.await;
            }
        };
        if tokio::time::timeout(patience, flush).await.is_err() {
            tracing::warn!("not all events could be published before the end");
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Created,
    Repeated,
    Dropped,
    Failed,
}

impl Fate {
    fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Repeated => "repeated",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// How many events met which fate.
#[derive(Clone, Debug)]
pub struct EventMetrics {
    total: IntCounterVec,
}

impl EventMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, metrics::Error> {
        let total = Opts::new(
            "sera_operator_events_total",
            "Events by result: created; repeated (counted on an earlier one); dropped (over the rate of its object, or too many at once); failed",
        );
        Ok(Self { total: registered(registry, IntCounterVec::new(total, &["result"]))? })
    }

    fn count(&self, fate: Fate) {
        self.total.with_label_values(&[fate.label()]).inc();
    }
}

/// An event that the API server has.
#[derive(Clone, Copy, Debug)]
struct Known {
    count: i32,
    written: Instant,
    seen: Instant,
}

struct Writer {
    client: Client,
    instance: String,
    metrics: EventMetrics,
    known: HashMap<String, Known>,
    budgets: HashMap<String, Bucket>,
    /// The last failure, so that a missing permission is told once.
    told: Option<String>,
}

impl Writer {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Publish(order) => {
                    let fate = self.publish(&order.0, &order.1).await.unwrap_or_else(|error| self.failed(&error));
                    self.metrics.count(fate);
                }
                // Nobody waits any more when this fails.
                Order::Flush(done) => drop(done.send(())),
            }
        }
    }

    async fn publish(&mut self, object: &ObjectReference, event: &Event) -> kube::Result<Fate> {
        let now = Instant::now();
        let name = name_of(object, event);
        if let Some(known) = self.known.get(&name).copied().filter(|known| now - known.seen < KEPT) {
            let known = Known { count: known.count.saturating_add(1), seen: now, ..known };
            return self.repeat(object, event, name, known, now).await;
        }
        if !self.within_budget(object, now) {
            return Ok(Fate::Dropped);
        }
        self.create(object, event, name, now).await
    }

    async fn create(
        &mut self,
        object: &ObjectReference,
        event: &Event,
        name: String,
        now: Instant,
    ) -> kube::Result<Fate> {
        let api = self.api(object);
        match api.create(&PostParams::default(), &self.event(object, event, &name)).await {
            Ok(_) => {
                self.remember(name, Known { count: 1, written: now, seen: now });
                Ok(Fate::Created)
            }
            // Published before this process was started: its name says what it says.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let count = api.get(&name).await?.series.map_or(1, |series| series.count);
                let known = Known { count: count.saturating_add(1), written: now, seen: now };
                self.write_series(object, &name, known).await?;
                self.remember(name, known);
                Ok(Fate::Repeated)
            }
            Err(error) => Err(error),
        }
    }

    async fn repeat(
        &mut self,
        object: &ObjectReference,
        event: &Event,
        name: String,
        known: Known,
        now: Instant,
    ) -> kube::Result<Fate> {
        if now - known.written < REPEAT_EVERY {
            self.remember(name, known);
            return Ok(Fate::Repeated);
        }
        match self.write_series(object, &name, known).await {
            Ok(()) => {
                self.remember(name, Known { written: now, ..known });
                Ok(Fate::Repeated)
            }
            // Somebody deleted it, or the API server keeps events for less than an hour.
            Err(kube::Error::Api(status)) if status.is_not_found() => self.create(object, event, name, now).await,
            Err(error) => Err(error),
        }
    }

    async fn write_series(&self, object: &ObjectReference, name: &str, known: Known) -> kube::Result<()> {
        let series = EventSeries { count: known.count, last_observed_time: MicroTime(Timestamp::now()) };
        let patch = Patch::Merge(serde_json::json!({ "series": series }));
        self.api(object).patch_metadata(name, &PatchParams::default(), &patch).await.map(drop)
    }

    fn event(&self, object: &ObjectReference, event: &Event, name: &str) -> v1::Event {
        v1::Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: object.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some(event.action.to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(cut(&event.note, NOTE_BYTES)),
            reason: Some(event.reason.to_owned()),
            regarding: Some(object.clone()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(event.severity.word().to_owned()),
            ..v1::Event::default()
        }
    }

    fn within_budget(&mut self, object: &ObjectReference, now: Instant) -> bool {
        if self.budgets.len() >= REMEMBERED {
            self.budgets.retain(|_, bucket| !bucket.is_full(now));
        }
        let uid = object.uid.clone().unwrap_or_default();
        self.budgets.entry(uid).or_insert_with(|| Bucket::new(PER_OBJECT, now)).try_take(now)
    }

    fn remember(&mut self, name: String, known: Known) {
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, other| known.seen - other.seen < REPEAT_EVERY);
        }
        if self.known.len() < REMEMBERED {
            self.known.insert(name, known);
        }
    }

    fn api(&self, object: &ObjectReference) -> Api<v1::Event> {
        Api::namespaced(self.client.clone(), object.namespace.as_deref().unwrap_or("default"))
    }

    fn failed(&mut self, error: &kube::Error) -> Fate {
        let told = explain(error);
        let not_leading = matches!(error, kube::Error::Service(cause) if cause.is::<gate::Closed>());
        if !not_leading && self.told.as_ref() != Some(&told) {
            tracing::warn!("an event could not be published: {told}");
            self.told = Some(told);
        }
        Fate::Failed
    }
}

/// The name of an event says all that it says: the same event has the same name in every process, and is made once.
fn name_of(object: &ObjectReference, event: &Event) -> String {
    let mut hash = Sha256::new();
    for part in
        [object.uid.as_deref().unwrap_or_default(), event.severity.word(), event.reason, event.action, &event.note]
    {
        hash.update(part);
        hash.update([0]);
    }
    let digest = hash.finalize().iter().take(8).fold(0u64, |digest, byte| digest << 8 | u64::from(*byte));
    format!("{}.{digest:016x}", cut(object.name.as_deref().unwrap_or(CONTROLLER), NAME_BYTES).trim_end_matches('…'))
}

/// `text` in at most `bytes` bytes, with an ellipsis where something is missing.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(uid: &str) -> ObjectReference {
        ObjectReference {
            name: Some("billing-agent".to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }
    }

    fn event(note: &str) -> Event {
        Event { severity: Severity::Normal, reason: "SnapshotTaken", action: "Snapshot", note: note.to_owned() }
    }

    #[test]
    fn the_same_event_has_the_same_name_and_another_note_object_or_severity_another() {
        let name = name_of(&object("3f2c"), &event("5 commits"));
        assert_eq!(name, name_of(&object("3f2c"), &event("5 commits")));
        assert!(name.starts_with("billing-agent.") && name.len() == "billing-agent.".len() + 16, "{name}");
        assert_ne!(name, name_of(&object("3f2c"), &event("6 commits")));
        assert_ne!(name, name_of(&object("77aa"), &event("5 commits")));
        assert_ne!(name, name_of(&object("3f2c"), &Event { severity: Severity::Warning, ..event("5 commits") }));
    }

    #[test]
    fn a_long_note_is_cut_at_a_character_and_says_so() {
        assert_eq!(cut("short", NOTE_BYTES), "short");
        let cut = cut(&"ä".repeat(600), NOTE_BYTES);
        assert!(cut.len() <= NOTE_BYTES && cut.len() > NOTE_BYTES - 4 && cut.ends_with("ä…"), "{}", cut.len());
    }
}
