//! What the operator knows of a child, in words of the domain and half a kilobyte each: no Kubernetes type comes past this file.
//! How the facts are decoded and kept lives in [`crate::cache`].

use std::fmt;

use jiff::Timestamp;
use sera_crds::{contract::Silence, run::GenerationTotals, values::Sha256};

/// An object's `metadata.uid`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Box<str>);

impl Uid {
    /// The uid as the API server wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first five characters, which go into the names of children: enough to tell two objects that had the same name apart at a glance.
    /// What decides is always the whole uid.
    pub fn short(&self) -> &str {
        let end = self.0.char_indices().nth(5).map_or(self.0.len(), |(index, _)| index);
        &self.0[..end]
    }
}

impl<T: Into<Box<str>>> From<T> for Uid {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A Job that carries our labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFacts {
    /// Its name, `<owner>-<uid5>-s<attempt>` where we made it.
    pub name: Box<str>,
    /// Its own uid.
    pub uid: Uid,
    /// The uid of the object that controls it; a label can be forged, this is what ownership is decided by.
    pub controller: Option<Uid>,
    /// When it was made.
    pub created: Timestamp,
    /// When its clock started: absent while it is suspended.
    pub started: Option<Timestamp>,
    /// Whether it is being deleted (its pods may still run).
    pub deleting: bool,
    /// Whether `spec.suspend` is set, by a user or because a queue has not admitted it yet.
    pub suspended: bool,
    /// What it was made to ask its queue for, where it is queued.
    pub request: Option<Box<str>>,
    /// Pods that are pending or running.
    pub active: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Pods that are being deleted and have not ended yet, which are neither active nor ready.
    pub terminating: u32,
    /// Pods that have failed, of all indexes.
    pub failed: u32,
    /// Indexes whose pods have succeeded.
    pub succeeded: u32,
    /// Of how many.
    pub completions: u32,
    /// How it ended, where it has.
    pub end: Option<JobEnd>,
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// When.
    pub at: Timestamp,
    /// Why it failed; absent when it is complete.
    pub failure: Option<JobFailure>,
}

/// The condition `Failed` of a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// Kubernetes' reason: `PodFailurePolicy`, `FailedIndexes`, `DeadlineExceeded`, …
    pub reason: Box<str>,
    /// Kubernetes' sentence.
    pub message: Box<str>,
}

/// What the programs of a Job said when they were asked last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Live {
    /// Its drivers of rollouts, those that run and answered taken together.
    Rollouts(LiveRollouts),
    /// Rank 0 of its training.
    Training(LiveTraining),
}

/// How far the drivers of a Job are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveRollouts {
    /// How many samples they have, as far as they know by now.
    pub samples: u64,
    /// How many of them they have brought to an end.
    pub done: u64,
    /// How many tokens their samples took, unfinished ones included.
    pub tokens: u64,
    /// Why the teacher answers none of one driver's calls.
    pub silence: Option<Silence>,
    /// Whether more tokens were seen to be taken than by what an earlier attempt has left.
    pub gets_on: bool,
}

/// How far a training is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LiveTraining {
    /// The optimizer step that was done last.
    pub step: u32,
    /// How many there are in all.
    pub total_steps: u32,
    /// The mean loss a trained token of that step; none before the first.
    pub loss: Option<f64>,
    /// Tokens that all ranks together work through in a second.
    pub tokens_per_second: f64,
    /// The number of warm-up steps that applies.
    pub warmup_steps: u32,
    /// When the last step will be done, at the pace of the steps that this process has heard of; none before it has heard of some.
    pub eta: Option<Timestamp>,
}

impl Live {
    /// What drivers said.
    pub fn rollouts(self) -> Option<LiveRollouts> {
        if let Self::Rollouts(live) = self { Some(live) } else { None }
    }

    /// Whether its programs were seen to do something, and not only to find what is done: what would keep them from it is not wrong any more.
    pub fn gets_on(self) -> bool {
        match self {
            Self::Rollouts(live) => live.gets_on,
            Self::Training(live) => live.eta.is_some(),
        }
    }

    /// What rank 0 said.
    pub fn training(self) -> Option<LiveTraining> {
        if let Self::Training(live) = self { Some(live) } else { None }
    }
}

/// A pod of one of our Jobs that is not running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// Its name.
    pub name: Box<str>,
    /// Its own uid.
    pub uid: Uid,
    /// The uid of the Job that controls it.
    pub job: Uid,
    /// Its completion index.
    pub index: u32,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// When it was made.
    pub created: Timestamp,
    /// When its program ended.
    pub finished: Option<Timestamp>,
    /// The program's exit code.
    pub exit_code: Option<i32>,
    /// What the program left as its termination message.
    pub message: Option<Box<str>>,
    /// The image that it ran, with its digest.
    pub image: Option<Box<str>>,
    /// What holds it up or ended it in Kubernetes' words: a container's waiting reason, `Unschedulable`, `Evicted`, `OOMKilled`.
    pub trouble: Option<Trouble>,
    /// Whether it was preempted, evicted or lost with its node: Kubernetes' condition `DisruptionTarget`.
    pub disrupted: bool,
    /// How much memory its program may take, as Kubernetes writes it.
    pub memory_limit: Option<Box<str>>,
}

/// The phases of a pod that we get to see; a running pod is left out of the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// Not started: unscheduled, pulling, or waiting for a volume.
    Pending,
    /// Its program ended with 0.
    Succeeded,
    /// Its program ended otherwise, or the pod was evicted.
    Failed,
    /// The node is out of reach.
    Unknown,
}

/// What we made that serves a model, or what stands in for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// What it is.
    pub form: ServerForm,
    /// Its name.
    pub name: Box<str>,
    /// Its own uid.
    pub uid: Uid,
    /// The uid of the object that controls it.
    pub controller: Option<Uid>,
    /// What it serves.
    pub role: ServerRole,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The generation of its owner's spec that it was applied from.
    pub generation: Option<i64>,
    /// That of the run's, where its owner is a batch that takes its word from one.
    pub run_generation: Option<i64>,
    /// How many copies answer.
    pub ready: u32,
    /// Whether every pod is of the newest template, answers, and is one that is wanted.
    pub complete: bool,
    /// Why Kubernetes says that it makes no progress.
    pub trouble: Option<Trouble>,
}

/// What makes a server's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerForm {
    /// Copies of one pod each.
    Deployment,
    /// The same of what stands in for a model: its selector is another, which can never be changed.
    Rehearsal,
    /// Copies that are spread over nodes.
    LeaderWorkerSet,
}

/// What a server of ours serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRole {
    /// The teacher of rollouts.
    Teacher,
    /// The student of a run that has its model.
    Student,
}

/// A batch that a run has made.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchFacts {
    /// Its name, `<run>-<number>`.
    pub name: Box<str>,
    /// Its own uid.
    pub uid: Uid,
    /// The uid of the run that controls it; none where somebody else made it.
    pub controller: Option<Uid>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it waits for somebody's help.
    pub stalled: bool,
    /// Why it is where it is, in its own words.
    pub trouble: Option<Trouble>,
    /// How much of its present stage is done, in percent.
    pub percent: u32,
    /// What it came to, once it is done.
    pub result: Option<BatchResult>,
}

/// What a batch came to.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchResult {
    /// A digest of the policy that it was verified by.
    pub settings: Sha256,
    /// What was counted.
    pub totals: GenerationTotals,
}

/// A reason and a sentence, both Kubernetes' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// A CamelCase word such as `ImagePullBackOff`.
    pub reason: Box<str>,
    /// A sentence; may be empty.
    pub message: Box<str>,
}

impl Trouble {
    /// What it says in a sentence of ours: its own sentence, or the word where there is none.
    pub fn words(&self) -> &str {
        if self.message.is_empty() { &self.reason } else { &self.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_uid_is_its_first_five_characters() {
        assert_eq!(Uid::from("3f2c9a10-aaaa").short(), "3f2c9");
        assert_eq!(Uid::from("3f").short(), "3f", "a uid of another form is not cut beyond its end");
    }

    #[test]
    fn what_is_kept_of_a_pod_fits_half_a_kilobyte() {
        let longest_message_of_a_success = 300;
        let names_and_uids = 63 + 36 + 36;
        assert!(
            size_of::<PodFacts>() + names_and_uids + longest_message_of_a_success <= 640,
            "{}",
            size_of::<PodFacts>()
        );
    }
}
