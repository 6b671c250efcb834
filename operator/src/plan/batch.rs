//! What a batch does once it has a snapshot: the rollouts of its samples, shard by shard, and their verification, which alone counts. A policy that
//! is edited afterwards is one more verification, and no rollout.

use sera_crds::{contract::StageResult, values::Stage};

use super::{
    BatchWork, Given, Intent, Plan, Policy, RunSnapshot, SnapshotIntent,
    conditions::{ConditionType, Reason, Standing, Why},
    record::{AttemptOutcome, Generation, Record, Verification},
    task::{self, Task},
    teacher, totals,
};

/// Gets the rollouts and then the verdicts.
pub(super) fn get(plan: &mut Plan, given: Given<'_>, work: &BatchWork) -> Standing {
    roll_out(plan, given, work).or_else(|| verify(plan, given, work)).unwrap_or_else(|| done(&plan.record))
}

/// Where a batch stands whose run is gone, or cannot be read: what is done stays done. Without its run it comes to nothing, and so gives back what it holds.
pub(super) fn without_its_run(plan: &mut Plan, given: Given<'_>) -> Standing {
    if plan.record.conditions.holds(ConditionType::Verified) {
        return done(&plan.record);
    }
    if is_bereft(given.intent) || given.intent.suspend {
        for stage in [Stage::Rollouts, Stage::Verification] {
            let under_way = plan.record.attempts.get(&stage).filter(|attempt| attempt.end.is_none()).cloned();
            if let Some(attempt) = under_way {
                task::end(plan, given, &Task::of(stage, given.intent), attempt, AttemptOutcome::Withdrawn);
            }
        }
    }
    if let Some(standing) = task::held(given.intent) {
        return standing;
    }
    Standing::Reconciling(Why::new(
        Reason::Waiting,
        "spec.runRef.name: the run that says what to do is not there, or its defaults cannot be read",
    ))
}

/// Whether the run that would say what to do is gone.
pub(super) fn is_bereft(intent: &Intent) -> bool {
    matches!(intent.snapshot, SnapshotIntent::OfRun { progress: RunSnapshot::NoSuchRun, .. })
}

fn roll_out(plan: &mut Plan, given: Given<'_>, work: &BatchWork) -> Option<Standing> {
    note_pause(&mut plan.record, given, work);
    if plan.record.conditions.holds(ConditionType::RolledOut) {
        return None;
    }
    let awaited = teacher::awaited(plan, given);
    let task = Task::of(Stage::Rollouts, given.intent);
    task::drive(plan, given, &task, awaited, |_, _| Some(format!("{} samples have their rollouts", work.samples)))
}

/// Keeps count of the time for which a batch is suspended whose rollouts may take only so long.
fn note_pause(record: &mut Record, given: Given<'_>, work: &BatchWork) {
    if work.max_duration.is_some() && record.times.contains_key(&Stage::Rollouts) {
        let waits = given.intent.suspend && !record.conditions.holds(ConditionType::RolledOut);
        record.generation.get_or_insert_default().paused.note(waits, given.pen.now);
    }
}

fn verify(plan: &mut Plan, given: Given<'_>, work: &BatchWork) -> Option<Standing> {
    if is_verified(&plan.record, work) {
        return None;
    }
    let task = Task::of(Stage::Verification, given.intent);
    let now = given.pen.now;
    task::drive(plan, given, &task, None, |record, result| {
        let StageResult::Verification { policy, counts, .. } = result? else { return None };
        if !totals::are_possible(&counts, work.samples.into()) {
            return None;
        }
        let Policy { measure, threshold, settings } = work.policy.clone();
        let policy = policy.parse().ok()?;
        record.verification = Some(Verification { measure, threshold, settings, policy, finished: now });
        let generation = record.generation.get_or_insert_default();
        generation.totals = totals::counted(&counts, work.price.as_ref(), &generation.totals);
        Some(format!(
            "{} samples have their verdicts: {} first and {} second trajectories are accepted",
            counts.attempted, counts.accepted_first, counts.accepted_second
        ))
    })
}

/// Whether the verdicts are those of the policy. A run that edits its policy verifies all that its batches made at once, and by itself.
fn is_verified(record: &Record, work: &BatchWork) -> bool {
    let is_by_policy = |known: &Verification| work.of_run || known.settings == work.policy.settings;
    record.conditions.holds(ConditionType::Verified) && record.verification.as_ref().is_some_and(is_by_policy)
}

fn done(record: &Record) -> Standing {
    let totals = record.generation.as_ref().map(|Generation { totals, .. }| totals.clone()).unwrap_or_default();
    Standing::Done(Why::new(
        Reason::Succeeded,
        format!("{} samples were made, and {} trajectories are accepted", totals.attempted, totals.accepted),
    ))
}
