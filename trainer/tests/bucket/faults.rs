//! What is wrong with the server, the line or what is in the bucket: it is tried again, and what does not pass is said with its object, its field and
//! a code.

use std::process::Command;

use sera_crds::contract::FailureClass;
use sera_test_servers::{Cutter, Trouble};
use serde_json::json;

use crate::fixture::{lora, plan, said};
use crate::support::{Training, refusal, succeed, together};

/// A training of a few steps that is stopped after its first checkpoint: the next one has something to go on from.
fn begun(training: &Training) {
    let mut child = training.command("run", "scratch").spawn().unwrap();
    training.until_complete("run", 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn over_a_line_that_is_cut_and_to_a_server_that_is_busy_it_trains_to_the_same_weights() {
    let training = Training::new(10, plan(&lora(), 8));
    training.in_folder("folder", 1);
    training.server.make(Trouble::Busy(5));
    let host = training.server.origin().trim_start_matches("http://").to_owned();
    // Every connection is cut, two of three within some requests; the third has room for the longest object.
    let line = Cutter::to(&host, |number| if number % 3 == 0 { 150_000 } else { 40_000 }).unwrap();
    training.lay_secret("secret", None, Some(&line.origin()));
    succeed(together((0..1).map(|_| training.command("run", "scratch"))));
    training.compare("run", "folder");
    assert!(line.cuts() > 0, "nothing was cut");
}

#[test]
fn an_upload_that_fails_for_good_ends_it_by_the_objects_name_and_what_was_complete_stays() {
    let training = Training::new(12, plan(&lora(), 12));
    training.in_folder("folder", 1);
    begun(&training);
    let before = training.complete("run");
    for (status, words) in [(503, "SlowDown"), (403, "AccessDenied"), (404, "NoSuchBucket")] {
        training.server.make(Trouble::Refuses("checkpoints/".to_owned(), status));
        let (code, text, failure) = refusal(training.command("run", "scratch"), &training.place);
        assert_eq!((code, failure.class), (11, FailureClass::Unavailable), "{text}");
        for part in ["checkpoints/a1/step-", "is tried again", "cannot be put into the store", words] {
            assert!(text.contains(part), "'{part}' is not in: {text}");
        }
        assert!(failure.message.contains("checkpoints/a1/step-"), "{}", failure.message);
        assert_eq!(training.complete("run"), before);
    }
    training.server.make(Trouble::Nothing);
    succeed(together((0..1).map(|_| training.command("run", "scratch"))));
    training.compare("run", "folder");
}

#[test]
fn a_model_that_cannot_be_published_is_published_by_the_next_start() {
    let training = Training::new(4, plan(&lora(), 2));
    training.in_folder("folder", 1);
    training.server.make(Trouble::Refuses("model/".to_owned(), 403));
    let (code, text, _) = refusal(training.command("run", "scratch"), &training.place);
    assert!(code == 11 && text.contains("model/") && text.contains("cannot be put"), "{code} {text}");
    assert!(!training.objects("run").join("model/manifest.json").exists());
    training.server.make(Trouble::Nothing);
    succeed(together((0..1).map(|_| training.command("run", "elsewhere"))));
    training.compare("run", "folder");
}

#[test]
fn what_is_damaged_or_missing_is_passed_over_by_its_name() {
    let training = Training::new(12, plan(&lora(), 12));
    begun(&training);
    let step = *training.complete("run").last().unwrap();
    let folder = training.objects("run").join(format!("checkpoints/a1/step-{step:06}"));
    let part = folder.join("rank-0000-of-0001.safetensors");
    let mut content = std::fs::read(&part).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(&part, content).unwrap();
    let output = training.command("run", "scratch").output().unwrap();
    let expected = format!("checkpoints/a1/step-{step:06}/rank-0000-of-0001.safetensors is damaged: it has");
    assert!(output.status.success() && said(&output).contains(&expected), "{}", said(&output));

    std::fs::remove_dir_all(training.objects("run").join("model")).unwrap();
    std::fs::remove_file(training.objects("run").join("checkpoints/a1/step-000036/losses.jsonl")).unwrap();
    let output = training.command("run", "scratch").output().unwrap();
    let expected = "step-000036/losses.jsonl is damaged: it is not there";
    assert!(output.status.success() && said(&output).contains(expected), "{}", said(&output));
}

#[test]
fn what_is_wrong_with_a_bucket_or_a_student_is_said_by_its_field_before_anything_is_begun() {
    let training = Training::new(4, plan(&lora(), 1));
    let student = |mut command: Command, uri: &str| {
        command.args(["--student", uri]).arg("--student-credentials").arg(training.place.path("secret"));
        command
    };
    let mut denied = training.command("run", "scratch");
    denied.arg("--store-credentials").arg(training.lay_secret(
        "wrong",
        Some(("AWS_SECRET_ACCESS_KEY", "hunter2-wrong")),
        None,
    ));
    let missing = student(training.command("run", "scratch"), &training.server.uri("students/none"));
    std::fs::create_dir_all(training.server.bucket().join("students/huge")).unwrap();
    let huge = std::fs::File::create(training.server.bucket().join("students/huge/model.safetensors")).unwrap();
    huge.set_len(1 << 43).unwrap();
    let too_large = student(training.command("run", "scratch"), &training.server.uri("students/huge"));
    let nowhere = student(training.command("run", "scratch"), "s3://");
    training.server.make(Trouble::Refuses("no-such-bucket".to_owned(), 404));
    let mut unknown = training.command("run", "scratch");
    unknown.args(["--out", "s3://no-such-bucket/run"]);
    for (command, code, reason, field, words) in [
        (denied, 10, "StoreAccessDenied", Some("spec.output.credentialsSecretRef"), "check the keys"),
        (missing, 10, "NothingToFetch", Some("spec.training.student"), "there is no model in s3://sera/students/none"),
        (too_large, 11, "ScratchTooSmall", None, "needs 8192.06 GiB in"),
        (nowhere, 10, "InvalidStore", Some("spec.training.student"), "the bucket is missing"),
        (unknown, 10, "StoreNotFound", Some("spec.output.store"), "does not exist"),
    ] {
        let (found, text, failure) = refusal(command, &training.place);
        assert_eq!((found, failure.reason.as_str(), failure.field.as_deref()), (code, reason, field), "{text}");
        assert!(failure.message.contains(words), "'{words}' is not in: {}", failure.message);
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(!training.objects("run").join("checkpoints").exists());
}

#[test]
fn a_checkpoint_or_a_model_of_another_plan_is_refused_and_not_touched_unless_it_was_put_right() {
    let training = Training::new(6, plan(&lora(), 1));
    succeed(together((0..1).map(|_| training.command("run", "scratch"))));
    let other = |model: bool| {
        let mut command = training.command("run", "scratch");
        command.env("SERA_TRAINING", plan(&json!({"full": {}}), 1).to_string());
        if !model {
            std::fs::remove_dir_all(training.objects("run").join("model")).unwrap();
        }
        refusal(command, &training.place)
    };
    let (code, text, failure) = other(true);
    assert!(code == 12 && text.contains("s3://sera/runs/run/model/manifest.json is of another plan"), "{text}");
    assert_eq!(failure.class, FailureClass::Conflict);
    let (code, text, _) = other(false);
    assert!(code == 12 && text.contains("is of another plan"), "{code} {text}");
    assert_eq!(training.complete("run").last(), Some(&2));

    let mut corrected = training.command("run", "scratch");
    corrected.env("SERA_TRAINING", plan(&json!({"full": {}}), 1).to_string());
    corrected.args(["--attempt", "2", "--since-attempt", "2"]);
    let output = corrected.output().unwrap();
    let words = "checkpoints/a1/step-000002 is passed over: it is of an attempt before attempt 2, and of another plan";
    assert!(output.status.success() && said(&output).contains(words), "{}", said(&output));
    assert_eq!(training.complete("run"), [1, 2], "both are the second attempt's");
}
