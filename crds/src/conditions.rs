//! The conditions of both kinds: their types, the reasons that are part of the API, and how one is found in a list. When
//! one is set is the controller's business.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::values::{Stage, choice};

choice! {
    /// What a condition is about. `Reconciling` and `Stalled` stand in the list only while they are True, as kstatus
    /// has it.
    ConditionType: "a condition type" {
        /// Everything asked for is done.
        Ready = "Ready",
        /// Work is going on or about to.
        Reconciling = "Reconciling",
        /// It cannot go on until somebody changes something.
        Stalled = "Stalled",
        /// The spec, with the platform's defaults, is one that can be worked from.
        Validated = "Validated",
        /// The snapshot is in the store.
        Snapshotted = "Snapshotted",
        /// The trajectories that were asked for are made and verified.
        Generated = "Generated",
        /// The dataset is in the store.
        DatasetBuilt = "DatasetBuilt",
        /// The model is in the store.
        Trained = "Trained",
        /// The report is in the store.
        Evaluated = "Evaluated",
        /// The student answers requests.
        Serving = "Serving",
        /// Every sample of a batch has been made.
        RolledOut = "RolledOut",
        /// Every sample of a batch has its verdict under the present policy.
        Verified = "Verified",
        /// What the object had in its store is deleted, as `output.reclaimPolicy` asks for.
        Reclaimed = "Reclaimed",
    }
}

impl From<Stage> for ConditionType {
    /// The condition that a run or a batch reports of a stage.
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Snapshot => Self::Snapshotted,
            Stage::Generation => Self::Generated,
            Stage::Rollouts => Self::RolledOut,
            Stage::Verification => Self::Verified,
            Stage::Dataset => Self::DatasetBuilt,
            Stage::Training => Self::Trained,
            Stage::Evaluation => Self::Evaluated,
            Stage::Serving => Self::Serving,
            Stage::Reclaim => Self::Reclaimed,
        }
    }
}

choice! {
    /// Why a condition is as it is. Programs may rely on these; programs of the data plane add reasons of their own in
    /// their termination messages.
    Reason: "a reason" {
        /// The spec can be worked from.
        SpecValid = "SpecValid",
        /// A field says what cannot be done; the message names it.
        SpecInvalid = "SpecInvalid",
        /// The platform's defaults contradict themselves or the spec.
        DefaultsInvalid = "DefaultsInvalid",
        /// It was seen, and nothing has been started yet.
        Pending = "Pending",
        /// A stage is at work.
        Progressing = "Progressing",
        /// Something must happen first that is expected to: a queue, a node, a quota.
        Waiting = "Waiting",
        /// Its Jobs wait in their Kueue queue.
        Queued = "Queued",
        /// No node has room for a pod.
        Unschedulable = "Unschedulable",
        /// An attempt failed, and the next one waits out its delay.
        BackingOff = "BackingOff",
        /// `spec.suspend` holds it.
        Suspended = "Suspended",
        /// It is done.
        Succeeded = "Succeeded",
        /// Every copy that is wanted answers.
        Available = "Available",
        /// No copy is wanted.
        ScaledToZero = "ScaledToZero",
        /// It has failed for good; `spec.retry` tries it again.
        Failed = "Failed",
        /// It was taken over from the run that `spec.from` names.
        Adopted = "Adopted",
        /// The spec leaves it out.
        Disabled = "Disabled",
        /// Something given is wrong or missing: a credential, a revision, a claim. The message names the field.
        ConfigurationError = "ConfigurationError",
        /// Something outside could not be reached; it is tried again.
        Unavailable = "Unavailable",
        /// The store holds something else at the place where a stage writes.
        StoreConflict = "StoreConflict",
        /// A child's name is taken by an object that is another's.
        NameConflict = "NameConflict",
        /// Pods did not start in time; the message has the cause.
        StartDeadlineExceeded = "StartDeadlineExceeded",
        /// A pod was preempted or its node was lost; this does not count as a failure.
        Disrupted = "Disrupted",
        /// `generation.budget` is used up.
        BudgetExhausted = "BudgetExhausted",
        /// `maxSamples` was reached before the target was.
        YieldTooLow = "YieldTooLow",
        /// As many attempts have failed as may.
        AttemptsExhausted = "AttemptsExhausted",
        /// The namespace is being deleted: nothing can be made in it any more, and data in the store is kept.
        NamespaceTerminating = "NamespaceTerminating",
        /// This release has no such stage.
        NotImplemented = "NotImplemented",
        /// Something that should not happen; the operator's log has the chain of causes.
        InternalError = "InternalError",
    }
}

/// The most characters that the schema takes as a condition's message.
pub const MAX_MESSAGE_CHARS: usize = 512;

/// The condition of a type, where it is in the list.
pub fn get(conditions: &[Condition], about: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == about.as_str())
}

/// Whether the condition of a type is there and True.
pub fn is_true(conditions: &[Condition], about: ConditionType) -> bool {
    get(conditions, about).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_condition_of_its_own() {
        let mut conditions: Vec<ConditionType> = Stage::ALL.iter().map(|stage| ConditionType::from(*stage)).collect();
        conditions.dedup();
        assert_eq!(conditions.len(), Stage::ALL.len());
    }

    #[test]
    fn the_schema_takes_every_type_and_every_reason() {
        let camel_case = regex_lite::Regex::new("^[A-Z][A-Za-z]*$").unwrap();
        for word in ConditionType::ALL.iter().map(|it| it.as_str()).chain(Reason::ALL.iter().map(|it| it.as_str())) {
            assert!(camel_case.is_match(word), "{word}");
        }
    }
}
