//! The program trains, end to end: files in, files out, exit codes and words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod fixture;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output};
use std::time::Duration;

use fixture::{Place, lora, plan, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sera_crds::contract::{FileDigest, ModelManifest, Outcome, StageResult, Termination, TrainingProgress};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn manifest(place: &Place, out: &str) -> ModelManifest {
    serde_json::from_value(place.read_json(&format!("{out}/model/manifest.json"))).unwrap()
}

fn weights(place: &Place, out: &str) -> Vec<u8> {
    std::fs::read(place.path(out).join("model/model.safetensors")).unwrap()
}

fn losses(place: &Place, out: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(place.path(out).join("losses.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["loss"].as_f64().unwrap()).collect()
}

/// The loss over the lines set aside, and after which step it was looked at.
fn evaluations(place: &Place, out: &str) -> Vec<(f64, u64)> {
    let text = std::fs::read_to_string(place.path(out).join("losses.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Some((line["evalLoss"].as_f64()?, line["step"].as_u64()?))).collect()
}

#[test]
fn what_does_not_fit_into_memory_is_refused_before_a_step_with_what_is_needed() {
    let place = Place::new(4);
    for command in ["train", "check"] {
        let output = place.command(command, "out", &plan(&lora(), 2)).args(["--memory", "128Ki"]).output().unwrap();
        assert_eq!(output.status.code(), Some(10), "{}", said(&output));
        assert!(said(&output).contains("and has 0.1 MiB"), "{}", said(&output));
    }
    assert!(!place.path("out").join("losses.jsonl").exists(), "nothing was begun");
}

#[test]
fn a_lora_ends_in_an_adapter_and_a_merged_model_and_run_again_changes_nothing() {
    let place = Place::new(10);
    let plan = plan(&lora(), 4);
    let output = place.run("train", "out", &plan);
    assert!(output.status.success(), "{}", said(&output));
    let Outcome::Succeeded(StageResult::Training {
        manifest: artifact,
        steps,
        loss,
        eval_loss,
        learning_rate,
        warmup_steps,
    }) = Termination::parse(&String::from_utf8(output.stdout).unwrap()).unwrap().outcome
    else {
        panic!("it is no training's result");
    };
    let manifest = manifest(&place, "out");
    assert_eq!((steps, learning_rate, warmup_steps, artifact.path.as_str()), (12, 1e-3, 1, "model/manifest.json"));
    assert_eq!((manifest.loss, manifest.eval_loss, manifest.steps), (loss, eval_loss, 12));
    assert!(manifest.trained_tokens > 0 && eval_loss.unwrap() > 0.0);
    let names =
        |files: &[sera_crds::contract::FileDigest]| files.iter().map(|file| file.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&manifest.adapter), ["adapter_config.json", "adapter_model.safetensors"]);
    assert!(names(&manifest.files).contains(&"model.safetensors".to_owned()));
    assert!(names(&manifest.files).contains(&"generation_config.json".to_owned()));
    let ends = &place.read_json("out/model/generation_config.json")["eos_token_id"];
    assert_eq!(ends, &json!([402]), "what ends a turn ends an answer");

    let curve = losses(&place, "out");
    assert_eq!(curve.len(), 12);
    assert!(curve[11] < curve[0], "{curve:?}");
    let (_, best) = evaluations(&place, "out").into_iter().min_by(|(a, _), (b, _)| a.total_cmp(b)).unwrap();
    assert!(place.path(&format!("out/checkpoints/a1/step-{best:06}")).is_dir(), "the best, of step {best}, is kept");
    assert!(std::fs::read_to_string(place.path("out/loss.svg")).unwrap().contains("evaluation loss"));
    assert!(std::fs::read(place.path("out/loss.png")).unwrap().starts_with(b"\x89PNG"));
    let progress: TrainingProgress = serde_json::from_value(place.read_json("out/progress.json")).unwrap();
    assert_eq!((progress.step, progress.total_steps, progress.checkpoint), (12, 12, Some(12)));

    let before = std::fs::read(place.path("out/model/manifest.json")).unwrap();
    let again = place.run("train", "out", &plan);
    assert!(again.status.success() && said(&again).contains("is there already"), "{}", said(&again));
    assert_eq!(std::fs::read(place.path("out/model/manifest.json")).unwrap(), before);
    let other = place.run("train", "out", &fixture::plan(&lora(), 5));
    assert_eq!(other.status.code(), Some(12), "{}", said(&other));
}

#[test]
fn in_full_the_loss_falls_and_the_weights_are_other_ones() {
    let place = Place::new(8);
    std::fs::write(place.student().join("generation_config.json"), r#"{"eos_token_id": 400, "top_k": 20}"#).unwrap();
    let output = place.run("train", "out", &plan(&json!({"full": {}}), 10));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(place.read_json("out/model/generation_config.json"), json!({"eos_token_id": [400, 402], "top_k": 20}));
    let curve = losses(&place, "out");
    assert!(curve[19] < curve[0] * 0.95, "{curve:?}");
    assert_ne!(weights(&place, "out"), std::fs::read(place.student().join("model.safetensors")).unwrap());
    assert!(manifest(&place, "out").adapter.is_empty() && !place.path("out/adapter").exists());

    let inspect = |json: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sera-trainer"));
        command.arg("inspect").args(json).arg(place.path("out/checkpoints/a1/step-000020")).output().unwrap()
    };
    let output = inspect(&[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("step     20 of 20, by 1 ranks\n"), "{text}");
    assert!(text.contains("{\"step\":20,") && text.contains("\nmodel.layers.1 "), "{text}");
    assert!(text.ends_with("4 units, 11368 values\n"), "{text}");
    let told: Value = serde_json::from_slice(&inspect(&["--json"]).stdout).unwrap();
    assert_eq!((&told["step"], &told["world"], &told["units"]["head"]), (&json!(20), &json!(1), &json!(16)));
    assert_eq!((&told["lastLoss"]["step"], &told["files"][0]["state"]), (&json!(20), &json!("whole")));
    std::fs::write(place.path("out/checkpoints/a1/step-000020/losses.jsonl"), "{}\n").unwrap();
    let output = inspect(&[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(10), "{text}");
    assert!(said(&output).contains("losses.jsonl is damaged: it has 3 bytes"), "{}", said(&output));
    assert!(text.contains("safetensors") && text.contains("  whole\n"), "{text}");
}

/// Ranks of one training, each with what it needs to find the others.
fn ranks(place: &Place, out: &str, plan: &Value, world: usize) -> Vec<Child> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rank = |rank: usize| {
        let mut command = place.command("train", out, plan);
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", world.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string()).spawn().unwrap()
    };
    (0..world).map(rank).collect()
}

/// Waits until a training has done so many steps.
fn until_step(place: &Place, out: &str, step: u64) {
    let path = place.path(out).join("progress.json");
    for _ in 0..6000 {
        let progress: Option<Value> = std::fs::read(&path).ok().and_then(|json| serde_json::from_slice(&json).ok());
        if progress.is_some_and(|progress| progress["step"].as_u64() >= Some(step)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("step {step} was not reached");
}

fn terminate(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
}

#[test]
fn stopped_it_checkpoints_and_goes_on_to_the_same_weights() {
    let place = Place::new(10);
    let plan = plan(&json!({"full": {}}), 16);
    assert!(place.run("train", "undisturbed", &plan).status.success());
    let child = place.command("train", "out", &plan).args(["--eval-every", "1000"]).spawn().unwrap();
    until_step(&place, "out", 1);
    terminate(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", said(&output));
    let attempt = place.path("out/checkpoints/a1");
    assert_eq!(std::fs::read_dir(attempt).unwrap().count(), 1, "the checkpoint is the only one, since none was due");
    let output = place.command("train", "out", &plan).args(["--attempt", "2"]).output().unwrap();
    assert!(output.status.success() && said(&output).contains("goes on"), "{}", said(&output));
    assert_eq!(weights(&place, "out"), weights(&place, "undisturbed"));
    assert_eq!(losses(&place, "out"), losses(&place, "undisturbed"));
}

#[test]
fn two_ranks_train_as_one_does_and_one_goes_on_where_two_were_stopped() {
    let place = Place::new(10);
    let plan = plan(&json!({"full": {}}), 12);
    assert!(place.run("train", "alone", &plan).status.success());
    let children = ranks(&place, "out", &plan, 2);
    until_step(&place, "out", 1);
    // Rank 1 alone is told; both stop after the same step.
    terminate(&children[1]);
    let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert_eq!(output.status.code(), Some(143), "{}", said(output));
    }
    let output = place.run("train", "out", &plan);
    assert!(output.status.success(), "{}", said(&output));
    let gap = losses(&place, "out").iter().zip(losses(&place, "alone")).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(gap < 1e-4, "{gap}");
    assert_eq!(losses(&place, "out").len(), 36);
}

#[test]
fn two_ranks_between_which_gradients_or_weights_are_divided_stop_go_on_and_publish_what_one_does() {
    let place = Place::new(10);
    for (method, sharding) in [(lora(), "ZeRO2"), (json!({"full": {}}), "ZeRO3")] {
        let mut plan = plan(&method, 10);
        let (alone, out) = (format!("{sharding}-alone"), format!("{sharding}-out"));
        assert!(place.run("train", &alone, &plan).status.success());
        plan["sharding"] = sharding.into();
        let children = ranks(&place, &out, &plan, 2);
        until_step(&place, &out, 1);
        terminate(&children[0]);
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(143), "{sharding}: {}", said(&output));
        }
        let children = ranks(&place, &out, &plan, 2).into_iter();
        let outputs: Vec<Output> = children.map(|child| child.wait_with_output().unwrap()).collect();
        assert!(outputs.iter().all(|output| output.status.success()), "{sharding}: {}", said(&outputs[0]));
        assert!(said(&outputs[0]).contains("goes on"), "{sharding}: {}", said(&outputs[0]));
        let far = |(a, b): (f64, f64)| (a - b).abs();
        let gap = losses(&place, &out).into_iter().zip(losses(&place, &alone)).map(far).fold(0.0, f64::max);
        let [published, expected] = [&out, &alone].map(|out| manifest(&place, out));
        assert!(gap < 1e-4 && far((published.eval_loss.unwrap(), expected.eval_loss.unwrap())) < 1e-4, "{gap}");
        assert_eq!((published.steps, published.trained_tokens), (30, expected.trained_tokens));
        let last = place.path(&out).join("checkpoints/a1/step-000030");
        assert!((0..2).all(|rank| last.join(format!("rank-000{rank}-of-0002.safetensors")).is_file()), "{sharding}");
        let names = |of: &ModelManifest| {
            let files = of.files.iter().chain(&of.adapter);
            files.map(|file| (file.name.clone(), file.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(names(&published), names(&expected));
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn while_it_trains_it_says_how_far_it_is() {
    let place = Place::new(10);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = place.command("train", "out", &plan(&lora(), 2000));
    let child = command.args(["--listen", &address]).spawn().unwrap();
    until_step(&place, "out", 1);
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    let answer = get(&address, "/progress");
    let progress: TrainingProgress = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert!(progress.step >= 1 && progress.total_steps == 6000 && progress.loss.unwrap() > 0.0, "{progress:?}");
    let metrics = get(&address, "/metrics");
    assert!(metrics.contains("\nsera_training_total_steps 6000\n"), "{metrics}");
    terminate(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
}

/// What a command says that is refused, its code and its termination message.
fn refusal(mut command: Command, place: &Place) -> (i32, String, Termination) {
    let message = place.path("message");
    // What the command before it has left stays there.
    let output = command.arg("--termination-message").arg(&message).output().unwrap();
    let termination = Termination::parse(&std::fs::read_to_string(message).unwrap()).unwrap();
    (output.status.code().unwrap(), said(&output), termination)
}

#[test]
fn of_several_ranks_with_one_file_for_their_last_words_the_one_that_failed_is_heard_and_gives_the_code() {
    let place = Place::new(6);
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sera-trainer"));
    let train = place.command("train", "out", &plan(&lora(), 2));
    command.args(["launch", "--nproc-per-node", "2", "--"]).args(train.get_args());
    for (name, value) in train.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // Rank 0 alone listens there; to the other it is lost.
    command.args(["--listen", &held.local_addr().unwrap().to_string()]);
    let (code, text, termination) = refusal(command, &place);
    let Outcome::Failed(failure) = termination.outcome else { panic!("{text}") };
    assert_eq!((failure.reason.as_str(), code), ("CannotListen", 10), "{text}");
}

#[test]
fn lines_to_watch_that_are_all_too_long_end_nothing() {
    let place = Place::new(6);
    let eval = place.path("dataset/eval.jsonl");
    let long = std::fs::read_to_string(&eval).unwrap().replace("Fix it.", &"Fix it. ".repeat(2000));
    std::fs::write(eval, long).unwrap();
    let output = place.run("train", "out", &plan(&lora(), 2));
    assert!(output.status.success() && said(&output).contains("no evaluation loss is looked at"), "{}", said(&output));
    assert_eq!(evaluations(&place, "out"), []);
    assert_eq!(manifest(&place, "out").eval_loss, None);
}

/// Gives the dataset a manifest, which names so many lines to watch.
fn write_manifest(place: &Place, eval_lines: u64) {
    let digest = |name: &str| {
        let content = std::fs::read(place.path("dataset").join(name)).unwrap_or_default();
        FileDigest { name: name.to_owned(), bytes: content.len() as u64, sha256: hex::encode(Sha256::digest(content)) }
    };
    let policy =
        json!({"version": 1, "measure": "Recall", "threshold": "0.5", "maxPatchLines": 1, "maxMeanToolTokens": 1});
    let plan = json!({"acceptedTrajectories": 6, "firstRolloutShare": "0.5", "evalFraction": "0.1"});
    let manifest = json!({"version": 1, "train": digest("train.jsonl"), "eval": digest("eval.jsonl"), "trainLines": 6, "evalLines": eval_lines,
        "taken": {}, "eligible": {}, "rejected": {}, "bugKinds": {}, "tokenHistogram": [], "keptHistogram": vec![0; 10], "plan": plan,
        "policy": policy, "rehearsal": false, "verdicts": [], "snapshot": "", "lineage": digest("lineage.jsonl")});
    std::fs::write(place.path("dataset/manifest.json"), manifest.to_string()).unwrap();
}

#[test]
fn lines_to_watch_that_the_manifest_names_and_that_are_not_there_are_missed() {
    let place = Place::new(6);
    write_manifest(&place, 2);
    assert!(place.run("train", "whole", &plan(&lora(), 1)).status.success());
    for left in [Some(""), None] {
        let eval = place.path("dataset/eval.jsonl");
        left.map_or_else(|| std::fs::remove_file(&eval), |content| std::fs::write(&eval, content)).unwrap();
        let output = place.run("train", "out", &plan(&lora(), 1));
        let text = said(&output);
        assert!(output.status.code() == Some(10) && text.contains("eval.jsonl, of which it names 2 lines"), "{text}");
    }
    write_manifest(&place, 0);
    assert!(place.run("train", "out", &plan(&lora(), 1)).status.success(), "none was set aside");
}

#[test]
fn what_is_wrong_is_said_in_a_line_with_a_code_and_nothing_is_lost() {
    let place = Place::new(6);
    let full = json!({"full": {}});
    assert!(place.run("train", "out", &plan(&full, 1)).status.success());
    std::fs::remove_dir_all(place.path("out/model")).unwrap();

    let (code, text, _) = refusal(place.command("train", "out", &plan(&full, 2)), &place);
    assert!(code == 12 && text.contains("is of another plan"), "{code} {text}");
    place.write_lines("train.jsonl", 0..7);
    let (code, text, termination) = refusal(place.command("train", "out", &plan(&full, 1)), &place);
    assert!(code == 12 && text.contains("is of another dataset"), "{code} {text}");
    assert!(matches!(termination.outcome, Outcome::Failed(failure) if failure.reason == "CheckpointOfAnother"));
    place.write_lines("train.jsonl", 0..6);
    let mut lines = std::fs::read_to_string(place.path("dataset/train.jsonl")).unwrap();
    lines.push_str("{\"instance_id\": \"broken-one\", \"messages\": []}\n");
    std::fs::write(place.path("dataset/train.jsonl"), lines).unwrap();
    let (code, text, _) = refusal(place.command("train", "out", &plan(&full, 1)), &place);
    assert!(code == 10 && text.contains("train.jsonl, line 7, instance_id broken-one"), "{code} {text}");
    let (code, text, _) = refusal(place.command("train", "out", &json!({"epoch": 1})), &place);
    assert!(code == 10 && text.contains("`epoch`"), "{code} {text}");

    place.write_lines("train.jsonl", 0..6);
    let output = place.run("train", "out", &plan(&full, 1));
    assert!(output.status.success() && said(&output).contains("goes on"), "{}", said(&output));
}

#[test]
fn a_training_that_was_put_right_begins_anew_and_what_it_had_goes() {
    let place = Place::new(6);
    let full = json!({"full": {}});
    assert!(place.run("train", "out", &plan(&full, 1)).status.success());
    std::fs::remove_dir_all(place.path("out/model")).unwrap();
    let since = |number: &str| {
        let mut command = place.command("train", "out", &plan(&full, 2));
        command.args(["--attempt", "2", "--since-attempt", number]).output().unwrap()
    };
    let refused = since("1");
    assert_eq!(refused.status.code(), Some(12), "{}", said(&refused));
    let output = since("2");
    let words = "step-000002 is passed over: it is of an attempt before attempt 2, and of another plan";
    assert!(output.status.success() && said(&output).contains(words), "{}", said(&output));
    assert_eq!(losses(&place, "out").len(), 4, "it began anew");
    let left = std::fs::read_dir(place.path("out/checkpoints/a1")).unwrap().count();
    assert_eq!(left, 0, "nothing goes on from it, and it takes room");
}

#[test]
fn a_model_that_is_there_is_that_of_its_dataset_and_base_model_and_of_no_other() {
    let place = Place::new(6);
    let plan = plan(&json!({"full": {}}), 1);
    assert!(place.run("train", "out", &plan).status.success());
    let published = || std::fs::read(place.path("out/model/manifest.json")).unwrap();
    let before = published();

    place.write_lines("train.jsonl", 0..7);
    let (code, text, termination) = refusal(place.command("train", "out", &plan), &place);
    assert!(code == 12 && text.contains("model/manifest.json is of another dataset"), "{code} {text}");
    assert!(matches!(termination.outcome, Outcome::Failed(failure) if failure.reason == "ModelOfAnother"));
    place.write_lines("train.jsonl", 0..6);

    let weights = place.student().join("model.safetensors");
    let kept = std::fs::read(&weights).unwrap();
    let mut other = kept.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, other).unwrap();
    let (code, text, _) = refusal(place.command("train", "out", &plan), &place);
    assert!(code == 12 && text.contains("model/manifest.json is of another base model"), "{code} {text}");
    std::fs::write(&weights, kept).unwrap();

    let output = place.run("train", "out", &plan);
    assert!(output.status.success() && said(&output).contains("is there already"), "{}", said(&output));
    assert!(!said(&output).contains("\"begins\"") && published() == before, "nothing is trained again");
}

#[test]
fn a_check_says_what_is_needed_and_shows_what_is_trained() {
    let place = Place::new(6);
    for method in [lora(), json!({"full": {}})] {
        let output = place.run("check", "out", &plan(&method, 3));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", said(&output));
        assert!(text.contains("6 lines to train on, 2 to watch, 0 left out"), "{text}");
        assert!(
            text.contains(
                "⟦<think>\nLook at 0.\n</think>\n\n<tool_call>\n{\"name\": \"bash\"}\n</tool_call><|im_end|>⟧"
            ),
            "{text}"
        );
        assert!(text.contains("<|im_start|>user\nFix it.<|im_end|>"), "{text}");
        assert!(!place.path("out/checkpoints").exists() && !place.path("out/model").exists());
    }
}
