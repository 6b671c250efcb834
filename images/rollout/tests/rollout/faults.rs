//! A server that fails one conversation in every way that servers do: the rollout that meets it ends by itself, in time, with the outcome that says so
//! and with what was done until then; the others go on.

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, stream};
use sera_crds::contract::RolloutOutcome;
use serde_json::json;

use crate::endpoint::{Reply, Then};
use crate::support::{About, Place, RIGHT, about, function, sandbox_program, teacher};

/// How long each run may take, on a machine that does much else: a third of what a rollout may, and one that waits for the server does so twice for fifteen
/// seconds.
const DEADLINE: Duration = Duration::from_secs(200);
/// How many are made at once.
const AT_ONCE: usize = 4;
/// A stream that has begun with a piece of an answer, and what ends the piece.
const BEGUN: &str =
    "HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"h";
const ENDED: &str = "\"}}]}\n\n";
const JSON: &str = "content-type: application/json\r\n";

/// A way to fail: what the server does, how the rollout ends, and what its record says of it.
type Fault = (&'static str, fn() -> Reply, RolloutOutcome, &'static str);

const FAULTS: [Fault; 12] = [
    ("reset at once", || Reply::Raw(Vec::new(), Then::Reset), RolloutOutcome::TeacherError, "it cannot be reached"),
    ("reset in the middle", || piece(Then::Reset), RolloutOutcome::TeacherError, "in 2 tries"),
    ("ended in the middle", || piece(Then::Close), RolloutOutcome::TeacherError, "in 2 tries"),
    ("stalled", || piece(Then::Hang), RolloutOutcome::TeacherError, "it stopped in the middle"),
    ("hung", || Reply::Raw(Vec::new(), Then::Hang), RolloutOutcome::TeacherError, "it gave no whole answer"),
    (
        "half a document",
        || Reply::Status(200, JSON, r#"{"choices": [{"message": {"con"#.into()),
        RolloutOutcome::TeacherError,
        "no chat completion",
    ),
    (
        "half an event",
        || Reply::Status(200, "content-type: text/event-stream\r\n", "data: {\"choices\": [\n\n".into()),
        RolloutOutcome::TeacherError,
        "no chat completion",
    ),
    (
        "ten megabytes",
        || {
            Reply::Status(
                200,
                JSON,
                format!(r#"{{"choices": [{{"message": {{"content": "{}"}}}}]}}"#, "x".repeat(10 << 20)),
            )
        },
        RolloutOutcome::TeacherError,
        "its answer has more than",
    ),
    (
        "ten megabytes in a stream",
        || Reply::Raw(format!("{BEGUN}{}", "x".repeat(10 << 20)).into(), Then::Hang),
        RolloutOutcome::TeacherError,
        "its answer has more than",
    ),
    (
        "a page to log in",
        || Reply::Status(200, "content-type: text/html\r\n", "<html>login</html>".into()),
        RolloutOutcome::TeacherError,
        "its content type is 'text/html'",
    ),
    ("busy for ever", || Reply::Status(429, "", "slow down".into()), RolloutOutcome::TeacherError, "status 429"),
    (
        "busy for longer than a rollout may take",
        || Reply::Status(429, "retry-after: 3600\r\n", "come back".into()),
        RolloutOutcome::TimeLimit,
        "",
    ),
];

/// One whole piece of an answer, and what follows it.
fn piece(then: Then) -> Reply {
    Reply::Raw(format!("{BEGUN}{ENDED}").into(), then)
}

#[tokio::test]
async fn however_a_server_fails_one_conversation_its_rollout_ends_in_time_with_its_patch_and_the_others_go_on() {
    let Some(program) = sandbox_program() else { return };
    // All of them before anything is served: whoever takes a snapshot keeps this thread from answering others.
    let names = ["Swap", "Len"].map(str::to_owned);
    let faults: Vec<(Place, Fault)> = FAULTS.map(|fault| (Place::with_functions(&names), fault)).into();
    stream::iter(&faults).for_each_concurrent(AT_ONCE, |(place, fault)| meets(&program, place, *fault)).await;
}

/// Three samples, of which the one about `Swap` meets the fault when it has made its change.
async fn meets(program: &Path, place: &Place, (name, reply, ends, words): Fault) {
    let teacher =
        teacher(move |_, request| (about(request) == About::First(2) && function(request) == "Swap").then(reply)).await;
    let plan = json!({"agent": {"rolloutTimeout": "10m"}});
    let mut command = place.rollout(program, &teacher.url, 3, &plan);
    command.args(["--teacher-stall=1s", "--teacher-timeout=15s", "--parallel=3"]);
    let finished = tokio::time::timeout(DEADLINE, place.finish(command)).await;
    finished.unwrap_or_else(|_| panic!("{name}: it hangs")).succeeded();
    for sample in 0..3 {
        let (first, outcome) = (place.record(sample, "t1.json"), place.outcome(sample));
        assert!(place.patch(&first).contains(RIGHT), "{name}: the change is lost");
        let submitted = Some(RolloutOutcome::Submitted);
        if outcome.function.name == "Swap" {
            // A patch that a limit left still leads to a second rollout.
            let second = if ends == RolloutOutcome::TimeLimit { submitted } else { None };
            assert_eq!((outcome.first, outcome.second), (ends, second), "{name}: {:?}", first.problem);
            let problem = first.problem.unwrap_or_default();
            assert!(problem.contains(words), "{name}: {problem}");
        } else {
            assert_eq!((Some(outcome.first), outcome.second), (submitted, submitted), "{name} met another");
        }
    }
}
