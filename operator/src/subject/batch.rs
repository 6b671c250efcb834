//! A `RolloutBatch` as a subject.

use jiff::SignedDuration;
use sera_crds::{
    RolloutBatch,
    batch::{BatchSpec, BatchStatus},
    defaults::{EffectiveBatch, RunDefaults, effective_batch},
    validate::validate_batch,
};

use super::{
    SnapshotWish, Subject, Wish,
    status::{self, SharedStatus, shared_fields},
};
use crate::{
    names::Kind,
    plan::{Finding, Intent, RunSnapshot, SnapshotIntent, record::Record},
};

/// How long a batch's finished Jobs are kept: as long as a run's, whose `ttl` says so by default. A batch has no field of its own for it.
const KEEP_SUCCEEDED: SignedDuration = SignedDuration::from_hours(24);
/// The same for Jobs that failed.
const KEEP_FAILED: SignedDuration = SignedDuration::from_hours(168);

shared_fields!(BatchStatus);

impl Subject for RolloutBatch {
    const KIND: Kind = Kind::Batch;

    fn record(&self) -> Record {
        let Some(status) = &self.status else { return Record::default() };
        Record { snapshot: status.snapshot.as_ref().map(status::snapshot), ..status.read() }
    }

    fn with_record(&self, record: &Record) -> Self {
        let mut changed = self.clone();
        let status = changed.status.get_or_insert_default();
        status.write(record);
        if let Some(snapshot) = &record.snapshot {
            status.snapshot = Some(status::artifact(snapshot));
        }
        changed
    }

    fn status_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.status).unwrap_or_default()
    }

    fn wish(&self, defaults: &RunDefaults, runs: &dyn Fn(&str) -> RunSnapshot) -> Wish {
        let (snapshot, intent, findings) = match (&self.spec.run_ref, &self.spec.snapshot) {
            (Some(run), _) => {
                let run = run.name.to_string();
                let progress = runs(&run);
                (None, SnapshotIntent::OfRun { run, progress }, validated(&self.spec))
            }
            (None, Some(snapshot)) => {
                (None, SnapshotIntent::Adopt { folder: snapshot.uri.to_string() }, validated(&self.spec))
            }
            (None, None) => own_snapshot(self, defaults),
        };
        let output = self.spec.output.as_ref();
        Wish {
            intent: Intent {
                findings,
                unsupported: output.and_then(super::unsupported_output),
                suspend: self.spec.suspend,
                retry: self.spec.retry.clone(),
                snapshot: intent,
                teacher: self.spec.teacher.as_ref().map(super::teacher_word),
                keep_succeeded: KEEP_SUCCEEDED,
                keep_failed: KEEP_FAILED,
            },
            snapshot,
        }
    }

    fn awaited_run(&self) -> Option<&str> {
        self.spec.run_ref.as_ref().map(|run| run.name.as_str())
    }
}

/// What a batch needs that takes a snapshot for itself.
fn own_snapshot(batch: &RolloutBatch, defaults: &RunDefaults) -> (Option<SnapshotWish>, SnapshotIntent, Vec<Finding>) {
    let owner = batch.owner();
    let (wish, findings) = match effective_batch(batch.spec.clone(), defaults) {
        Ok(effective) => {
            let findings = validated(&effective.spec);
            (snapshot_wish(effective), findings)
        }
        Err(error) => (None, vec![super::finding(&error)]),
    };
    let folder = wish.as_ref().map(|wish| wish.store.folder_of(&owner.namespace, &owner.name, owner.uid.as_str()));
    (wish, SnapshotIntent::Take { folder: folder.unwrap_or_default() }, findings)
}

fn validated(spec: &BatchSpec) -> Vec<Finding> {
    validate_batch(spec).into_iter().map(Finding::from).collect()
}

fn snapshot_wish(effective: EffectiveBatch) -> Option<SnapshotWish> {
    let EffectiveBatch { spec: BatchSpec { source, output, pods, .. }, store, git } = effective;
    Some(super::snapshot_wish(&source?, git?, store, &output?, pods.as_ref()))
}
