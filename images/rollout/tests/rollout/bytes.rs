//! What the teacher is sent, to the byte: the same wherever a sample is worked on, so that its server's prefix cache has it already.

use serde_json::{Value, json};

use crate::endpoint::{Endpoint, Reply, answer, call};
use crate::support::{About, Finished, Place, about, function, good_message, sandbox_program, text_about};

/// A teacher that keeps what it is asked. It has commands say where they are, and its texts name the function.
async fn recording() -> Endpoint {
    Endpoint::start_recording(|_, request| {
        Reply::Json(answer(&match about(&request) {
            About::PullRequest => text_about(&function(&request)),
            About::First(2) | About::Second(2) => call("bash", &json!({"command": "pwd; ls -a"})),
            about => good_message(about),
        }))
    })
    .await
}

/// What it was asked about this function.
fn bodies(teacher: &Endpoint, name: &str) -> Vec<String> {
    let bodies = teacher.bodies().into_iter().map(|body| String::from_utf8(body).unwrap());
    bodies.filter(|body| function(&serde_json::from_str(body).unwrap()) == name).collect()
}

/// The sample whose first rollout had the sandbox of that number.
fn sample_in(finished: &Finished, slot: u64) -> u64 {
    let lines = finished.log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut rollouts = lines.filter(|line| line["message"] == "started" && line["slot"] == slot);
    let first = rollouts.find_map(|line| line["rollout"].as_str()?.strip_suffix("-t1")?.parse().ok());
    first.expect("two samples at once have a sandbox each")
}

#[tokio::test]
async fn what_the_teacher_is_sent_is_the_same_to_the_byte_in_every_place_and_every_sandbox() {
    let Some(program) = sandbox_program() else { return };
    let names = ["Previous".to_owned()];
    let (here, there) = (Place::with_functions(&names), Place::outside_tmp());
    let (both, alone) = (recording().await, recording().await);
    let mut command = here.rollout(&program, &both.url, 2, &json!({}));
    command.arg("--parallel=2");
    let sample = sample_in(&here.finish(command).await.succeeded(), 1);
    let mut command = there.rollout(&program, &alone.url, 1, &json!({}));
    command.args([format!("--first={sample}"), "--slots=1".to_owned()]);
    assert_eq!(sample_in(&there.finish(command).await.succeeded(), 0), sample);

    let record = here.record(sample, "t1.json");
    if !record.protections.iter().any(|kept| kept == "mount-namespace") {
        assert!(std::env::var_os("CI").is_none(), "this kernel has no mount namespaces: commands see where they are");
        eprintln!("left out: without mount namespaces, commands see where they are");
        return;
    }
    let name = &record.function.name;
    let (here_sent, there_sent) = (bodies(&both, name), bodies(&alone, name));
    assert_eq!((here_sent.len(), here.outcome(sample).usage.calls), (12, 12), "both rollouts, the review and the text");
    assert_eq!(here_sent, there_sent);
    let seen = here_sent.iter().filter(|body| body.contains("/testbed\\n.")).count();
    assert!(seen > 0, "no command says where it is: {}", here_sent[3]);
    for place in [&here, &there] {
        let path = place.path("").display().to_string();
        assert!(!here_sent.iter().any(|body| body.contains(path.trim_end_matches('/'))), "{path} was told");
    }
}
