//! The protocol: what every response says, streams, counts, limits, and how the program ends.

use serde_json::{Value, json};

use crate::support::agent::{Dialect, request, rollout};
use crate::support::repository::Repository;
use crate::support::teacher::Teacher;

const PROMPT: &str = "Something is wrong with `Session.send` in /testbed/net/session.py.";

fn asking(prompt: &str) -> Value {
    request(&[json!({"role": "user", "content": prompt})], Dialect::Usual)
}

#[test]
fn every_response_says_that_it_is_a_rehearsal() {
    let teacher = Teacher::start(&[]);
    let unknown = json!({"model": "GLM-4.6", "messages": [{"role": "user", "content": "hello"}]});
    for response in [
        teacher.get("/v1/models"),
        teacher.get("/health"),
        teacher.get("/metrics"),
        teacher.get("/nothing"),
        teacher.complete(&asking(PROMPT)),
        teacher.complete(&unknown),
        teacher.complete(&json!("no request")),
    ] {
        assert_eq!(response.header("x-sera-rehearsal"), Some("true"), "{response:?}");
    }
    assert_eq!(teacher.complete(&asking(PROMPT)).json()["x-sera-rehearsal"], true);
    let model = &teacher.get("/v1/models").json()["data"][0];
    assert_eq!((&model["id"], &model["owned_by"]), (&json!("rehearsal"), &json!("sera-operator")));
    let refused = teacher.complete(&unknown);
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert!(refused.body.contains("GLM-4.6"));
}

#[test]
fn a_stream_says_what_a_whole_answer_says() {
    let teacher = Teacher::start(&[]);
    let repository = Repository::new();
    let prompt = format!("Something is wrong with `Session.send` in {}/net/session.py.", repository.path().display());
    let done = rollout(&teacher, &repository, "", &prompt, Dialect::Usual);
    let turns: Vec<usize> = (0..done.messages.len()).filter(|at| done.messages[*at]["role"] == "assistant").collect();
    assert!(turns.len() > 4);
    for at in turns {
        let whole = request(&done.messages[..at], Dialect::Usual);
        let mut streamed = whole.clone();
        streamed["stream"] = json!(true);
        streamed["stream_options"] = json!({"include_usage": true});
        let response = teacher.complete(&streamed);
        let mut pieces = response.body.split("\n\n").filter(|event| event.starts_with("data: {"));
        assert!(pieces.all(|piece| piece.contains("\"x-sera-rehearsal\":true")));
        let (message, finish) = response.streamed();
        assert_eq!(message, done.messages[at]);
        assert_eq!(finish, "tool_calls");
        assert!(response.body.contains("\"total_tokens\""));
        assert_eq!(teacher.complete(&whole).message(), done.messages[at]);
    }
}

#[test]
fn any_teacher_with_the_same_seed_can_go_on_where_another_was() {
    let (one, other, different) =
        (Teacher::start(&["--seed", "3"]), Teacher::start(&["--seed", "3"]), Teacher::start(&["--seed", "4"]));
    let repository = Repository::new();
    let prompt = format!("Something is wrong with `formatBytes` in {}/web/src/format.ts.", repository.path().display());
    let done = rollout(&one, &repository, "", &prompt, Dialect::Usual);
    // The last turns first: nothing of a conversation has been seen before.
    for at in (0..done.messages.len()).rev().filter(|at| done.messages[*at]["role"] == "assistant") {
        assert_eq!(other.complete(&request(&done.messages[..at], Dialect::Usual)).message(), done.messages[at]);
    }
    assert_ne!(rollout(&different, &repository, "", &prompt, Dialect::Usual).messages, done.messages);
}

#[test]
fn tokens_are_counted_and_those_seen_before_as_cached() {
    let teacher = Teacher::start(&[]);
    let repository = Repository::new();
    let prompt = format!("Something is wrong with `Session.send` in {}/net/session.py.", repository.path().display());
    let done = rollout(&teacher, &repository, "", &prompt, Dialect::Usual);
    let last = teacher.complete(&request(&done.messages[..done.messages.len() - 1], Dialect::Usual)).json();
    let usage = &last["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    // It was all seen a moment ago.
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], count("prompt_tokens") - 1);
    let metrics = teacher.get("/metrics").body;
    let calls = done.messages.iter().filter(|message| message["role"] == "assistant").count() + 1;
    assert!(metrics.contains(&format!("sera_teacher_calls_total{{kind=\"first_rollout\"}} {calls}\n")), "{metrics}");
    let value = |tokens: &str| -> u64 {
        let line = format!("sera_teacher_tokens_total{{kind=\"first_rollout\",tokens=\"{tokens}\"}} ");
        metrics.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
    };
    assert!(value("cached") * 10 > value("prompt") * 6, "{metrics}");
}

#[test]
fn what_does_not_fit_is_refused_and_what_is_too_long_is_cut() {
    let teacher = Teacher::start(&["--context-length", "1200"]);
    let refused = teacher.complete(&asking(&format!("{PROMPT} {}", "and so on ".repeat(600))));
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    let mut short = asking(PROMPT);
    short["max_tokens"] = json!(8);
    let cut = teacher.complete(&short).json();
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    assert!(cut["choices"][0]["message"].get("tool_calls").is_none());
    assert!(cut["usage"]["completion_tokens"].as_u64().unwrap() <= 12);
}

#[test]
fn whoever_asks_for_something_else_is_told_what_this_is() {
    let teacher = Teacher::start(&[]);
    let answer = teacher
        .complete(&json!({"model": "rehearsal", "messages": [{"role": "user", "content": "Who are you?"}]}))
        .message();
    assert!(answer["content"].as_str().unwrap().contains("not a model"));
}

#[test]
fn it_ends_when_it_is_told_to_even_while_an_answer_stalls() {
    let mut teacher = Teacher::start(&["--fault-rate", "stall=1"]);
    let address = teacher.address.clone();
    let stalled = std::thread::spawn(move || {
        crate::support::http::send(&address, "POST", "/v1/chat/completions", &asking(PROMPT).to_string())
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(std::process::Command::new("kill").arg(teacher.pid().to_string()).status().unwrap().success());
    assert!(teacher.wait().success());
    assert!(stalled.join().unwrap().is_err());
}
