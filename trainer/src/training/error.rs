//! Why a training ends without a model, whose turn it is then, and which field of the spec to look at.

use std::path::PathBuf;

use sera_chat::ChatError;
use sera_crds::contract::{ExitCode, Failure, FailureClass};
use sera_program::failure::{Explain, FieldNames};

use super::beside::BesideError;
use super::plan::PlanError;
use super::watch::Broken;
use crate::bucket::BucketError;
use crate::checkpoint::CheckpointError;
use crate::data::{DataError, OrderError};
use crate::engine::EngineError;
use crate::files::{AdapterError, FilesError};
use crate::ranks::RankError;

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The student's template or tokenizer.
    #[error("the student in {}: {source}", folder.display())]
    Chat {
        /// The student's directory.
        folder: PathBuf,
        /// What is wrong with it.
        source: ChatError,
    },
    /// The dataset.
    #[error(transparent)]
    Data(#[from] DataError),
    /// `manifest.json` of the dataset.
    #[error("{}: {problem}", path.display())]
    DatasetManifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The base model's files, or those of the new one.
    #[error(transparent)]
    Files(Box<FilesError>),
    /// The adapter.
    #[error(transparent)]
    Adapter(Box<AdapterError>),
    /// The bucket of the results, the student or the dataset.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Another rank could not fetch the student or the dataset.
    #[error("another rank could not fetch the student or the dataset: its own log says why")]
    NotFetched,
    /// The ranks lost each other.
    #[error(transparent)]
    Ranks(#[from] RankError),
    /// Signals or the address.
    #[error(transparent)]
    Beside(#[from] BesideError),
    /// The training no longer learns.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A model of something else is there.
    #[error("{} is of another {what}: give another --out, nothing was touched", path.display())]
    Published {
        /// Its manifest.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of ours cannot be read.
    #[error("{} cannot be read: {problem}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Every step was left out.
    #[error("all {0} steps were left out, so that nothing was learnt: look at the dataset, or lower `learningRate`")]
    NothingLearnt(u32),
    /// It was told to stop.
    #[error("stopped after step {step} of {total}, which its last checkpoint has: run it again and it goes on")]
    Interrupted {
        /// The step that was done last.
        step: u32,
        /// How many there are.
        total: u32,
    },
    /// It was told to stop before its first step.
    #[error(
        "stopped before the first step of this attempt: run it again and it begins, or goes on from its newest checkpoint"
    )]
    NotBegun,
    /// It would not fit into memory.
    #[error("a rank needs {needed} and has {available}; {fitting}")]
    Memory {
        /// What it needs.
        needed: String,
        /// What there is.
        available: String,
        /// What would fit.
        fitting: String,
    },
    /// What `offload` keeps in the host's memory would not fit there.
    #[error(
        "`offload` keeps {needed} of each rank in the host's memory, of which a rank has {available}: raise the pods' limit on memory, or leave `offload` out"
    )]
    HostMemory {
        /// What a rank keeps there.
        needed: String,
        /// What it has.
        available: String,
    },
    /// The check found a tensor that does not learn.
    #[error("`{tensor}` got {problem}: the model's arithmetic does not reach it, and it would not be trained")]
    Gradient {
        /// The tensor.
        tensor: String,
        /// What it got.
        problem: &'static str,
    },
    /// The check found that a step makes things worse.
    #[error(
        "two steps at the learning rate {rate} on `{line}` took the loss from {before} to {after}: lower `learningRate`"
    )]
    NotLower {
        /// The rate.
        rate: f64,
        /// The line.
        line: String,
        /// The loss before.
        before: f64,
        /// The loss after.
        after: f64,
    },
}

impl TrainingError {
    /// The code that the program ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted { .. } | Self::NotBegun => ExitCode::Interrupted,
            error => error.class().into(),
        }
    }

    /// What a termination message says of it.
    pub fn failure(&self) -> Failure {
        if let Self::Bucket(error) | Self::Checkpoint(CheckpointError::Bucket(error)) = self {
            return bucket_failure(error);
        }
        let (reason, field) = self.reason();
        Failure {
            class: self.class(),
            reason: reason.to_owned(),
            field: field.map(str::to_owned),
            message: self.to_string(),
        }
    }

    fn class(&self) -> FailureClass {
        match self {
            Self::Files(error) => class_of(error.exit_code()),
            Self::Data(DataError::Read { source, .. }) if source.kind() != std::io::ErrorKind::NotFound => {
                FailureClass::Unavailable
            }
            Self::Data(_)
            | Self::Adapter(_)
            | Self::Chat { .. }
            | Self::DatasetManifest { .. }
            | Self::Plan(_)
            | Self::Order(_)
            | Self::Broken(_)
            | Self::NothingLearnt(_)
            | Self::Memory { .. }
            | Self::HostMemory { .. }
            | Self::NotLower { .. }
            | Self::Beside(BesideError::Listen { .. }) => FailureClass::Configuration,
            Self::Engine(error) => match error {
                EngineError::Ranks(_) => FailureClass::Unavailable,
                EngineError::Tensor(_) | EngineError::Shard(_) | EngineError::Taken { .. } => FailureClass::Internal,
                _ => FailureClass::Configuration,
            },
            Self::Checkpoint(CheckpointError::Foreign { .. }) | Self::Published { .. } => FailureClass::Conflict,
            Self::Bucket(error) | Self::Checkpoint(CheckpointError::Bucket(error)) => error.explain().class,
            Self::Checkpoint(_)
            | Self::Ranks(_)
            | Self::NotFetched
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Interrupted { .. }
            | Self::NotBegun => FailureClass::Unavailable,
            Self::Beside(BesideError::Thread(_)) | Self::Gradient { .. } => FailureClass::Internal,
        }
    }

    /// A CamelCase word for conditions and events, and the field that most likely has to change.
    fn reason(&self) -> (&'static str, Option<&'static str>) {
        const STUDENT: Option<&str> = Some("spec.training.student");
        const TRAINING: Option<&str> = Some("spec.training");
        match self {
            Self::Files(error) if matches!(**error, FilesError::Write { .. }) => ("FileUnavailable", None),
            Self::Chat { .. } | Self::Files(_) => ("StudentUnusable", STUDENT),
            Self::Data(_) | Self::DatasetManifest { .. } => ("DatasetUnusable", Some("spec.dataset")),
            Self::Plan(_) | Self::Order(_) => ("PlanInvalid", TRAINING),
            Self::Checkpoint(CheckpointError::Foreign { .. }) => ("CheckpointOfAnother", TRAINING),
            Self::Checkpoint(_) => ("CheckpointFailed", None),
            Self::Engine(EngineError::Ranks(_)) | Self::Ranks(_) => ("RankLost", None),
            Self::Bucket(error) => (error.explain().reason, None),
            Self::NotFetched => ("NotFetched", None),
            Self::Engine(_) | Self::Adapter(_) => ("TrainingFailed", TRAINING),
            Self::Beside(_) => ("CannotListen", None),
            Self::Broken(Broken::Skipped { .. }) | Self::NothingLearnt(_) => {
                ("StepsSkipped", Some("spec.training.learningRate"))
            }
            Self::Broken(Broken::Diverged { .. }) => ("LossDiverged", Some("spec.training.learningRate")),
            Self::Published { .. } => ("ModelOfAnother", TRAINING),
            Self::Write { .. } | Self::Read { .. } => ("FileUnavailable", None),
            Self::Interrupted { .. } | Self::NotBegun => ("Interrupted", None),
            Self::Memory { .. } => ("MemoryTooSmall", TRAINING),
            Self::HostMemory { .. } => ("MemoryTooSmall", Some("spec.training.offload")),
            Self::Gradient { .. } => ("GradientCut", None),
            Self::NotLower { .. } => ("LossNotLower", Some("spec.training.learningRate")),
        }
    }
}

impl From<CheckpointError> for TrainingError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Engine(error) => Self::Engine(*error),
            error => Self::Checkpoint(error),
        }
    }
}

impl From<FilesError> for TrainingError {
    fn from(error: FilesError) -> Self {
        Self::Files(Box::new(error))
    }
}

impl From<AdapterError> for TrainingError {
    /// A file that cannot be read or written is told as one of a model is.
    fn from(error: AdapterError) -> Self {
        match error {
            AdapterError::Files(error) => error.into(),
            error => Self::Adapter(Box::new(error)),
        }
    }
}

/// What is said of a bucket, with the fields of a run that it stands in.
pub(crate) fn bucket_failure(error: &BucketError) -> Failure {
    let store_credentials = "spec.output.credentialsSecretRef".to_owned();
    FieldNames { git_credentials: String::new(), store_credentials }.failure(error)
}

fn class_of(code: ExitCode) -> FailureClass {
    match code {
        ExitCode::Unavailable | ExitCode::Interrupted => FailureClass::Unavailable,
        ExitCode::Conflict => FailureClass::Conflict,
        ExitCode::Internal => FailureClass::Internal,
        ExitCode::Success | ExitCode::Usage | ExitCode::Configuration => FailureClass::Configuration,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_is_told_as_such_whether_an_adapter_or_a_model_is_written() {
        let full = || FilesError::Write {
            path: PathBuf::from("model.safetensors"),
            source: std::io::Error::from(std::io::ErrorKind::StorageFull),
        };
        for error in [TrainingError::from(full()), AdapterError::from(full()).into()] {
            let Failure { class, reason, field, message } = error.failure();
            assert_eq!(
                (class, reason.as_str(), field),
                (FailureClass::Unavailable, "FileUnavailable", None),
                "{message}"
            );
        }
    }
}
