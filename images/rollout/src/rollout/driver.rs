//! What a process of rollouts shares: whom it asks, what it has spent and counted, and its sandboxes; and how that is told while it lasts.

use std::net::SocketAddr;
use std::sync::Arc;

use sera_crds::contract::BudgetSlice;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use super::{RolloutError, serve};
use crate::budget::Budget;
use crate::chat::Teacher;
use crate::metrics::{Meter, Surroundings};
use crate::sandbox::{Counts, Pool};

/// The share of read tokens that should come from the prefix cache, in hundredths. Below it, something rewrites histories or replicas are mixed up.
const CACHED: u64 = 90;

/// What the whole process shares.
pub(crate) struct Driver {
    /// The models that are asked; at least one.
    pub(crate) teachers: Vec<Teacher>,
    pub(crate) budget: Budget,
    pub(crate) meter: Meter,
    pub(super) pool: OnceCell<Pool>,
}

impl Driver {
    pub(crate) fn new(teachers: Vec<Teacher>, budget: BudgetSlice) -> Result<Self, RolloutError> {
        Ok(Self { teachers, budget: Budget::new(budget), meter: Meter::new()?, pool: OnceCell::new() })
    }

    pub(super) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            budget: &self.budget,
            slots: self.pool.get().map_or(Counts { fit: 0, quarantined: 0 }, Pool::counts),
            broken_replicas: self.teachers.iter().map(Teacher::broken_replicas).sum(),
            silence: self.teachers.iter().find_map(Teacher::silence),
            retries: self.teachers.iter().map(Teacher::retries).sum(),
        }
    }

    /// Serves progress and metrics for as long as what is returned lives.
    pub(crate) async fn listen(
        self: &Arc<Self>,
        address: Option<SocketAddr>,
    ) -> Result<Option<JoinSet<()>>, RolloutError> {
        let Some(address) = address else { return Ok(None) };
        let listener = TcpListener::bind(address).await.map_err(|source| RolloutError::Listen { address, source })?;
        tracing::info!(address = %listener.local_addr().unwrap_or(address), "serving /progress and /metrics");
        let mut serving = JoinSet::new();
        serving.spawn(serve::serve(listener, self.clone()));
        Ok(Some(serving))
    }

    /// Says what all of it took, and warns where the prefix cache was of little help.
    pub(crate) fn report(&self) {
        let usage = self.budget.spent();
        let cost = self.budget.cost().map(|cost| cost.to_string()).unwrap_or_default();
        tracing::info!(
            calls = usage.calls,
            prompt = usage.prompt_tokens,
            cached = usage.cached_tokens,
            completion = usage.completion_tokens,
            cost,
            "spent"
        );
        // A server that never counts any does not tell.
        if usage.cached_tokens > 0 && usage.cached_tokens * 100 < usage.prompt_tokens * CACHED {
            tracing::warn!(
                "only {} of 100 tokens came from the teacher's prefix cache: check that it is on, and that each replica has an address of its own",
                usage.cached_tokens * 100 / usage.prompt_tokens.max(1)
            );
        }
    }
}
