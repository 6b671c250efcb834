//! The last step: status, written only where it changes and only over the version that the plan was made from; then, once it is written, the Events
//! that it tells of.

use std::sync::{Arc, Once};

use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};

use crate::{
    names::MANAGER,
    plan::{events, record::Record},
    runtime::events::{Event, EventPublisher, Severity},
    subject::Subject,
};

/// Why reporting failed; the pass is made again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody wrote first: the cache will bring what they wrote.
    #[error("the status was changed meanwhile")]
    OutOfDate,
    /// The object is gone.
    #[error("the object is gone")]
    Gone,
    /// The API server did not take it.
    #[error("the status cannot be written")]
    Write(#[source] kube::Error),
}

/// The client that reporting needs, and where Events go.
#[derive(Clone)]
pub struct Reporter {
    client: Client,
    events: EventPublisher,
    told: Arc<Once>,
}

impl Reporter {
    /// A reporter that writes by `client` and leaves Events with `events`.
    pub fn new(client: Client, events: EventPublisher) -> Self {
        Self { client, events, told: Arc::new(Once::new()) }
    }

    /// Writes `record` into the status of `subject`, where that says something else; says whether anything of it was kept.
    pub async fn report<S: Subject>(&self, subject: &S, before: &Record, record: &Record) -> Result<bool, Error> {
        let Some(patch) = changes(subject, before, record) else { return Ok(false) };
        let api = Api::<S>::namespaced(self.client.clone(), &subject.namespace().unwrap_or_default());
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let kept = match api.patch_status(&subject.name_any(), &parameters, &Patch::Merge(patch)).await {
            Ok(kept) => kept,
            Err(kube::Error::Api(status)) if status.is_conflict() => return Err(Error::OutOfDate),
            Err(kube::Error::Api(status)) if status.is_not_found() => return Err(Error::Gone),
            Err(source) => return Err(Error::Write(source)),
        };
        // Of a status that stays as it was no event comes: what waited for one would wait for ever.
        if kept.resource_version() == subject.resource_version() {
            self.told.call_once(|| tell_of_old_definitions(S::KIND.as_str()));
            return Ok(false);
        }
        let object = subject.object_ref(&());
        for note in events::between(before, record) {
            tracing::info!(reason = note.reason, "{}", note.text);
            let severity = if note.warning { Severity::Warning } else { Severity::Normal };
            self.events.publish(&object, Event { severity, reason: note.reason, action: note.action, note: note.text });
        }
        Ok(true)
    }
}

/// Fields that a definition does not have are dropped by the API server without a word.
fn tell_of_old_definitions(kind: &str) {
    tracing::warn!(
        "the API server keeps nothing of what the status of a {kind} is to say: the custom resource definitions are older than this operator; \
         upgrade the chart sera-operator-crds"
    );
}

/// The merge patch that turns the status that was read, which says `before`, into one that says `record`, and only over the version that was read;
/// none where they are the same.
pub fn changes<S: Subject>(subject: &S, before: &Record, record: &Record) -> Option<Value> {
    if record == before {
        return None;
    }
    let status = difference(&subject.status_json(), &subject.with_record(record).status_json())?;
    let metadata = json!({"resourceVersion": subject.resource_version(), "uid": subject.uid()});
    Some(json!({"metadata": metadata, "status": status}))
}

/// The merge patch (RFC 7386) from one JSON value to another; none where they are equal.
fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return (from != to).then(|| to.clone());
    };
    let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = to.iter().filter_map(|(key, value)| {
        let patch = from.get(key).map_or_else(|| Some(value.clone()), |before| difference(before, value))?;
        Some((key.clone(), patch))
    });
    let patch: Map<String, Value> = gone.chain(changed).collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_what_changed_and_nulls_what_went() {
        let from = json!({"phase": "Pending", "gone": 1, "progress": {"percent": 0, "eta": "x"}, "same": [1, 2]});
        let to = json!({"phase": "Running", "progress": {"percent": 5}, "same": [1, 2], "new": {"a": 1}});
        assert_eq!(
            difference(&from, &to),
            Some(json!({"gone": null, "phase": "Running", "progress": {"eta": null, "percent": 5}, "new": {"a": 1}}))
        );
        assert_eq!(difference(&to, &to), None);
    }

    #[test]
    fn the_first_status_is_sent_whole() {
        let to = json!({"phase": "Pending"});
        assert_eq!(difference(&Value::Null, &to), Some(to));
    }
}
