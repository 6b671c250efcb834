//! What a rehearsal leaves says that it is one, whoever has said so; and what a model leaves does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::endpoint::{Endpoint, Reply, Then, answer};
use crate::support::{Place, about, good_message, sandbox_program, teacher};

/// The call in the midst of the first rollout that gets no answer: a process is stopped there, and what it spent is in a document of its own.
const HANGS: usize = 3;

/// A teacher that thinks in words of its own each time, so that none of its work is a duplicate; its answers say that it is a rehearsal, or do not.
async fn saying(rehearsal: bool) -> Endpoint {
    let hung = AtomicBool::new(false);
    teacher(move |call, request| {
        if call == HANGS && !hung.swap(true, Ordering::SeqCst) {
            return Some(Reply::Raw(Vec::new(), Then::Hang));
        }
        let about = about(request);
        let mut message = good_message(about);
        message["reasoning_content"] = (0..40).map(|n| format!("{about:?}w{n} ")).collect::<String>().into();
        let answer = answer(&message);
        let headers = "content-type: application/json\r\nx-sera-rehearsal: true\r\n";
        Some(if rehearsal { Reply::Status(200, headers, answer.to_string()) } else { Reply::Json(answer) })
    })
    .await
}

/// A sample, in a process that is stopped and another one, its verdict, and the lines that are made of it.
async fn all_stages(place: &Place, program: &Path, teacher: &Endpoint, more: &[&str]) {
    let rollout = || {
        let mut command = place.command("rollout", program, &json!({"sandbox": {"landlock": "BestEffort"}}));
        command.args(["--batch=b1", "--count=1", "--teacher-model=some-model"]).args(more);
        command.arg(format!("--teacher-url={}", teacher.url));
        command
    };
    let stopped = rollout().spawn().unwrap();
    while teacher.calls() <= HANGS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kill(Pid::from_raw(i32::try_from(stopped.id().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(stopped.wait_with_output().await.unwrap().status.code(), Some(143));
    place.finish(rollout()).await.succeeded();

    let student = concat!(env!("CARGO_MANIFEST_DIR"), "/../../trainer/chat/tests/tiny");
    let lines = json!({"toolCallFormat": "Hermes", "contextLength": 100_000, "minKeptRatio": "0.88"});
    for (stage, more) in [("verify", &["--batch=b1", "--first=0", "--count=1"][..]), ("dataset", &["--fewer"])] {
        let mut command = place.stage(stage);
        command.args(more).args(["--student", student]);
        command.arg("--termination-message").arg(place.path("termination"));
        command.env("SERA_VERIFICATION", json!({"maxMeanToolTokens": 100_000, "student": lines}).to_string());
        let plan = json!({"acceptedTrajectories": 2, "firstRolloutShare": "0.5", "evalFraction": "0"});
        command.env("SERA_DATASET", plan.to_string()).stdout(Stdio::null()).stderr(Stdio::piped());
        place.finish(command).await.succeeded();
    }
}

/// Every document of JSON in a folder, by its name: a file, or each line of one.
fn documents(folder: &Path) -> BTreeMap<String, Vec<Value>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        let mut content = std::fs::read(&path).unwrap();
        let plain = name.strip_suffix(".zst");
        if plain.is_some() {
            content = zstd::decode_all(&content[..]).unwrap();
        }
        let name = plain.unwrap_or(&name);
        if Path::new(name).extension().is_some_and(|extension| extension == "json" || extension == "jsonl") {
            let documents = serde_json::Deserializer::from_slice(&content).into_iter();
            found.insert(name.to_owned(), documents.map(Result::unwrap).collect());
        }
    }
    found
}

/// Whether a document says, in a field of its own or of its teacher, that it is a rehearsal's.
fn says_rehearsal(document: &Value) -> bool {
    [&document["rehearsal"], &document["teacher"]["rehearsal"]].contains(&&Value::Bool(true))
}

#[tokio::test]
async fn every_document_of_a_rehearsal_says_so_and_none_of_a_models() {
    let Some(program) = sandbox_program() else { return };
    for (answers, arguments, rehearsal) in
        [(true, &[][..], true), (false, &["--rehearsal"][..], true), (false, &[], false)]
    {
        let place = Place::new();
        all_stages(&place, &program, &saying(answers).await, arguments).await;
        let store = documents(&place.path("store"));
        // What the teacher had no part in, and what is in the form that others read: lineage.jsonl has a line for each of theirs.
        let others = |name: &str| {
            name.starts_with("snapshot/")
                || ["train.jsonl", "eval.jsonl"].iter().any(|file| name == format!("dataset/{file}"))
        };
        let ours: BTreeMap<_, _> = store.iter().filter(|(name, _)| !others(name)).collect();
        for (name, documents) in &ours {
            assert!(documents.iter().all(|document| says_rehearsal(document) == rehearsal), "{name}: {documents:?}");
        }
        let named =
            |end: &str| ours.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, all)| all.len()).sum::<usize>();
        // Of each rollout the record and the conversation; what the stopped process spent; the verdict; two lines.
        let kinds = ["t1.json", "t2.json", "pr.json", "outcome.json", "spent.json", "manifest.json", "lineage.jsonl"];
        assert_eq!(kinds.map(named), [2, 2, 1, 1, 1, 1, 2], "{:?}", ours.keys());
        assert_eq!(ours.keys().filter(|name| name.starts_with("verified/")).count(), 1);
        assert_eq!(ours.len(), 4 + 3 + 2 + 1, "{:?}", ours.keys());
    }
}
