//! How a run gets its trajectories: by batches, of which so many are under way as the spec says. Each stands in status before it is made, and is
//! folded into the run's counts once and in order; when the counts may be enough, a dry run of the dataset says whether they are.
//!
//! What is decided depends on what is folded alone, and on nothing that happens in between: the next batch is written down before another is folded,
//! and none is while the counts are being checked. So a run makes the same batches however often it is disturbed.

use jiff::Timestamp;
use sera_crds::{
    contract::StageResult,
    run::{GenerationTotals, Phase},
    values::Stage,
};

use super::{
    Given, Intent, Make, Observed, Plan, Removable, Removal, RunWork,
    conditions::{ConditionType, Reason, Standing, Truth, Why},
    forecast,
    record::{Batch, DryRun, Folded, Generation, Record, StageTime},
    settle::later,
    spending::{self, last_moment},
    task::{self, Task, held, is_under_way},
    totals,
};
use crate::facts::BatchFacts;

/// How many of the batches that are folded in are kept to be looked at, as Deployments keep old `ReplicaSets`.
const KEPT_BATCHES: u32 = 2;

/// Gets enough trajectories; none once there are.
pub(super) fn get(plan: &mut Plan, given: Given<'_>, work: &RunWork) -> Option<Standing> {
    if is_done(&plan.record, work) {
        return None;
    }
    if plan.record.generation.is_none() {
        if let Some(held) = held(given.intent) {
            return Some(held);
        }
        begin(&mut plan.record, given);
    }
    note_pause(plan, given, work);
    note_batches(plan, given);
    lock(&mut plan.record, given.observed);
    let standing = settle_counts(plan, given, work, is_under_way)
        .or_else(|| {
            work_on(&mut plan.record, given, work);
            settle_counts(plan, given, work, |record, stage| is_due(generation(record), stage, work))
        })
        .or_else(|| conclude(plan, given, work));
    let shown = shown_totals(generation(&plan.record), work);
    let accepted = shown.accepted;
    if let Some(generation) = &mut plan.record.generation {
        generation.totals = shown;
        generation.max_samples = Some(work.max_samples);
    }
    let forecast = plan.record.generation.as_ref().and_then(|generation| generation.forecast.as_ref()?.finish);
    plan.record.eta = forecast.filter(|_| matches!(standing, Some(Standing::Reconciling(_))));
    if let Some(standing) = &standing {
        plan.record.conditions.set(given.pen, ConditionType::Generated, Truth::False, standing.why().clone());
        let percent = (accepted * 100).checked_div(work.accepted.into()).unwrap_or_default().min(99);
        plan.record.progress = Some((Stage::Generation, u32::try_from(percent).unwrap_or(99)));
    }
    standing
}

/// Plans away the batches that are folded in, but for the last few, which go when the run has been over for as long as its owner says. What counts is the
/// status that was read: a batch goes only when the word about what it counted is safely written.
pub(super) fn clear_away(plan: &mut Plan, given: Given<'_>) {
    let Given { observed, intent, pen } = given;
    let Some(generation) = &observed.record.generation else { return };
    let until = kept_until(&observed.record, intent).filter(|_| !observed.batches.is_empty());
    let kept = if until.is_some_and(|until| until <= pen.now) { 0 } else { KEPT_BATCHES };
    if let Some(until) = until.filter(|until| *until > pen.now) {
        plan.look_again_at(until);
    }
    for batch in observed.batches.iter().filter(|batch| !batch.deleting) {
        let number = observed.owner.batch_number(&batch.name);
        if number.is_some_and(|number| number.saturating_add(kept) <= generation.folded.through) {
            plan.remove.push(Removal { kind: Removable::Batch, name: batch.name.clone(), uid: batch.uid.clone() });
        }
    }
}

/// Until when the batches of a run that is over are kept; none while it is not.
fn kept_until(record: &Record, intent: &Intent) -> Option<Timestamp> {
    let keep = match record.phase? {
        Phase::Succeeded => intent.keep_succeeded,
        Phase::Failed => intent.keep_failed,
        _ => return None,
    };
    let ends = record.attempts.values().filter_map(|attempt| attempt.end.as_ref());
    ends.map(|end| later(end.at, keep)).max()
}

/// Whether the stage is done, by a policy that is still the spec's or cannot change any more.
fn is_done(record: &Record, work: &RunWork) -> bool {
    record.conditions.holds(ConditionType::Generated)
        && (record.locked.contains(&Stage::Dataset) || is_enough(generation(record), work))
}

fn begin(record: &mut Record, given: Given<'_>) {
    record.generation = Some(Generation::default());
    record.times.entry(Stage::Generation).or_insert(StageTime::from(given.pen.now));
}

/// Locks what samples are drawn by, and what they are made with; the latter not while all that was made of it is stalled batches, since it may be what
/// is wrong.
fn lock(record: &mut Record, observed: &Observed) {
    let Generation { folded, batches, .. } = generation(record);
    let is_stalled = |batch| seen(observed, batch).is_some_and(|facts| facts.stalled);
    let may_be_wrong = folded.through == 0 && !batches.is_empty() && batches.iter().all(is_stalled);
    record.locked.insert(Stage::Rollouts);
    if may_be_wrong {
        record.locked.remove(&Stage::Generation);
    } else {
        record.locked.insert(Stage::Generation);
    }
}

/// Keeps count of the time for which the run is suspended, and looks again when no further batch may be made.
fn note_pause(plan: &mut Plan, given: Given<'_>, work: &RunWork) {
    if let Some(generation) = &mut plan.record.generation {
        generation.paused.note(given.intent.suspend, given.pen.now);
    }
    if let Some(end) =
        last_moment(&plan.record, Stage::Generation, work.max_duration).filter(|end| *end > given.pen.now)
    {
        plan.look_again_at(end);
    }
}

/// Has the batches made that status names, and takes notice of those that are there.
fn note_batches(plan: &mut Plan, given: Given<'_>) {
    let Given { observed, intent, .. } = given;
    plan.look_again_at_lingering(observed, given.pen);
    let Some(generation) = &mut plan.record.generation else { return };
    for batch in &mut generation.batches {
        match (seen(observed, batch), &batch.uid) {
            // Made by a process that died before it could write that down.
            (Some(facts), _) => batch.uid = Some(facts.uid.clone()),
            // Somebody deleted it. Its namesake goes on from what lies in the store, but not beside its pods.
            (None, Some(uid)) if !observed.lingering.contains(uid) => batch.uid = None,
            (None, Some(_)) => {}
            (None, None) if held(intent).is_some() => {}
            (None, None) => {
                let Batch { number, from, count, .. } = *batch;
                plan.make.push(Make::Batch { number, from, count });
            }
        }
    }
}

/// Writes down the batches that are next and folds in those that are done, in turns, for as far as that goes.
fn work_on(record: &mut Record, given: Given<'_>, work: &RunWork) {
    let is_over = last_moment(record, Stage::Generation, work.max_duration).is_some_and(|end| end <= given.pen.now);
    let is_held = is_over || held(given.intent).is_some();
    let Some(generation) = &mut record.generation else { return };
    let before = generation.folded.through;
    loop {
        if is_due(generation, Stage::Verification, work) || is_due(generation, Stage::Generation, work) {
            break;
        }
        while !is_held && generation.batches.len() < work.parallel as usize {
            let Some(batch) = next_batch(generation, work) else { break };
            generation.batches.push(batch);
        }
        if !fold_first(generation, given.observed) {
            break;
        }
    }
    if generation.folded.through > before {
        foresee(record, work, given.pen.now);
    }
}

/// Says anew what the rest will take: what is counted has changed.
fn foresee(record: &mut Record, work: &RunWork, now: Timestamp) {
    let began = record.times.get(&Stage::Generation).map(|time| time.began);
    if let Some(generation) = &mut record.generation {
        generation.forecast = forecast::of(generation, work, began, now);
    }
}

/// The batch that is next; none where there is enough, or where another may not be made.
fn next_batch(generation: &Generation, work: &RunWork) -> Option<Batch> {
    if is_enough(generation, work) || forecast::despair(&generation.folded, work).is_some() {
        return None;
    }
    let from = generation.batches.iter().fold(generation.folded.samples, |from, batch| from + batch.count);
    let allowance = spending::next(&work.budget, generation, work.parallel)?;
    let affordable = allowance.samples.map_or(u32::MAX, |samples| u32::try_from(samples).unwrap_or(u32::MAX));
    let count = work.batch_size.min(work.max_samples.saturating_sub(from)).min(affordable);
    let number = generation.batches.last().map_or(generation.folded.through, |batch| batch.number) + 1;
    (count > 0).then_some(Batch { number, from, count, uid: None, slice: allowance.slice })
}

/// Folds in the first batch that is under way, if it is done.
fn fold_first(generation: &mut Generation, observed: &Observed) -> bool {
    let Some(batch) = generation.batches.first() else { return false };
    let facts = seen(observed, batch).filter(|facts| batch.uid.as_ref() == Some(&facts.uid));
    let Some(result) = facts.and_then(|facts| facts.result.as_ref()) else { return false };
    let Folded { through, samples, adopted, policy, totals } = &generation.folded;
    let is_by_one_policy = *through == 0 || policy.as_ref() == Some(&result.settings);
    generation.folded = Folded {
        through: batch.number,
        samples: samples + batch.count,
        adopted: *adopted,
        policy: is_by_one_policy.then(|| result.settings.clone()),
        totals: totals::sum(totals, &result.totals),
    };
    generation.batches.remove(0);
    true
}

/// Sees to the Jobs that check the counts: the verification of all batches, and the dry run of the dataset; those for which it `is_wanted`.
fn settle_counts(
    plan: &mut Plan,
    given: Given<'_>,
    work: &RunWork,
    is_wanted: impl Fn(&Record, Stage) -> bool,
) -> Option<Standing> {
    if is_wanted(&plan.record, Stage::Verification)
        && let Some(standing) = verify_all(plan, given, work)
    {
        return Some(standing);
    }
    if is_wanted(&plan.record, Stage::Generation) { dry_run(plan, given, work) } else { None }
}

/// Whether the counts have to be checked before anything else: they are not by the present policy, or may be enough by it.
fn is_due(generation: &Generation, stage: Stage, work: &RunWork) -> bool {
    let Generation { folded, dry_run, .. } = generation;
    match stage {
        Stage::Verification => folded.through > 0 && folded.policy.as_ref() != Some(&work.policy.settings),
        Stage::Generation => {
            let is_known = dry_run.as_ref().is_some_and(|known| {
                known.inputs == work.dataset && (known.complete || known.through == folded.through)
            });
            !is_known && may_be_enough(generation, work)
        }
        _ => false,
    }
}

/// Whether a dry run under the present policy has found enough. More batches make no less of it.
fn is_enough(generation: &Generation, work: &RunWork) -> bool {
    generation.dry_run.as_ref().is_some_and(|known| known.complete && known.inputs == work.dataset)
        && !is_due(generation, Stage::Verification, work)
}

/// Whether the verified trajectories reach both shares: the dataset leaves some out, and takes none in that were not accepted.
fn may_be_enough(generation: &Generation, work: &RunWork) -> bool {
    let totals = &generation.folded.totals;
    let (first, second) = work.shares();
    // How the dataset rounds is its own business; a dry run too many costs seconds.
    generation.folded.through > 0 && totals.accepted_first >= first && totals.accepted_second + 1 >= second
}

fn verify_all(plan: &mut Plan, given: Given<'_>, work: &RunWork) -> Option<Standing> {
    let task = Task::of(Stage::Verification, given.intent);
    task::drive(plan, given, &task, None, |record, result| {
        let StageResult::Verification { counts, .. } = result? else { return None };
        let folded = &mut record.generation.as_mut()?.folded;
        if !totals::are_possible(&counts, folded.samples.into()) {
            return None;
        }
        folded.totals = totals::judged_anew(&folded.totals, &counts);
        folded.policy = Some(work.policy.settings.clone());
        let sentence = format!("all samples of {} batches have new verdicts", folded.through);
        foresee(record, work, given.pen.now);
        Some(sentence)
    })
}

fn dry_run(plan: &mut Plan, given: Given<'_>, work: &RunWork) -> Option<Standing> {
    let task = Task::of(Stage::Generation, given.intent);
    task::drive(plan, given, &task, None, |record, result| {
        let StageResult::Dataset { accepted_first, accepted_second, complete, .. } = result? else { return None };
        let generation = record.generation.as_mut()?;
        let (inputs, through) = (work.dataset.clone(), generation.folded.through);
        let found = DryRun { inputs, through, accepted_first, accepted_second, complete };
        Some(generation.dry_run.insert(found).words())
    })
}

/// Where the run stands between two looks; none once there is enough, and everything under way is folded in.
fn conclude(plan: &mut Plan, given: Given<'_>, work: &RunWork) -> Option<Standing> {
    let Generation { batches, folded, .. } = generation(&plan.record);
    if batches.is_empty() && is_enough(generation(&plan.record), work) {
        let sentence = format!("{} samples in {} batches gave enough trajectories", folded.samples, folded.through);
        plan.record.conditions.set(
            given.pen,
            ConditionType::Generated,
            Truth::True,
            Why::new(Reason::Succeeded, sentence),
        );
        plan.record.progress = Some((Stage::Generation, 100));
        if let Some(time) = plan.record.times.get_mut(&Stage::Generation) {
            time.ended = Some(given.pen.now);
        }
        return None;
    }
    let standing = held(given.intent)
        .or_else(|| trouble(batches, given.observed))
        .or_else(|| batches.is_empty().then(|| out_of_means(generation(&plan.record), work)));
    Some(standing.unwrap_or_else(|| Standing::Reconciling(at_work(generation(&plan.record), work))))
}

/// What one of the batches under way cannot do without help, or waits for.
fn trouble(batches: &[Batch], observed: &Observed) -> Option<Standing> {
    let facts = || batches.iter().filter_map(|batch| seen(observed, batch));
    let words = |batch: &BatchFacts| {
        let trouble = batch.trouble.as_ref()?;
        Some(Why::said(&trouble.reason, format!("batch {}: {}", batch.name, trouble.message)))
    };
    let stalled = facts().filter(|batch| batch.stalled).find_map(words);
    stalled.map(Standing::Stalled).or_else(|| facts().find_map(words).map(Standing::Reconciling))
}

/// Why no further batch is made though there is not enough.
fn out_of_means(generation: &Generation, work: &RunWork) -> Standing {
    let (first, second) = work.shares();
    let totals = shown_totals(generation, work);
    let found = format!(
        "{} samples gave {} first and {} second trajectories, and {first} and {second} are wanted",
        generation.folded.samples, totals.accepted_first, totals.accepted_second
    );
    let advice = "raise spec.generation.maxSamples, or ask for less by acceptedTrajectories, verification or filters";
    let why = if let Some(despair) = forecast::despair(&generation.folded, work) {
        Why::new(Reason::YieldTooLow, format!("{found}; {despair}, so no more are made: {advice}"))
    } else if generation.folded.samples >= work.max_samples {
        Why::new(Reason::YieldTooLow, format!("{found}: {advice}"))
    } else {
        Why::new(
            Reason::BudgetExhausted,
            format!("{found}; what is left of the budget is not enough for more: raise spec.generation.budget"),
        )
    };
    Standing::Stalled(why)
}

fn at_work(generation: &Generation, work: &RunWork) -> Why {
    let accepted = shown_totals(generation, work).accepted;
    let numbers: Vec<String> = generation.batches.iter().take(8).map(|batch| batch.number.to_string()).collect();
    let outlook = generation.forecast.as_ref().map(|all| format!(" (about {} will be needed)", all.samples));
    Why::new(
        Reason::Progressing,
        format!(
            "{accepted} of {} trajectories are accepted after {} samples{}; at work: batch {}",
            work.accepted,
            generation.folded.samples,
            outlook.unwrap_or_default(),
            numbers.join(", ")
        ),
    )
}

/// The counts as they are shown: accepted is what the dataset would have, as far as that is known; until then each kind counts up to its share.
fn shown_totals(generation: &Generation, work: &RunWork) -> GenerationTotals {
    let mut totals = generation.folded.totals.clone();
    let known = generation
        .dry_run
        .as_ref()
        .filter(|known| known.inputs == work.dataset && (known.complete || known.through == generation.folded.through));
    let (first, second) = work.shares();
    let (first, second) = known.map_or_else(
        || (totals.accepted_first.min(first), totals.accepted_second.min(second)),
        |known| (known.accepted_first, known.accepted_second),
    );
    (totals.accepted, totals.accepted_first, totals.accepted_second) = (first + second, first, second);
    totals
}

fn seen<'a>(observed: &'a Observed, batch: &Batch) -> Option<&'a BatchFacts> {
    let name = observed.owner.batch_name(batch.number);
    observed.batches.iter().find(|facts| *facts.name == *name).map(AsRef::as_ref)
}

fn generation(record: &Record) -> &Generation {
    static NONE: std::sync::LazyLock<Generation> = std::sync::LazyLock::new(Generation::default);
    record.generation.as_ref().unwrap_or(&NONE)
}
