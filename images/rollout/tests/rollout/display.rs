//! What a run shows while it goes on: a bar and words where a person looks, a line of JSON for each event where a machine collects, and in each that
//! is about a rollout the sample that it is of.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::Stdio;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::endpoint::{Endpoint, Reply, answer};
use crate::support::{About, ISSUE, Place, RIGHT, about, function, sandbox_program, teacher};

/// How the lines begin that are about a rollout or a sample, in a run where each sample meets all of it.
const SAID: [&str; 6] = [
    "started",
    "the teacher is asked again",
    "an answer cannot be used",
    "ended",
    "a pull request is turned down",
    "a sample has its end",
];

/// A teacher of whom each sample has to ask the first turn three times, and the text twice.
async fn troublesome() -> Endpoint {
    let seen = Mutex::new(BTreeMap::<(String, bool), usize>::new());
    teacher(move |_, request| {
        let what = about(request);
        let is_text = what == About::PullRequest;
        (is_text || what == About::First(0)).then_some(())?;
        let mut seen = seen.lock().unwrap();
        let times = seen.entry((function(request), is_text)).or_default();
        *times += 1;
        let says = |text: String| Some(Reply::Json(answer(&json!({"content": text}))));
        match (is_text, *times) {
            (false, 1) => Some(Reply::Status(429, "", "busy".into())),
            (false, 2) => says("Let me think.".to_owned()),
            (true, 1) => says(format!("<output>{ISSUE} It has to say {}.</output>", RIGHT.trim())),
            _ => None,
        }
    })
    .await
}

/// The same command on a terminal of its own, which is what comes out of it.
fn on_a_terminal(command: &Command) -> Command {
    let quoted = |word: &OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    let command = command.as_std();
    let words: Vec<String> = [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
    let mut terminal = Command::new("script");
    terminal
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{} > /dev/null", words.join(" ")))
        .arg("/dev/null")
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    terminal
}

/// Two samples, one after the other.
fn two(place: &Place, program: &std::path::Path, teacher: &Endpoint) -> Command {
    let mut command = place.rollout(program, &teacher.url, 2, &json!({}));
    command.args(["--parallel=1", "--slots=1", "--log-level=debug"]);
    command
}

#[tokio::test]
async fn on_a_terminal_there_is_a_bar_that_goes_on_and_the_log_is_for_people() {
    let Some(program) = sandbox_program() else { return };
    let (place, teacher) = (Place::new(), troublesome().await);
    let shown = on_a_terminal(&two(&place, &program, &teacher)).output().await.expect("util-linux has script");
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success(), "{text}");
    let bars: Vec<&str> = text.split(['\r', '\n']).filter(|line| line.contains("rolling out: samples")).collect();
    assert!(bars.iter().any(|bar| bar.contains("1/2") && bar.contains('█')), "{bars:?}\n{text}");
    for said in SAID {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
    let parsed: Vec<&str> = text
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line.trim()).is_ok_and(|line| line.is_object()))
        .collect();
    assert!(parsed.is_empty(), "{parsed:?}");
}

/// The sample that a line is about: by its number, or by its rollout, which is called after it.
fn sample_of(line: &Value) -> Option<u64> {
    line["sample"].as_u64().or_else(|| line["rollout"].as_str()?.split_once('-')?.0.parse().ok())
}

#[tokio::test]
async fn elsewhere_every_line_is_json_and_those_about_a_rollout_say_which_sample_it_is_of() {
    let Some(program) = sandbox_program() else { return };
    let (place, teacher) = (Place::new(), troublesome().await);
    let log = place.finish(two(&place, &program, &teacher)).await.succeeded().log;
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let mut told = BTreeMap::<(u64, &str), usize>::new();
    let mut steps = 0;
    for line in &lines {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "it has no {field}: {line}");
        }
        if line["step"].is_string() {
            steps += 1;
            continue;
        }
        let message = line["message"].as_str().unwrap();
        if let Some(said) = SAID.into_iter().find(|said| message.starts_with(said)) {
            let sample = sample_of(line).unwrap_or_else(|| panic!("whose is it? {line}"));
            *told.entry((sample, said)).or_default() += 1;
        }
    }
    assert!(steps >= 2 && !log.contains('\u{1b}'), "no step tells that it starts and ends: {log}");
    // Each sample has two rollouts.
    let expected = |said: &str| if matches!(said, "started" | "ended") { 2 } else { 1 };
    let expected: BTreeMap<(u64, &str), usize> =
        (0..2).flat_map(|sample| SAID.map(|said| ((sample, said), expected(said)))).collect();
    assert_eq!(told, expected);
}
