//! What has become of an attempt, as far as its Job and its pods say.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sera_crds::{
    contract::{ExitCode, Failure, Outcome, StageResult, Termination, TerminationError},
    run::PodRole,
};

use super::{
    cause::{self, Holdup},
    record::{Attempt, is_the_owners},
};
use crate::facts::{JobFacts, JobFailure, PodFacts, PodPhase, Trouble};

/// How often the API server is asked the same anew while an attempt waits; what answers change with (the Job controller, the kubelet, a namespace that
/// goes) tries again after seconds, and backs off to minutes.
pub const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// How the pods of an attempt belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crew {
    /// One pod, whose last words are needed.
    Single,
    /// Pods that each do a part of their own; what they have done is read from the store, so that nobody needs their words.
    Shards,
    /// Pods that work all together or not at all; the last words of one of them are needed.
    Gang,
}

/// Whose pods are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Team<'a> {
    /// How they belong together.
    pub crew: Crew,
    /// What they are.
    pub role: PodRole,
    /// The claim that they need beside the store's.
    pub student_claim: Option<&'a str>,
}

/// What has become of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Sight {
    /// Its Job was not made yet, as far as is known.
    Unmade,
    /// Its Job was made and is gone.
    Gone,
    /// Its Job is being deleted.
    Leaving,
    /// Its Job is suspended: a queue has not admitted it, or somebody holds it.
    Queued,
    /// Its pod has not started.
    Starting {
        /// Since when, not counting the time in a queue nor that of pods before it; none where no clock runs.
        since: Option<Timestamp>,
        /// What holds it up, where something is known to.
        holdup: Option<Holdup>,
        /// Whether others of its gang have a place already, and keep it from everybody else.
        holds_places: bool,
    },
    /// Its pod has just been made, has just started or has just ended: the Job's news of it has come, and the pod's own has not.
    Between,
    /// Its program works.
    Running {
        /// Why a pod before the present one failed, where one did.
        earlier: Option<Failure>,
    },
    /// The stage is done, and this is what its program said; none where nobody needs to know.
    Succeeded(Option<StageResult>),
    /// The program ended well, but what it said is lost.
    Silent,
    /// The Job failed.
    Failed(Failure),
    /// The Job failed because a pod was taken away; this is how.
    Disrupted(String),
}

/// What was found of an attempt: its Job, that Job's pods, and what the API server said when it refused to make one.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The Job of the attempt's name that the owner controls.
    pub job: Option<Arc<JobFacts>>,
    /// Its pods that do not run.
    pub pods: Vec<Arc<PodFacts>>,
    /// The newest Event by which the API server refused a pod of it, read only where no pod shows up.
    pub refused_pod: Option<String>,
    /// Whether the namespace is being deleted, asked only where a pod has failed and none has followed.
    pub namespace_is_going: bool,
    /// A container that goes on beside a program that has ended, asked only where pods are at work and none of them has been ready for a while.
    pub outlived: Option<String>,
    /// A pod that should have ended and has not, asked only where pods are being deleted and none is at work.
    pub overdue: Option<String>,
}

/// What has become of an attempt of this team.
pub fn look(attempt: &Attempt, evidence: &Evidence, team: Team<'_>) -> Sight {
    let Some(job) = &evidence.job else {
        return if attempt.job.is_some() { Sight::Gone } else { Sight::Unmade };
    };
    if let Some(end) = &job.end {
        return match &end.failure {
            None if team.crew == Crew::Shards => Sight::Succeeded(None),
            None => last_words(&evidence.pods),
            Some(failure) => end_of(failure, &evidence.pods, team),
        };
    }
    if job.deleting {
        return Sight::Leaving;
    }
    if job.suspended {
        return Sight::Queued;
    }
    let pending = evidence.pods.iter().filter(|pod| pod.phase == PodPhase::Pending).count();
    let active = usize::try_from(job.active).unwrap_or(usize::MAX);
    let is_starting = pending > 0 && (team.crew == Crew::Gang || active <= pending);
    let lacks_some = evidence.refused_pod.is_some() && lacks_pods(evidence, team.crew);
    match (evidence.pods.is_empty(), job.active, job.ready) {
        // Of several pods that each do their part, one that works is enough: what holds the others up is said when nothing else is left to wait for.
        _ if is_starting || lacks_some => Sight::Starting {
            since: starting_since(job, &evidence.pods),
            holdup: holdup(evidence, team),
            holds_places: team.crew == Crew::Gang && active > without_a_place(&evidence.pods),
        },
        // One that is taken away may have minutes to end in.
        (true, 0, _) if job.terminating > 0 => Sight::Between,
        (true, 0, _) => {
            // Once one has been there, the next is made after a wait that grows.
            let since = job.started.filter(|_| job.failed == 0 && job.succeeded == 0);
            Sight::Starting { since, holdup: holdup(evidence, team), holds_places: false }
        }
        (true, _, 0) if job.succeeded == 0 => Sight::Between,
        _ => Sight::Running { earlier: newest_failure(&evidence.pods, team.role) },
    }
}

/// Why a Job failed, as its pods say it, and where they do not, as Kubernetes does.
fn end_of(failure: &JobFailure, pods: &[Arc<PodFacts>], team: Team<'_>) -> Sight {
    // Its pod says only that it was stopped.
    if &*failure.reason == "DeadlineExceeded" {
        return Sight::Failed(cause::of_job(failure));
    }
    match team.crew {
        Crew::Gang => end_of_gang(failure, pods, team.role),
        Crew::Single | Crew::Shards => {
            Sight::Failed(newest_failure(pods, team.role).unwrap_or_else(|| cause::of_job(failure)))
        }
    }
}

/// Why a gang ended: one of its pods is the cause, and all others follow, so that what most of them say is of no use. What its owner must change
/// goes first; then that a pod was taken away; then the pod that ended first and was not told to. One that left no word was killed, and goes before
/// those that complain of it within the same second.
fn end_of_gang(failure: &JobFailure, pods: &[Arc<PodFacts>], role: PodRole) -> Sight {
    let failed = || pods.iter().filter(|pod| pod.phase == PodPhase::Failed);
    let was_stopped = |pod: &PodFacts| pod.exit_code == Some(ExitCode::Interrupted.code().into());
    if let Some(said) = failed().filter_map(|pod| said_by(pod)).find(is_the_owners) {
        return Sight::Failed(said);
    }
    if let Some(pod) = failed().find(|pod| pod.disrupted) {
        let trouble = pod.trouble.as_ref().map(|Trouble { reason, message }| format!(": {reason}: {message}"));
        return Sight::Disrupted(format!("pod {} was taken away{}", pod.index, trouble.unwrap_or_default()));
    }
    if cause::is_disruption(failure) {
        return Sight::Disrupted("a pod was preempted, evicted, stopped or lost with its node".to_owned());
    }
    let first = failed()
        .filter(|pod| !was_stopped(pod))
        .min_by_key(|pod| (pod.finished.unwrap_or(pod.created), said_by(pod).is_some()));
    match first {
        Some(pod) => Sight::Failed(failure_of(pod, role)),
        None if failed().next().is_some() => Sight::Disrupted("its pods were told to stop".to_owned()),
        None => Sight::Failed(cause::of_job(failure)),
    }
}

/// How many pods no node has taken.
fn without_a_place(pods: &[Arc<PodFacts>]) -> usize {
    let is_unplaced = |pod: &&Arc<PodFacts>| {
        let trouble = pod.trouble.as_ref().and_then(|trouble| cause::of_pending(trouble, None));
        pod.phase == PodPhase::Pending && matches!(trouble, Some(Holdup::Waiting(_)))
    };
    pods.iter().filter(is_unplaced).count()
}

/// Since when the present pod has been starting: a replacement has the whole deadline for itself.
fn starting_since(job: &JobFacts, pods: &[Arc<PodFacts>]) -> Option<Timestamp> {
    let made = pods.iter().filter(|pod| pod.phase == PodPhase::Pending).map(|pod| pod.created).max();
    job.started.map(|started| made.map_or(started, |made| made.max(started)))
}

/// Whether the API server should be asked why pods do not show up: they have not for a while, and there is none that could say so itself.
pub fn is_without_a_pod(evidence: &Evidence, crew: Crew, now: Timestamp) -> bool {
    /// The Job controller makes a pod within a second, or two where it is busy; its first Event comes as soon.
    const PATIENCE: SignedDuration = SignedDuration::from_secs(5);
    let started = evidence.job.as_ref().and_then(|job| job.started);
    lacks_pods(evidence, crew) && started.is_some_and(|since| now.duration_since(since) >= PATIENCE)
}

/// Whether pods are not there that should be: any at all, or all of a gang of which none has ended.
pub fn lacks_pods(evidence: &Evidence, crew: Crew) -> bool {
    let Some(job) = evidence.job.as_ref().filter(|job| is_open(job)) else { return false };
    let is_short = crew == Crew::Gang && job.active < job.completions && job.failed == 0 && job.succeeded == 0;
    job.terminating == 0 && evidence.pods.is_empty() && (job.active == 0 || is_short)
}

/// Whether all pods of a Job that are there are being deleted, so that it goes on when they have ended.
pub fn is_ending(evidence: &Evidence) -> bool {
    let is_so = |job: &Arc<JobFacts>| is_open(job) && job.active == 0 && job.terminating > 0;
    evidence.job.as_ref().is_some_and(is_so) && evidence.pods.is_empty()
}

/// Whether pods of a Job run, and in none of them every container: as a rule they have just started or ended. Where it stays so, some container has
/// outlived its program.
pub fn is_unready(evidence: &Evidence) -> bool {
    let is_so = |job: &Arc<JobFacts>| is_open(job) && job.active > 0 && job.ready == 0;
    evidence.job.as_ref().is_some_and(is_so) && evidence.pods.iter().all(|pod| pod.phase != PodPhase::Pending)
}

/// Whether a Job is meant to have pods at work.
fn is_open(job: &JobFacts) -> bool {
    job.end.is_none() && !job.suspended && !job.deleting
}

/// Whether a pod of a Job has failed and none is there that works or follows it. In a namespace that is being deleted none ever does, and the Job
/// controller keeps the last one of each index until then, so that the namespace would never go: Kubernetes deletes pods before Jobs.
pub fn is_between_pods(evidence: &Evidence) -> bool {
    let is_waiting = |job: &Arc<JobFacts>| job.active == 0 && is_open(job);
    evidence.job.as_ref().is_some_and(is_waiting)
        && evidence.pods.iter().any(|pod| pod.phase == PodPhase::Failed)
        && evidence.pods.iter().all(|pod| pod.phase != PodPhase::Pending)
}

/// Whether what a finished Job's pods said is missing, so that it is worth asking the API server for them once. Of a gang that failed any pod may be
/// the cause, so that all are needed.
pub fn lacks_last_words(evidence: &Evidence, crew: Crew) -> bool {
    let Some((job, end)) = evidence.job.as_ref().and_then(|job| Some((job, job.end.as_ref()?))) else { return false };
    let needed = if crew == Crew::Gang && end.failure.is_some() { job.completions.max(1) } else { 1 };
    let spoken = evidence.pods.iter().filter(|pod| pod.exit_code.is_some()).count();
    usize::try_from(needed).is_ok_and(|needed| spoken < needed)
}

fn last_words(pods: &[Arc<PodFacts>]) -> Sight {
    let succeeded = pods.iter().filter(|pod| pod.phase == PodPhase::Succeeded);
    for pod in succeeded {
        match Termination::parse(pod.message.as_deref().unwrap_or_default()) {
            Ok(Termination { outcome: Outcome::Succeeded(result), .. }) => return Sight::Succeeded(Some(result)),
            Err(error @ TerminationError::Version { .. }) => return Sight::Failed(of_another_release(&error)),
            Ok(_) | Err(_) => {}
        }
    }
    Sight::Silent
}

fn newest_failure(pods: &[Arc<PodFacts>], role: PodRole) -> Option<Failure> {
    let failed = pods.iter().filter(|pod| pod.phase == PodPhase::Failed);
    failed.max_by_key(|pod| (pod.finished.unwrap_or(pod.created), pod.created)).map(|pod| failure_of(pod, role))
}

fn failure_of(pod: &PodFacts, role: PodRole) -> Failure {
    let full = cause::of_full_disk(pod, role);
    full.or_else(|| said_by(pod)).unwrap_or_else(|| cause::of_silent_pod(pod, role))
}

/// The failure that a pod's program has told of.
fn said_by(pod: &PodFacts) -> Option<Failure> {
    match Termination::parse(pod.message.as_deref().unwrap_or_default()) {
        Ok(Termination { outcome: Outcome::Failed(failure), .. }) => Some(failure),
        Err(error @ TerminationError::Version { .. }) => Some(of_another_release(&error)),
        Ok(_) | Err(_) => None,
    }
}

fn of_another_release(error: &TerminationError) -> Failure {
    Failure {
        class: sera_crds::contract::FailureClass::Configuration,
        reason: "ImageMismatch".into(),
        field: None,
        message: error.to_string(),
    }
}

fn holdup(evidence: &Evidence, team: Team<'_>) -> Option<Holdup> {
    let pending = evidence.pods.iter().filter(|pod| pod.phase == PodPhase::Pending);
    let of_pods = pending
        .filter_map(|pod| pod.trouble.as_ref())
        .find_map(|trouble| cause::of_pending(trouble, team.student_claim));
    let refused = evidence.refused_pod.as_deref();
    of_pods
        .or_else(|| refused.map(|message| Holdup::Retrying(cause::of_refused_pod(message, team.role))))
        .or_else(|| newest_failure(&evidence.pods, team.role).map(|failure| Holdup::Waiting(said_before(&failure))))
}

/// A pod that failed while its replacement has not started yet: its words are the best there are.
fn said_before(failure: &Failure) -> Trouble {
    Trouble { reason: failure.reason.as_str().into(), message: failure.message.as_str().into() }
}
