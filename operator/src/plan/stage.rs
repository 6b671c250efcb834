//! How the snapshot gets done: by one attempt after another, each written down before its Job is made, never two at a time.

use jiff::{SignedDuration, Timestamp};
use sera_crds::{
    contract::{Failure, StageResult},
    values::Stage,
};

use super::{
    Intent, Make, Observed, Plan, Removal, RunSnapshot, SnapshotIntent,
    cause::{self, Holdup},
    conditions::{ConditionType, Pen, Reason, Standing, Truth, Why},
    finding,
    record::{Attempt, AttemptOutcome, PastFailure, Record, Snapshot, StageTime, is_the_owners},
    sight::{Evidence, Sight, look},
};
use crate::facts::Trouble;

/// How long a pod may take to start before the attempt is given up for a cause that somebody must repair. The same as the API's default for
/// `training.startDeadline`: pulling an image, binding a claim and growing a cluster are as slow for one pod as for many.
pub(super) const START_DEADLINE: SignedDuration = SignedDuration::from_mins(15);

/// How soon the API server is asked why a Job has no pod; see [`super::sight::is_without_a_pod`].
const ASK_AFTER: SignedDuration = SignedDuration::from_secs(6);

/// Brings the object as far as it can go now, and says where it stands.
pub(super) fn advance(plan: &mut Plan, observed: &Observed, intent: &Intent, pen: Pen) -> Standing {
    if !plan.record.conditions.holds(ConditionType::Snapshotted) {
        let standing = match &intent.snapshot {
            SnapshotIntent::Take { folder } => {
                plan.record.store = Some(folder.clone());
                take(plan, observed, intent, pen)
            }
            SnapshotIntent::Adopt { folder } => adopt(plan, intent, folder, pen),
            SnapshotIntent::OfRun { run, progress } => of_run(plan, intent, run, progress, pen),
        };
        if let Some(standing) = standing {
            return standing;
        }
    }
    held(intent).unwrap_or_else(|| {
        Standing::Stalled(Why::new(
            Reason::NotImplemented,
            "the snapshot is in the store; what comes after it, the generation of trajectories, is not part of this release",
        ))
    })
}

/// Plans away the Jobs that nothing needs any more. What counts is the status that was read, not the one that is being planned: a Job goes only
/// when the word about its end is safely written.
pub(super) fn clear_away(plan: &mut Plan, observed: &Observed, intent: &Intent, now: Timestamp) {
    let Some(attempt) = observed.record.attempts.get(&Stage::Snapshot) else { return };
    let current = observed.owner.job_name(Stage::Snapshot, attempt.number);
    for job in observed.jobs.iter().filter(|job| !job.deleting) {
        let kept_until = match &attempt.end {
            _ if *job.name != *current => now,
            None => continue,
            Some(_) if job.end.is_none() => now,
            Some(end) if end.outcome == AttemptOutcome::Succeeded => later(end.at, intent.keep_succeeded),
            Some(end) => later(end.at, intent.keep_failed),
        };
        if kept_until <= now {
            plan.remove.push(Removal { name: job.name.clone(), uid: job.uid.clone() });
        } else {
            plan.look_again_at(kept_until);
        }
    }
}

/// Takes the snapshot by a Job; none once it is taken.
fn take(plan: &mut Plan, observed: &Observed, intent: &Intent, pen: Pen) -> Option<Standing> {
    match plan.record.attempts.get(&Stage::Snapshot).cloned() {
        Some(attempt) if attempt.end.is_none() => follow(plan, attempt, observed, intent, pen),
        previous => Some(begin(plan, previous.as_ref(), observed, intent, pen)),
    }
}

/// Takes in a snapshot that somebody else made; the stages that read it check it by its digest.
fn adopt(plan: &mut Plan, intent: &Intent, uri: &str, pen: Pen) -> Option<Standing> {
    if let Some(held) = held(intent) {
        return Some(held);
    }
    let why = Why::new(Reason::Adopted, format!("the snapshot at {uri} is used as it is"));
    plan.record.conditions.set(pen, ConditionType::Snapshotted, Truth::True, why);
    None
}

/// Waits for another run's snapshot. Whatever changes about that run causes a pass here, so there is nothing to look again for.
fn of_run(plan: &mut Plan, intent: &Intent, run: &str, progress: &RunSnapshot, pen: Pen) -> Option<Standing> {
    let why = match progress {
        RunSnapshot::Ready(uri) => return adopt(plan, intent, uri, pen),
        RunSnapshot::NoSuchRun => {
            Why::new(Reason::Waiting, format!("spec.runRef.name: there is no run '{run}' in this namespace yet"))
        }
        RunSnapshot::NotYet => Why::new(Reason::Waiting, format!("waiting for the snapshot of the run '{run}'")),
    };
    plan.record.conditions.set(pen, ConditionType::Snapshotted, Truth::False, why.clone());
    Some(held(intent).unwrap_or(Standing::Reconciling(why)))
}

/// Begins the next attempt, or says what it waits for.
fn begin(plan: &mut Plan, previous: Option<&Attempt>, observed: &Observed, intent: &Intent, pen: Pen) -> Standing {
    if let Some(held) = held(intent) {
        return held;
    }
    if let Some((previous, due)) = previous.and_then(|attempt| Some((attempt, attempt.next_due(pen.generation)?)))
        && due > pen.now
    {
        plan.look_again_at(due);
        return after_end(previous, due);
    }
    if observed.jobs.iter().any(|job| job.end.is_none()) {
        return Standing::Reconciling(Why::new(
            Reason::Waiting,
            "an earlier attempt's Job is still going away: its pods may be at work until it is gone",
        ));
    }
    let attempt = Attempt::after(previous, observed.generation, pen.now);
    let standing = under_way(&mut plan.record, &attempt, starting_at(&attempt), pen);
    plan.record.times.entry(Stage::Snapshot).or_insert(StageTime::from(pen.now));
    plan.record.attempts.insert(Stage::Snapshot, attempt);
    plan.record.locked.insert(Stage::Snapshot);
    plan.record.progress = Some((Stage::Snapshot, 0));
    standing
}

/// Goes on with an attempt that has not ended as far as status knows; none once the stage is done.
fn follow(plan: &mut Plan, mut attempt: Attempt, observed: &Observed, intent: &Intent, pen: Pen) -> Option<Standing> {
    if let (None, Some(job)) = (&attempt.job, &observed.evidence.job) {
        // Made by a process that died before it could write that down.
        attempt.job = Some(job.uid.clone());
        plan.record.attempts.insert(Stage::Snapshot, attempt.clone());
    }
    let why = match look(&attempt, &observed.evidence) {
        Sight::Succeeded(result) => return succeed(plan, attempt, result, &observed.evidence, intent, pen),
        Sight::Failed(failure) => return Some(end(plan, attempt, AttemptOutcome::Failed(failure), intent, pen)),
        Sight::Silent | Sight::Gone => return Some(end(plan, attempt, AttemptOutcome::Lost, intent, pen)),
        // Only suspending ends what runs: a spec that became wrong since is a matter for the next attempt.
        Sight::Unmade if held(intent).is_some() => {
            return Some(end(plan, attempt, AttemptOutcome::Withdrawn, intent, pen));
        }
        _ if intent.suspend => return Some(end(plan, attempt, AttemptOutcome::Withdrawn, intent, pen)),
        Sight::Unmade => {
            plan.make.push(Make::Job { stage: Stage::Snapshot, attempt: attempt.number });
            starting_at(&attempt)
        }
        Sight::Leaving => {
            Why::new(Reason::Waiting, "the Job is being deleted by somebody; another attempt follows when it is gone")
        }
        Sight::Queued => Why::new(Reason::Queued, "the Job is suspended: it waits for its queue to admit it"),
        Sight::Starting { since, holdup } => match starting(plan, &attempt, since, holdup, pen) {
            Ok(why) => why,
            Err(failure) => return Some(end(plan, attempt, AttemptOutcome::Failed(failure), intent, pen)),
        },
        Sight::Running { earlier } => running(&attempt, earlier.as_ref()),
    };
    Some(under_way(&mut plan.record, &attempt, why, pen))
}

/// What is said of a pod that has not started; or, once that has gone on for too long, why the attempt failed.
fn starting(
    plan: &mut Plan,
    attempt: &Attempt,
    since: Option<Timestamp>,
    holdup: Option<Holdup>,
    pen: Pen,
) -> Result<Why, Failure> {
    let deadline = since.map(|since| later(since, START_DEADLINE));
    let is_over = deadline.is_some_and(|deadline| deadline <= pen.now);
    for look in [since.map(|since| later(since, ASK_AFTER)), deadline].into_iter().flatten() {
        if look > pen.now {
            plan.look_again_at(look);
        }
    }
    match holdup {
        Some(Holdup::Waiting(Trouble { reason, message })) => Ok(Why::said(&reason, message)),
        Some(Holdup::Configuration(failure)) => Err(failure),
        Some(Holdup::Retrying(failure)) if is_over => Err(failure),
        Some(Holdup::Retrying(failure)) => Ok(Why::said(&failure.reason, words(&failure))),
        None if is_over => Err(cause::of_a_pod_that_never_started(START_DEADLINE)),
        None => Ok(starting_at(attempt)),
    }
}

/// Takes the stage as done, and writes down what it made.
fn succeed(
    plan: &mut Plan,
    mut attempt: Attempt,
    result: StageResult,
    evidence: &Evidence,
    intent: &Intent,
    pen: Pen,
) -> Option<Standing> {
    let SnapshotIntent::Take { folder } = &intent.snapshot else { return None };
    let Some(snapshot) = snapshot_of(result, folder) else {
        let outcome = AttemptOutcome::Failed(cause::of_a_word_that_makes_no_sense());
        return Some(end(plan, attempt, outcome, intent, pen));
    };
    let why = Why::new(
        Reason::Succeeded,
        format!("{} commits are in the store, the newest {}", snapshot.commits, snapshot.commit),
    );
    plan.record.conditions.set(pen, ConditionType::Snapshotted, Truth::True, why);
    plan.record.snapshot = Some(snapshot);
    plan.record.progress = Some((Stage::Snapshot, 100));
    if let Some(time) = plan.record.times.get_mut(&Stage::Snapshot) {
        time.ended = Some(pen.now);
    }
    if let Some(image) = evidence.pods.iter().find_map(|pod| pod.image.as_deref()) {
        plan.record.images.insert("snapshot".to_owned(), image.to_owned());
    }
    attempt.finish(AttemptOutcome::Succeeded, pen.now);
    plan.record.attempts.insert(Stage::Snapshot, attempt);
    None
}

/// What a program's last word says, checked as the API server will check it: a status that it refuses would be written again and again.
fn snapshot_of(result: StageResult, folder: &str) -> Option<Snapshot> {
    let StageResult::Snapshot { manifest, commit, commits, .. } = result else { return None };
    let is_object_id =
        (4..=64).contains(&commit.len()) && commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let sha256 = manifest.sha256.parse().ok().filter(|_| is_object_id && commits <= 64)?;
    Some(Snapshot { uri: format!("{folder}/{}", manifest.path), sha256, commit, commits })
}

/// Writes down that an attempt ended without a result. The stage's lock goes with it: nothing was made of what the spec said, so its owner may
/// put it right. The next attempt begins in a later pass, which has read this.
pub(super) fn end(
    plan: &mut Plan,
    mut attempt: Attempt,
    outcome: AttemptOutcome,
    intent: &Intent,
    pen: Pen,
) -> Standing {
    if let AttemptOutcome::Failed(failure) = &outcome {
        let failure = failure.clone();
        plan.record.remember(PastFailure { stage: Stage::Snapshot, attempt: attempt.number, at: pen.now, failure });
    }
    attempt.finish(outcome, pen.now);
    let due = attempt.next_due(pen.generation).unwrap_or(pen.now);
    let standing = after_end(&attempt, due);
    let why =
        attempt.failure().map_or_else(|| standing.why().clone(), |failure| Why::said(&failure.reason, words(failure)));
    plan.record.conditions.set(pen, ConditionType::Snapshotted, Truth::False, why);
    plan.record.locked.remove(&Stage::Snapshot);
    plan.record.attempts.insert(Stage::Snapshot, attempt);
    plan.look_again_at(due);
    held(intent).unwrap_or(standing)
}

/// Where an object stands between an attempt that ended without a result and the next.
fn after_end(attempt: &Attempt, due: Timestamp) -> Standing {
    let number = attempt.number;
    match attempt.end.as_ref().map(|end| &end.outcome) {
        Some(AttemptOutcome::Failed(failure)) if is_the_owners(failure) => Standing::Stalled(Why::said(
            &failure.reason,
            format!("{} (attempt {number}; tried again after a change, and by itself within minutes)", words(failure)),
        )),
        Some(AttemptOutcome::Failed(failure)) => Standing::Reconciling(Why::new(
            Reason::BackingOff,
            format!("attempt {number} failed: {}; the next begins at {due:.0}", words(failure)),
        )),
        Some(AttemptOutcome::Lost) => Standing::Reconciling(Why::new(
            Reason::BackingOff,
            format!("what became of attempt {number} is not known; the next finds out, at {due:.0}"),
        )),
        Some(AttemptOutcome::Withdrawn) => Standing::Reconciling(Why::new(
            Reason::Suspended,
            format!("attempt {number} was ended for its owner; the next follows"),
        )),
        Some(AttemptOutcome::Succeeded) | None => Standing::Reconciling(starting_at(attempt)),
    }
}

/// Where an object stands while an attempt is under way. One that stalled for its owner's mistake stays stalled while the operator tries again by
/// itself, and leaves that state by a success or a change: else a health check would flap with every attempt.
fn under_way(record: &mut Record, attempt: &Attempt, why: Why, pen: Pen) -> Standing {
    let stage = ConditionType::Snapshotted;
    let stalled = record.conditions.get(ConditionType::Stalled).filter(|stalled| {
        attempt.failures > 0 && record.conditions.get(stage).is_some_and(|known| known.reason == stalled.reason)
    });
    if let Some(stalled) = stalled {
        return Standing::Stalled(Why::said(&stalled.reason, stalled.message.clone()));
    }
    record.conditions.set(pen, stage, Truth::False, why.clone());
    Standing::Reconciling(why)
}

/// What keeps any attempt from beginning, the owner's own word first.
fn held(intent: &Intent) -> Option<Standing> {
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

fn starting_at(attempt: &Attempt) -> Why {
    Why::new(Reason::Progressing, format!("attempt {} of the snapshot is being started", attempt.number))
}

fn running(attempt: &Attempt, earlier: Option<&Failure>) -> Why {
    let number = attempt.number;
    match earlier {
        None => Why::new(Reason::Progressing, format!("attempt {number} of the snapshot is at work")),
        Some(failure) => Why::said(
            &failure.reason,
            format!("a pod of attempt {number} failed and Kubernetes tries again: {}", words(failure)),
        ),
    }
}

/// A failure in a sentence that names the field first, where there is one.
fn words(failure: &Failure) -> String {
    match &failure.field {
        Some(field) => format!("{field}: {}", failure.message),
        None => failure.message.clone(),
    }
}

fn later(time: Timestamp, span: SignedDuration) -> Timestamp {
    time.saturating_add(span).unwrap_or(Timestamp::MAX)
}
