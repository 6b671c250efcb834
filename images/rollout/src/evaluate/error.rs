//! Why there is no report.

use sera_crds::contract::{Contestant, EvaluationPlan, FailureClass};

use crate::chat::SetupError;
use crate::dataset::trajectories::TrajectoryError;
use crate::failure::{Cause, Explain};
use crate::prompts::PromptError;
use crate::rollout::{RecordError, RolloutError};
use crate::scratch::ScratchError;
use crate::snapshot::stored::StoredError;
use crate::store::StoreError;

/// Why there is no report. What was done until then stays, and is not done again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvaluationError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rollout cannot be made.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// A record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The snapshot is missing or damaged.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// What was trained on cannot be read.
    #[error(transparent)]
    Trajectory(#[from] TrajectoryError),
    /// A model cannot even be asked.
    #[error("the {model} cannot be asked: {source}")]
    Setup {
        /// The model.
        model: Contestant,
        /// Why not.
        source: SetupError,
    },
    /// A prompt of ours is wrong.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// There is no scratch space.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// An attempt that ends for want of money says nothing of the model.
    #[error(
        "the plan has a budget, and an attempt that ends for want of money says nothing of a model: leave maxCost and maxTokens out, and ask for fewer samples or seeds"
    )]
    Budget,
    /// A model still has something to do, and is not there.
    #[error(
        "the {model} is not there, and has {left} {what} left: give --{model}-url and --{model}-model, and run this again; what is done stays"
    )]
    Absent {
        /// The model.
        model: Contestant,
        /// How many things it has to do.
        left: usize,
        /// What they are.
        what: &'static str,
    },
    /// The report is there, and answers another question.
    #[error(
        "{store} has a report already, of {} functions tried {} times with a smallest effect of {}: delete its folder report to have another", found.samples, found.seeds, found.min_effect
    )]
    OtherPlan {
        /// The store.
        store: String,
        /// What it was asked.
        found: Box<EvaluationPlan>,
    },
    /// What is there is another model's.
    #[error(
        "{what} in the store has the {model} as {found}, and it is {asked} now: name the same model, or give it a store of its own"
    )]
    OtherModel {
        /// The report, or an attempt.
        what: String,
        /// Which of the models.
        model: Contestant,
        /// Its name there.
        found: String,
        /// The name that was given.
        asked: String,
    },
    /// The report cannot be read.
    #[error("{0} in the store is no report of this release ({1}): delete the folder report, and run this again")]
    Malformed(String, String),
    /// The lineage of the dataset cannot be read.
    #[error("{0} in the store cannot be read ({1}): restore it")]
    Lineage(String, String),
    /// The page cannot be written.
    #[error("the page of the report cannot be written: {0}")]
    Page(#[from] minijinja::Error),
    /// A thread ended.
    #[error("the figures could not be worked out: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl EvaluationError {
    /// Refuses what is there of a model unless it goes by the name that was given, if one was.
    pub(super) fn unless_named(
        asked: Option<&str>,
        found: &str,
        model: Contestant,
        what: impl Into<String>,
    ) -> Result<(), Self> {
        match asked {
            Some(asked) if asked != found => {
                let (found, asked) = (found.to_owned(), asked.to_owned());
                Err(Self::OtherModel { what: what.into(), model, found, asked })
            }
            _ => Ok(()),
        }
    }
}

impl Explain for EvaluationError {
    fn explain(&self) -> Cause {
        let configuration = |reason| Cause { class: FailureClass::Configuration, reason, field: None };
        match self {
            Self::Store(error) => error.explain(),
            Self::Rollout(error) => error.explain(),
            Self::Record(error) => error.explain(),
            Self::Stored(error) => error.explain(),
            Self::Trajectory(error) => error.explain(),
            Self::Setup { source, .. } => source.explain(),
            Self::Prompt(_) => Cause::internal("PromptMalformed"),
            Self::Scratch(_) => Cause::unavailable("ScratchUnavailable"),
            Self::Budget => configuration("BudgetUnsuitable"),
            Self::Absent { .. } => configuration("ModelAbsent"),
            Self::OtherPlan { .. } => Cause::conflict("ReportOfOtherPlan"),
            Self::OtherModel { .. } => Cause::conflict("AttemptsOfOtherModel"),
            Self::Malformed(..) => Cause::conflict("ReportMalformed"),
            Self::Lineage(..) => Cause::conflict("LineageMalformed"),
            Self::Page(_) => Cause::internal("PageMalformed"),
            Self::Panicked(_) => Cause::internal("Panicked"),
        }
    }
}
