//! What has become of an attempt, as far as its Job and its pods say.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sera_crds::contract::{Failure, Outcome, StageResult, Termination, TerminationError};

use super::{
    cause::{self, Holdup},
    record::Attempt,
};
use crate::facts::{JobFacts, PodFacts, PodPhase, Trouble};

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
    },
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
}

/// What has become of an attempt, whose pods' last words are needed or not.
pub fn look(attempt: &Attempt, evidence: &Evidence, words_needed: bool) -> Sight {
    let Some(job) = &evidence.job else {
        return if attempt.job.is_some() { Sight::Gone } else { Sight::Unmade };
    };
    if let Some(end) = &job.end {
        return match &end.failure {
            None if words_needed => last_words(&evidence.pods),
            None => Sight::Succeeded(None),
            // Its pod says only that it was stopped.
            Some(failure) if &*failure.reason == "DeadlineExceeded" => Sight::Failed(cause::of_job(failure)),
            Some(failure) => Sight::Failed(newest_failure(&evidence.pods).unwrap_or_else(|| cause::of_job(failure))),
        };
    }
    if job.deleting {
        return Sight::Leaving;
    }
    if job.suspended {
        return Sight::Queued;
    }
    let pending = evidence.pods.iter().filter(|pod| pod.phase == PodPhase::Pending).count();
    // Of a Job with several pods, one that works is enough: what holds the others up is said when nothing else is left to wait for.
    let all_are_pending = pending > 0 && usize::try_from(job.active).is_ok_and(|active| active <= pending);
    match (evidence.pods.is_empty(), job.active, job.ready) {
        _ if all_are_pending => {
            Sight::Starting { since: starting_since(job, &evidence.pods), holdup: holdup(evidence) }
        }
        (true, 0, _) => Sight::Starting { since: job.started, holdup: holdup(evidence) },
        // Its pod is in neither list: it has just been made, or has just started.
        (true, _, 0) if job.succeeded == 0 => Sight::Starting { since: None, holdup: None },
        _ => Sight::Running { earlier: newest_failure(&evidence.pods) },
    }
}

/// Since when the present pod has been starting: a replacement has the whole deadline for itself.
fn starting_since(job: &JobFacts, pods: &[Arc<PodFacts>]) -> Option<Timestamp> {
    let made = pods.iter().filter(|pod| pod.phase == PodPhase::Pending).map(|pod| pod.created).max();
    job.started.map(|started| made.map_or(started, |made| made.max(started)))
}

/// Whether the API server should be asked why no pod shows up: none has for a while, and there is none that could say so itself.
pub fn is_without_a_pod(evidence: &Evidence, now: Timestamp) -> bool {
    /// The Job controller makes a pod within a second, or two where it is busy; its first Event comes as soon.
    const PATIENCE: SignedDuration = SignedDuration::from_secs(5);
    evidence.job.as_ref().is_some_and(|job| {
        let started = job.started.filter(|_| job.end.is_none() && !job.suspended && !job.deleting);
        job.active == 0
            && evidence.pods.is_empty()
            && started.is_some_and(|since| now.duration_since(since) >= PATIENCE)
    })
}

/// Whether what a finished Job's pods said is missing, so that it is worth asking the API server for them once.
pub fn lacks_last_words(evidence: &Evidence) -> bool {
    let job_ended = |job: &Arc<JobFacts>| job.end.is_some();
    evidence.job.as_ref().is_some_and(job_ended) && !evidence.pods.iter().any(|pod| pod.exit_code.is_some())
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

fn newest_failure(pods: &[Arc<PodFacts>]) -> Option<Failure> {
    let failed = pods.iter().filter(|pod| pod.phase == PodPhase::Failed);
    failed.max_by_key(|pod| (pod.finished.unwrap_or(pod.created), pod.created)).map(|pod| failure_of(pod))
}

fn failure_of(pod: &PodFacts) -> Failure {
    match Termination::parse(pod.message.as_deref().unwrap_or_default()) {
        Ok(Termination { outcome: Outcome::Failed(failure), .. }) => failure,
        Err(error @ TerminationError::Version { .. }) => of_another_release(&error),
        Ok(_) | Err(_) => cause::of_silent_pod(pod),
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

fn holdup(evidence: &Evidence) -> Option<Holdup> {
    let pending = evidence.pods.iter().filter(|pod| pod.phase == PodPhase::Pending);
    let of_pods = pending.filter_map(|pod| pod.trouble.as_ref()).find_map(cause::of_pending);
    of_pods
        .or_else(|| evidence.refused_pod.as_deref().map(|message| Holdup::Retrying(cause::of_refused_pod(message))))
        .or_else(|| newest_failure(&evidence.pods).map(|failure| Holdup::Waiting(said_before(&failure))))
}

/// A pod that failed while its replacement has not started yet: its words are the best there are.
fn said_before(failure: &Failure) -> Trouble {
    Trouble { reason: failure.reason.as_str().into(), message: failure.message.as_str().into() }
}
