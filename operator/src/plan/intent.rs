//! What an object's owner wants, as far as this release acts on it: the effective spec in words of the domain.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use sera_crds::{
    contract::{BudgetSlice, TokenPrice},
    values::{Measure, Precision, Rate, Ratio, Sha256, Stage},
};

use crate::facts::ServerForm;

/// What an object's owner wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// What is wrong with the spec, though the API server admitted it.
    pub findings: Vec<Finding>,
    /// What the spec asks for and this release cannot do, in words.
    pub unsupported: Option<String>,
    /// Whether to hold.
    pub suspend: bool,
    /// The token that asks for another try when it changes.
    pub retry: String,
    /// The generation of the run that a batch takes its word from; none where it takes it from none, or where that is not there.
    pub run_generation: Option<i64>,
    /// The folder in the store that the object works in.
    pub folder: String,
    /// Where the snapshot comes from.
    pub snapshot: SnapshotIntent,
    /// The teacher, in a word, for status.
    pub teacher: Option<String>,
    /// Who has to see to it that the teacher runs, where it is one that the operator runs.
    pub hosted: Option<Hosted>,
    /// What makes the pods of that teacher.
    pub teacher_form: ServerForm,
    /// How many copies of that teacher there shall be.
    pub copies: u32,
    /// How long a pod that drives rollouts may take to start.
    pub start_deadline: SignedDuration,
    /// How long the Job of a stage that is done is kept.
    pub keep_succeeded: SignedDuration,
    /// How long the Job of an attempt that failed is kept, unless the next one begins before.
    pub keep_failed: SignedDuration,
    /// The claim that the student lies on, where that is not the store's too.
    pub student_claim: Option<String>,
    /// What the Job of each stage asks its queue for, of those that are queued; none where that cannot be said.
    pub requests: Option<BTreeMap<Stage, Box<str>>>,
    /// What follows the snapshot; none where it comes from a run that is not there.
    pub work: Option<Work>,
}

/// Something wrong with the spec that only looking at all of it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field, from the root: `spec.source.include[0]`.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub message: String,
}

/// Where a snapshot comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotIntent {
    /// From the repository, by a Job of ours, into the object's own folder.
    Take,
    /// From the store, where somebody else put it.
    Adopt {
        /// The folder that it lies in.
        folder: String,
    },
    /// From a run of the same namespace.
    OfRun {
        /// The run's name.
        run: String,
        /// How far it is.
        progress: RunSnapshot,
    },
}

/// How far the snapshot of another run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunSnapshot {
    /// There is no run of that name.
    NoSuchRun,
    /// It has none yet.
    NotYet,
    /// Its manifest lies here.
    Ready(String),
}

/// Whose teacher is asked, where the operator runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosted {
    /// The object's own: it is made when rollouts are due, and goes when there are none any more.
    Own,
    /// That of the run that made the batch.
    OfRun,
}

/// What follows the snapshot.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Rollouts and their verification.
    Batch(BatchWork),
    /// Batches until there are enough trajectories, and a dataset of them.
    Run(Box<RunWork>),
}

/// What a batch has to do.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchWork {
    /// How many samples it makes.
    pub samples: u32,
    /// How many pods they are divided among.
    pub shards: u32,
    /// When a trajectory counts.
    pub policy: Policy,
    /// What the teacher's tokens cost, where that is known.
    pub price: Option<TokenPrice>,
    /// How long rollouts may be made, not counting the time for which the batch is suspended; none: for ever.
    pub max_duration: Option<SignedDuration>,
    /// Whether a run has made it, which then has the last word on verdicts.
    pub of_run: bool,
}

/// What a run has to do.
#[derive(Debug, Clone, PartialEq)]
pub struct RunWork {
    /// How many trajectories are wanted, both kinds together.
    pub accepted: u32,
    /// The share of first rollouts among them.
    pub first_share: Ratio,
    /// After how many samples it stalls.
    pub max_samples: u32,
    /// How many samples a batch has.
    pub batch_size: u32,
    /// How many batches may be under way.
    pub parallel: u32,
    /// When a trajectory counts.
    pub policy: Policy,
    /// A digest of the policy and of what is asked of the dataset.
    pub dataset: Sha256,
    /// What all batches together may spend.
    pub budget: BudgetSlice,
    /// How long batches may be made, from the first on, not counting the time for which the run is suspended; none: for ever.
    pub max_duration: Option<SignedDuration>,
    /// How the student is trained.
    pub training: TrainingWork,
    /// How it is compared with its base and its teacher, where it is.
    pub evaluation: Option<EvaluationWork>,
    /// How it is to be served, where it is.
    pub serving: Option<ServingWork>,
}

/// What planning needs to know of serving the student.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingWork {
    /// Where it answers.
    pub url: String,
    /// What clients call the model.
    pub model: String,
    /// How many copies are wanted; 0 while the run is suspended.
    pub replicas: u32,
    /// What of it this release cannot do, in words.
    pub unsupported: Option<String>,
}

/// What planning needs to know of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationWork {
    /// What of it this release cannot do, in words.
    pub unsupported: Option<String>,
}

/// What planning needs to know of a training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingWork {
    /// How many attempts may fail.
    pub max_attempts: u32,
    /// How long all pods may take to start.
    pub start_deadline: SignedDuration,
    /// The highest learning rate that applies.
    pub learning_rate: Rate,
    /// The precision that applies.
    pub precision: Precision,
    /// Whether it asks for GPUs.
    pub on_gpus: bool,
}

/// When a trajectory counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The measure that decides.
    pub measure: Measure,
    /// The lowest measure that is accepted.
    pub threshold: Ratio,
    /// A digest of all that the spec says about it, filters and the student's part included.
    pub settings: Sha256,
}

impl RunWork {
    /// How many first and how many second trajectories are wanted.
    pub fn shares(&self) -> (u64, u64) {
        let first = self.first_share.part_of(self.accepted.into());
        (first, u64::from(self.accepted) - first)
    }
}
