//! The program, as its users run it: one pair, many, and what is wrong with what they give it.

use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::{fed, one_file, verify};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn two_files_give_one_object_with_both_measures() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let first = file("first patch.diff", &one_file("a.py", &["-x", "+y", "+z"]));
    let second = file("second.diff", &one_file("a.py", &["-x", "+  y"]));
    let output = verify(&["--p1", &first, "--p2", &second, "--threshold", "0.5", "--measure", "F1"]).output().unwrap();
    assert_eq!(
        (code(&output), lines(&output)),
        (
            0,
            vec![json!({
                "recall": 1.0 / 3.0, "matched": 1, "total": 3,
                "strict": {"recall": 2.0 / 3.0, "precision": 1.0, "f1": 0.8, "matched": 2, "first": 3, "second": 2},
                "parsed": true, "accepted": true,
            })]
        )
    );
    let output = verify(&["--p1", &first, "--p2", &second, "--threshold", "0.5"]).output().unwrap();
    let [report] = lines(&output).try_into().unwrap();
    assert_eq!((&report["accepted"], &report["refusal"]), (&json!(false), &json!("BelowThreshold")));
    let output = verify(&["--p1", &first, "--p2", "/nonexistent"]).output().unwrap();
    assert_eq!(code(&output), 10);
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent cannot be read"));
}

#[test]
fn a_bad_line_is_named_by_file_and_number_and_costs_no_other_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.jsonl");
    let message = folder.path().join("message");
    std::fs::write(
        &file,
        "{\"id\":\"a\",\"p1\":\"+x\",\"p2\":\"+x\"}\n{\"id\":\n{\"id\":\"b\",\"p1\":\"\",\"p2\":\"+x\"}\n",
    )
    .unwrap();
    let output = verify(&["--pairs", file.to_str().unwrap(), "--termination-message", message.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(code(&output), 10);
    let found: Vec<Value> = lines(&output).iter().map(|line| json!([line["id"], line["recall"]])).collect();
    assert_eq!(found, [json!(["a", 1.0]), json!(["b", null])]);
    let log = String::from_utf8(output.stderr).unwrap();
    let told = log.lines().find(|line| line.contains("is no pair")).unwrap();
    assert!(told.contains(file.to_str().unwrap()) && told.contains("\"line\":2"), "{told}");
    assert!(std::fs::read_to_string(message).unwrap().contains("BadPairs"));
}

#[test]
fn a_reader_that_goes_away_ends_it_and_nothing_hangs() {
    let line = format!("{{\"id\":1,\"p1\":\"{}\",\"p2\":\"\"}}\n", "+x\\n".repeat(100));
    let mut command = verify(&["--pairs", "-"]);
    // A pipe that nobody reads any more.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command.stdin(Stdio::piped()).stdout(writer).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut stdin, line.repeat(10_000).as_bytes()).ok());
        assert_eq!(child.wait().unwrap().code(), Some(11));
    });
}

#[test]
fn threads_change_nothing_but_time() {
    let pairs: String =
        (0..2000).map(|n| format!("{{\"id\":{n},\"p1\":\"+a\\n+{n}\",\"p2\":\"+{}\"}}\n", n % 7)).collect();
    let outputs =
        ["1", "2", "5"].map(|threads| fed(verify(&["--pairs", "-", "--threads", threads]), pairs.as_bytes()).stdout);
    assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2] && !outputs[0].is_empty());
}

#[test]
fn the_command_line_wants_one_thing_at_a_time() {
    for arguments in [
        &[][..],
        &["--p1", "x"],
        &["--p1", "x", "--p2", "y", "--pairs", "z"],
        &["--pairs", "x", "--threads", "0"],
        &["--pairs", "x", "--threshold", "2"],
    ] {
        assert_eq!(code(&verify(arguments).output().unwrap()), 2, "{arguments:?}");
    }
}
