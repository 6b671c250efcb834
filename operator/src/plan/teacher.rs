//! The teacher that the operator runs itself: there while rollouts are due, and gone when they are not.

use sera_crds::values::Stage;

use super::{
    Given, Make, Plan, Rehearsal, Removable, Removal, Work,
    conditions::{ConditionType, Reason, Why},
    record::Record,
    task::{held, is_under_way},
};

/// What rollouts wait for before their Job is made: a driver without a teacher would spend its samples on errors.
pub(super) fn awaited(given: Given<'_>) -> Option<Why> {
    let rehearsal = given.intent.rehearsal?;
    let is_ready = given.observed.teacher.as_ref().is_some_and(|teacher| !teacher.deleting && teacher.ready > 0);
    let whose = match rehearsal {
        Rehearsal::Own => "the rehearsal teacher",
        Rehearsal::OfRun => "the run's rehearsal teacher",
    };
    (!is_ready).then(|| Why::new(Reason::Waiting, format!("waiting until {whose} answers")))
}

/// What the training waits for: the teacher's place may be the one that it needs.
pub(super) fn leaving(given: Given<'_>) -> Option<Why> {
    let is_there = given.observed.teacher.is_some() && given.intent.rehearsal == Some(Rehearsal::Own);
    is_there.then(|| Why::new(Reason::Waiting, "waiting until the teacher is gone, whose place the training may need"))
}

/// Has the teacher made where it is needed, and removed where it is not any more. What counts is the status that was read: a teacher goes only when
/// the word about the last rollout is safely written.
pub(super) fn look_after(plan: &mut Plan, given: Given<'_>) {
    if given.intent.rehearsal != Some(Rehearsal::Own) {
        return;
    }
    match (&given.observed.teacher, is_needed(&given.observed.record, given)) {
        (None, true) => plan.make.push(Make::Teacher),
        (Some(teacher), false) if !teacher.deleting => {
            plan.remove.push(Removal {
                kind: Removable::Teacher,
                name: teacher.name.clone(),
                uid: teacher.uid.clone(),
            });
        }
        _ => {}
    }
}

fn is_needed(record: &Record, given: Given<'_>) -> bool {
    if held(given.intent).is_some() || !record.conditions.holds(ConditionType::Snapshotted) {
        return false;
    }
    match given.intent.work {
        Some(Work::Batch(_)) => !record.conditions.holds(ConditionType::RolledOut),
        // While its counts are checked nobody asks it, but somebody may again in a moment.
        Some(Work::Run(_)) => {
            record.generation.as_ref().is_some_and(|generation| !generation.batches.is_empty())
                || [Stage::Verification, Stage::Generation].into_iter().any(|stage| is_under_way(record, stage))
        }
        None => false,
    }
}
