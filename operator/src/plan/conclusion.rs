//! Where a run stands once it has its model: what its owner has left out, what this release does not have, and the end.

use super::{
    Given, Plan, RunWork,
    conditions::{ConditionType, Reason, Standing, Truth, Why},
    task::held,
};

/// Says what becomes of the stages after the training. A run that is done stays so, whatever its owner holds or edits, unless it asks for more.
pub(super) fn reach(plan: &mut Plan, given: Given<'_>, work: &RunWork) -> Standing {
    let mut lacking = None;
    for (kind, why) in std::iter::once(evaluation(work)).chain(serving(work, plan)) {
        plan.record.conditions.set(given.pen, kind, Truth::False, why.clone());
        let is_lacking = why.reason == Reason::NotImplemented.as_str();
        lacking = lacking.or_else(|| is_lacking.then_some(why));
    }
    match lacking {
        Some(why) => held(given.intent).unwrap_or(Standing::Stalled(why)),
        None => done(plan),
    }
}

fn evaluation(work: &RunWork) -> (ConditionType, Why) {
    let why = if work.evaluates {
        Why::new(
            Reason::NotImplemented,
            "the model is in the store; comparing it with its base and its teacher is not part of this release: set spec.evaluation.enabled to false",
        )
    } else {
        Why::new(
            Reason::Disabled,
            "spec.evaluation.enabled is false: the student is not compared with its base and its teacher",
        )
    };
    (ConditionType::Evaluated, why)
}

/// Nothing, where serving was never asked for, which is the default.
fn serving(work: &RunWork, plan: &Plan) -> Option<(ConditionType, Why)> {
    let why = if work.serves {
        Why::new(
            Reason::NotImplemented,
            "the model is in the store; serving it is not part of this release: set spec.serve.enabled to false and serve it yourself",
        )
    } else {
        Why::new(Reason::Disabled, "spec.serve.enabled is false")
    };
    (work.serves || plan.record.conditions.contains(ConditionType::Serving)).then_some((ConditionType::Serving, why))
}

fn done(plan: &Plan) -> Standing {
    let place = plan.record.model.as_ref().map(|model| format!(": {}", model.uri)).unwrap_or_default();
    Standing::Done(Why::new(Reason::Succeeded, format!("the model is in the store{place}")))
}
