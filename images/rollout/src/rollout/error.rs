//! Why not all samples have an end.

use std::net::SocketAddr;

use super::records::RecordError;
use super::source::SourceError;
use crate::agent::AgentError;
use crate::chat;
use crate::checkout::CheckoutError;
use crate::failure::{Cause, Explain};
use crate::prompts::PromptError;
use crate::sandbox::SandboxError;
use crate::scratch::ScratchError;
use crate::store::StoreError;

/// Why not all samples have an end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RolloutError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot, or what was made from it, is missing or of no use.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The snapshot cannot be checked out.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// The teacher or the sandboxes are out of order.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The teacher cannot even be asked.
    #[error(transparent)]
    Setup(#[from] chat::SetupError),
    /// A prompt of ours is wrong.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// There is no scratch space.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// A limit in dollars needs prices.
    #[error(
        "the budget has a limit in dollars (maxCost) and no prices: give budget.price as well, or maxTokens in place of maxCost"
    )]
    NoPrice,
    /// A sample without a bug kind.
    #[error("sample {sample} has no bug kind: give at least one, or none for the whole catalogue")]
    NoBugKinds {
        /// The sample.
        sample: u64,
    },
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The counters cannot be set up.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Explain for RolloutError {
    fn explain(&self) -> Cause {
        let configuration =
            |reason| Cause { class: sera_crds::contract::FailureClass::Configuration, reason, field: None };
        match self {
            Self::Store(error) => error.explain(),
            Self::Source(error) => error.explain(),
            Self::Record(error) => error.explain(),
            Self::Checkout(error) => error.explain(),
            Self::Agent(error) => error.explain(),
            Self::Setup(error) => error.explain(),
            Self::Prompt(_) => Cause::internal("PromptMalformed"),
            Self::Scratch(_) => Cause::unavailable("ScratchUnavailable"),
            Self::NoPrice => configuration("PriceMissing"),
            Self::NoBugKinds { .. } => configuration("BugKindsMissing"),
            Self::Listen { .. } => configuration("AddressUnusable"),
            Self::Metrics(_) => Cause::internal("Metrics"),
        }
    }
}

impl From<SandboxError> for RolloutError {
    fn from(error: SandboxError) -> Self {
        Self::Agent(error.into())
    }
}
