//! Limits: each ends a rollout with an outcome of its own, keeps what was done, and (but for the budget's) lets it seed a second rollout.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sera_crds::contract::{Message, RolloutOutcome};
use serde_json::{Value, json};

use crate::endpoint::{Reply, answer, call};
use crate::support::{About, Place, RIGHT, about, good_message, sandbox_program, teacher};

/// How a first rollout ends under `plan`, and whether its patch leads to a second one.
async fn ends(
    plan: Value,
    otherwise: impl Fn(usize, &Value) -> Option<Reply> + Send + Sync + 'static,
) -> Option<(RolloutOutcome, Place)> {
    let program = sandbox_program()?;
    let (place, teacher) = (Place::new(), teacher(otherwise).await);
    place.finish(place.rollout(&program, &teacher.url, 1, &plan)).await.succeeded();
    Some((place.record(0, "t1.json").outcome, place))
}

fn seeded(place: &Place) -> bool {
    place.patch(&place.record(0, "t1.json")).contains(RIGHT) && place.outcome(0).second.is_some()
}

#[expect(clippy::unnecessary_wraps, reason = "what a scripted teacher answers")]
fn answered(message: &Value, change: impl FnOnce(&mut Value)) -> Option<Reply> {
    let mut answer = answer(message);
    change(&mut answer);
    Some(Reply::Json(answer))
}

#[tokio::test]
async fn the_most_steps_and_what_was_done_until_then() {
    let Some((outcome, place)) = ends(json!({"agent": {"maxSteps": 3}}), |_, _| None).await else { return };
    assert_eq!(outcome, RolloutOutcome::StepLimit);
    assert!(seeded(&place));
    assert_eq!(place.record(0, "t1.json").usage.calls, 3, "no review of what does not count");
}

#[tokio::test]
async fn an_answer_that_was_cut_off() {
    let cut = |_: usize, request: &Value| match about(request) {
        About::First(2) => {
            answered(&json!({"content": "so I"}), |answer| answer["choices"][0]["finish_reason"] = "length".into())
        }
        _ => None,
    };
    let Some((outcome, place)) = ends(json!({}), cut).await else { return };
    assert_eq!(outcome, RolloutOutcome::OutputLimit);
    assert!(seeded(&place));
}

#[tokio::test]
async fn a_full_context_whether_the_server_says_so_or_the_counts_do() {
    let said = |_: usize, request: &Value| match about(request) {
        About::First(2) => Some(Reply::Status(400, "", "This model's maximum context length is 4096 tokens.".into())),
        _ => None,
    };
    let Some((outcome, place)) = ends(json!({}), said).await else { return };
    assert_eq!(outcome, RolloutOutcome::ContextLimit);
    assert!(seeded(&place));

    let counted = |_: usize, request: &Value| match about(request) {
        About::First(1) => {
            answered(&good_message(About::First(1)), |answer| answer["usage"]["prompt_tokens"] = 4090.into())
        }
        About::First(_) if request["messages"].as_array().unwrap().len() > 6 => {
            panic!("asked although nothing fits any more")
        }
        _ => None,
    };
    let Some((outcome, place)) = ends(json!({"sampling": {"contextLength": 4096}}), counted).await else { return };
    assert_eq!(outcome, RolloutOutcome::ContextLimit);
    assert!(seeded(&place));
}

#[tokio::test]
async fn a_server_that_cuts_conversations_in_silence_is_found_out() {
    let cutting = |_: usize, request: &Value| match about(request) {
        About::First(2) => {
            answered(&good_message(About::First(2)), |answer| answer["usage"]["prompt_tokens"] = 50.into())
        }
        _ => None,
    };
    let Some((outcome, place)) = ends(json!({}), cutting).await else { return };
    assert_eq!(outcome, RolloutOutcome::ContextLimit);
    assert!(place.record(0, "t1.json").problem.unwrap().contains("cuts conversations"));
}

#[tokio::test]
async fn a_prompt_with_a_hint_is_not_compared_with_those_without() {
    // A template that drops the thinking before the last user message makes it shorter; elsewhere it is longer by the hint.
    let hinted = |_: usize, request: &Value| {
        let is_hinted = request["messages"].as_array().unwrap().last().unwrap()["role"] == "user";
        match about(request) {
            About::First(turn @ 1..=2) if is_hinted => answered(&good_message(About::First(turn)), |answer| {
                answer["usage"]["prompt_tokens"] = json!(if turn == 1 { 50 } else { 200 });
            }),
            About::First(1..=2) => answered(&json!({"content": "let me see"}), |_| {}),
            _ => None,
        }
    };
    let Some((outcome, place)) = ends(json!({}), hinted).await else { return };
    assert_eq!(outcome, RolloutOutcome::Submitted);
    assert!(seeded(&place));
}

#[tokio::test]
async fn three_commands_in_a_row_that_take_too_long() {
    let slow = |_: usize, request: &Value| match about(request) {
        About::First(2..) => answered(&call("bash", &json!({"command": "sleep 30"})), |_| {}),
        _ => None,
    };
    let plan = json!({"agent": {"commandTimeout": "1s"}});
    let Some((outcome, place)) = ends(plan, slow).await else { return };
    assert_eq!(outcome, RolloutOutcome::TimeLimit);
    assert!(seeded(&place));
    assert_eq!(place.record(0, "t1.json").usage.calls, 2 + 3);
}

/// A teacher who waits for this command at each turn from the third on.
fn waiting(command: &'static str) -> impl Fn(usize, &Value) -> Option<Reply> + Send + Sync + 'static {
    move |_, request| match about(request) {
        About::First(2..) => answered(&call("bash", &json!({"command": command})), |_| {}),
        _ => None,
    }
}

#[tokio::test]
async fn all_commands_together_and_all_of_a_rollout_have_their_time() {
    for limit in ["executionTimeout", "rolloutTimeout"] {
        let plan = json!({"agent": {limit: "2s"}});
        let Some((outcome, place)) = ends(plan, waiting("sleep 1.1")).await else { return };
        assert_eq!(outcome, RolloutOutcome::TimeLimit, "{limit}");
        assert!(seeded(&place), "{limit}");
        let calls = place.record(0, "t1.json").usage.calls;
        assert!((3..=4).contains(&calls), "{limit}: {calls} calls, of which two did not wait");
    }
}

#[tokio::test]
async fn what_a_command_and_what_the_editor_show_have_lengths_of_their_own() {
    let long = |_: usize, request: &Value| match about(request) {
        About::First(0) => answered(&call("bash", &json!({"command": "seq 5000"})), |_| {}),
        About::First(1) => {
            let view = json!({"command": "view", "path": "/testbed/src/ring.go"});
            answered(&call("str_replace_editor", &view), |_| {})
        }
        _ => None,
    };
    let plan = json!({"agent": {"maxSteps": 2, "maxObservationChars": 2000, "maxEditorChars": 300}});
    let Some((_, place)) = ends(plan, long).await else { return };
    let trajectory = place.trajectory(&place.record(0, "t1.json"));
    let shown: Vec<usize> = trajectory
        .messages
        .iter()
        .filter_map(|message| match message {
            Message::Tool { content, .. } => Some(content.chars().count()),
            _ => None,
        })
        .collect();
    let [command, editor] = shown[..] else { panic!("{shown:?}") };
    assert!((1_500..2_300).contains(&command) && (200..600).contains(&editor), "{shown:?}");
}

/// Commands that make more than a patch may have, and what is told of it.
const TOO_MUCH: [(&str, &str); 2] = [
    (
        "for n in 1 2 3; do yes 'a line of a file' | head -c 7000000 > src/big$n.txt; done",
        "more than 16777216 bytes; the largest files in it are src/big1.txt (7000000 bytes)",
    ),
    ("mkdir many && (cd many && seq 50001 | xargs touch)", "50000 files have changed, and more, most of them in many"),
];

/// A teacher who makes too much with this command, and deletes it before the second submit.
fn piling_up(command: &'static str) -> impl Fn(usize, &Value) -> Option<Reply> + Send + Sync + 'static {
    move |_, request| match about(request) {
        About::First(2) => answered(&call("bash", &json!({"command": command})), |_| {}),
        About::First(4) => answered(&call("bash", &json!({"command": "rm -rf many src/big*"})), |_| {}),
        _ => None,
    }
}

#[tokio::test]
async fn more_than_a_patch_may_have_is_told_before_anything_is_handed_in_and_can_be_deleted() {
    for (command, told) in TOO_MUCH {
        let Some((outcome, place)) = ends(json!({}), piling_up(command)).await else { return };
        assert_eq!(outcome, RolloutOutcome::Submitted, "{command}");
        assert!(seeded(&place), "{command}");
        let trajectory = place.trajectory(&place.record(0, "t1.json"));
        let answers: Vec<(&str, bool)> = trajectory
            .messages
            .iter()
            .filter_map(|message| match message {
                Message::Tool { content, review, .. } => Some((content.as_str(), *review)),
                _ => None,
            })
            .collect();
        // To the first submit, the command that deletes, and the second submit; the third ends it.
        let [.., (refused, false), _, (shown, true)] = answers[..] else { panic!("{answers:?}") };
        assert!(refused.contains(told) && refused.contains("1. Delete what is too large"), "{refused}");
        assert!(shown.contains(RIGHT) && !shown.contains("big"), "{shown}");
    }
}

#[tokio::test]
async fn more_than_a_patch_may_have_at_the_end_is_a_fault_with_a_name() {
    let Some((outcome, place)) = ends(json!({"agent": {"maxSteps": 4}}), piling_up(TOO_MUCH[0].0)).await else {
        return;
    };
    assert_eq!(outcome, RolloutOutcome::EnvironmentError);
    assert!(place.record(0, "t1.json").problem.unwrap().contains(TOO_MUCH[0].1));
    assert_eq!(place.outcome(0).second, None);
}

#[tokio::test]
async fn a_review_is_no_call_beyond_the_budget_or_the_time() {
    // The second submit is the call that reaches the limit: five of 110 tokens each.
    let Some((outcome, place)) = ends(json!({"budget": {"maxTokens": 550}}), |_, _| None).await else { return };
    assert_eq!((outcome, place.record(0, "t1.json").usage.calls), (RolloutOutcome::Budget, 5));
    assert_eq!(place.outcome(0).second, None);

    // The rollout takes two of its six seconds at least; a review that says nothing takes the rest, and there is no second one.
    let slow = |_: usize, request: &Value| match about(request) {
        About::First(2) => answered(&call("bash", &json!({"command": "sleep 2"})), |_| {}),
        About::Review => {
            std::thread::sleep(Duration::from_millis(4500));
            answered(&json!({"content": "maybe"}), |_| {})
        }
        _ => None,
    };
    let Some((outcome, place)) = ends(json!({"agent": {"rolloutTimeout": "6s"}}), slow).await else { return };
    assert_eq!((outcome, place.record(0, "t1.json").usage.calls), (RolloutOutcome::TimeLimit, 6));
    assert!(seeded(&place));
}

#[tokio::test]
async fn a_budget_that_is_kept_by_counts_needs_a_teacher_that_counts() {
    let Some(program) = sandbox_program() else { return };
    let uncounted = |_: usize, request: &Value| {
        answered(&good_message(about(request)), |answer| {
            answer.as_object_mut().unwrap().remove("usage");
        })
    };
    let price = json!({"inputPerMillion": "1", "cachedInputPerMillion": "1", "outputPerMillion": "1"});
    for budget in [json!({"maxTokens": 1_000_000}), json!({"maxCost": "9", "price": price})] {
        let (place, teacher) = (Place::new(), teacher(uncounted).await);
        let finished = place.finish(place.rollout(&program, &teacher.url, 1, &json!({"budget": budget}))).await;
        assert_eq!((finished.code, teacher.calls()), (Some(10), 1), "{}", finished.log);
        assert!(finished.message.contains("TeacherUsageMissing"), "{}", finished.message);
        assert!(!place.path("store/rollouts/b1/0/t1.json").exists());
    }
    let Some((outcome, place)) = ends(json!({}), uncounted).await else { return };
    assert_eq!(outcome, RolloutOutcome::Submitted, "without such a limit nothing is missed");
    assert_eq!((place.outcome(0).usage.calls, place.outcome(0).usage.prompt_tokens), (12, 0));
}

#[tokio::test]
async fn the_teacher_is_asked_as_the_plan_says() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let listening = move |_: usize, request: &Value| {
        heard.lock().unwrap().push((about(request), request["temperature"].clone(), request["max_tokens"].clone()));
        None
    };
    let plan = json!({"sampling": {"temperature": "0.25", "maxOutputTokens": 555}, "agent": {"maxOutputTokens": 777}});
    if ends(plan, listening).await.is_none() {
        return;
    }
    for (what, temperature, most) in asked.lock().unwrap().iter() {
        let expected = if matches!(what, About::Review | About::PullRequest) { 555 } else { 777 };
        assert_eq!((temperature, most), (&json!(0.25), &json!(expected)), "{what:?}");
    }
}

#[tokio::test]
async fn the_budget_ends_what_is_under_way_and_what_has_not_begun() {
    let Some(program) = sandbox_program() else { return };
    let (place, teacher) = (Place::new(), teacher(|_, _| None).await);
    // A call takes 110 tokens: the third passes the limit.
    let plan = json!({"budget": {"maxTokens": 300}});
    let mut command = place.rollout(&program, &teacher.url, 3, &plan);
    command.args(["--parallel=1", "--slots=1"]);
    place.finish(command).await.succeeded();
    assert_eq!(teacher.calls(), 3);
    assert_eq!(place.record(0, "t1.json").outcome, RolloutOutcome::Budget);
    for sample in 0..3 {
        let outcome = place.outcome(sample);
        assert_eq!((outcome.first, outcome.second), (RolloutOutcome::Budget, None));
    }
    assert_eq!(place.outcome(2).usage.calls, 0);
}

#[tokio::test]
async fn no_call_is_made_once_the_time_is_over() {
    let Some(program) = sandbox_program() else { return };
    let slow = |_: usize, request: &Value| match about(request) {
        About::First(2..) => answered(&call("bash", &json!({"command": "sleep 0.3"})), |_| {}),
        _ => None,
    };
    let (place, teacher) = (Place::new(), teacher(slow).await);
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    let mut command = place.rollout(&program, &teacher.url, 2, &json!({"budget": {"until": until}}));
    command.args(["--parallel=1", "--slots=1"]);
    place.finish(command).await.succeeded();
    assert!(jiff::Timestamp::now() >= until, "there was something to do until then");
    let first = place.record(0, "t1.json");
    assert_eq!(first.outcome, RolloutOutcome::Budget);
    assert!(first.usage.calls > 2 && u64::try_from(teacher.calls()).unwrap() == first.usage.calls);
    let second = place.outcome(1);
    assert_eq!((second.first, second.usage.calls), (RolloutOutcome::Budget, 0), "it has its end all the same");
}
