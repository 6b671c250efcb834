//! Why a slot could not do what was asked of it, and whose fault that is.

use crate::outside::Ending;
use crate::processes::Survivors;
use crate::shell::ShellError;
use crate::tree::TreeError;
use crate::wire::Fault;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    /// The session is over.
    #[error(transparent)]
    Ending(#[from] Ending),
    /// The files.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The shell.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// The first shell of a slot does not start, where nothing has been executed yet that could be why.
    #[error(transparent)]
    FirstShell(ShellError),
    /// Processes that do not end.
    #[error(transparent)]
    Survivors(#[from] Survivors),
    /// What the policy asks for cannot be had.
    #[error("{0}")]
    Policy(String),
    /// The environment's setup failed.
    #[error("setup {how}{}", printed(output))]
    Setup {
        /// How it ended.
        how: String,
        /// What it printed.
        output: String,
    },
}

impl SlotError {
    /// The same, of a slot in which nothing has been executed yet: its policy or its image is why no shell starts, so it would be so in every other.
    pub(crate) fn before_any_command(self) -> Self {
        match self {
            Self::Shell(error @ ShellError::Start(_)) => Self::FirstShell(error),
            other => other,
        }
    }

    /// Whether the slot must not be used any more. A tree can be put again after a setup that failed, and be wiped after too many changes.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Self::Setup { .. } | Self::Tree(TreeError::TooManyChanges { .. }))
    }

    /// Whose fault it is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Tree(TreeError::Stream(_)) => Fault::Protocol,
            Self::Policy(_) | Self::FirstShell(_) | Self::Shell(ShellError::None { .. }) => Fault::Unsupported,
            Self::Setup { .. } => Fault::Setup,
            Self::Tree(TreeError::TooManyChanges { .. }) => Fault::TooMuch,
            _ => Fault::Environment,
        }
    }
}

/// What a setup printed, after how it ended.
fn printed(output: &str) -> String {
    if output.is_empty() {
        return ", and had printed nothing".to_owned();
    }
    format!("; the end of what it printed:\n{output}")
}
