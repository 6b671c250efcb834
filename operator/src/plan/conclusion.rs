//! Where a run stands once it has its model: whether it is compared with others, whether it is served, and the end.

use super::{
    Given, Plan, RunWork,
    conditions::{ConditionType, Reason, Standing, Why},
    evaluation, serving,
};

/// Says what becomes of the stages after the training. A run that is done stays so, whatever its owner holds or edits, unless it asks for more.
pub(super) fn reach(plan: &mut Plan, given: Given<'_>, work: &RunWork) -> Standing {
    // The student is served whatever becomes of its comparison with others.
    let served = serving::judge(plan, given, work.serving.as_ref());
    let evaluated = evaluation::get(plan, given, work.evaluation.as_ref());
    evaluated.or(served).unwrap_or_else(|| done(plan))
}

fn done(plan: &Plan) -> Standing {
    let record = &plan.record;
    let place = record.model.as_ref().map(|model| format!(": {}", model.uri)).unwrap_or_default();
    let verdict = record.evaluation.as_ref().and_then(|evaluation| evaluation.verdict);
    let verdict = verdict.map(|verdict| format!(", evaluated as {verdict}")).unwrap_or_default();
    let serving = record.serving.as_ref().filter(|_| record.conditions.holds(ConditionType::Serving));
    let served = serving.map(|serving| format!(", and served at {}", serving.url)).unwrap_or_default();
    Standing::Done(Why::new(Reason::Succeeded, format!("the model is in the store{place}{verdict}{served}")))
}
