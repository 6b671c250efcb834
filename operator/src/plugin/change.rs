//! What is done to a run or batch by hand: a field of its spec is changed, and the operator does the rest.

use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use sera_crds::{RolloutBatch, SpecializationRun};
use serde_json::{Value, json};

use super::connect::Connection;
use super::target::Object;

/// Who is named as the writer of the field.
const WRITER: &str = "kubectl-sera";

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Suspend,
    Resume,
    Retry,
}

impl Change {
    /// The command that makes it.
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Retry => "retry",
        }
    }

    fn patch(self, now: Timestamp) -> Value {
        match self {
            Self::Suspend => json!({"spec": {"suspend": true}}),
            Self::Resume => json!({"spec": {"suspend": false}}),
            // Any word that was not there before.
            Self::Retry => json!({"spec": {"retry": now.as_second().to_string()}}),
        }
    }

    /// Makes it, and says so.
    pub(super) async fn make(self, connection: &Connection, object: &Object) -> kube::Result<String> {
        let Connection { client, namespace } = connection;
        let (name, patch) = (object.name_any(), Patch::Merge(self.patch(Timestamp::now())));
        let writer = PatchParams { field_manager: Some(WRITER.to_owned()), ..PatchParams::default() };
        match object {
            Object::Run(_) => {
                let runs: Api<SpecializationRun> = Api::namespaced(client.clone(), namespace);
                Box::pin(runs.patch(&name, &writer, &patch)).await?;
            }
            Object::Batch(_) => {
                let batches: Api<RolloutBatch> = Api::namespaced(client.clone(), namespace);
                Box::pin(batches.patch(&name, &writer, &patch)).await?;
            }
        }
        let noun = object.kind().noun();
        Ok(match self {
            Self::Suspend => {
                format!("{noun} {name} is suspended; its pods go within a minute, what they have written stays")
            }
            Self::Resume => format!("{noun} {name} goes on"),
            Self::Retry => format!("{noun} {name} tries again"),
        })
    }
}
