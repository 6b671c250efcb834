//! A bucket as the store: the same rollouts, verdicts and dataset as in a folder, to the byte, and nothing of it is made again.

use std::collections::BTreeMap;
use std::path::Path;

use sera_crds::contract::{DatasetManifest, Outcome, StageResult, Termination};
use sera_test_servers::{Conduct, S3Server};
use serde_json::{Value, json};

use crate::endpoint::{Endpoint, Reply, answer, call};
use crate::support::{About, Place, RIGHT, WRONG, about, function, good_message, sandbox_program, text_about};

const SAMPLES: u32 = 4;
const STUDENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../trainer/chat/tests/tiny");

/// A teacher that changes the very function that it is told of, and thinks in words that no other rollout has: nothing is a duplicate.
async fn teacher() -> Endpoint {
    Endpoint::start(|_, request| Reply::Json(answer(&message(&request)))).await
}

fn message(request: &Value) -> Value {
    let (name, what) = (function(request), about(request));
    let mut message = match what {
        About::PullRequest => return text_about(&name),
        About::Review => return good_message(what),
        About::First(1) | About::Second(1) if name == "Next" => change(WRONG, RIGHT),
        About::First(1) | About::Second(1) => {
            let old = format!("func {name}(n int) int {{\n\treturn n\n");
            change(&old, &old.replace("return n", &format!("return n + {}", name.len())))
        }
        turn => good_message(turn),
    };
    let words: Vec<String> = (0..40).map(|word| format!("{name}{what:?}w{word}")).collect();
    message["reasoning_content"] = words.join(" ").into();
    message
}

fn change(old: &str, new: &str) -> Value {
    let path = "/testbed/src/ring.go";
    call("str_replace_editor", &json!({"command": "str_replace", "path": path, "old_str": old, "new_str": new}))
}

/// What a stage that needs no teacher says of its success.
async fn stage(place: &Place, stage: &str, arguments: &[&str]) -> StageResult {
    let verification = json!({
        "maxMeanToolTokens": 100_000,
        "student": {"toolCallFormat": "Hermes", "contextLength": 100_000, "minKeptRatio": "0.88"},
    });
    let dataset = json!({"acceptedTrajectories": 4, "firstRolloutShare": "0.5", "evalFraction": "0.25"});
    let mut command = place.stage(stage);
    command.args(arguments).arg(format!("--student={STUDENT}")).arg("--scratch").arg(place.path("scratch"));
    command.env("SERA_VERIFICATION", verification.to_string()).env("SERA_DATASET", dataset.to_string());
    let output = command.output().await.unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let termination = Termination::parse(&stdout)
        .unwrap_or_else(|error| panic!("{stage}: {error}: {stdout}{}", String::from_utf8_lossy(&output.stderr)));
    let Outcome::Succeeded(result) = termination.outcome else { panic!("{stage}: {stdout}") };
    result
}

/// Rollouts, verdicts and a dataset, and what the last two said.
async fn go_through(place: &Place, program: &Path, teacher: &Endpoint) -> [StageResult; 2] {
    let mut command = place.rollout(program, &teacher.url, SAMPLES, &json!({}));
    command.arg("--folder=pod");
    place.finish(command).await.succeeded();
    let samples = format!("--count={SAMPLES}");
    [
        stage(place, "verify", &["--batch=b1", "--first=0", &samples]).await,
        stage(place, "dataset", &["--batches=b1", "--fewer"]).await,
    ]
}

/// Every file below a folder, by its name there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(&below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[tokio::test]
async fn rollouts_verdicts_and_the_dataset_in_a_bucket_are_those_in_a_folder_and_are_found_again() {
    let Some(program) = sandbox_program() else { return };
    let names = ["Previous", "First", "Last"].map(str::to_owned);
    let server = S3Server::start(Conduct::OneAtATime, false).unwrap();
    let folder = Place::with_functions(&names);
    let bucket = Place::in_bucket(&server, &folder);
    let teacher = teacher().await;
    let expected = go_through(&folder, &program, &teacher).await;
    let calls = teacher.calls();
    assert_eq!(go_through(&bucket, &program, &teacher).await, expected);
    assert_eq!(teacher.calls(), 2 * calls);

    let (here, there) = (files(&folder.stored("")), files(&bucket.stored("")));
    assert_eq!(here.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
    let differ: Vec<&String> = here.keys().filter(|name| here[*name] != there[*name]).collect();
    assert!(differ.is_empty(), "{differ:?}");
    let manifest: DatasetManifest = serde_json::from_slice(&there["dataset/manifest.json"]).unwrap();
    let taken: Vec<u64> = manifest.taken.values().copied().collect();
    assert!(taken.len() == 2 && taken.iter().all(|lines| *lines > 0), "{manifest:?}");
    assert!(there.keys().any(|name| name.starts_with("verified/b1/")) && there.contains_key("dataset/lineage.jsonl"));

    assert_eq!(go_through(&bucket, &program, &teacher).await, expected);
    assert_eq!((teacher.calls(), files(&bucket.stored(""))), (2 * calls, there), "nothing is made twice");
}
