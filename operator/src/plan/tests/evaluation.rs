//! A run from its model to its report: the teacher comes back for it, a Job compares three models, and what it says is the last word.

use super::{
    training::{at_work, gang, rank},
    *,
};

const STAGE: Stage = Stage::Evaluation;

/// A run that has its model and is to be compared.
fn evaluable() -> Scene {
    let mut scene = at_work();
    scene.run().evaluation = Some(EvaluationWork { unsupported: None });
    let said = trained(96, 0.25);
    scene.have(ended(gang(1), None), vec![rank(0, PodPhase::Succeeded, Some(0), Some(&said))]);
    scene.pass();
    scene.have_nothing();
    scene
}

/// The same, whose Job is made.
fn comparing() -> Scene {
    let mut scene = evaluable();
    scene.observed.teacher = Some(teacher(1).into());
    scene.pass();
    scene.have(JobFacts { active: 1, ready: 1, ..job_of(STAGE, 1) }, Vec::new());
    scene
}

fn end(scene: &mut Scene, said: &Termination) -> Plan {
    scene.have(ended(JobFacts { active: 0, ..job_of(STAGE, 1) }, None), vec![pod(PodPhase::Succeeded, Some(said))]);
    scene.pass()
}

#[test]
fn the_teacher_comes_back_for_it_and_the_job_waits_for_the_teacher() {
    let mut scene = evaluable();
    let plan = scene.pass();
    assert!(plan.make.contains(&Make::Teacher), "{:?}", plan.make);
    assert!(plan.record.locked.contains(&STAGE), "what is asked may not change any more");
    let plan = scene.pass();
    assert!(!plan.make.iter().any(|make| matches!(make, Make::Job { .. })), "{:?}", plan.make);
    assert!(message_of(&plan, ConditionType::Evaluated).contains("waiting until the teacher answers"));
    scene.observed.teacher = Some(teacher(1).into());
    assert!(scene.pass().make.contains(&Make::Job { stage: STAGE, attempt: 1 }));
}

#[test]
fn its_driver_tells_how_far_it_is() {
    let mut scene = comparing();
    scene.observed.live =
        Some(Live::Rollouts(LiveRollouts { samples: 40, done: 10, tokens: 9, ..LiveRollouts::default() }));
    let plan = scene.pass();
    assert_eq!(plan.record.progress, Some((STAGE, 25)));
    assert!(message_of(&plan, ConditionType::Evaluated).ends_with("at work: 10 of 40 attempts are done"));
}

#[test]
fn what_it_found_stands_in_status_and_the_run_is_ready_whatever_that_is() {
    for (student, verdict, word) in [(0.45, Verdict::Improved, "Improved"), (0.2, Verdict::Regressed, "Regressed")] {
        let mut scene = comparing();
        let plan = end(&mut scene, &evaluated(student, Some(verdict), 64));
        let found = plan.record.evaluation.clone().unwrap();
        assert_eq!(found.verdict, Some(verdict));
        for (score, mean) in [(found.student, student), (found.base, 0.3), (found.teacher, 0.6)] {
            let score = score.unwrap();
            let said = [score.mean, score.low, score.high].map(|share| share.as_str().parse::<f64>().unwrap());
            let is_so = said.iter().zip([mean, mean - 0.05, mean + 0.05]).all(|(said, is)| (said - is).abs() < 1e-6);
            assert!(is_so, "{said:?} of a mean of {mean}");
        }
        let report = plan.record.report.clone().unwrap();
        assert!(report.uri.ends_with("/report/report.json"), "{}", report.uri);
        assert!(
            plan.record.conditions.holds(ConditionType::Evaluated)
                && plan.record.conditions.holds(ConditionType::Ready)
        );
        assert!(
            message_of(&plan, ConditionType::Evaluated).starts_with(word),
            "{}",
            message_of(&plan, ConditionType::Evaluated)
        );
        assert_eq!(plan.record.phase, Some(Phase::Succeeded));
        let plan = scene.pass();
        assert!(
            plan.remove.iter().any(|removal| removal.kind == Removable::Teacher),
            "nobody asks it any more: {plan:?}"
        );
    }
}

#[test]
fn without_a_verdict_it_is_said_why() {
    for (tasks, why) in [(0, "no held-out function led to a task"), (7, "training had seen what was asked")] {
        let mut scene = comparing();
        let plan = end(&mut scene, &evaluated(0.0, None, tasks));
        assert!(plan.record.conditions.holds(ConditionType::Evaluated));
        assert!(
            message_of(&plan, ConditionType::Evaluated).contains(why),
            "{}",
            message_of(&plan, ConditionType::Evaluated)
        );
    }
}

#[test]
fn words_of_another_stage_fail_the_attempt_and_another_follows() {
    let mut scene = comparing();
    let plan = end(&mut scene, &trained(1, 0.5));
    assert_eq!((plan.record.report.as_ref(), plan.record.failures[0].stage), (None, STAGE));
    assert!(message_of(&plan, ConditionType::Evaluated).contains("not one of the evaluation"));
    assert_eq!(plan.record.phase, Some(Phase::Running));
}

#[test]
fn a_run_that_is_held_keeps_no_teacher_and_makes_no_job() {
    let mut scene = evaluable();
    scene.edit(|intent| intent.suspend = true);
    let plan = scene.pass();
    assert!(plan.make.is_empty(), "{:?}", plan.make);
    assert_eq!(plan.record.phase, Some(Phase::Suspended));
}
