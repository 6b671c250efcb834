//! In which order a trajectory is rejected, as far as that can be told without reading it. What needs its text comes after, and duplicates need the
//! other samples.

use sera_crds::contract::{Policy, Rejection, RolloutOutcome};

use crate::verify::Refusal;

/// What is known of a rollout from its record and its patch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// How it ended.
    pub(super) outcome: RolloutOutcome,
    /// Whether its patch has anything in it.
    pub(super) is_empty: bool,
    /// Whether its patch touches what was set aside for evaluation.
    pub(super) touches_held_out: bool,
    /// Whether it has found the first one's change. There is nothing to be found in a first rollout: it needs the self-review only.
    pub(super) found: Result<(), Refusal>,
    /// The changed lines of its patch.
    pub(super) patch_lines: u64,
}

/// The first reason against it, in the order of [`Rejection`].
pub(super) fn reason(known: &Known, policy: &Policy) -> Option<Rejection> {
    use RolloutOutcome::{
        Abstained, Budget, ContextLimit, EmptyPatch, EnvironmentError, OutputLimit, RefusedByReview, StepLimit,
        Submitted, TeacherError, TimeLimit,
    };
    match known.outcome {
        Submitted => {}
        RefusedByReview => return Some(Rejection::RefusedByReview),
        EmptyPatch | Abstained => return Some(Rejection::EmptyPatch),
        StepLimit | ContextLimit | OutputLimit | TimeLimit | Budget | TeacherError | EnvironmentError => {
            return Some(Rejection::NotSubmitted);
        }
    }
    if known.is_empty {
        return Some(Rejection::EmptyPatch);
    }
    if known.touches_held_out {
        return Some(Rejection::HeldOut);
    }
    match known.found {
        Ok(()) => {}
        Err(Refusal::EmptySecond) => return Some(Rejection::EmptyPatch),
        Err(Refusal::EmptyFirst | Refusal::NothingToFind | Refusal::BelowThreshold) => {
            return Some(Rejection::BelowThreshold);
        }
    }
    (known.patch_lines > u64::from(policy.max_patch_lines)).then_some(Rejection::PatchTooLong)
}

#[cfg(test)]
mod tests {
    use sera_crds::contract::VerificationPlan;

    use super::*;
    use crate::verify::stage::policy::policy;

    /// Everything is in order: each test spoils one thing, or all from it on.
    const FINE: Known = Known {
        outcome: RolloutOutcome::Submitted,
        is_empty: false,
        touches_held_out: false,
        found: Ok(()),
        patch_lines: 40,
    };

    fn judged(known: Known) -> Option<Rejection> {
        reason(&known, &policy(&VerificationPlan::default(), None))
    }

    #[test]
    fn what_is_in_order_is_not_rejected() {
        assert_eq!(judged(FINE), None);
    }

    #[test]
    fn each_outcome_has_its_reason() {
        use RolloutOutcome::*;
        for (outcome, expected) in [
            (StepLimit, Rejection::NotSubmitted),
            (ContextLimit, Rejection::NotSubmitted),
            (OutputLimit, Rejection::NotSubmitted),
            (TimeLimit, Rejection::NotSubmitted),
            (Budget, Rejection::NotSubmitted),
            (TeacherError, Rejection::NotSubmitted),
            (EnvironmentError, Rejection::NotSubmitted),
            (RefusedByReview, Rejection::RefusedByReview),
            (EmptyPatch, Rejection::EmptyPatch),
            (Abstained, Rejection::EmptyPatch),
        ] {
            assert_eq!(judged(Known { outcome, ..FINE }), Some(expected), "{outcome:?}");
        }
    }

    #[test]
    fn of_several_reasons_the_first_is_told() {
        let mut known = Known {
            outcome: RolloutOutcome::StepLimit,
            is_empty: true,
            touches_held_out: true,
            found: Err(Refusal::BelowThreshold),
            patch_lines: 41,
        };
        assert_eq!(judged(known), Some(Rejection::NotSubmitted));
        known.outcome = RolloutOutcome::Submitted;
        assert_eq!(judged(known), Some(Rejection::EmptyPatch));
        known.is_empty = false;
        assert_eq!(judged(known), Some(Rejection::HeldOut));
        known.touches_held_out = false;
        assert_eq!(judged(known), Some(Rejection::BelowThreshold));
        known.found = Ok(());
        assert_eq!(judged(known), Some(Rejection::PatchTooLong));
        known.patch_lines = 40;
        assert_eq!(judged(known), None);
    }

    #[test]
    fn a_measure_that_is_not_defined_is_below_any_threshold() {
        for refusal in [Refusal::NothingToFind, Refusal::EmptyFirst] {
            assert_eq!(judged(Known { found: Err(refusal), ..FINE }), Some(Rejection::BelowThreshold));
        }
    }
}
