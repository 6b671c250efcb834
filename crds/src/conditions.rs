//! The conditions of both kinds: their types, the reasons that are part of the API, and how a list of them is changed.
//! Nothing here looks at a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

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
    }
}

impl From<Stage> for ConditionType {
    /// The condition that a run reports of a stage.
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Snapshot => Self::Snapshotted,
            Stage::Generation => Self::Generated,
            Stage::Dataset => Self::DatasetBuilt,
            Stage::Training => Self::Trained,
            Stage::Evaluation => Self::Evaluated,
            Stage::Serving => Self::Serving,
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
        /// This release has no such stage.
        NotImplemented = "NotImplemented",
        /// Something that should not happen; the operator's log has the chain of causes.
        InternalError = "InternalError",
    }
}

/// What is to be said of one condition; [`set`] adds when it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it is about.
    pub about: ConditionType,
    /// Whether it holds; `None` is Unknown.
    pub holds: Option<bool>,
    /// Why, as a CamelCase word: a [`Reason`], or one from a termination message.
    pub reason: String,
    /// Why, as a sentence for people.
    pub message: String,
}

impl Statement {
    /// It holds.
    pub fn yes(about: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { about, holds: Some(true), reason: reason.to_string(), message: message.into() }
    }

    /// It does not hold.
    pub fn no(about: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { about, holds: Some(false), reason: reason.to_string(), message: message.into() }
    }

    /// It cannot be said.
    pub fn unknown(about: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { about, holds: None, reason: reason.to_string(), message: message.into() }
    }

    fn status(&self) -> &'static str {
        match self.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// What the schema lets a condition's message take, in characters.
pub const MAX_MESSAGE_CHARS: usize = 768;

/// Says something of one condition. Its time changes only when its status does; other conditions stay as they are.
pub fn set(conditions: &mut Vec<Condition>, statement: Statement, generation: Option<i64>, now: &Time) {
    let status = statement.status();
    let message = statement.message.chars().take(MAX_MESSAGE_CHARS).collect();
    let at = conditions.iter().position(|condition| condition.type_ == statement.about.as_str());
    let since = at
        .map(|at| &conditions[at])
        .filter(|old| old.status == status)
        .map_or(now, |old| &old.last_transition_time)
        .clone();
    let condition = Condition {
        type_: statement.about.to_string(),
        status: status.to_owned(),
        observed_generation: generation,
        last_transition_time: since,
        reason: statement.reason,
        message,
    };
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// Takes a condition out of the list, where it stands there.
pub fn remove(conditions: &mut Vec<Condition>, about: ConditionType) {
    conditions.retain(|condition| condition.type_ != about.as_str());
}

/// The condition of a type.
pub fn get(conditions: &[Condition], about: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == about.as_str())
}

/// Whether a condition is True.
pub fn is_true(conditions: &[Condition], about: ConditionType) -> bool {
    get(conditions, about).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    #[test]
    fn the_time_of_a_condition_changes_only_with_its_status() {
        let (first, later, last) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"), at("2026-01-03T00:00:00Z"));
        let mut conditions = Vec::new();
        set(&mut conditions, Statement::no(ConditionType::Ready, Reason::Progressing, "cloning"), Some(1), &first);
        set(&mut conditions, Statement::no(ConditionType::Ready, Reason::Waiting, "no node has room"), Some(2), &later);
        let ready = get(&conditions, ConditionType::Ready).unwrap();
        assert_eq!(
            (&ready.last_transition_time, ready.reason.as_str(), ready.observed_generation),
            (&first, "Waiting", Some(2))
        );
        set(&mut conditions, Statement::yes(ConditionType::Ready, Reason::Succeeded, "done"), Some(2), &last);
        assert_eq!(get(&conditions, ConditionType::Ready).unwrap().last_transition_time, last);
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn removing_one_leaves_the_others() {
        let now = at("2026-01-01T00:00:00Z");
        let mut conditions = Vec::new();
        for about in [ConditionType::Ready, ConditionType::Stalled] {
            set(&mut conditions, Statement::yes(about, Reason::NotImplemented, "as it is"), None, &now);
        }
        remove(&mut conditions, ConditionType::Stalled);
        assert!(is_true(&conditions, ConditionType::Ready) && get(&conditions, ConditionType::Stalled).is_none());
    }

    #[test]
    fn a_message_is_never_longer_than_the_schema_takes() {
        let mut conditions = Vec::new();
        let statement = Statement::unknown(ConditionType::Validated, Reason::Pending, "é".repeat(5000));
        set(&mut conditions, statement, None, &at("2026-01-01T00:00:00Z"));
        assert_eq!(conditions[0].message.chars().count(), MAX_MESSAGE_CHARS);
    }
}
