//! A `SpecializationRun` as a subject.

use sera_crds::{
    SpecializationRun,
    defaults::{EffectiveRun, RunDefaults, effective_run},
    run::{RunSpec, RunStatus},
    validate::validate_run,
};

use super::{
    SnapshotWish, Subject, Wish,
    status::{self, SharedStatus, shared_fields},
};
use crate::{
    names::Kind,
    plan::{Finding, Intent, RunSnapshot, SnapshotIntent, record::Record},
};

shared_fields!(RunStatus);

impl Subject for SpecializationRun {
    const KIND: Kind = Kind::Run;

    fn record(&self) -> Record {
        let Some(status) = &self.status else { return Record::default() };
        let artifacts = status.artifacts.as_ref();
        Record {
            locked: status.locked_stages.iter().copied().collect(),
            snapshot: artifacts.and_then(|artifacts| artifacts.snapshot.as_ref()).map(status::snapshot),
            ..status.read()
        }
    }

    fn with_record(&self, record: &Record) -> Self {
        let mut changed = self.clone();
        let status = changed.status.get_or_insert_default();
        status.write(record);
        status.locked_stages = record.locked.iter().copied().collect();
        if let Some(snapshot) = &record.snapshot {
            status.artifacts.get_or_insert_default().snapshot = Some(status::artifact(snapshot));
        }
        changed
    }

    fn status_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.status).unwrap_or_default()
    }

    fn wish(&self, defaults: &RunDefaults, _: &dyn Fn(&str) -> RunSnapshot) -> Wish {
        let owner = self.owner();
        let effective = effective_run(self.spec.clone(), defaults);
        let (snapshot, findings) = match effective {
            Ok(effective) => {
                let findings = validate_run(&effective.spec).into_iter().map(Finding::from).collect();
                (Some(snapshot_wish(effective)), findings)
            }
            Err(error) => (None, vec![super::finding(&error)]),
        };
        let folder =
            snapshot.as_ref().map(|wish| wish.store.folder_of(&owner.namespace, &owner.name, owner.uid.as_str()));
        Wish {
            intent: Intent {
                findings,
                unsupported: unsupported(&self.spec),
                suspend: self.spec.suspend,
                retry: self.spec.retry.clone(),
                snapshot: SnapshotIntent::Take { folder: folder.unwrap_or_default() },
                teacher: Some(super::teacher_word(&self.spec.teacher)),
                keep_succeeded: super::span(&self.spec.ttl.after_succeeded),
                keep_failed: super::span(&self.spec.ttl.after_failed),
            },
            snapshot,
        }
    }

    fn awaited_run(&self) -> Option<&str> {
        None
    }
}

/// What this release does not do, though the spec asks for it: said at once, before anything is spent.
fn unsupported(spec: &RunSpec) -> Option<String> {
    if spec.from.is_some() {
        return Some("spec.from: adopting an earlier run's stages is not part of this release".to_owned());
    }
    super::unsupported_output(&spec.output)
}

fn snapshot_wish(effective: EffectiveRun) -> SnapshotWish {
    let EffectiveRun { spec, store, git } = effective;
    super::snapshot_wish(&spec.source, git, store, &spec.output, spec.pods.as_ref())
}
