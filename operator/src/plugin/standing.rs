//! What runs and batches report alike, so that a page or a line is made of either.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use sera_crds::conditions::{self, ConditionType, Reason};
use sera_crds::run::{FailureRecord, GenerationStatus, Phase, Progress, StageTime};
use sera_crds::values::Stage;
use sera_crds::{RolloutBatch, SpecializationRun};

/// Where an object stands; without anything where the operator has not looked at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    pub(super) meta: &'a ObjectMeta,
    observed_generation: Option<i64>,
    pub(super) phase: Option<Phase>,
    pub(super) conditions: &'a [Condition],
    pub(super) progress: Option<&'a Progress>,
    pub(super) times: &'a [StageTime],
    pub(super) attempts: Option<&'a BTreeMap<Stage, u32>>,
    pub(super) failures: &'a [FailureRecord],
    pub(super) generation: Option<&'a GenerationStatus>,
    pub(super) teacher: Option<&'a str>,
    pub(super) store: Option<&'a str>,
}

/// The two statuses have these fields by the same names, and no type in common.
macro_rules! standing {
    ($object:expr) => {{
        let status = $object.status.as_ref();
        Standing {
            meta: &$object.metadata,
            observed_generation: status.and_then(|status| status.observed_generation),
            phase: status.and_then(|status| status.phase),
            conditions: status.map_or(&[], |status| &status.conditions),
            progress: status.and_then(|status| status.progress.as_ref()),
            times: status.map_or(&[], |status| &status.stage_times),
            attempts: status.map(|status| &status.attempts),
            failures: status.map_or(&[], |status| &status.recent_failures),
            generation: status.and_then(|status| status.generation.as_ref()),
            teacher: status.and_then(|status| status.teacher.as_deref()),
            store: status.and_then(|status| status.store.as_deref()),
        }
    }};
}

impl<'a> Standing<'a> {
    pub(super) fn of_run(run: &'a SpecializationRun) -> Self {
        standing!(run)
    }

    pub(super) fn of_batch(batch: &'a RolloutBatch) -> Self {
        standing!(batch)
    }

    /// Whether all of it speaks of the newest spec.
    pub(super) fn is_current(&self) -> bool {
        self.observed_generation.is_some() && self.observed_generation == self.meta.generation
    }

    /// What is going on, while it is at work.
    pub(super) fn at_work(&self) -> Option<&'a Progress> {
        self.progress.filter(|_| self.phase == Some(Phase::Running))
    }

    pub(super) fn condition(&self, about: ConditionType) -> Option<&'a Condition> {
        conditions::get(self.conditions, about)
    }

    /// What it waits for, where that is not its own work: what somebody must change first.
    pub(super) fn holdups(&self) -> impl Iterator<Item = String> {
        let said = [ConditionType::Stalled, ConditionType::Reconciling].map(|about| self.condition(about));
        let held = said.into_iter().flatten().filter(|said| said.reason != Reason::Progressing.as_str());
        held.map(|said| format!("{}: {}", said.reason, said.message))
    }
}
