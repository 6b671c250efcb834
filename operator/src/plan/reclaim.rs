//! How the data of an object goes with it, where its owner wants that: a finalizer keeps the object from the first child on; when it is deleted, all
//! that may write to its folder is stopped first, then a Job deletes the folder, and then the object is let go.

use jiff::{SignedDuration, Timestamp};
use sera_crds::{contract::StageResult, values::Stage};

use super::{
    Given, Intent, Make, Observed, Plan, Removable, Removal, acknowledge_retry,
    conditions::{ConditionType, Pen, Reason, Standing, Truth, Why},
    finding,
    record::Record,
    settle::later,
    task::{self, Task},
};
use crate::facts::Uid;

/// How soon it is looked again at an object that waits for its owner: its namespace may be going too.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// What becomes of an object's data when it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// Whether the owner wants the data to go with the object.
    pub wanted: bool,
    /// Whether the object has our finalizer.
    pub held: bool,
    /// Whether Kubernetes is still removing the object's children, or taking them away from it.
    pub collected: bool,
}

/// What is done about an object that is being deleted. One that does not wait for us is left alone: owner references take the children along, and a
/// word in the status of what is going away helps nobody.
pub(super) fn before_it_goes(mut plan: Plan, observed: &Observed, now: Timestamp) -> Plan {
    if !observed.reclaim.held {
        return plan;
    }
    if !observed.reclaim.wanted || is_settled(&observed.record) {
        plan.hold = false;
        return plan;
    }
    let pen = Pen { generation: observed.generation, now };
    plan.record.observed_generation = Some(observed.generation);
    let standing = erase(&mut plan, observed, pen);
    plan.stand(pen, &standing, &observed.record);
    plan
}

/// The intent of an object that is being deleted: neither that it is suspended nor a mistake in its spec keeps its data.
pub(super) fn unheld(intent: &Intent) -> Intent {
    Intent { suspend: false, findings: Vec::new(), unsupported: None, ..intent.clone() }
}

/// What is said where the namespace goes too: no Job can be made there, so that the data is kept and the object let go.
pub(super) fn keep(plan: &mut Plan, pen: Pen) -> Standing {
    let why = Why::new(
        Reason::NamespaceTerminating,
        format!(
            "the namespace is being deleted, in which nothing can delete the data any more: it is kept at {}",
            plan.record.store.as_deref().unwrap_or("its place")
        ),
    );
    plan.record.conditions.set(pen, ConditionType::Reclaimed, Truth::False, why.clone());
    plan.look_again_at(pen.now);
    Standing::Reconciling(why)
}

/// Whether status says that nothing more is to be done: nothing was ever made, all is deleted, or it is kept. What counts is the status that was
/// read: the object goes only when the word about its data is safely written.
fn is_settled(record: &Record) -> bool {
    let reclaimed = record.conditions.get(ConditionType::Reclaimed);
    record.attempts.is_empty()
        || reclaimed
            .is_some_and(|said| said.truth == Truth::True || said.reason == Reason::NamespaceTerminating.as_str())
}

/// Brings the data's end as far as it can go now, and says where it stands.
fn erase(plan: &mut Plan, observed: &Observed, pen: Pen) -> Standing {
    if observed.reclaim.collected {
        return wait(plan, pen, "waiting until Kubernetes has removed what belongs to this object, or let go of it");
    }
    let Some(intent) = &observed.intent else { return without_defaults(plan, observed, pen) };
    acknowledge_retry(&mut plan.record, intent);
    if let Some(why) = misplaced(intent, &observed.record) {
        plan.record.conditions.set(pen, ConditionType::Reclaimed, Truth::False, why.clone());
        // They are there; but whether anything can still be made in this namespace is told by nothing else.
        plan.make.push(Make::Defaults);
        plan.look_again_at(later(pen.now, PATIENCE));
        return Standing::Stalled(why);
    }
    if stop(plan, observed, pen) {
        return wait(plan, pen, "waiting until all that may write to the data is gone");
    }
    let intent = unheld(intent);
    let given = Given { observed, intent: &intent, pen };
    let standing = task::drive(plan, given, &Task::of(Stage::Reclaim, &intent), None, |_, result| {
        let StageResult::Reclaim { files, bytes } = result? else { return None };
        Some(format!("nothing is left at {}: {files} files of {bytes} bytes were deleted", intent.folder))
    });
    task::clear_away(plan, given);
    standing.unwrap_or_else(|| {
        Standing::Reconciling(Why::new(Reason::Progressing, "the data is deleted, and the object follows"))
    })
}

/// Has the defaults fixed again that went with the object's children, or says why they cannot be read.
fn without_defaults(plan: &mut Plan, observed: &Observed, pen: Pen) -> Standing {
    if let Some(problem) = &observed.defaults_problem {
        let why = Why::new(Reason::DefaultsInvalid, problem.clone());
        plan.record.conditions.set(pen, ConditionType::Reclaimed, Truth::False, why.clone());
        return Standing::Stalled(why);
    }
    plan.make.push(Make::Defaults);
    wait(plan, pen, "the platform's defaults are being read for the store's address")
}

/// Why the folder that the spec names now is not the one that the data is in; defaults that went with the children may have been other ones.
fn misplaced(intent: &Intent, record: &Record) -> Option<Why> {
    let there = record.store.as_deref()?;
    if intent.folder == there {
        return None;
    }
    let named = finding(intent).map_or_else(|| format!("names {}", intent.folder), |why| why.message);
    Some(Why::new(
        Reason::StoreConflict,
        format!(
            "spec.output.store: the data is at {there}, and the spec with the platform's defaults {named}: name that store again, or set \
             spec.output.reclaimPolicy to Retain and delete the data by hand"
        ),
    ))
}

/// Has all that is at work go, and says whether anything is still there.
fn stop(plan: &mut Plan, observed: &Observed, pen: Pen) -> bool {
    let is_ours = |name: &str| matches!(observed.owner.job_of(name), Some((Stage::Reclaim, _)));
    let jobs = observed.jobs.iter().filter(|job| job.end.is_none() && !is_ours(&job.name));
    let of = |kind, name: &str, uid: &Uid| Removal { kind, name: name.into(), uid: uid.clone() };
    let jobs = jobs.map(|job| (of(Removable::Job, &job.name, &job.uid), job.deleting));
    let batches = observed.batches.iter();
    let batches = batches.map(|batch| (of(Removable::Batch, &batch.name, &batch.uid), batch.deleting));
    let servers = [&observed.teacher, &observed.student].into_iter().filter_map(|server| server.as_deref());
    let servers = servers.map(|server| (Removal::of_server(server), server.deleting));
    let mut is_left = !observed.lingering.is_empty();
    plan.look_again_at_lingering(observed, pen);
    for (removal, is_going) in jobs.chain(batches).chain(servers) {
        is_left = true;
        plan.remove.extend((!is_going).then_some(removal));
    }
    is_left
}

fn wait(plan: &mut Plan, pen: Pen, sentence: &str) -> Standing {
    let why = Why::new(Reason::Waiting, sentence);
    plan.record.conditions.set(pen, ConditionType::Reclaimed, Truth::False, why.clone());
    Standing::Reconciling(why)
}
