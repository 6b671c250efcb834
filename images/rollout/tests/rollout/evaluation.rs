//! `sera-rollout evaluate`: three scripted models on functions that were set aside.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use sera_crds::contract::{
    Contestant, EvaluationReport, Outcome, RolloutKind, RolloutRecord, StageResult, TaskResult, Termination,
};
use sera_crds::values::Verdict;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::endpoint::{Endpoint, Reply, Then, answer, call};
use crate::support::{About, Finished, Place, about, sandbox_program};

/// How many files the repository has, with a function each, of which half are set aside.
const FILES: usize = 8;
const SEEDS: u32 = 2;

fn place() -> Place {
    let files = (0..FILES).map(|n| {
        (
            format!("src/f{n}.go"),
            format!("package f\n\nfunc F{n}(n int) int {{\n\tif n > {n}3 {{\n\t\treturn n\n\t}}\n\treturn 0\n}}\n"),
        )
    });
    Place::of(&files.collect::<Vec<_>>(), "0.5")
}

/// A model that changes the comparison in the file that it is told of to `sign`; what it is asked is kept.
async fn model(sign: &'static str, asked: Arc<Mutex<Vec<Value>>>) -> Endpoint {
    Endpoint::start(move |_, request| {
        asked.lock().unwrap().push(request.clone());
        Reply::Json(answer(&message(sign, &request)))
    })
    .await
}

fn message(sign: &str, request: &Value) -> Value {
    let told = request["messages"][1]["content"].as_str().unwrap();
    let at = told.find("src/f").unwrap() + "src/f".len();
    let n = &told[at..=at];
    let old = format!("\tif n > {n}3 {{");
    let path = format!("/testbed/src/f{n}.go");
    match about(request) {
        About::Review => json!({"content": "yes"}),
        About::PullRequest => {
            json!({"content": format!("<output>\nThe function in src/f{n}.go takes the wrong branch for a number right at its limit; one above or below it is fine. I expected the limit to belong to the other side of it.\n</output>")})
        }
        About::First(0) | About::Second(0) => {
            let new = old.replace('>', sign);
            call("str_replace_editor", &json!({"command": "str_replace", "path": path, "old_str": old, "new_str": new}))
        }
        About::First(_) | About::Second(_) => call("submit", &json!({})),
    }
}

/// The program with these models.
fn evaluate(place: &Place, program: &Path, models: &[(&str, &str)]) -> Command {
    let plan = json!({"sandbox": {"landlock": "BestEffort"}});
    let mut command = place.command("evaluate", program, &plan);
    command.args([format!("--seeds={SEEDS}"), "--rehearsals=teacher".to_owned()]);
    for (word, url) in models {
        command.args([format!("--{word}-url={url}"), format!("--{word}-model=the-{word}")]);
    }
    command
}

fn report(place: &Place) -> EvaluationReport {
    serde_json::from_slice(&std::fs::read(place.path("store/report/report.json")).unwrap()).unwrap()
}

fn verdict(finished: &Finished) -> (u64, Option<Verdict>) {
    let termination: Termination = serde_json::from_str(&finished.message).unwrap();
    match termination.outcome {
        Outcome::Succeeded(StageResult::Evaluation { tasks, verdict, .. }) => (tasks, verdict),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn three_models_are_compared_task_by_task_and_the_report_says_what_follows() {
    let Some(program) = sandbox_program() else { return };
    let place = place();
    let asked: [Arc<Mutex<Vec<Value>>>; 3] = Default::default();
    let teacher = model(">=", asked[0].clone()).await;
    let student = model(">=", asked[1].clone()).await;
    let base = model("!=", asked[2].clone()).await;
    let models = [("teacher", teacher.url.as_str()), ("student", &student.url), ("base", &base.url)];
    let finished = place.finish(evaluate(&place, &program, &models)).await.succeeded();

    let tasks = FILES as u64 / 2;
    assert_eq!(verdict(&finished), (tasks, Some(Verdict::MatchesTeacher)));
    let report = report(&place);
    assert_eq!((report.tried, report.tasks, report.files, report.rehearsal), (tasks, tasks, tasks, true));
    for (model, f1, submitted) in
        [(Contestant::Teacher, 1.0, 1.0), (Contestant::Student, 1.0, 1.0), (Contestant::Base, 0.5, 1.0)]
    {
        let result = &report.models[&model];
        assert_eq!(result.model, format!("the-{model}"));
        assert_eq!(result.attempts, tasks * u64::from(SEEDS));
        assert!((result.f1.mean - f1).abs() < 1e-9 && (result.submitted - submitted).abs() < 1e-9, "{result:?}");
        // Three calls each: the change, and submitting twice.
        assert_eq!(result.usage.calls, 3 * tasks * u64::from(SEEDS));
        assert!((result.place_found - 1.0).abs() < 1e-9, "{result:?}");
    }
    assert!((report.over_base.difference.mean - 0.5).abs() < 1e-9 && report.floor.abs() < 1e-9, "{report:?}");

    let details = std::fs::read_to_string(place.path("store/report/tasks.jsonl")).unwrap();
    let lines: Vec<TaskResult> = details.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u64, tasks);
    assert!(lines.iter().all(|line| line.f1[&Contestant::Base] == vec![0.5; 2]), "{lines:?}");
    let page = std::fs::read_to_string(place.path("store/report/index.html")).unwrap();
    assert!(page.contains("Matches its teacher") && page.contains("A rehearsal"), "{page}");

    // The teacher's first attempts were made when it posed the tasks; every other one has its decoding seed.
    let seeds = |asked: &Mutex<Vec<Value>>| -> BTreeSet<String> {
        asked.lock().unwrap().iter().map(|request| request["seed"].to_string()).collect()
    };
    let [null, zero, one] = ["null", "0", "1"].map(str::to_owned);
    assert_eq!(seeds(&asked[0]), BTreeSet::from([null, one.clone()]));
    assert_eq!(seeds(&asked[1]), BTreeSet::from([zero.clone(), one.clone()]));
    assert_eq!(seeds(&asked[2]), BTreeSet::from([zero, one]));

    let calls = [&teacher, &student, &base].map(Endpoint::calls);
    let again = place.finish(evaluate(&place, &program, &[])).await.succeeded();
    assert_eq!(again.message, finished.message, "the report is found again, and nobody is asked");
    assert_eq!([&teacher, &student, &base].map(Endpoint::calls), calls);

    let mut other = evaluate(&place, &program, &[]);
    other.arg("--min-effect=0.1");
    let refused = place.finish(other).await;
    assert!(refused.code != Some(0) && refused.message.contains("ReportOfOtherPlan"), "{}", refused.message);
    let mut other = evaluate(&place, &program, &[]);
    other.args([format!("--student-url={}", student.url), "--student-model=another".to_owned()]);
    let refused = place.finish(other).await;
    assert!(refused.code != Some(0) && refused.message.contains("AttemptsOfOtherModel"), "{}", refused.message);
    assert!(refused.message.contains("has the student as the-student, and it is another now"), "{}", refused.message);
}

#[tokio::test]
async fn models_may_be_there_one_after_the_other() {
    let Some(program) = sandbox_program() else { return };
    let place = place();
    let asked = Arc::<Mutex<Vec<Value>>>::default();
    let model = model(">=", asked).await;
    let alone = async |word: &str| place.finish(evaluate(&place, &program, &[(word, &model.url)])).await;

    let early = alone("student").await;
    assert!(early.message.contains("the teacher is not there, and has 4 functions to try left"), "{}", early.message);
    for (word, left) in
        [("teacher", "the student is not there, and has 8 attempts"), ("base", "the student is not there")]
    {
        let finished = alone(word).await;
        assert_eq!(finished.code, Some(10), "a configuration error: {}", finished.message);
        assert!(finished.message.contains("ModelAbsent") && finished.message.contains(left), "{}", finished.message);
    }
    let mut other = evaluate(&place, &program, &[]);
    other.args([format!("--base-url={}", model.url), "--base-model=another".to_owned()]);
    let refused = place.finish(other).await;
    assert!(refused.code != Some(0) && refused.message.contains("AttemptsOfOtherModel"), "{}", refused.message);
    assert!(refused.message.contains("evaluation/base-0 in the store has the base as the-base"), "{}", refused.message);
    assert_eq!(verdict(&alone("student").await.succeeded()), (4, Some(Verdict::MatchesTeacher)));
}

#[tokio::test]
async fn a_killed_evaluation_goes_on_and_repeats_no_attempt_that_has_its_end() {
    let Some(program) = sandbox_program() else { return };
    let place = place();
    let teacher = model(">=", Arc::default()).await;
    let base = model("!=", Arc::default()).await;
    // The student says nothing any more after seven answers: two attempts have their end by then, and others are under way.
    let student = Endpoint::start(|number, request| match number {
        0..7 => Reply::Json(answer(&message(">=", &request))),
        _ => Reply::Raw(Vec::new(), Then::Hang),
    })
    .await;
    let mut command =
        evaluate(&place, &program, &[("teacher", &teacher.url), ("student", &student.url), ("base", &base.url)]);
    let mut killed = command.arg("--folder=killed").spawn().unwrap();
    while student.calls() < 9 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    killed.kill().await.unwrap();
    let by_killed = || {
        (0..SEEDS)
            .flat_map(|seed| (0..4).map(move |task| format!("store/evaluation/student-{seed}/{task}/t2.json")))
            .filter_map(|name| std::fs::read(place.path(&name)).ok())
            .map(|bytes| serde_json::from_slice::<RolloutRecord>(&bytes).unwrap())
            .filter(|record| record.folder == "killed")
            .count()
    };
    let ended = by_killed();
    assert!((1..8).contains(&ended), "{ended}");

    let student = model(">=", Arc::default()).await;
    let models = [("teacher", teacher.url.as_str()), ("student", &student.url), ("base", &base.url)];
    let before = teacher.calls();
    let finished = place.finish(evaluate(&place, &program, &models)).await.succeeded();
    assert_eq!(verdict(&finished), (4, Some(Verdict::MatchesTeacher)));
    assert_eq!((by_killed(), teacher.calls()), (ended, before), "what has its end is not made again");
    assert_eq!(student.calls(), 3 * (8 - ended));
}

#[tokio::test]
async fn a_student_that_was_trained_on_what_is_asked_has_no_verdict() {
    let Some(program) = sandbox_program() else { return };
    let place = place();
    let [good, poor] = [model(">=", Arc::default()).await, model("!=", Arc::default()).await];
    // As if the second rollout of the first task had been trained on.
    let models = [("teacher", good.url.as_str()), ("base", &poor.url)];
    place.finish(evaluate(&place, &program, &models)).await;
    let (task, batch) = (place.path("store/evaluation/tasks/0"), place.path("store/rollouts/b1/0"));
    std::fs::create_dir_all(batch.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("cp").arg("-r").args([&task, &batch]).status().unwrap().success());
    let lineage = |sample: u64| {
        json!({"instanceId": "x", "batch": "b1", "sample": sample, "rollout": RolloutKind::Second, "patchSha256": "", "trajectorySha256": "",
            "kept": [1, 1], "tokens": 1})
    };
    std::fs::create_dir_all(place.path("store/dataset")).unwrap();
    std::fs::write(place.path("store/dataset/lineage.jsonl"), format!("{}\n{}\n", lineage(0), lineage(9))).unwrap();
    let finished = place.finish(evaluate(&place, &program, &[("student", &good.url)])).await.succeeded();
    assert_eq!(verdict(&finished), (4, None));
    let report = report(&place);
    assert_eq!((report.contaminated, report.unchecked), (1, 1));
    let page = std::fs::read_to_string(place.path("store/report/index.html")).unwrap();
    assert!(page.contains("No verdict") && page.contains("touch functions that were set aside"), "{page}");
}

#[tokio::test]
async fn attempts_are_not_to_end_for_want_of_money() {
    let Some(program) = sandbox_program() else { return };
    let place = place();
    let mut command = evaluate(&place, &program, &[("teacher", "http://127.0.0.1:9/v1")]);
    command.arg(format!("--plan-json={}", json!({"budget": {"maxTokens": 9}})));
    let finished = place.finish(command).await;
    assert!(
        finished.message.contains("BudgetUnsuitable") && finished.message.contains("maxTokens"),
        "{}",
        finished.message
    );
}
