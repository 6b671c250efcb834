//! What sets the stages apart, as far as their attempts are concerned: names, roles, deadlines, and how many attempts may fail. How an attempt goes
//! is not here.

use jiff::{SignedDuration, Timestamp};
use sera_crds::{
    run::PodRole,
    values::{Sha256, Stage},
};

use crate::plan::{
    Intent, Work,
    conditions::ConditionType,
    record::{Attempt, Edition},
    sight::{Crew, Team},
};

/// How long a pod may take to start before the attempt is given up for a cause that somebody must repair. The same as the API's default for
/// `generation.startDeadline`: pulling an image, binding a claim and growing a cluster are as slow for one pod as for many.
pub(in crate::plan) const START_DEADLINE: SignedDuration = SignedDuration::from_mins(15);

/// The same for a pod that has models to load: what an engine's startup probe allows, and as much again for its image.
const LOADING_DEADLINE: SignedDuration = SignedDuration::from_hours(2);

/// A stage of one object, as far as its attempts are concerned.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Task {
    /// The stage.
    pub stage: Stage,
    /// In a sentence: `the snapshot`.
    pub noun: &'static str,
    /// The condition that tells of it.
    pub condition: ConditionType,
    /// Whether one Job that succeeds makes the condition true; a check of a run's counts is only a part of its generation.
    pub completes: bool,
    /// What its pods are, among the images in status.
    pub role: PodRole,
    /// A digest of what it works from, where that may change while it does; an attempt that works from something else is ended.
    pub inputs: Option<Sha256>,
    /// How many pods it is divided among.
    pub shards: u32,
    /// How many samples it makes.
    pub samples: u32,
    /// How long a pod may take to start.
    pub start_deadline: SignedDuration,
    /// How its pods belong together.
    pub crew: Crew,
    /// The claim that its pods need beside the store's.
    student_claim: Option<String>,
    /// How many attempts may fail before the stage does; none: it is tried for ever.
    max_attempts: Option<u32>,
}

impl Task {
    /// A stage of the object with this intent.
    pub(in crate::plan) fn of(stage: Stage, intent: &Intent) -> Self {
        let is_a_check =
            matches!(intent.work, Some(Work::Run(_))) && matches!(stage, Stage::Verification | Stage::Generation);
        let (shards, samples) = match (stage, &intent.work) {
            (Stage::Rollouts, Some(Work::Batch(work))) => (work.shards, work.samples),
            _ => (1, 0),
        };
        let training = match (stage, &intent.work) {
            (Stage::Training, Some(Work::Run(work))) => Some(&work.training),
            _ => None,
        };
        Self {
            stage,
            noun: noun(stage),
            condition: if is_a_check { Stage::Generation } else { stage }.into(),
            completes: !is_a_check,
            role: role(stage),
            inputs: inputs(stage, intent),
            shards,
            samples,
            start_deadline: match training {
                Some(training) => training.start_deadline,
                None if stage == Stage::Rollouts => intent.start_deadline,
                // Two models are loaded before the program begins, which large ones take their time for.
                None if stage == Stage::Evaluation => intent.start_deadline.max(LOADING_DEADLINE),
                None => START_DEADLINE,
            },
            crew: crew(stage),
            student_claim: intent.student_claim.clone(),
            max_attempts: training.map(|training| training.max_attempts),
        }
    }

    /// Whose pods are looked at.
    pub(in crate::plan) fn team(&self) -> Team<'_> {
        Team { crew: self.crew, role: self.role, student_claim: self.student_claim.as_deref() }
    }

    /// Whether it locks a part of the spec by itself. Generation is locked with its first batch, and a batch is immutable.
    pub(in crate::plan) fn locks(&self) -> bool {
        matches!(self.stage, Stage::Snapshot | Stage::Dataset | Stage::Training | Stage::Evaluation)
    }

    /// The attempt after `previous`. Where only so many may fail, a change of the spec forgives none of those that have: `spec.retry` does.
    pub(in crate::plan) fn next(&self, previous: Option<&Attempt>, edition: Edition, now: Timestamp) -> Attempt {
        let next = Attempt { inputs: self.inputs.clone(), ..Attempt::after(previous, edition, now) };
        match (self.max_attempts, previous) {
            (Some(_), Some(previous)) => Attempt { failures: previous.failures, ..next },
            _ => next,
        }
    }

    /// Whether no attempt follows this one by itself: as many have failed as may.
    pub(in crate::plan) fn is_given_up_after(&self, attempt: &Attempt) -> bool {
        attempt.end.is_some() && self.max_attempts.is_some_and(|most| attempt.failures >= most)
    }
}

/// A stage's Jobs in a sentence.
pub(in crate::plan) const fn noun(stage: Stage) -> &'static str {
    match stage {
        Stage::Snapshot => "the snapshot",
        Stage::Generation => "the dry run of the dataset",
        Stage::Rollouts => "the rollouts",
        Stage::Verification => "the verification",
        Stage::Dataset => "the dataset",
        Stage::Training => "the training",
        Stage::Evaluation => "the evaluation",
        Stage::Serving => "the serving",
        Stage::Reclaim => "the deletion of the data",
    }
}

/// What a stage's pods are.
pub const fn role(stage: Stage) -> PodRole {
    match stage {
        // What may write the first file of a store may delete the last one.
        Stage::Snapshot | Stage::Reclaim => PodRole::Snapshot,
        Stage::Rollouts => PodRole::Rollout,
        Stage::Verification => PodRole::Verify,
        Stage::Generation | Stage::Dataset => PodRole::Dataset,
        Stage::Training => PodRole::Train,
        Stage::Evaluation => PodRole::Evaluate,
        Stage::Serving => PodRole::Serve,
    }
}

/// How a stage's pods belong together.
pub const fn crew(stage: Stage) -> Crew {
    match stage {
        Stage::Rollouts => Crew::Shards,
        Stage::Training => Crew::Gang,
        _ => Crew::Single,
    }
}

fn inputs(stage: Stage, intent: &Intent) -> Option<Sha256> {
    match (stage, intent.work.as_ref()?) {
        (Stage::Verification, Work::Batch(work)) => Some(work.policy.settings.clone()),
        (Stage::Verification, Work::Run(work)) => Some(work.policy.settings.clone()),
        (Stage::Generation, Work::Run(work)) => Some(work.dataset.clone()),
        _ => None,
    }
}
