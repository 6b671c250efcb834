//! The whole stage on a store in a folder: what verification leaves is made into a dataset, once and always the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sera_crds::contract::{
    CONTRACT_VERSION, DatasetLine, DatasetManifest, FailureClass, FileDigest, Fraction, FunctionRef, Judgement,
    Lineage, Measures, Message, Recalls, RetriedTurns, RolloutOutcome, RolloutRecord, StrictMeasures, StudentPlan,
    TeacherMark, Trajectory, Usage, Verdict,
};
use sera_crds::values::ToolCallFormat;

use super::*;
use crate::store::Digest;
use crate::testing::local;

/// What the verdicts of these tests are made with.
fn verification() -> VerificationPlan {
    let student = StudentPlan {
        tool_call_format: ToolCallFormat::Hermes,
        context_length: 100_000,
        min_kept_ratio: "0.88".parse().unwrap(),
    };
    VerificationPlan { student: Some(student), max_mean_tool_tokens: 100_000, ..VerificationPlan::default() }
}

fn request(store: &Path, accepted: u32) -> Request {
    Request {
        store: format!("file://{}", store.display()),
        store_credentials: None,
        batches: None,
        plan: DatasetPlan {
            accepted_trajectories: accepted,
            first_rollout_share: "0.625".parse().unwrap(),
            eval_fraction: "0.2".parse().unwrap(),
        },
        verification: verification(),
        student: testing::folder(),
        dry_run: false,
        fewer: false,
        scratch: store.join("scratch"),
    }
}

/// A trajectory whose words no other has.
fn distinct(sample: u64, rollout: RolloutKind) -> Trajectory {
    let mut trajectory = testing::trajectory(3);
    (trajectory.sample, trajectory.rollout) = (sample, rollout);
    for (position, message) in trajectory.messages.iter_mut().enumerate() {
        if let Message::Assistant { reasoning: Some(thinking), .. } = message {
            *thinking = (0..40).map(|n| format!("s{sample}{}m{position}w{n} ", rollout.stem())).collect();
        }
    }
    trajectory
}

/// Puts a finished rollout into a store, and returns what verification says of it.
async fn finish(store: &Store, student: &Student, batch: &str, sample: u64, rollout: RolloutKind) -> Judgement {
    let trajectory = distinct(sample, rollout);
    let packed = zstd::encode_all(serde_json::to_vec(&trajectory).unwrap().as_slice(), 3).unwrap();
    let patch = format!("--- a/f{sample}\n+++ b/f{sample}\n@@ -1 +1 @@\n-x\n+y{}\n", rollout.stem());
    let stem = rollout.stem();
    let named = |name: String, content: &[u8]| {
        let digest = Digest::of(content);
        FileDigest { name, bytes: digest.bytes, sha256: digest.sha256 }
    };
    let record = RolloutRecord {
        version: CONTRACT_VERSION,
        sample,
        rollout,
        folder: "pod-uid".to_owned(),
        outcome: RolloutOutcome::Submitted,
        problem: None,
        function: function(sample),
        bug_kind: None,
        trajectory: named(format!("{stem}.json.zst"), &packed),
        patch: named(format!("p{}.diff", &stem[1..]), patch.as_bytes()),
        usage: Usage::default(),
        retried: RetriedTurns::default(),
        teacher: TeacherMark { model: "GLM-4.6".to_owned(), rehearsal: sample == 3 },
        prompts: "00".to_owned(),
        protections: vec!["seccomp".to_owned()],
    };
    let folder = format!("rollouts/{batch}/{sample}");
    store.put(&format!("{folder}/pod-uid/{}", record.trajectory.name), packed.into()).await.unwrap();
    store.put(&format!("{folder}/pod-uid/{}", record.patch.name), patch.into()).await.unwrap();
    let content = serde_json::to_vec(&record).unwrap();
    store.create(&format!("{folder}/{stem}.json"), content.into()).await.unwrap();
    let judged = student_judgement(&trajectory, 100_000, Some(student));
    Judgement {
        outcome: Some(RolloutOutcome::Submitted),
        rejected: judged.rejected,
        patch_lines: Some(2),
        patch_sha256: Some(record.patch.sha256),
        mean_tool_tokens: judged.mean_tool_tokens,
        tokens: judged.tokens,
        kept: judged.kept,
        sketch: judged.sketch,
    }
}

fn function(sample: u64) -> FunctionRef {
    FunctionRef { snapshot: 0, file: format!("src/m{}.py", sample % 5), name: format!("f{sample}"), lines: (3, 9) }
}

/// A store with a snapshot and two verified batches of `samples` samples together. Of every fourth the second rollout is below the threshold.
async fn fill(folder: &Path, samples: u64) -> Store {
    fill_with(folder, samples, &verification()).await
}

async fn fill_with(folder: &Path, samples: u64, plan: &VerificationPlan) -> Store {
    let store = local(folder);
    snapshot(&store, folder).await;
    let student = Student::open(&testing::folder(), plan.student.as_ref().unwrap()).unwrap();
    let policy = stage::digest(&stage::policy(plan, Some(student.policy())));
    let mut batches: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for sample in 0..samples {
        let batch = if sample < samples / 2 { "run-0" } else { "run-1" };
        let first = finish(&store, &student, batch, sample, RolloutKind::First).await;
        let mut second = finish(&store, &student, batch, sample, RolloutKind::Second).await;
        if sample % 4 == 3 {
            second.rejected = Some(Rejection::BelowThreshold);
        }
        let verdict = Verdict {
            sample,
            function: Some(function(sample)),
            bug_kind: Some("ResourceLifecycle".parse().unwrap()),
            first,
            second,
            // The first is found whole and gave a line away, the second was found by half without.
            measures: (sample < 2).then(|| measures(2 - sample)),
            leaks: sample == 0,
            usage: Usage::default(),
            rehearsal: sample == 3,
        };
        let lines = batches.entry(batch).or_default();
        lines.extend(serde_json::to_vec(&verdict).unwrap());
        lines.push(b'\n');
    }
    for (batch, lines) in batches {
        store.create(&format!("verified/{batch}/{policy}.jsonl"), lines.into()).await.unwrap();
    }
    store
}

/// So many of two lines were found.
fn measures(matched: u64) -> Measures {
    let strict = StrictMeasures { matched, first: 2, second: 2, parsed: true };
    Measures { recall: Some(Fraction { matched, total: 2 }), strict }
}

/// A snapshot of a repository with a licence: a bundle that git makes, and a manifest.
async fn snapshot(store: &Store, folder: &Path) {
    let repository = folder.join("repository");
    std::fs::create_dir_all(&repository).unwrap();
    std::fs::write(repository.join("LICENSE"), "Apache License\nVersion 2.0, January 2004\n").unwrap();
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "."],
        &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x", "--date=2026-01-01T00:00:00Z"],
        &["update-ref", "refs/snapshots/0", "HEAD"],
        &["bundle", "create", "--quiet", "../repository.bundle", "refs/snapshots/0"],
    ] {
        assert!(std::process::Command::new("git").args(arguments).current_dir(&repository).status().unwrap().success());
    }
    let bundle = std::fs::read(folder.join("repository.bundle")).unwrap();
    store.put("snapshot/repository.bundle", bundle.into()).await.unwrap();
    store.put("snapshot/manifest.json", "{}".into()).await.unwrap();
}

async fn make(request: &Request) -> Result<StageResult, DatasetError> {
    run(request, &Progress::detect(), &Redactor::default()).await
}

async fn text(store: &Store, name: &str) -> String {
    let content = store.read_data(name).await.unwrap().unwrap_or_else(|| panic!("{name} is there"));
    String::from_utf8(content.to_vec()).unwrap()
}

async fn lines<T: serde::de::DeserializeOwned>(store: &Store, name: &str) -> Vec<T> {
    text(store, name).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn manifest(store: &Store) -> DatasetManifest {
    serde_json::from_str(&text(store, committed::MANIFEST).await).unwrap()
}

#[tokio::test]
async fn a_dataset_has_the_shares_asked_for_and_its_lineage_leads_back_to_patches_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = fill(folder.path(), 16).await;
    let result = make(&request(folder.path(), 16)).await.unwrap();
    let StageResult::Dataset { manifest: Some(artifact), accepted_first: 10, accepted_second: 6, complete: true } =
        result
    else {
        panic!("{result:?}")
    };
    assert_eq!(artifact, committed::artifact(text(&store, committed::MANIFEST).await.as_bytes()));

    let manifest = manifest(&store).await;
    assert_eq!(manifest.eligible, BTreeMap::from([(RolloutKind::First, 16), (RolloutKind::Second, 12)]));
    assert_eq!(manifest.rejected, BTreeMap::from([("BelowThreshold".to_owned(), 4)]));
    let recall = Recalls { measured: 2, millionths: 1_500_000, leaked: 1, leaked_millionths: 1_000_000 };
    assert_eq!(manifest.recall, recall);
    assert_eq!(manifest.licence.as_deref(), Some("Apache-2.0 (LICENSE)"));
    assert_eq!(
        manifest.bug_kinds,
        BTreeMap::from([("PullRequest".to_owned(), 6), ("ResourceLifecycle".to_owned(), 10)])
    );
    assert!(manifest.rehearsal, "sample 3 was made by a rehearsal teacher");
    for FileDigest { name, bytes, sha256 } in [&manifest.train, &manifest.eval, &manifest.lineage] {
        let digest = Digest::of(text(&store, &format!("dataset/{name}")).await.as_bytes());
        assert_eq!((digest.bytes, &digest.sha256), (*bytes, sha256));
    }

    let train: Vec<DatasetLine> = lines(&store, "dataset/train.jsonl").await;
    let eval: Vec<DatasetLine> = lines(&store, "dataset/eval.jsonl").await;
    let lineage: Vec<Lineage> = lines(&store, "dataset/lineage.jsonl").await;
    assert_eq!((train.len() as u64, eval.len() as u64), (manifest.train_lines, manifest.eval_lines));
    let ids = |lines: &[DatasetLine]| lines.iter().map(|line| line.instance_id.clone()).collect::<Vec<_>>();
    let named: Vec<String> = lineage.iter().map(|line| line.instance_id.clone()).collect();
    assert_eq!([ids(&train), ids(&eval)].concat(), named);
    let files = |lines: &[Lineage]| lines.iter().map(|line| function(line.sample).file).collect::<BTreeSet<_>>();
    assert!(!eval.is_empty() && files(&lineage[..train.len()]).is_disjoint(&files(&lineage[train.len()..])));
    for line in &lineage {
        let record = trajectories::record(&store, &line.batch, line.sample, line.rollout).await.unwrap().unwrap();
        let patch = trajectories::file(&store, &line.batch, &record, &record.patch).await.unwrap();
        assert_eq!(Digest::of(&patch).sha256, line.patch_sha256);
        assert_eq!(line.rehearsal, line.sample == 3);
    }
    assert!(train.iter().flat_map(|line| &line.messages).all(|message| message.train == (message.role == "assistant")));
}

#[tokio::test]
async fn run_again_it_changes_nothing_and_elsewhere_it_writes_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut results = Vec::new();
    let mut written = Vec::new();
    for folder in [one.path(), one.path(), two.path()] {
        if !folder.join("verified").exists() {
            fill(folder, 8).await;
        }
        results.push(make(&request(folder, 8)).await.unwrap());
        let files = ["train.jsonl", "eval.jsonl", "lineage.jsonl", "manifest.json"];
        written.push(files.map(|file| std::fs::read(folder.join("dataset").join(file)).unwrap()));
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(written[0], written[1]);
    assert_eq!(written[0][..3], written[2][..3]);
}

#[tokio::test]
async fn a_dry_run_and_one_that_falls_short_write_nothing_and_say_what_there_would_be() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), 8).await;
    let short = request(folder.path(), 40);
    let dry = Request { dry_run: true, ..request(folder.path(), 8) };
    for (request, first, second, whole) in [(&dry, 5, 3, true), (&short, 8, 6, false)] {
        let StageResult::Dataset { manifest: None, accepted_first, accepted_second, complete } =
            make(request).await.unwrap()
        else {
            panic!("nothing is written")
        };
        assert_eq!((accepted_first, accepted_second, complete), (first, second, whole));
    }
    assert!(!folder.path().join("dataset").exists());

    let fewer = make(&Request { fewer: true, ..short }).await.unwrap();
    assert!(matches!(
        fewer,
        StageResult::Dataset { manifest: Some(_), accepted_first: 8, accepted_second: 6, complete: false }
    ));
}

#[tokio::test]
async fn a_dataset_made_with_other_settings_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), 8).await;
    make(&request(folder.path(), 8)).await.unwrap();
    let mut other = request(folder.path(), 8);
    other.plan.eval_fraction = "0.5".parse().unwrap();
    let error = make(&other).await.unwrap_err();
    assert!(matches!(error, DatasetError::Committed(CommittedError::Other("the plan"))), "{error}");
    assert_eq!(error.explain().class, FailureClass::Conflict);
}

#[tokio::test]
async fn a_trajectory_that_was_tampered_with_ends_it_and_no_manifest_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = fill(folder.path(), 8).await;
    let packed = zstd::encode_all(serde_json::to_vec(&testing::trajectory(3)).unwrap().as_slice(), 3).unwrap();
    store.put("rollouts/run-0/0/pod-uid/t1.json.zst", packed.into()).await.unwrap();
    let error = make(&request(folder.path(), 8)).await.unwrap_err();
    assert!(error.to_string().contains("rollouts/run-0/0/pod-uid/t1.json.zst in the store is damaged"), "{error}");
    assert!(!folder.path().join("dataset/manifest.json").exists());
}

#[tokio::test]
async fn a_dataset_that_was_damaged_afterwards_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = fill(folder.path(), 8).await;
    make(&request(folder.path(), 8)).await.unwrap();
    store.put("dataset/eval.jsonl", "{}\n".into()).await.unwrap();
    let error = make(&request(folder.path(), 8)).await.unwrap_err();
    assert!(
        matches!(&error, DatasetError::Committed(CommittedError::Damaged(file)) if file == "dataset/eval.jsonl"),
        "{error}"
    );
}

#[tokio::test]
async fn verdicts_under_another_policy_are_not_taken_and_the_batch_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), 4).await;
    let mut other = request(folder.path(), 4);
    other.verification.threshold = "0.75".parse().unwrap();
    let error = make(&other).await.unwrap_err();
    assert!(error.to_string().contains("batch run-0 was not verified under this policy"), "{error}");
}

/// Runs a script of peers on both files of a dataset in each format, and hands what it printed to `look`. `SERA_PYTHON` names a Python that has the
/// packages and is not on the `PATH`.
async fn with_peers(script: &str, student: &Path, look: impl Fn(ToolCallFormat, &[DatasetLine], &str)) {
    let python = std::env::var("SERA_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let python = |arguments: &[&str]| std::process::Command::new(&python).args(arguments).output();
    for format in [ToolCallFormat::Hermes, ToolCallFormat::Xml, ToolCallFormat::Raw] {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = verification();
        if let Some(student) = &mut plan.student {
            student.tool_call_format = format;
        }
        let store = fill_with(folder.path(), 8, &plan).await;
        make(&Request { verification: plan, ..request(folder.path(), 8) }).await.unwrap();
        let mut made: Vec<DatasetLine> = lines(&store, "dataset/train.jsonl").await;
        made.extend(lines(&store, "dataset/eval.jsonl").await);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dataset").join(script).display().to_string();
        let files =
            ["train", "eval"].map(|side| folder.path().join(format!("dataset/{side}.jsonl")).display().to_string());
        let output = python(&[&path, "--student", &student.display().to_string(), &files[0], &files[1]]).unwrap();
        assert!(output.status.success(), "{format:?}: {}", String::from_utf8_lossy(&output.stderr));
        look(format, &made, std::str::from_utf8(&output.stdout).unwrap());
    }
}

#[tokio::test]
#[ignore = "needs a Python with peers: pip install datasets transformers jinja2, and SERA_PYTHON"]
async fn hugging_faces_reader_takes_the_files_as_they_are() {
    with_peers("readers.py", &testing::folder(), |format, made, printed| {
        let counts: usize =
            printed.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
        assert_eq!(counts, made.len(), "{format:?}");
    })
    .await;
}

/// `SERA_STUDENT` names another student than the tiny one.
///
/// One difference is axolotl's: it finds a turn by putting another text in its place. Qwen3's template writes thinking, be it empty, into the last turn
/// whatever its text is, so that the tag is taken for the template's and not for the turn's.
#[tokio::test]
#[ignore = "needs a Python with peers: pip install datasets transformers torch jinja2 addict colorama accelerate, pip install --no-deps axolotl, and SERA_PYTHON"]
async fn axolotl_trains_on_the_tokens_that_we_train_on_but_for_the_last_turns_first_tag() {
    let student = std::env::var_os("SERA_STUDENT").map_or_else(testing::folder, std::path::PathBuf::from);
    let chat = sera_chat::Chat::load(&student).unwrap();
    with_peers("axolotl.py", &student, |format, made, printed| {
        let theirs: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(theirs.len(), made.len(), "{format:?}");
        for (line, theirs) in made.iter().zip(theirs) {
            let mut conversation = sera_chat::Conversation::new(&line.messages);
            if let Some(tools) = &line.tool_json {
                conversation = conversation.with_tools(&serde_json::from_str::<Vec<serde_json::Value>>(tools).unwrap());
            }
            let rendering = chat.turns(&conversation).unwrap();
            let ours = chat.tokens(&rendering, |position| line.messages[position].train).unwrap();
            assert_eq!(serde_json::json!(ours.ids), theirs["ids"], "{format:?}: {}", line.instance_id);
            let trained: Vec<bool> = serde_json::from_value(theirs["loss"].clone()).unwrap();
            let apart: Vec<usize> = (0..trained.len()).filter(|at| ours.loss[*at] != trained[*at]).collect();
            let last = ours.loss.windows(2).rposition(|pair| pair == [false, true]).unwrap() + 1;
            let expected: Vec<usize> = (last..).take(apart.len()).collect();
            let texts: Vec<u32> = apart.iter().map(|at| ours.ids[*at]).collect();
            assert_eq!(
                (&apart, chat.decode(&texts).unwrap().as_str()),
                (&expected, "<think>\n"),
                "{format:?}: {}",
                line.instance_id
            );
        }
    })
    .await;
}
