//! Trainings that nothing happens to but a good end, a stop, or another number of ranks.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sera_crds::contract::ModelManifest;
use sera_test_servers::Trouble;
use serde_json::json;

use crate::fixture::{lora, plan, said};
use crate::support::{Training, ends, succeed, terminate, together};

/// Long enough that a checkpoint arrives before the end.
const EPOCHS: u32 = 600;
/// Three a pass over ten lines, four a step.
const STEPS: usize = 1_800;

/// Puts the student and the dataset into the bucket, beside the run.
fn upload_inputs(training: &Training, name: &str) {
    for (from, to) in [
        (training.place.student(), training.server.bucket().join("students/small")),
        (training.place.path("dataset"), training.objects(name).join("dataset")),
    ] {
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn two_ranks_without_a_common_folder_train_to_the_folders_weights_to_the_bit() {
    let training = Training::new(10, plan(&lora(), 4));
    training.in_folder("folder", 2);
    upload_inputs(&training, "run");
    let rank = |number: usize| {
        let mut command = training.command("run", &format!("scratch-{number}"));
        command.args(["--student", &training.server.uri("students/small")]);
        command.arg("--student-credentials").arg(training.place.path("secret"));
        command.args(["--dataset", &training.server.uri("runs/run/dataset")]);
        command
    };
    succeed(together((0..2).map(rank)));
    training.compare("run", "folder");
    let manifest = |root: PathBuf| {
        let text = std::fs::read(root.join("model/manifest.json")).unwrap();
        // An adapter's configuration names the model that it belongs to, which lies elsewhere.
        let mut manifest: ModelManifest = serde_json::from_slice(&text).unwrap();
        manifest.adapter.retain(|file| file.name != "adapter_config.json");
        manifest
    };
    assert_eq!(manifest(training.objects("run")), manifest(training.place.path("folder")));
    let steps = training.complete("run");
    assert!(steps.len() <= 4 && steps.last() == Some(&12), "{steps:?}");
    for file in ["loss.svg", "loss.png", "progress.json", "model/tokenizer.json", "adapter/adapter_config.json"] {
        assert!(training.objects("run").join(file).exists(), "{file} is not there");
    }
    let adapter = std::fs::read_to_string(training.objects("run").join("adapter/adapter_config.json")).unwrap();
    assert!(adapter.contains("s3://sera/students/small"), "{adapter}");

    let again = training.command("run", "elsewhere").output().unwrap();
    assert!(again.status.success() && said(&again).contains("is there already"), "{}", said(&again));
}

#[test]
fn a_stop_waits_for_the_checkpoint_to_arrive_and_another_machine_goes_on_from_it_with_other_ranks() {
    let training = Training::new(10, plan(&json!({"full": {}}), EPOCHS));
    training.server.make(Trouble::Slow(Duration::from_millis(150)));
    let children = together((0..2).map(|number| training.command("run", &format!("scratch-{number}"))));
    training.until_complete("run", 1);
    terminate(&children[1]);
    let outputs = ends(children);
    let stopped_at = *training.complete("run").last().unwrap();
    for output in &outputs {
        assert_eq!(output.status.code(), Some(143), "{}", said(output));
        assert!(said(output).contains(&format!("stopped after step {stopped_at} of {STEPS}")), "{}", said(output));
    }

    training.server.make(Trouble::Nothing);
    let output = training.command("run", "elsewhere").args(["--attempt", "2"]).output().unwrap();
    let goes_on = format!("\"step\":{stopped_at},\"from\":\"s3://sera/runs/run/checkpoints/a1/step-");
    assert!(output.status.success() && said(&output).contains(&goes_on), "{}", said(&output));
    let lines = std::fs::read_to_string(training.objects("run").join("losses.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), STEPS);
}

#[test]
fn a_model_in_a_bucket_answers_as_the_one_in_a_folder_does() {
    let training = Training::new(4, plan(&json!({"full": {}}), 1));
    upload_inputs(&training, "run");
    let generate = |model: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sera-trainer"));
        command.args(["generate", "--model", model, "--prompt", "Fix it.", "--ids", "--max-tokens", "8"]);
        command.arg("--store-credentials").arg(training.place.path("secret"));
        let output = command.arg("--scratch").arg(training.place.path("scratch")).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    assert_eq!(generate(&training.server.uri("students/small")), generate(training.place.student().to_str().unwrap()));
}
