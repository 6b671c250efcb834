//! What has to have happened before this replica is ready. A standby is ready as well: it has everything but the lease.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A step of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    /// The API server answered.
    ApiServer,
    /// It serves our kinds.
    CustomResources,
    /// All caches are in sync.
    Caches,
}

impl Startup {
    const ALL: [Self; 3] = [Self::ApiServer, Self::CustomResources, Self::Caches];

    fn waiting_for(self) -> &'static str {
        match self {
            Self::ApiServer => "the API server has not answered yet",
            Self::CustomResources => {
                "the custom resource definitions of sera.dev/v1alpha1 are not served (chart sera-operator-crds)"
            }
            Self::Caches => "the caches are not in sync yet",
        }
    }
}

/// Which steps were reached; clones are the same.
#[derive(Clone, Debug)]
pub struct Readiness {
    missing: Arc<Mutex<Vec<Startup>>>,
}

impl Readiness {
    /// Nothing was reached yet.
    pub fn new() -> Self {
        Self { missing: Arc::new(Mutex::new(Startup::ALL.to_vec())) }
    }

    /// Notes that `step` was reached; it is never lost again.
    pub fn reached(&self, step: Startup) {
        self.steps().retain(|other| *other != step);
    }

    /// The first step that is still missing, in words; `None` when this replica is ready.
    pub fn missing(&self) -> Option<&'static str> {
        self.steps().first().map(|step| step.waiting_for())
    }

    fn steps(&self) -> MutexGuard<'_, Vec<Startup>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_first_step_that_is_missing_until_all_are_reached_in_any_order() {
        let readiness = Readiness::new();
        assert!(readiness.missing().unwrap().contains("API server"));
        readiness.clone().reached(Startup::Caches);
        readiness.reached(Startup::ApiServer);
        assert!(readiness.missing().unwrap().contains("sera-operator-crds"));
        readiness.reached(Startup::CustomResources);
        readiness.reached(Startup::CustomResources);
        assert_eq!(readiness.missing(), None);
    }
}
