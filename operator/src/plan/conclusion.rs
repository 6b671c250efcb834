//! Where a run stands once it has its model: what its owner has left out, what this release does not have, whether it is served, and the end.

use super::{
    Given, Plan, RunWork,
    conditions::{ConditionType, Reason, Standing, Truth, Why},
    serving,
    task::held,
};

/// Says what becomes of the stages after the training. A run that is done stays so, whatever its owner holds or edits, unless it asks for more.
pub(super) fn reach(plan: &mut Plan, given: Given<'_>, work: &RunWork) -> Standing {
    let evaluated = evaluation(work);
    plan.record.conditions.set(given.pen, ConditionType::Evaluated, Truth::False, evaluated.clone());
    // The student is served whatever becomes of its comparison with others.
    let served = serving::judge(plan, given, work.serving.as_ref());
    if work.evaluates {
        return held(given.intent).unwrap_or(Standing::Stalled(evaluated));
    }
    served.unwrap_or_else(|| done(plan))
}

fn evaluation(work: &RunWork) -> Why {
    if work.evaluates {
        Why::new(
            Reason::NotImplemented,
            "the model is in the store; comparing it with its base and its teacher is not part of this release: set spec.evaluation.enabled to false",
        )
    } else {
        Why::new(
            Reason::Disabled,
            "spec.evaluation.enabled is false: the student is not compared with its base and its teacher",
        )
    }
}

fn done(plan: &Plan) -> Standing {
    let record = &plan.record;
    let place = record.model.as_ref().map(|model| format!(": {}", model.uri)).unwrap_or_default();
    let serving = record.serving.as_ref().filter(|_| record.conditions.holds(ConditionType::Serving));
    let served = serving.map(|serving| format!(", and served at {}", serving.url)).unwrap_or_default();
    Standing::Done(Why::new(Reason::Succeeded, format!("the model is in the store{place}{served}")))
}
