//! How the student is compared with its base and its teacher once there is one: by a Job that brings both models along, and asks the teacher where it is.

use sera_crds::{
    contract::{Interval, StageResult},
    run::{EvaluationStatus, Score},
    values::{Ratio, Stage, Verdict},
};

use super::{
    EvaluationWork, Given, Plan,
    conditions::{ConditionType, Reason, Standing, Truth, Why},
    record::{Record, Stored},
    task::{self, Task, held},
    teacher,
};

/// Gets the comparison; none once the run has it, or where its owner leaves it out.
pub(super) fn get(plan: &mut Plan, given: Given<'_>, work: Option<&EvaluationWork>) -> Option<Standing> {
    if plan.record.conditions.holds(ConditionType::Evaluated) {
        return None;
    }
    let Some(work) = work else {
        let why = Why::new(
            Reason::Disabled,
            "spec.evaluation.enabled is false: the student is not compared with its base and its teacher",
        );
        plan.record.conditions.set(given.pen, ConditionType::Evaluated, Truth::False, why);
        return None;
    };
    if let Some(lacking) = &work.unsupported {
        let why = Why::new(Reason::NotImplemented, format!("the model is in the store; {lacking}"));
        plan.record.conditions.set(given.pen, ConditionType::Evaluated, Truth::False, why.clone());
        return Some(held(given.intent).unwrap_or(Standing::Stalled(why)));
    }
    let awaited = teacher::awaited(plan, given);
    let folder = &given.intent.folder;
    let task = Task::of(Stage::Evaluation, given.intent);
    task::drive(plan, given, &task, awaited, |record, result| accept(record, folder, result?))
}

/// Whether the teacher is asked for it, now or soon.
pub(super) fn is_due(record: &Record, work: Option<&EvaluationWork>) -> bool {
    record.conditions.holds(ConditionType::Trained)
        && !record.conditions.holds(ConditionType::Evaluated)
        && work.is_some_and(|work| work.unsupported.is_none())
}

/// Takes in what the program said, checked as the API server will check it.
fn accept(record: &mut Record, folder: &str, result: StageResult) -> Option<String> {
    let StageResult::Evaluation { report, tasks, student, base, teacher, verdict } = result else { return None };
    let sha256 = report.sha256.parse().ok()?;
    record.report = Some(Stored { uri: format!("{folder}/{}", report.path), sha256 });
    let status = EvaluationStatus {
        student: Some(score(student)?),
        base: Some(score(base)?),
        teacher: Some(score(teacher)?),
        verdict,
    };
    let said = said(verdict, tasks);
    let points = |interval: Interval| format!("{:.1}", 100.0 * interval.mean);
    record.evaluation = Some(status);
    Some(format!(
        "{said}: over {tasks} tasks the student has {} points of F1, its base {} and its teacher {}",
        points(student),
        points(base),
        points(teacher)
    ))
}

fn said(verdict: Option<Verdict>, tasks: u64) -> String {
    match verdict {
        Some(verdict) => verdict.to_string(),
        None if tasks == 0 => "no verdict, since no held-out function led to a task".to_owned(),
        None => "no verdict, since training had seen what was asked".to_owned(),
    }
}

/// A score as status has it; none of what is no share.
fn score(interval: Interval) -> Option<Score> {
    let ratio = |share: f64| format!("{:.6}", share.clamp(0.0, 1.0)).parse::<Ratio>().ok();
    Some(Score { mean: ratio(interval.mean)?, low: ratio(interval.low)?, high: ratio(interval.high)? })
}
