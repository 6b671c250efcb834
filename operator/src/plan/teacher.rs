//! The teacher that the operator runs itself: there while rollouts are due, and gone when they are not.

use sera_crds::values::Stage;

use super::{
    Given, Hosted, Intent, Make, Plan, Removal, Work,
    conditions::{ConditionType, Reason, Standing, Why},
    evaluation,
    record::Record,
    task::{held, is_under_way},
};
use crate::facts::{ServerFacts, ServerForm};

/// Adds to what this release cannot do what this cluster cannot: it has to have `LeaderWorkerSet` where rollouts are still to ask a teacher whose copies
/// are spread over nodes.
pub fn unhostable(intent: &mut Intent, record: &Record, has_groups: bool) {
    let is_over =
        [ConditionType::Generated, ConditionType::RolledOut].into_iter().any(|done| record.conditions.holds(done));
    if intent.teacher_form == ServerForm::LeaderWorkerSet
        && intent.hosted == Some(Hosted::Own)
        && !has_groups
        && !is_over
    {
        intent.unsupported.get_or_insert_with(|| {
            "spec.teacher.serve.nodesPerReplica: this cluster has no LeaderWorkerSet, by which copies are spread over nodes: install it \
             (https://lws.sigs.k8s.io), or serve the teacher yourself and name it in spec.teacher.endpoint"
                .to_owned()
        });
    }
}

/// What rollouts wait for before their Job is made: a driver without a teacher would spend its samples on errors.
pub(super) fn awaited(plan: &mut Plan, given: Given<'_>) -> Option<Standing> {
    let hosted = given.intent.hosted?;
    if given.intent.copies == 0 {
        let sentence = "spec.teacher.serve.replicas is 0: no copy of the teacher is there that could be asked";
        return Some(Standing::Stalled(Why::new(Reason::ScaledToZero, sentence)));
    }
    let teacher = given.observed.teacher.as_ref();
    if teacher
        .is_some_and(|teacher| !teacher.deleting && teacher.ready > 0 && teacher.form == given.intent.teacher_form)
    {
        return None;
    }
    plan.look_again_at_server(given.pen);
    let whose = match hosted {
        Hosted::Own => "the teacher",
        Hosted::OfRun => "the run's teacher",
    };
    let gave_up = teacher.and_then(|teacher| teacher.trouble.as_ref());
    let cause = given.observed.holdups.teacher.as_ref().or(gave_up).map(|trouble| format!(": {}", trouble.words()));
    let sentence = format!("waiting until {whose} answers{}", cause.unwrap_or_default());
    Some(Standing::Reconciling(Why::new(Reason::Waiting, sentence)))
}

/// What the training waits for: the teacher's place may be the one that it needs.
pub(super) fn leaving(given: Given<'_>) -> Option<Standing> {
    let is_there = given.observed.teacher.is_some() && given.intent.hosted == Some(Hosted::Own);
    let why = || Why::new(Reason::Waiting, "waiting until the teacher is gone, whose place the training may need");
    is_there.then(|| Standing::Reconciling(why()))
}

/// Has the teacher made where it is needed, changed where its owner has, and removed where it is not needed any more. What counts is the status that
/// was read: a teacher goes only when the word about the last rollout is safely written.
pub(super) fn look_after(plan: &mut Plan, given: Given<'_>) {
    // A batch whose run is gone does not know that it hosts one; it may have one of its own all the same.
    let is_own = |teacher: &ServerFacts| teacher.controller.as_ref() == Some(&given.observed.owner.uid);
    let own = given.observed.teacher.as_deref().filter(|teacher| is_own(teacher));
    // Rollouts shall ask somebody else: until now nothing that came of this one counts, or its owner could not say so.
    if given.intent.hosted.is_none() && given.intent.teacher.is_some() {
        plan.remove.extend(own.filter(|teacher| !teacher.deleting).map(Removal::of_server));
        return;
    }
    let is_left = super::batch::is_bereft(given.intent) && own.is_some();
    if given.intent.hosted != Some(Hosted::Own) && !is_left {
        return;
    }
    let is_held = held(given.intent).is_some();
    match (given.observed.teacher.as_deref(), is_needed(&given.observed.record, given)) {
        // What is wrong with the spec takes it away from nobody who asks it: only suspending ends what runs.
        (_, true) if is_held => {}
        (None, true) => plan.make.push(Make::Teacher),
        // The one is no change of the other: both would hold GPUs.
        (Some(teacher), true) if teacher.form != given.intent.teacher_form => {
            plan.remove.extend((!teacher.deleting).then(|| Removal::of_server(teacher)));
        }
        (Some(teacher), true) if is_out_of_date(teacher, given) => plan.make.push(Make::Teacher),
        (Some(teacher), false) if !teacher.deleting => plan.remove.push(Removal::of_server(teacher)),
        _ => {}
    }
}

/// Whether its owner, or the run that a batch takes its word from, may have said something else of it since, such as how many copies there shall be.
fn is_out_of_date(teacher: &ServerFacts, given: Given<'_>) -> bool {
    let applied_from = (teacher.generation, teacher.run_generation);
    !teacher.deleting && applied_from != (Some(given.observed.generation), given.intent.run_generation)
}

fn is_needed(record: &Record, given: Given<'_>) -> bool {
    if given.intent.suspend || !record.conditions.holds(ConditionType::Snapshotted) {
        return false;
    }
    match given.intent.work {
        Some(Work::Batch(_)) => !record.conditions.holds(ConditionType::RolledOut),
        // While its counts are checked nobody asks it, but somebody may again in a moment: it stays, and is not made for that.
        Some(Work::Run(ref work)) => {
            let is_checked =
                || [Stage::Verification, Stage::Generation].into_iter().any(|stage| is_under_way(record, stage));
            record.generation.as_ref().is_some_and(|generation| !generation.batches.is_empty())
                || (given.observed.teacher.is_some() && is_checked())
                || evaluation::is_due(record, work.evaluation.as_ref())
        }
        // A batch whose spec makes no sense says nothing of what it does.
        None => {
            let is_wrong = !given.intent.findings.is_empty() && !super::batch::is_bereft(given.intent);
            is_wrong && !record.conditions.holds(ConditionType::RolledOut)
        }
    }
}
