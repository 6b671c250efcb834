//! How a stage gets done by Jobs: by one attempt after another, each written down before its Job is made, never two at a time. What sets the
//! stages apart is a [`Task`]; what they make of a result is their own business.

mod kind;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sera_crds::{
    contract::{Failure, StageResult},
    values::Stage,
};

pub(super) use self::kind::{Task, noun};
pub use self::kind::{crew, role};
use super::{
    Given, Intent, Make, Plan, Removable, Removal,
    cause::{self, Holdup},
    conditions::{ConditionType, Reason, Standing, Truth, Why},
    finding,
    record::{Attempt, AttemptOutcome, PastFailure, Record, StageTime},
    settle::later,
    sight::{ASK_AGAIN, Crew, Evidence, Sight, is_between_pods, is_ending, is_unready, lacks_pods, look},
    telling::{OF_A_LOST_NODE, after_end, note_progress, running, starting_at, words},
};
use crate::facts::{JobFacts, Live, Trouble};

/// How soon the API server is asked why a Job has no pod; see [`super::sight::is_without_a_pod`].
const ASK_AFTER: SignedDuration = SignedDuration::from_secs(6);

/// Whether an attempt of a stage is under way.
pub(super) fn is_under_way(record: &Record, stage: Stage) -> bool {
    record.attempts.get(&stage).is_some_and(|attempt| attempt.end.is_none())
}

/// Gets a stage done by a Job; none once it is, in this very pass. `accept` writes down what it made, and says so in a sentence; none where the
/// result makes no sense. A Job that is due is not made while something is `awaited`.
pub(super) fn drive(
    plan: &mut Plan,
    given: Given<'_>,
    task: &Task,
    awaited: Option<Standing>,
    accept: impl FnOnce(&mut Record, Option<StageResult>) -> Option<String>,
) -> Option<Standing> {
    match plan.record.attempts.get(&task.stage).cloned() {
        Some(attempt) if attempt.end.is_none() => follow(plan, given, task, attempt, awaited, accept),
        previous => Some(begin(plan, given, task, previous.as_ref())),
    }
}

/// Plans away the Jobs that nothing needs any more. What counts is the status that was read, not the one that is being planned: a Job goes only
/// when the word about its end is safely written. Who suspends an object wants its GPUs within a minute, and not when a large checkpoint is written.
pub(super) fn clear_away(plan: &mut Plan, given: Given<'_>) {
    let Given { observed, intent, pen } = given;
    // Only a gang's pods are given more.
    let is_a_gang =
        |job: &JobFacts| observed.owner.job_of(&job.name).is_some_and(|(stage, _)| crew(stage) == Crew::Gang);
    let leaving = observed.jobs.iter().filter(|job| intent.suspend && job.deleting && is_a_gang(job));
    plan.remove.extend(leaving.map(|job| Removal {
        kind: Removable::PodsOfJob,
        name: job.name.clone(),
        uid: job.uid.clone(),
    }));
    for job in observed.jobs.iter().filter(|job| !job.deleting) {
        let Some((stage, number)) = observed.owner.job_of(&job.name) else { continue };
        let kept_until = match observed.record.attempts.get(&stage) {
            Some(attempt) if attempt.number == number => kept_until(attempt, job, intent, pen.now),
            Some(attempt) if attempt.number > number => Some(pen.now),
            // This status is behind: it does not know of the attempt yet.
            _ => None,
        };
        let Some(kept_until) = kept_until else { continue };
        if kept_until <= pen.now {
            plan.remove.push(Removal { kind: Removable::Job, name: job.name.clone(), uid: job.uid.clone() });
        } else {
            plan.look_again_at(kept_until);
        }
    }
}

/// Until when the Job of a stage's latest attempt is kept; none while it is at work.
fn kept_until(attempt: &Attempt, job: &JobFacts, intent: &Intent, now: Timestamp) -> Option<Timestamp> {
    let end = attempt.end.as_ref()?;
    Some(match end.outcome {
        _ if job.end.is_none() => now,
        AttemptOutcome::Succeeded => later(end.at, intent.keep_succeeded),
        _ => later(end.at, intent.keep_failed),
    })
}

/// Begins the next attempt, or says what it waits for.
fn begin(plan: &mut Plan, given: Given<'_>, task: &Task, previous: Option<&Attempt>) -> Standing {
    let Given { observed, intent, pen } = given;
    if let Some(held) = held(intent) {
        return held;
    }
    if let Some((previous, due)) = previous.and_then(|attempt| Some((attempt, attempt.next_due(plan.edition)?))) {
        if task.is_given_up_after(previous) {
            return after_end(task, previous, due);
        }
        if due > pen.now {
            plan.look_again_at(due);
            return after_end(task, previous, due);
        }
    }
    if is_under_way(&observed.record, task.stage) {
        // It has ended in this very pass. Its end is written down first; that it was is another reason to look.
        return Standing::Reconciling(starting_at(task, &task.next(previous, plan.edition, pen.now)));
    }
    if observed.jobs.iter().any(|job| job.end.is_none()) {
        return Standing::Reconciling(Why::new(
            Reason::Waiting,
            "an earlier attempt's Job is still going away: its pods may be at work until it is gone",
        ));
    }
    let attempt = task.next(previous, plan.edition, pen.now);
    let standing = under_way(&mut plan.record, task, &attempt, starting_at(task, &attempt), given);
    if task.completes {
        plan.record.times.entry(task.stage).or_insert(StageTime::from(pen.now)).ended = None;
    }
    plan.record.attempts.insert(task.stage, attempt);
    if task.locks() {
        plan.record.locked.insert(task.stage);
    }
    plan.record.progress = Some((task.stage, 0));
    standing
}

/// Goes on with an attempt that has not ended as far as status knows; none once the stage is done.
fn follow(
    plan: &mut Plan,
    given: Given<'_>,
    task: &Task,
    mut attempt: Attempt,
    awaited: Option<Standing>,
    accept: impl FnOnce(&mut Record, Option<StageResult>) -> Option<String>,
) -> Option<Standing> {
    let nothing = Evidence::default();
    let evidence = given.observed.evidence.get(&task.stage).unwrap_or(&nothing);
    if let (None, Some(job)) = (&attempt.job, &evidence.job) {
        // Made by a process that died before it could write that down.
        attempt.job = Some(job.uid.clone());
        plan.record.attempts.insert(task.stage, attempt.clone());
    }
    if is_between_pods(evidence) {
        if let Some(job) = evidence.job.as_ref().filter(|_| evidence.namespace_is_going) {
            plan.remove.push(Removal { kind: Removable::Job, name: job.name.clone(), uid: job.uid.clone() });
            return Some(Standing::Reconciling(Why::new(
                Reason::NamespaceTerminating,
                "the namespace is being deleted: the Job goes, for whose next pod Kubernetes would wait for ever",
            )));
        }
        plan.look_again_at(later(given.pen.now, ASK_AGAIN));
    }
    if is_ending(evidence) || is_unready(evidence) || lacks_pods(evidence, task.crew) {
        plan.look_again_at(later(given.pen.now, ASK_AGAIN));
    }
    let is_out_of_date = attempt.inputs != task.inputs;
    let why = match look(&attempt, evidence, task.team()) {
        Sight::Failed(failure) => return Some(end(plan, given, task, attempt, AttemptOutcome::Failed(failure))),
        Sight::Disrupted(words) => return Some(disrupt(plan, given, task, attempt, &words)),
        Sight::Silent | Sight::Gone => return Some(end(plan, given, task, attempt, AttemptOutcome::Lost)),
        // What it was to work from has changed, so that its result would be thrown away.
        _ if is_out_of_date => return Some(end(plan, given, task, attempt, AttemptOutcome::Withdrawn)),
        Sight::Succeeded(result) => return succeed(plan, given, task, attempt, result, accept),
        // Only suspending ends what runs: a spec that became wrong since is a matter for the next attempt.
        Sight::Unmade if held(given.intent).is_some() => {
            return Some(end(plan, given, task, attempt, AttemptOutcome::Withdrawn));
        }
        _ if given.intent.suspend => return Some(end(plan, given, task, attempt, AttemptOutcome::Withdrawn)),
        Sight::Unmade => match awaited {
            None => {
                plan.make.push(Make::Job { stage: task.stage, attempt: attempt.number });
                starting_at(task, &attempt)
            }
            Some(Standing::Reconciling(why)) => why,
            // What is waited for does not pass by itself.
            Some(standing) => {
                plan.record.conditions.set(given.pen, task.condition, Truth::False, standing.why().clone());
                return Some(standing);
            }
        },
        Sight::Leaving => {
            Why::new(Reason::Waiting, "the Job is being deleted by somebody; another attempt follows when it is gone")
        }
        // It waits for what nobody wants any more, and would for ever where its queue never has that.
        Sight::Queued if asks_for_something_else(evidence, task, given.intent) => {
            return Some(end(plan, given, task, attempt, AttemptOutcome::Withdrawn));
        }
        Sight::Queued => Why::new(Reason::Queued, "the Job is suspended: it waits for its queue to admit it"),
        // It waits for what may have been put right by now.
        Sight::Starting { holdup: Some(_), .. } if attempt.edition.differs(plan.edition) => {
            return Some(end(plan, given, task, attempt, AttemptOutcome::Withdrawn));
        }
        Sight::Starting { since, holdup, holds_places } => {
            match starting(plan, given, task, &attempt, since, holdup, holds_places) {
                Start::Awaited(why) => why,
                Start::Failed(failure) => {
                    return Some(end(plan, given, task, attempt, AttemptOutcome::Failed(failure)));
                }
                Start::GivenBack(words) => return Some(disrupt(plan, given, task, attempt, &words)),
            }
        }
        Sight::Between | Sight::Running { .. } if evidence.outlived.is_some() => outlived(evidence, task),
        Sight::Between => match &evidence.overdue {
            Some(pod) => {
                Why::new(Reason::Waiting, format!("pod {pod} should have ended a while ago; {OF_A_LOST_NODE}"))
            }
            None => said_before(&plan.record, task).unwrap_or_else(|| starting_at(task, &attempt)),
        },
        Sight::Running { earlier } => {
            note_progress(&mut plan.record, task, evidence, given.observed.live);
            running(task, &attempt, evidence, given.observed.live, earlier.as_ref())
        }
    };
    Some(under_way(&mut plan.record, task, &attempt, why, given))
}

/// Whether the Job waits in its queue for something else than its owner wants now. Of what its owner edits beside that it keeps its place.
fn asks_for_something_else(evidence: &Evidence, task: &Task, intent: &Intent) -> bool {
    let asked = evidence.job.as_ref().and_then(|job| job.request.as_ref());
    let differs = |wanted: &BTreeMap<Stage, Box<str>>| asked.is_some() && asked != wanted.get(&task.stage);
    intent.requests.as_ref().is_some_and(differs) && held(intent).is_none()
}

/// What is said of an attempt whose program has ended, and whose pod has not.
fn outlived(evidence: &Evidence, task: &Task) -> Why {
    let container = evidence.outlived.as_deref().unwrap_or_default();
    Why::new(
        Reason::Waiting,
        format!(
            "{container} goes on though the program has ended, and keeps the pod and all that it holds: delete the pod, and have whatever \
             puts the container there leave such pods alone, by labels or annotations in spec.pods.{}",
            task.role
        ),
    )
}
/// What was said of an attempt that nothing held up.
fn said_before(record: &Record, task: &Task) -> Option<Why> {
    let said = record.conditions.get(task.condition)?;
    (said.reason == Reason::Progressing.as_str()).then(|| Why::new(Reason::Progressing, said.message.clone()))
}

/// What becomes of an attempt whose pods have not started.
enum Start {
    /// They are waited for.
    Awaited(Why),
    /// They did not start in time, or never will.
    Failed(Failure),
    /// Some wait for room while others of their gang hold some, which is given back: two such gangs could wait for each other for ever.
    GivenBack(String),
}

/// What is said of a pod that has not started; or, once that has gone on for too long, how the attempt ends.
fn starting(
    plan: &mut Plan,
    given: Given<'_>,
    task: &Task,
    attempt: &Attempt,
    since: Option<Timestamp>,
    holdup: Option<Holdup>,
    holds_places: bool,
) -> Start {
    let now = given.pen.now;
    let deadline = since.map(|since| later(since, task.start_deadline));
    let is_over = deadline.is_some_and(|deadline| deadline <= now);
    let asked = since.map_or_else(|| later(now, ASK_AGAIN), |since| later(since, ASK_AFTER));
    for look in [Some(asked), deadline].into_iter().flatten() {
        if look > now {
            plan.look_again_at(look);
        }
    }
    match holdup {
        Some(Holdup::Waiting(Trouble { reason, message })) if is_over && holds_places => Start::GivenBack(format!(
            "not all of its pods found room within {:#} ({reason}: {message}), and those that had some gave it back",
            task.start_deadline
        )),
        Some(Holdup::Waiting(Trouble { reason, message })) => Start::Awaited(Why::said(&reason, message)),
        Some(Holdup::Configuration(failure)) => Start::Failed(failure),
        Some(Holdup::Retrying(failure)) if is_over => Start::Failed(failure),
        Some(Holdup::Retrying(failure)) => Start::Awaited(Why::said(&failure.reason, words(&failure))),
        None if is_over => Start::Failed(cause::of_a_pod_that_never_started(task.start_deadline)),
        None => Start::Awaited(starting_at(task, attempt)),
    }
}

/// Takes the stage as done, and has written down what it made.
fn succeed(
    plan: &mut Plan,
    given: Given<'_>,
    task: &Task,
    mut attempt: Attempt,
    result: Option<StageResult>,
    accept: impl FnOnce(&mut Record, Option<StageResult>) -> Option<String>,
) -> Option<Standing> {
    let pen = given.pen;
    let Some(sentence) = accept(&mut plan.record, result) else {
        let outcome = AttemptOutcome::Failed(cause::of_a_word_that_makes_no_sense(task.noun));
        return Some(end(plan, given, task, attempt, outcome));
    };
    let (truth, reason) =
        if task.completes { (Truth::True, Reason::Succeeded) } else { (Truth::False, Reason::Progressing) };
    plan.record.conditions.set(pen, task.condition, truth, Why::new(reason, sentence));
    plan.record.progress = Some((task.stage, 100));
    if let Some(time) = plan.record.times.get_mut(&task.stage).filter(|_| task.completes) {
        time.ended = Some(pen.now);
    }
    let pods = given.observed.evidence.get(&task.stage).map_or(&[][..], |evidence| &evidence.pods);
    if let Some(image) = pods.iter().find_map(|pod| pod.image.as_deref()) {
        plan.record.images.insert(task.role.as_str().to_owned(), image.to_owned());
    }
    attempt.finish(AttemptOutcome::Succeeded, pen.now);
    plan.record.attempts.insert(task.stage, attempt);
    None
}

/// Writes down that an attempt ended without a result. The snapshot's lock goes with it: nothing was made of what the spec said, so its owner may
/// put it right. The next attempt begins in a later pass, which has read this.
pub(super) fn end(
    plan: &mut Plan,
    given: Given<'_>,
    task: &Task,
    mut attempt: Attempt,
    outcome: AttemptOutcome,
) -> Standing {
    let pen = given.pen;
    if let AttemptOutcome::Failed(failure) = &outcome {
        let failure = failure.clone();
        plan.record.remember(PastFailure { stage: task.stage, attempt: attempt.number, at: pen.now, failure });
    }
    attempt.finish(outcome, pen.now);
    if let Some(time) = plan.record.times.get_mut(&task.stage).filter(|_| task.is_given_up_after(&attempt)) {
        time.ended = Some(pen.now);
    }
    let due = attempt.next_due(plan.edition).unwrap_or(pen.now);
    let standing = after_end(task, &attempt, due);
    let why =
        attempt.failure().map_or_else(|| standing.why().clone(), |failure| Why::said(&failure.reason, words(failure)));
    plan.record.conditions.set(pen, task.condition, Truth::False, why);
    if task.stage == Stage::Snapshot {
        plan.record.locked.remove(&Stage::Snapshot);
    }
    plan.record.attempts.insert(task.stage, attempt);
    plan.look_again_at(due);
    held(given.intent).unwrap_or(standing)
}

/// Writes down that an attempt ended because its pods were taken away, or were given back; `words` say how.
fn disrupt(plan: &mut Plan, given: Given<'_>, task: &Task, attempt: Attempt, words: &str) -> Standing {
    let number = attempt.number;
    let standing = end(plan, given, task, attempt, AttemptOutcome::Disrupted);
    let why = Why::new(Reason::Disrupted, format!("attempt {number} of {}: {words}; this is no failure", task.noun));
    plan.record.conditions.set(given.pen, task.condition, Truth::False, why);
    standing
}

/// Where an object stands while an attempt is under way. One that stalled for its owner's mistake stays stalled while the operator tries again by
/// itself, and leaves that state by a success, by a change, or when its programs are seen to get on: else a health check would flap with every attempt.
pub(super) fn under_way(record: &mut Record, task: &Task, attempt: &Attempt, why: Why, given: Given<'_>) -> Standing {
    let stalled = record.conditions.get(ConditionType::Stalled).filter(|stalled| {
        attempt.failures > 0
            && !given.observed.live.is_some_and(Live::gets_on)
            && stalled.generation == given.pen.generation
            && !attempt.edition.differs(given.observed.edition())
            && record.conditions.get(task.condition).is_some_and(|known| known.reason == stalled.reason)
    });
    if let Some(stalled) = stalled {
        return Standing::Stalled(Why::said(&stalled.reason, stalled.message.clone()));
    }
    record.conditions.set(given.pen, task.condition, Truth::False, why.clone());
    Standing::Reconciling(why)
}

/// What keeps any attempt from beginning, the owner's own word first.
pub(super) fn held(intent: &Intent) -> Option<Standing> {
    if intent.suspend {
        return Some(Standing::Suspended(Why::new(
            Reason::Suspended,
            "spec.suspend is set; what was done so far is kept",
        )));
    }
    if let Some(why) = finding(intent) {
        return Some(Standing::Stalled(why));
    }
    let unsupported = intent.unsupported.as_ref()?;
    Some(Standing::Stalled(Why::new(Reason::NotImplemented, unsupported.clone())))
}
