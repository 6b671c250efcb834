//! How an object comes by its snapshot: by a Job of its own, from the store, or from the run that it belongs to.

use sera_crds::{
    contract::{Artifact, StageResult},
    values::Stage,
};

use super::{
    Given, Plan, RunSnapshot, SnapshotIntent,
    adoption::Adopted,
    conditions::{ConditionType, Reason, Standing, Truth, Why},
    record::Snapshot,
    task::{self, Task, held},
};

/// Gets the snapshot; none once the object has it.
pub(super) fn get(plan: &mut Plan, given: Given<'_>) -> Option<Standing> {
    if plan.record.conditions.holds(ConditionType::Snapshotted) {
        return None;
    }
    match &given.intent.snapshot {
        SnapshotIntent::Take => take(plan, given),
        SnapshotIntent::Adopt { folder } => adopt(plan, given, folder),
        SnapshotIntent::OfRun { run, progress } => of_run(plan, given, run, progress),
    }
}

/// Takes the snapshot by a Job.
fn take(plan: &mut Plan, given: Given<'_>) -> Option<Standing> {
    let folder = &given.intent.folder;
    plan.record.store = Some(folder.clone());
    let task = Task::of(Stage::Snapshot, given.intent);
    let mut adopted = None;
    let standing = task::drive(plan, given, &task, None, |record, result| {
        let snapshot = match result? {
            StageResult::Adoption { snapshot, commit, commits, rollouts, dataset } => {
                adopted = Some(Adopted::of(rollouts, dataset, folder)?);
                snapshot_of(&snapshot, commit, commits, folder)?
            }
            StageResult::Snapshot { manifest, commit, commits, .. } => snapshot_of(&manifest, commit, commits, folder)?,
            _ => return None,
        };
        let sentence = match snapshot.commits {
            1 => format!("the commit {} is in the store", snapshot.commit),
            count => format!("{count} commits are in the store, the newest {}", snapshot.commit),
        };
        record.snapshot = Some(snapshot);
        Some(sentence)
    });
    if let (None, Some(adopted)) = (&standing, adopted) {
        adopted.note(&mut plan.record, given.pen);
    }
    standing
}

/// Takes in a snapshot that somebody else made; the stages that read it check it by its digest.
fn adopt(plan: &mut Plan, given: Given<'_>, uri: &str) -> Option<Standing> {
    if let Some(held) = held(given.intent) {
        return Some(held);
    }
    plan.record.store = Some(given.intent.folder.clone()).filter(|folder| !folder.is_empty());
    let why = Why::new(Reason::Adopted, format!("the snapshot at {uri} is used as it is"));
    plan.record.conditions.set(given.pen, ConditionType::Snapshotted, Truth::True, why);
    None
}

/// Waits for another run's snapshot. Whatever changes about that run causes a pass here, so there is nothing to look again for.
fn of_run(plan: &mut Plan, given: Given<'_>, run: &str, progress: &RunSnapshot) -> Option<Standing> {
    let why = match progress {
        RunSnapshot::Ready(uri) => return adopt(plan, given, uri),
        RunSnapshot::NoSuchRun => {
            Why::new(Reason::Waiting, format!("spec.runRef.name: there is no run '{run}' in this namespace yet"))
        }
        RunSnapshot::NotYet => Why::new(Reason::Waiting, format!("waiting for the snapshot of the run '{run}'")),
    };
    plan.record.conditions.set(given.pen, ConditionType::Snapshotted, Truth::False, why.clone());
    Some(held(given.intent).unwrap_or(Standing::Reconciling(why)))
}

/// What a program's last word says, checked as the API server will check it: a status that it refuses would be written again and again.
fn snapshot_of(manifest: &Artifact, commit: String, commits: u32, folder: &str) -> Option<Snapshot> {
    let is_object_id =
        (4..=64).contains(&commit.len()) && commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let sha256 = manifest.sha256.parse().ok().filter(|_| is_object_id && commits <= 64)?;
    Some(Snapshot { uri: format!("{folder}/{}", manifest.path), sha256, commit, commits })
}
