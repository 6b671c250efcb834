//! The student that is served once a run has its model: there for as long as its owner asks for it, whatever else becomes of the run.

use jiff::Timestamp;
use sera_crds::{run::ServingStatus, values::Stage};

use super::{
    Given, Make, Plan, Removal, ServingWork, Work,
    conditions::{ConditionType, Reason, Standing, Truth, Why},
    finding,
    record::{Record, StageTime},
    task::{held, is_under_way},
};
use crate::facts::ServerFacts;

/// What is said of serving, and where the run stands for it; none where that is no matter of serving.
pub(super) fn judge(plan: &mut Plan, given: Given<'_>, work: Option<&ServingWork>) -> Option<Standing> {
    let Some(work) = work else {
        plan.record.serving = None;
        // Nothing, where serving was never asked for, which is the default.
        if plan.record.conditions.contains(ConditionType::Serving) {
            say(plan, given, Truth::False, Why::new(Reason::Disabled, "spec.serve.enabled is false"));
        }
        return None;
    };
    if let Some(lacking) = &work.unsupported {
        plan.record.serving = None;
        let why = Why::new(Reason::NotImplemented, format!("the model is in the store; {lacking}"));
        say(plan, given, Truth::False, why.clone());
        return Some(held(given.intent).unwrap_or(Standing::Stalled(why)));
    }
    let student = counted(given);
    let ready = student.map_or(0, |student| student.ready);
    plan.record.serving = Some(ServingStatus {
        url: work.url.clone(),
        model: work.model.clone(),
        replicas: work.replicas,
        ready_replicas: ready,
    });
    if given.intent.suspend {
        say(plan, given, Truth::False, Why::new(Reason::Suspended, "spec.suspend is set: no copy is served"));
        return None;
    }
    let standing = if work.replicas == 0 {
        say(plan, given, Truth::False, Why::new(Reason::ScaledToZero, "spec.serve.replicas is 0"));
        None
    } else if student.is_some_and(|student| student.complete && ready >= work.replicas) {
        answers(plan, given, work);
        None
    } else {
        Some(awaits(plan, given, work, student))
    };
    finding(given.intent).map(Standing::Stalled).or(standing)
}

/// As many copies answer as are wanted.
fn answers(plan: &mut Plan, given: Given<'_>, work: &ServingWork) {
    let message = format!("{} copies answer at {} as '{}'", work.replicas, work.url, work.model);
    let message = if work.replicas == 1 { message.replacen("1 copies answer", "it answers", 1) } else { message };
    note(&mut plan.record, given.pen.now, 100);
    say(plan, given, Truth::True, Why::new(Reason::Available, message));
}

/// The student is not there yet, not whole, or not any more.
fn awaits(plan: &mut Plan, given: Given<'_>, work: &ServingWork, student: Option<&ServerFacts>) -> Standing {
    let far =
        format!("{} of {} copies of the student answer", student.map_or(0, |student| student.ready), work.replicas);
    let told = given.observed.holdups.student.as_ref();
    let gave_up = student.and_then(|student| student.trouble.as_ref());
    plan.look_again_at_server(given.pen);
    let why = match told.or(gave_up) {
        Some(trouble) => Why::said(&trouble.reason, format!("{far}: {}", trouble.words())),
        None => Why::new(Reason::Progressing, far),
    };
    say(plan, given, Truth::False, why.clone());
    let ready = u64::from(student.map_or(0, |student| student.ready).min(work.replicas));
    let percent = (ready * 100).checked_div(work.replicas.into()).unwrap_or_default();
    // Every copy may answer, and an old one still be there.
    note(&mut plan.record, given.pen.now, u32::try_from(percent.min(99)).unwrap_or(99));
    if gave_up.is_some() { Standing::Stalled(why) } else { Standing::Reconciling(why) }
}

/// Has the student made where it is asked for, changed where its owner has, and removed where it is not wanted any more. What counts is the status
/// that was read: nothing is served before the word about the model is safely written.
pub(super) fn look_after(plan: &mut Plan, given: Given<'_>) {
    if !given.intent.findings.is_empty() {
        // Nobody knows what is wanted; what serves goes on.
        return;
    }
    let student = given.observed.student.as_ref();
    match (student, is_wanted(given)) {
        (None, true) if !given.intent.suspend => plan.make.push(Make::Student),
        (Some(_), true) if applied(given).is_none() => plan.make.push(Make::Student),
        (Some(student), false) if !student.deleting => plan.remove.push(Removal::of_server(student)),
        _ => {}
    }
}

fn is_wanted(given: Given<'_>) -> bool {
    let is_there = |record: &Record| record.conditions.holds(ConditionType::Trained) && record.model.is_some();
    work(given).is_some_and(|work| work.unsupported.is_none()) && is_there(&given.observed.record)
}

fn work(given: Given<'_>) -> Option<&ServingWork> {
    match &given.intent.work {
        Some(Work::Run(work)) => work.serving.as_ref(),
        _ => None,
    }
}

/// The student as far as it counts: one that goes on because nobody knows what is wanted does, too.
fn counted(given: Given<'_>) -> Option<&ServerFacts> {
    let goes_on = given.observed.student.as_deref().filter(|student| !student.deleting);
    if given.intent.findings.is_empty() { applied(given) } else { goes_on }
}

/// The student as far as it is what its owner asks for now.
fn applied(given: Given<'_>) -> Option<&ServerFacts> {
    let student = given.observed.student.as_deref()?;
    (!student.deleting && student.generation == Some(given.observed.generation)).then_some(student)
}

/// Writes down how far it is, and when the student was first served. While it is compared with others that is what goes on.
fn note(record: &mut Record, now: Timestamp, percent: u32) {
    if !is_under_way(record, Stage::Evaluation) {
        record.progress = Some((Stage::Serving, percent));
    }
    let time = record.times.entry(Stage::Serving).or_insert(StageTime { began: now, ended: None });
    if percent == 100 {
        time.ended = time.ended.or(Some(now));
    }
}

fn say(plan: &mut Plan, given: Given<'_>, truth: Truth, why: Why) {
    plan.record.conditions.set(given.pen, ConditionType::Serving, truth, why);
}
