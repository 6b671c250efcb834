//! Why a rollout ends before its work is done: at a limit or by a fault of its own, or by a fault that is everybody's, which gives none an outcome.

use sera_crds::contract::RolloutOutcome;

use super::Agent;
use crate::chat::ChatError;
use crate::checkout::CheckoutError;
use crate::failure::{Cause, Explain};
use crate::prompts::PromptError;
use crate::sandbox::SandboxError;

/// Why no rollout of any sample can go on, so that none gets an outcome from it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// The teacher lets nobody in, or answers nobody.
    #[error(transparent)]
    Teacher(#[from] ChatError),
    /// No sandbox works.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A prompt of ours is wrong.
    #[error(transparent)]
    Prompt(#[from] PromptError),
}

impl Explain for AgentError {
    fn explain(&self) -> Cause {
        match self {
            Self::Teacher(error) => error.explain(),
            Self::Sandbox(error) => error.explain(),
            Self::Prompt(_) => Cause::internal("PromptMalformed"),
        }
    }
}

/// Why a loop ends.
pub(super) enum Stop {
    Ended(RolloutOutcome, Option<String>),
    Broken(AgentError),
}

impl Stop {
    pub(super) fn at(outcome: RolloutOutcome) -> Self {
        Self::Ended(outcome, None)
    }

    pub(super) fn fault(outcome: RolloutOutcome, error: &dyn std::error::Error) -> Self {
        Self::Ended(outcome, Some(error.to_string()))
    }
}

impl From<PromptError> for Stop {
    fn from(error: PromptError) -> Self {
        Self::Broken(error.into())
    }
}

impl From<SandboxError> for Stop {
    fn from(error: SandboxError) -> Self {
        if error.is_everybodys() {
            Self::Broken(error.into())
        } else {
            Self::fault(RolloutOutcome::EnvironmentError, &error)
        }
    }
}

impl From<CheckoutError> for Stop {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::Sandbox(error) => error.into(),
            error => Self::fault(RolloutOutcome::EnvironmentError, &error),
        }
    }
}

/// A call's error as the end of a rollout: its own, or everybody's where the teacher lets nobody in, refuses everybody or answered nobody meanwhile.
pub(crate) async fn outcome_of(
    error: ChatError,
    agent: &Agent<'_>,
) -> Result<(RolloutOutcome, Option<String>), ChatError> {
    match error {
        ChatError::ContextOverflow { .. } => Ok((RolloutOutcome::ContextLimit, None)),
        ChatError::NotLetIn { .. }
        | ChatError::NotThere { .. }
        | ChatError::Untrusted { .. }
        | ChatError::Uncounted => Err(error),
        ChatError::GivenUp { since, .. } | ChatError::OutOfTime { since }
            if !agent.teacher.answers_others(since).await =>
        {
            Err(error)
        }
        ChatError::Rejected { .. } if agent.is_refused_whatever_it_asks().await => Err(error),
        ChatError::OutOfTime { .. } => Ok((RolloutOutcome::TimeLimit, None)),
        ChatError::GivenUp { .. } | ChatError::Rejected { .. } => {
            Ok((RolloutOutcome::TeacherError, Some(error.to_string())))
        }
    }
}
