//! The rollouts of a store, verified as the operator does it: which trajectory is rejected for what, and what a second look, another policy, another
//! process or a kill at any moment changes.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Instant;

use sera_crds::contract::{
    Outcome, Policy, Rejection, RolloutKind, RolloutOutcome, StageResult, Termination, Verdict, VerificationCounts,
};
use tempfile::TempDir;

use crate::rollouts::{Finished, Rollouts};
use crate::support::{one_file, verify};

const BATCH: &str = "billing-agent-0";

/// How often the program is killed.
const KILLS: u32 = 8;

fn place() -> (TempDir, Rollouts) {
    let folder = tempfile::Builder::new().prefix("a %20 place ").tempdir().unwrap();
    let rollouts = Rollouts::at(&folder.path().join("store"));
    (folder, rollouts)
}

/// A patch of some lines of its own.
fn patch(name: &str, lines: usize) -> String {
    let lines: Vec<String> = (0..lines).map(|n| format!("+{name} = {n}")).collect();
    one_file("src/billing.py", &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn command(store: &Rollouts, arguments: &[&str]) -> Command {
    let mut command = verify(&["--store", &store.uri()]);
    command.args(arguments).env_remove("SERA_VERIFICATION");
    command
}

fn samples(first: u64, count: u64) -> [String; 3] {
    [format!("--batch={BATCH}"), format!("--first={first}"), format!("--count={count}")]
}

fn run(store: &Rollouts, range: (u64, u64), more: &[&str]) -> Output {
    let samples = samples(range.0, range.1);
    let mut arguments: Vec<&str> = samples.iter().map(String::as_str).collect();
    arguments.extend(more);
    command(store, &arguments).output().unwrap()
}

/// The path of the verdicts, the policy and the counts that a run reports.
fn reported(output: &Output) -> (String, String, VerificationCounts) {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let message = Termination::parse(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    let Outcome::Succeeded(StageResult::Verification { verdicts, policy, counts }) = message.outcome else {
        panic!("{stdout}")
    };
    (verdicts.path, policy, counts)
}

fn verdicts(store: &Rollouts, path: &str) -> Vec<Verdict> {
    let lines = std::fs::read_to_string(store.path(path)).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A patch of one line of a file.
fn change(file: &str, line: u64) -> String {
    format!("diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n@@ -{line} +{line} @@\n-old\n+new\n")
}

#[expect(clippy::many_single_char_names, reason = "a patch each, and nothing more to say of it")]
/// Samples 10 to 21, one for each thing that can become of a sample.
fn one_of_each(store: &Rollouts) {
    let [a, b, c, d, e, f, g, h] = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| patch(name, 2));
    let half = patch("c", 1);
    let long = patch("long", 41);
    let (file, line) = &store.snapshot()[0];
    let held_out = change(file, line + 1);
    let limit = Finished { outcome: RolloutOutcome::StepLimit, ..Finished::submitted(&b) };
    let refused = Finished { outcome: RolloutOutcome::RefusedByReview, ..Finished::submitted(&d) };
    let empty = Finished { outcome: RolloutOutcome::EmptyPatch, ..Finished::submitted("") };
    let wordy = "word ".repeat(20_000);
    let wordy = Finished { observation: &wordy, ..Finished::submitted(&h) };
    let submitted = |patch| Finished::submitted(patch);
    store.sample(BATCH, 10, &submitted(&a), &submitted(&a));
    store.sample(BATCH, 11, &limit, &submitted(&b));
    store.sample(BATCH, 12, &submitted(&c), &submitted(&half));
    store.sample(BATCH, 13, &submitted(&d), &submitted(&e));
    store.sample(BATCH, 14, &submitted(&a), &submitted(&f));
    store.sample(BATCH, 15, &submitted(&long), &submitted(&long));
    store.rollout(BATCH, 16, RolloutKind::First, &refused);
    store.end(BATCH, 16, RolloutOutcome::RefusedByReview, None);
    // Sample 17 left nothing.
    store.sample(BATCH, 18, &submitted(&held_out), &submitted(&held_out));
    store.sample(BATCH, 19, &submitted(&f), &empty);
    store.sample(BATCH, 20, &submitted(&g), &submitted(&g));
    std::fs::write(store.path(&format!("rollouts/{BATCH}/20/pod-20/p2.diff")), "something else").unwrap();
    store.sample(BATCH, 21, &wordy, &wordy);
}

#[test]
fn every_trajectory_is_accepted_or_rejected_for_the_first_reason_that_applies() {
    use Rejection::*;
    let (_folder, store) = place();
    one_of_each(&store);
    let output = run(&store, (10, 12), &[]);
    let (path, policy, counts) = reported(&output);
    let found: Vec<_> = verdicts(&store, &path)
        .iter()
        .map(|verdict| (verdict.sample, verdict.first.rejected, verdict.second.rejected))
        .collect();
    assert_eq!(
        found,
        [
            (10, None, None),
            (11, Some(NotSubmitted), None),
            (12, None, None),
            (13, None, Some(BelowThreshold)),
            (14, Some(DuplicatePatch), Some(BelowThreshold)),
            (15, Some(PatchTooLong), Some(PatchTooLong)),
            (16, Some(RefusedByReview), Some(Missing)),
            (17, Some(Missing), Some(Missing)),
            (18, Some(HeldOut), Some(HeldOut)),
            (19, None, Some(EmptyPatch)),
            (20, None, Some(Missing)),
            (21, Some(ToolOutputTooLong), Some(ToolOutputTooLong)),
        ]
    );
    assert_eq!(path, format!("verified/{BATCH}/{policy}.jsonl"));
    let rejected = [
        ("BelowThreshold", 2),
        ("DuplicatePatch", 1),
        ("EmptyPatch", 1),
        ("HeldOut", 2),
        ("Missing", 4),
        ("NotSubmitted", 1),
        ("PatchTooLong", 2),
        ("RefusedByReview", 1),
        ("ToolOutputTooLong", 2),
    ];
    assert_eq!(counts.rejected, BTreeMap::from(rejected.map(|(why, count)| (why.to_owned(), count))));
    assert_eq!((counts.attempted, counts.accepted_first, counts.accepted_second, counts.leaks), (12, 5, 3, 1));
    // 16, 17, 19 and 20 have no pair to measure; 12 is a half, 13 and 14 are nothing.
    assert_eq!(counts.recall_histogram, [2, 0, 0, 0, 0, 1, 0, 0, 0, 5]);
    assert_eq!((counts.recall_millionths, counts.usage.calls), (5_500_000, 110));
    // The half's text gives a line away: five of the other seven were found.
    assert_eq!((counts.leaked, counts.leaked_millionths), (1, 500_000));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains(r#""recall_without_leaks":"0.714""#) && log.contains(r#""leak_rate":"0.125""#), "{log}");
}

#[test]
fn of_ten_patches_that_touch_what_was_set_aside_ten_are_rejected() {
    let (_folder, store) = place();
    let held_out = store.snapshot();
    assert!(held_out.len() >= 5, "{held_out:?}");
    for (sample, (file, line)) in (0..10).zip(held_out.iter().cycle()) {
        let elsewhere = one_file("README.md", &["+more"]);
        let touching = elsewhere + &change(file, line + sample % 3);
        store.sample(BATCH, sample, &Finished::submitted(&touching), &Finished::submitted(&touching));
    }
    let beside = one_file("README.md", &["+more"]);
    store.sample(BATCH, 10, &Finished::submitted(&beside), &Finished::submitted(&beside));
    let (_, _, counts) = reported(&run(&store, (0, 11), &[]));
    assert_eq!((counts.rejected["HeldOut"], counts.accepted_first, counts.accepted_second), (20, 1, 1));
}

#[test]
fn verdicts_say_what_they_are_made_from() {
    let (_folder, store) = place();
    one_of_each(&store);
    let (path, ..) = reported(&run(&store, (10, 12), &[]));
    let verdicts = verdicts(&store, &path);
    let half = &verdicts[2];
    let recall = half.measures.as_ref().unwrap().recall.unwrap();
    assert_eq!((recall.matched, recall.total), (1, 2));
    assert_eq!((half.first.patch_lines, half.second.patch_lines), (Some(2), Some(1)));
    assert_eq!(half.function.as_ref().unwrap().name, "f12");
    assert!(
        half.leaks
            && half.bug_kind.is_some()
            && half.first.patch_sha256.is_some()
            && half.first.mean_tool_tokens.is_some()
    );
    let nothing = &verdicts[7];
    assert!(nothing.function.is_none() && nothing.measures.is_none() && nothing.usage.calls == 0);
}

#[test]
fn a_second_look_finds_the_same_verdicts_and_touches_nothing() {
    let (_folder, store) = place();
    one_of_each(&store);
    let first = reported(&run(&store, (10, 12), &[]));
    let bytes = std::fs::read(store.path(&first.0)).unwrap();
    // What a late pod or a mistake may do to the rollouts makes no difference any more.
    std::fs::remove_dir_all(store.path("rollouts")).unwrap();
    assert_eq!(reported(&run(&store, (10, 12), &[])), first);
    assert_eq!(std::fs::read(store.path(&first.0)).unwrap(), bytes);
    let other = run(&store, (10, 11), &[]);
    assert_eq!(other.status.code(), Some(12), "those are not the samples that were asked for");
}

#[test]
fn another_policy_gives_another_file_and_leaves_the_first_as_it_is() {
    let (folder, store) = place();
    one_of_each(&store);
    let (half, _, counts) = reported(&run(&store, (10, 12), &[]));
    let bytes = std::fs::read(store.path(&half)).unwrap();
    let (more, _, stricter) = reported(&run(&store, (10, 12), &["--threshold", "0.500000001"]));
    assert_ne!(more, half);
    assert_eq!((counts.accepted_second, stricter.accepted_second), (3, 2));
    assert_eq!(stricter.recall_histogram, counts.recall_histogram);
    assert_eq!(std::fs::read(store.path(&half)).unwrap(), bytes);
    assert_eq!(store.verdicts(BATCH).len(), 2);

    let settings = folder.path().join("policy.yaml");
    std::fs::write(&settings, "threshold: '0.50'\nmaxPatchLines: 40\n").unwrap();
    let (same, ..) = reported(&run(&store, (10, 12), &["--settings", settings.to_str().unwrap()]));
    assert_eq!(same, half, "the same numbers are the same policy");
    std::fs::write(&settings, "maxPatchLines: 41\nmeasure: F1\n").unwrap();
    let (path, _, longer) = reported(&run(&store, (10, 12), &["--settings", settings.to_str().unwrap()]));
    assert!(path != half && longer.accepted_first == 6 && !longer.rejected.contains_key("PatchTooLong"));
    assert_eq!(store.verdicts(BATCH).len(), 3);
}

#[test]
fn the_policy_s_name_is_the_digest_of_its_json() {
    use sha2::Digest;
    let (_folder, store) = place();
    one_of_each(&store);
    let (_, name, _) = reported(&run(&store, (10, 12), &[]));
    let json = r#"{"version":1,"measure":"Recall","threshold":"0.5","maxPatchLines":40,"maxMeanToolTokens":600}"#;
    assert_eq!(name, hex::encode(sha2::Sha256::digest(json)));
    assert!(serde_json::from_str::<Policy>(json).is_ok());
}

#[test]
fn a_student_s_tokens_decide_where_there_is_a_student() {
    let (_folder, store) = place();
    one_of_each(&store);
    let student = concat!(env!("CARGO_MANIFEST_DIR"), "/../../trainer/chat/tests/tiny");
    let settings = |length: u32| {
        format!(
            r#"{{"maxMeanToolTokens":100000,"student":{{"toolCallFormat":"Hermes","contextLength":{length},"minKeptRatio":"0.88"}}}}"#
        )
    };
    let run = |length, student: Option<&str>| {
        let samples = samples(10, 3);
        let mut command = command(&store, &samples.each_ref().map(String::as_str));
        command.env("SERA_VERIFICATION", settings(length)).args(student.map(|folder| format!("--student={folder}")));
        command.output().unwrap()
    };
    let (path, _, fits) = reported(&run(100_000, Some(student)));
    assert_eq!((fits.accepted_first, fits.accepted_second), (2, 3));
    let verdict = &verdicts(&store, &path)[0];
    let (kept, all) = verdict.first.kept.unwrap();
    assert!(kept == all && verdict.first.tokens.unwrap() > 10);
    let (_, _, short) = reported(&run(64, Some(student)));
    assert_eq!((short.accepted_first, short.rejected["TooLong"]), (0, 5));
    let without = run(64, None);
    assert_eq!(without.status.code(), Some(10), "the settings ask for a student that is not there");
}

#[test]
fn all_batches_are_verified_together_and_each_keeps_its_own_file() {
    let (_folder, store) = place();
    one_of_each(&store);
    let late = patch("late", 3);
    store.sample("billing-agent-1", 40, &Finished::submitted(&late), &Finished::submitted(&late));
    // The first batch was verified before, and so it is known that sample 17 belongs to it.
    reported(&run(&store, (10, 12), &[]));
    let output = command(&store, &["--batches=all", "--threshold=1"]).output().unwrap();
    let (path, policy, counts) = reported(&output);
    assert_eq!((path.as_str(), counts.attempted), ("verified", 13));
    assert_eq!(store.verdicts("billing-agent-1").len(), 1);
    assert!(store.path(&format!("verified/{BATCH}/{policy}.jsonl")).exists());
    assert_eq!(reported(&command(&store, &["--batches=all", "--threshold=1"]).output().unwrap()).2, counts);
}

#[test]
fn of_the_batches_that_a_range_names_none_is_left_out_and_one_that_is_still_at_work_is_not_looked_at() {
    let (_folder, store) = place();
    for (batch, sample) in (1..13).zip(1..) {
        let patch = patch(&format!("v{batch}"), 3);
        store.sample(&format!("billing-{batch}"), sample, &Finished::submitted(&patch), &Finished::submitted(&patch));
    }
    let (_, _, counts) = reported(&command(&store, &["--batches=billing-1..10,billing-12"]).output().unwrap());
    assert_eq!((counts.attempted, counts.accepted_second), (11, 11));
    let has_none = |batch: &u32| store.verdicts(&format!("billing-{batch}")).is_empty();
    assert_eq!((1..13).filter(has_none).collect::<Vec<_>>(), [11]);
    let output = command(&store, &["--batches=billing-10..1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("'billing-10..1' names no batches"));
}

/// Enough samples that a run takes a while.
fn many(store: &Rollouts) {
    for sample in 0..300 {
        let patch = patch(&format!("v{sample}"), 1 + usize::try_from(sample % 7).unwrap());
        store.sample(BATCH, sample, &Finished::submitted(&patch), &Finished::submitted(&patch));
    }
}

#[test]
fn killed_at_any_moment_and_run_again_it_ends_as_if_nothing_had_happened() {
    let ((_one, undisturbed), (_other, disturbed)) = (place(), place());
    many(&undisturbed);
    many(&disturbed);
    let begun = Instant::now();
    let expected = reported(&run(&undisturbed, (0, 300), &[]));
    let usual = begun.elapsed();
    let mut killed = 0;
    for n in 0..KILLS {
        let samples = samples(0, 300);
        let mut child = command(&disturbed, &samples.each_ref().map(String::as_str)).spawn().unwrap();
        std::thread::sleep(usual * (2 * n + 1) / (2 * KILLS));
        let _ = child.kill();
        killed += u32::from(!child.wait().unwrap().success());
        let files = disturbed.verdicts(BATCH);
        // Whole or not at all; what a killed write leaves beside it has another name, and counts for nothing.
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "jsonl")) {
            assert_eq!(std::fs::read(file).unwrap(), std::fs::read(undisturbed.path(&expected.0)).unwrap());
        }
    }
    assert!(killed > 0, "not one of {KILLS} was killed in time");
    assert_eq!(reported(&run(&disturbed, (0, 300), &[])), expected);
    assert_eq!(
        std::fs::read(disturbed.path(&expected.0)).unwrap(),
        std::fs::read(undisturbed.path(&expected.0)).unwrap()
    );
}

#[test]
fn several_processes_at_once_report_the_same() {
    let (_folder, store) = place();
    many(&store);
    let samples = samples(0, 300);
    let start = || command(&store, &samples.each_ref().map(String::as_str)).spawn().unwrap();
    let children: Vec<_> = (0..4).map(|_| start()).collect();
    let reports: Vec<_> = children.into_iter().map(|child| reported(&child.wait_with_output().unwrap())).collect();
    assert!(reports.iter().all(|report| *report == reports[0]));
    assert_eq!(store.verdicts(BATCH).len(), 1);
    assert_eq!(reports[0].2.accepted_second, 300);
}

#[test]
fn what_is_missing_altogether_is_counted_and_a_store_without_rollouts_is_said() {
    let (_folder, store) = place();
    let (_, _, counts) = reported(&run(&store, (0, 5), &[]));
    assert_eq!((counts.attempted, counts.rejected["Missing"]), (5, 10));
    let (_folder, nothing) = place();
    let output = command(&nothing, &["--batches=all"]).output().unwrap();
    assert_eq!(output.status.code(), Some(11));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no rollouts to verify"));
}
