//! Faults as clients meet them: each once, and gone when the call is made again.

use serde_json::{Value, json};

use crate::support::agent::{Dialect, request};
use crate::support::http::{Response, send};
use crate::support::teacher::Teacher;

fn asking() -> Value {
    request(
        &[json!({"role": "user", "content": "Something is wrong with `send` in /testbed/session.py."})],
        Dialect::Usual,
    )
}

/// The first answer of a teacher that always has `fault`, and its second.
fn twice(fault: &str, stream: bool) -> (std::io::Result<Response>, Response) {
    let teacher = Teacher::start(&["--fault-rate", &format!("{fault}=1"), "--fault-latency", "300ms"]);
    let mut asking = asking();
    asking["stream"] = json!(stream);
    let first = send(&teacher.address, "POST", "/v1/chat/completions", &asking.to_string());
    (first, teacher.complete(&asking))
}

#[test]
fn a_call_that_went_wrong_is_answered_when_it_is_made_again() {
    let right = Teacher::start(&[]).complete(&asking()).message();
    for fault in [
        "latency",
        "rate-limit",
        "server-error",
        "reset",
        "malformed-arguments",
        "two-calls",
        "no-call",
        "empty",
        "truncated",
    ] {
        let (_, again) = twice(fault, false);
        assert_eq!(again.message(), right, "{fault}");
    }
}

#[test]
fn refusals_say_when_to_come_back() {
    let (limited, _) = twice("rate-limit", false);
    let limited = limited.unwrap();
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")));
    assert_eq!(twice("server-error", true).0.unwrap().status, 500);
}

#[test]
fn connections_stall_and_break_in_the_middle_of_an_answer() {
    for stream in [false, true] {
        let reset = twice("reset", stream).0.unwrap_err();
        assert_ne!(reset.kind(), std::io::ErrorKind::WouldBlock, "{reset}");
    }
    let stalled = twice("stall", true).0.unwrap_err();
    assert_eq!(stalled.kind(), std::io::ErrorKind::WouldBlock, "{stalled}");
}

#[test]
fn answers_are_spoilt_in_the_way_that_was_asked_for() {
    let message = |fault: &str| twice(fault, false).0.unwrap().message();
    let calls = |message: &Value| message["tool_calls"].as_array().map_or(0, Vec::len);
    let malformed = message("malformed-arguments");
    let arguments = malformed["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(arguments).is_err(), "{arguments}");
    assert_eq!(calls(&message("two-calls")), 2);
    assert_eq!(calls(&message("no-call")), 0);
    let empty = message("empty");
    assert!(empty["content"].is_null() && calls(&empty) == 0);
    assert_eq!(twice("truncated", false).0.unwrap().json()["choices"][0]["finish_reason"], "length");
}

#[test]
fn the_same_calls_go_wrong_on_every_server() {
    let outcome = |teacher: &Teacher| -> Vec<u16> {
        let ask = |index: usize| {
            request(&[json!({"role": "user", "content": format!("call number {index}")})], Dialect::Usual)
        };
        (0..60).map(|index| teacher.complete(&ask(index)).status).collect()
    };
    let arguments = ["--fault-rate", "rate-limit=0.2", "--fault-rate", "server-error=0.2"];
    let (one, other) = (outcome(&Teacher::start(&arguments)), outcome(&Teacher::start(&arguments)));
    assert_eq!(one, other);
    assert!([200, 429, 500].iter().all(|status| one.contains(status)), "{one:?}");
}
