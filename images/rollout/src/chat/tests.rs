//! A teacher that misbehaves in every way that servers do: each ends in an answer or in the right error, and none hangs.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::testing::endpoint::{Endpoint, Reply, Then, answer, response};

/// Fast, so that a test of every fault takes no time; what is measured in tests is what happens, not when.
const PATIENCE: Patience = Patience {
    call: Duration::from_millis(600),
    stall: Duration::from_millis(200),
    silence: Duration::ZERO,
    retries: 2,
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(4),
};

fn teacher(urls: &[&str]) -> Teacher {
    Teacher::new(Setup {
        urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
        by_address: false,
        model: "some-model".to_owned(),
        key: Some(SecretString::from("a-key")),
        ca: None,
        temperature: "0.6".to_owned(),
        streaming: true,
        patience: PATIENCE,
    })
    .unwrap()
}

async fn ask(teacher: &Teacher) -> Result<Answer, ChatError> {
    ask_within(teacher, Duration::from_secs(30)).await
}

async fn ask_within(teacher: &Teacher, time: Duration) -> Result<Answer, ChatError> {
    let mut conversation = Conversation::new(&[]);
    conversation.push_user("hello");
    let until = Instant::now() + time;
    teacher
        .ask(&Ask { key: "7-t1", conversation: &conversation, aside: None, max_output_tokens: None, seed: None, until })
        .await
}

/// What the teacher gives up with when each of its three tries meets `reply`.
async fn given_up(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Fault {
    let endpoint = Endpoint::start(move |_, _| reply()).await;
    match ask(&teacher(&[&endpoint.url])).await {
        Err(ChatError::GivenUp { tries: 3, last, .. }) => {
            assert_eq!(endpoint.calls(), 3);
            last
        }
        other => panic!("not given up after three tries: {other:?}"),
    }
}

fn good() -> Reply {
    Reply::Json(answer(&json!({"content": "hi"})))
}

fn raw_stream(events: &str, then: Then) -> Reply {
    let head = "HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\n\r\n";
    Reply::Raw(format!("{head}{events}").into_bytes(), then)
}

const PIECE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"h\"}}]}\n\n";

#[tokio::test]
async fn an_answer_in_one_piece_and_one_in_many_are_the_same() {
    let whole = Endpoint::start(|_, _| good()).await;
    let usage = answer(&json!({}))["usage"].clone();
    let pieces = Endpoint::start(move |_, request| {
        assert_eq!(request["stream_options"]["include_usage"], true);
        Reply::Stream(vec![
            json!({"choices": [{"delta": {"role": "assistant", "content": null}}]}),
            json!({"choices": [{"delta": {"content": "h"}}]}),
            json!({"choices": [{"delta": {"content": "i"}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": usage}),
        ])
    })
    .await;
    let (whole, pieces) = (ask(&teacher(&[&whole.url])).await.unwrap(), ask(&teacher(&[&pieces.url])).await.unwrap());
    assert_eq!(whole, pieces);
    assert_eq!((whole.content.as_str(), whole.usage.cached_tokens), ("hi", 90));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    assert_eq!(given_up(|| Reply::Raw(Vec::new(), Then::Hang)).await, Fault::Late { limit: PATIENCE.call });
}

#[tokio::test]
async fn a_stream_that_stops_without_ending_is_a_stall_even_when_comments_keep_it_alive() {
    assert_eq!(given_up(|| raw_stream(PIECE, Then::Hang)).await, Fault::Stalled { limit: PATIENCE.stall });
}

#[tokio::test]
async fn resets_and_ends_in_the_middle_of_a_stream_are_told_from_an_answer() {
    for then in [|| Then::Reset, || Then::Close] {
        let fault = given_up(move || raw_stream(PIECE, then())).await;
        assert!(matches!(fault, Fault::Broken { .. } | Fault::Unreachable { .. }), "{fault}");
    }
    let fault = given_up(|| Reply::Raw(Vec::new(), Then::Reset)).await;
    assert!(matches!(fault, Fault::Unreachable { .. }), "{fault}");
}

#[tokio::test]
async fn truncated_json_wrong_types_and_other_protocols_are_no_answers() {
    let json = "content-type: application/json\r\n";
    for (headers, body) in [
        (json, r#"{"choices": [{"message": {"con"#),
        (json, "[]"),
        (json, "{}"),
        (json, r#"{"choices": []}"#),
        (json, r#"{"choices": [{"message": {"tool_calls": [{"index": 4000000000}]}}]}"#),
        ("content-type: text/html\r\n", "<html>login</html>"),
        ("", "{}"),
        ("content-type: text/event-stream\r\n", "data: {\"choices\": [\n\n"),
        (json, r#"{"error": {"message": "worker died"}}"#),
    ] {
        let fault = given_up(move || Reply::Status(200, headers, body.to_owned())).await;
        assert!(matches!(fault, Fault::Garbled { .. }), "{body}: {fault}");
    }
}

#[tokio::test]
async fn an_answer_of_ten_megabytes_is_not_taken() {
    let huge = "x".repeat(10 << 20);
    let body = answer(&json!({"content": huge})).to_string();
    let fault = given_up(move || Reply::Status(200, "content-type: application/json\r\n", body.clone())).await;
    assert!(matches!(fault, Fault::TooLong { .. }), "{fault}");
    let fault = given_up(move || Reply::Stream(vec![json!({"choices": [{"delta": {"content": huge}}]})])).await;
    assert!(matches!(fault, Fault::TooLong { .. }), "{fault}");
}

#[tokio::test]
async fn busy_and_broken_servers_are_asked_again_and_the_pause_they_ask_for_is_kept() {
    for status in [408, 409, 429, 500, 502, 503, 504] {
        let endpoint =
            Endpoint::start(
                move |call, _| {
                    if call < 2 { Reply::Status(status, "retry-after: 0\r\n", "busy".into()) } else { good() }
                },
            )
            .await;
        let teacher = teacher(&[&endpoint.url]);
        assert_eq!(ask(&teacher).await.unwrap().content, "hi");
        assert_eq!((endpoint.calls(), teacher.retries()), (3, 2));
    }
    let endpoint = Endpoint::start(|_, _| Reply::Status(429, "retry-after: 3600\r\n", String::new())).await;
    let outcome = ask_within(&teacher(&[&endpoint.url]), Duration::from_secs(5)).await;
    assert!(matches!(outcome, Err(ChatError::OutOfTime { .. })), "an hour's pause is not waited for: {outcome:?}");
    assert_eq!(endpoint.calls(), 1, "nor cut short");
    let begun = Instant::now();
    let outcome = ask_within(&teacher(&[&endpoint.url]), Duration::from_mins(10)).await;
    assert!(matches!(outcome, Err(ChatError::OutOfTime { .. })), "whatever is left: {outcome:?}");
    assert_eq!(endpoint.calls(), 2);
    assert!(begun.elapsed() < Duration::from_mins(1), "that there is no time is known at once");
}

#[tokio::test]
async fn a_pause_that_fits_is_waited_for_to_its_end_and_one_without_an_end_is_not() {
    let endpoint =
        Endpoint::start(
            |call, _| {
                if call == 0 { Reply::Status(503, "retry-after: 2\r\n", String::new()) } else { good() }
            },
        )
        .await;
    let begun = Instant::now();
    assert_eq!(ask(&teacher(&[&endpoint.url])).await.unwrap().content, "hi");
    assert!(begun.elapsed() >= Duration::from_secs(2), "longer than any pause of our own");
    let endpoint =
        Endpoint::start(|_, _| Reply::Status(429, "retry-after: 18446744073709551615\r\n", String::new())).await;
    assert!(matches!(ask(&teacher(&[&endpoint.url])).await, Err(ChatError::OutOfTime { .. })));
}

#[tokio::test]
async fn a_rehearsal_is_known_by_what_its_answers_say_of_themselves() {
    for (head, expected) in [("", false), ("x-sera-rehearsal: true\r\n", true), ("x-sera-rehearsal: false\r\n", false)]
    {
        let body = answer(&json!({"content": "hi"})).to_string();
        let headers: &'static str = format!("content-type: application/json\r\n{head}").leak();
        let endpoint = Endpoint::start(move |_, _| Reply::Status(200, headers, body.clone())).await;
        let teacher = teacher(&[&endpoint.url]);
        assert!(!teacher.is_rehearsal(), "it has said nothing yet");
        ask(&teacher).await.unwrap();
        assert_eq!(teacher.is_rehearsal(), expected, "{head}");
    }
}

#[tokio::test]
async fn a_storm_of_429_does_not_take_a_replica_out() {
    let fault = given_up(|| Reply::Status(429, "", "slow down".into())).await;
    assert!(matches!(fault, Fault::Status { status: 429, .. }), "{fault}");
    let endpoint = Endpoint::start(|_, _| Reply::Status(429, "", String::new())).await;
    let teacher = teacher(&[&endpoint.url]);
    for _ in 0..3 {
        assert!(ask(&teacher).await.is_err());
    }
    assert_eq!(teacher.broken_replicas(), 0);
}

#[tokio::test]
async fn who_is_told_to_wait_while_others_are_answered_has_a_turn_in_the_end_however_long_that_takes() {
    let endpoint = Endpoint::start(|call, request| {
        let is_patient = request["messages"][0]["content"] == "hello";
        if is_patient && call < 40 { Reply::Status(429, "", "slow down".into()) } else { good() }
    })
    .await;
    let teacher = teacher(&[&endpoint.url]);
    let others = async {
        loop {
            let _ = teacher.ask_for_a_word(&[], None, None).await;
        }
    };
    let answer = tokio::select! {
        answer = ask(&teacher) => answer,
        () = others => unreachable!(),
    };
    assert_eq!(answer.unwrap().content, "hi");
    assert!(endpoint.calls() > 40);
}

#[tokio::test]
async fn why_a_teacher_answers_nobody_is_told_until_it_answers() {
    let endpoint =
        Endpoint::start(|call, _| if call < 3 { Reply::Status(500, "", String::new()) } else { good() }).await;
    let teacher = teacher(&[&endpoint.url]);
    assert_eq!(teacher.silence(), None, "nobody has asked it");
    assert!(ask(&teacher).await.is_err());
    assert_eq!(teacher.silence(), Some(Silence::Status(500)));
    assert!(ask(&teacher).await.is_ok());
    assert_eq!(teacher.silence(), None);
    let patient = Teacher {
        patience: Patience { silence: Duration::from_mins(1), ..PATIENCE },
        ..self::teacher(&["http://127.0.0.1:1"])
    };
    assert!(ask(&patient).await.is_err());
    assert_eq!(patient.silence(), None, "it may come back in a moment");
}

#[tokio::test]
async fn a_full_context_is_told_whether_it_comes_with_the_status_or_in_the_stream() {
    let message = "This model's maximum context length is 8192 tokens";
    for reply in [
        || {
            Reply::Status(
                400,
                "",
                json!({"error": {"message": "This model's maximum context length is 8192 tokens"}}).to_string(),
            )
        },
        || {
            Reply::Stream(vec![
                json!({"error": {"message": "This model's maximum context length is 8192 tokens", "code": 400}}),
            ])
        },
    ] {
        let endpoint = Endpoint::start(move |_, _| reply()).await;
        match ask(&teacher(&[&endpoint.url])).await {
            Err(ChatError::ContextOverflow { said }) => assert!(said.contains(message), "{said}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(endpoint.calls(), 1, "asking again does not help");
    }
}

#[tokio::test]
async fn what_only_its_owner_can_change_is_not_asked_again() {
    for (status, reason) in
        [(401, "TeacherAccessDenied"), (403, "TeacherAccessDenied"), (404, "TeacherNotFound"), (422, "TeacherRefused")]
    {
        use crate::failure::Explain;
        let endpoint = Endpoint::start(move |_, _| Reply::Status(status, "", "no".into())).await;
        let error = ask(&teacher(&[&endpoint.url])).await.unwrap_err();
        assert_eq!((error.explain().reason, endpoint.calls()), (reason, 1), "{error}");
        assert!(!error.to_string().contains("a-key"));
    }
}

#[tokio::test]
async fn a_dead_replicas_calls_go_to_a_living_one() {
    let living = Endpoint::start(|_, _| good()).await;
    // Nothing listens on tcpmux's port; one that was just given back may be another test's by now.
    let teacher = teacher(&["http://127.0.0.1:1/v1", &living.url]);
    let mut failed = 0;
    for n in 0..20 {
        let mut conversation = Conversation::new(&[]);
        conversation.push_user("hello");
        let until = Instant::now() + Duration::from_secs(30);
        let key = format!("{n}-t1");
        let ask =
            Ask { key: &key, conversation: &conversation, aside: None, max_output_tokens: None, seed: None, until };
        failed += u32::from(teacher.ask(&ask).await.is_err());
    }
    assert_eq!(failed, 0, "each call is tried with the other at once");
}

#[tokio::test]
async fn a_teacher_that_answers_nobody_is_known_for_it() {
    // One is out of order, and the other only for one conversation; they say so, or nothing at all.
    for (others, expected) in [("", false), ("Are you there?", true)] {
        for hangs in [false, true] {
            let endpoint = Endpoint::start(move |_, request| {
                if !others.is_empty() && request.to_string().contains(others) {
                    good()
                } else if hangs {
                    Reply::Raw(Vec::new(), Then::Hang)
                } else {
                    Reply::Status(503, "", String::new())
                }
            })
            .await;
            let teacher = teacher(&[&endpoint.url]);
            let time = if hangs { PATIENCE.call / 2 } else { Duration::from_secs(30) };
            let since = match ask_within(&teacher, time).await {
                Err(ChatError::GivenUp { since, .. }) if !hangs => since,
                Err(ChatError::OutOfTime { since }) if hangs => since,
                other => panic!("answered by nobody: {other:?}"),
            };
            assert_eq!(teacher.answers_others(since).await, expected);
        }
    }
}

#[tokio::test]
async fn a_teacher_that_refuses_everybody_is_known_for_it_until_it_has_answered() {
    let reply = |_: usize, request: Value| match request["tools"] {
        Value::Null => good(),
        _ => Reply::Status(400, "", "no tools".into()),
    };
    let endpoint = Endpoint::start(reply).await;
    let (teacher, tools) = (teacher(&[&endpoint.url]), [json!({"type": "function"})]);
    assert!(teacher.refuses_everybody(&tools, None, None).await);
    assert!(!teacher.refuses_everybody(&[], None, None).await);
    assert!(!teacher.refuses_everybody(&tools, None, None).await, "it has answered");
    assert_eq!(endpoint.calls(), 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_key() {
    let endpoint =
        Endpoint::start(|_, _| Reply::Raw(response(302, "location: http://127.0.0.1:1/\r\n", ""), Then::Close)).await;
    assert!(matches!(ask(&teacher(&[&endpoint.url])).await, Err(ChatError::Rejected { status: 302, .. })));
}
