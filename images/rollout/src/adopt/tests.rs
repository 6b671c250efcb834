//! A run's folder that is written by hand, and what of it another run takes over.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::failure::FieldNames;

const SNAPSHOT: &str = "snapshot/manifest.json";

/// The folder of an earlier run with a snapshot, two finished batches and one that is not, and a dataset.
struct Earlier {
    folder: tempfile::TempDir,
}

impl Earlier {
    fn new() -> Self {
        let earlier = Self { folder: tempfile::tempdir().unwrap() };
        let of = |name: &str, content: &[u8]| {
            earlier.write(&format!("snapshot/{name}"), content);
            json!({"path": name, "bytes": content.len(), "sha256": Digest::of(content).sha256})
        };
        let manifest = json!({
            "version": 1, "commits": [{"original": "c0ffee", "commit": "2", "tree": "3", "reference": "refs/snapshots/0", "committedAt": "2026-01-02T03:04:05Z"}],
            "source": {"url": "https://h/a", "revision": "main", "commits": 1, "lookbackDays": 0, "submodules": false,
                "selection": {"include": [], "exclude": [], "languages": ["Go"], "heldOutFraction": "0.05", "heldOutSeed": 42}},
            // Longer than a part of an upload.
            "bundle": of("repository.bundle", &vec![7; 9 << 20]), "functions": of("functions.jsonl.zst", b"functions"), "index": [],
            "style": of("style.jsonl.zst", b"style"), "styleOrigins": {},
        });
        earlier.write(SNAPSHOT, manifest.to_string().as_bytes());
        for (batch, samples) in [("old-1", vec![0, 1]), ("old-2", vec![2]), ("old-3", vec![3, 4])] {
            for sample in samples {
                earlier.sample(batch, sample, sample != 4);
            }
        }
        earlier.dataset();
        earlier
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn file(&self, folder: &str, name: &str, content: &str) -> Value {
        self.write(&format!("{folder}/{name}"), content.as_bytes());
        json!({"name": name, "bytes": content.len(), "sha256": Digest::of(content.as_bytes()).sha256})
    }

    fn sample(&self, batch: &str, sample: u64, has_ended: bool) {
        let folder = format!("rollouts/{batch}/{sample}");
        let within = format!("{folder}/uid-{sample}");
        let function = json!({"snapshot": 0, "file": "a.py", "name": "f", "lines": [1, 2]});
        let teacher = json!({"model": "m", "rehearsal": true});
        let usage = serde_json::to_value(sera_crds::contract::Usage::default()).unwrap();
        let record = json!({
            "version": 1, "sample": sample, "rollout": "First", "folder": format!("uid-{sample}"), "outcome": "Submitted", "function": function,
            "trajectory": self.file(&within, "t1.json.zst", &format!("trajectory {sample}")), "patch": self.file(&within, "p1.diff", "diff"),
            "usage": usage, "retried": {}, "teacher": teacher, "prompts": "aa", "protections": [],
        });
        self.write(&format!("{folder}/t1.json"), record.to_string().as_bytes());
        self.write(&format!("{folder}/uid-lost/t1.json.zst"), b"of a pod that was lost");
        if has_ended {
            let outcome = json!({
                "version": 1, "sample": sample, "folder": format!("uid-{sample}"), "function": function, "bugKinds": [], "first": "Submitted",
                "pullRequest": {"text": self.file(&within, "pr.md", "title"), "tries": 1, "leaks": false}, "usage": usage, "teacher": teacher,
            });
            self.write(&format!("{folder}/outcome.json"), outcome.to_string().as_bytes());
        }
    }

    fn dataset(&self) {
        let snapshot = Digest::of(&std::fs::read(self.path().join(SNAPSHOT)).unwrap()).sha256;
        let mut verdicts = self.file("verified/old-1", "cafe.jsonl", "{}\n");
        verdicts["name"] = json!("verified/old-1/cafe.jsonl");
        let manifest = json!({
            "version": 1, "train": self.file("dataset", "train.jsonl", "lines\n"), "eval": self.file("dataset", "eval.jsonl", ""),
            "lineage": self.file("dataset", "lineage.jsonl", "{}\n"), "trainLines": 1, "evalLines": 0, "taken": {"First": 5, "Second": 3},
            "eligible": {}, "rejected": {}, "bugKinds": {}, "tokenHistogram": [], "keptHistogram": vec![0; 10],
            "plan": {"acceptedTrajectories": 8, "firstRolloutShare": "0.625", "evalFraction": "0"},
            "policy": {"version": 1, "measure": "Recall", "threshold": "0.5", "maxPatchLines": 40, "maxMeanToolTokens": 600, "student": {"tokenizer": "1", "chatTemplate": "2",
                "toolCallFormat": "Hermes", "contextLength": 4096, "minKeptRatio": "0.88"}},
            "rehearsal": true, "verdicts": [verdicts], "snapshot": snapshot,
        });
        self.write("dataset/manifest.json", manifest.to_string().as_bytes());
    }
}

fn request(earlier: &Earlier, through: AdoptableStage, to: &Path) -> Request {
    Request {
        from: format!("file://{}", earlier.path().display()),
        address: "pvc://earlier/ml/old/1".to_owned(),
        repository: Some("git@h:a".to_owned()),
        through,
        store: format!("file://{}", to.display()),
        run: "new".to_owned(),
        store_credentials: None,
        verification: None,
    }
}

async fn adopted(earlier: &Earlier, through: AdoptableStage, to: &Path) -> Result<StageResult, AdoptionError> {
    run(&request(earlier, through, to), &Progress::detect(), &Redactor::default()).await
}

/// The files of a folder, by their names.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found
}

fn same(earlier: &Earlier, to: &Path, name: &str) -> bool {
    std::fs::read(earlier.path().join(name)).unwrap() == std::fs::read(to.join(name)).unwrap()
}

#[tokio::test]
async fn a_run_of_another_repository_is_refused_before_anything_is_copied() {
    let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
    let mut other = request(&earlier, AdoptableStage::Snapshot, to.path());
    other.repository = Some("https://h/b".to_owned());
    let error = run(&other, &Progress::detect(), &Redactor::default()).await.unwrap_err();
    assert_eq!(error.explain().field, Some(Field::Adopted));
    let said = error.to_string();
    assert!(
        said.starts_with("pvc://earlier/ml/old/1 is of the repository https://h/a, and spec.source names https://h/b"),
        "{said}"
    );
    assert_eq!(files(to.path()), BTreeSet::new());
}

#[tokio::test]
async fn a_snapshot_alone_is_copied_byte_for_byte() {
    let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
    let result = adopted(&earlier, AdoptableStage::Snapshot, to.path()).await.unwrap();
    let StageResult::Adoption { snapshot, commit, commits, rollouts: None, dataset: None } = &result else {
        panic!("{result:?}")
    };
    assert_eq!((commit.as_str(), *commits, &*snapshot.path), ("c0ffee", 1, SNAPSHOT));
    let names = [
        "snapshot/manifest.json",
        "snapshot/repository.bundle",
        "snapshot/functions.jsonl.zst",
        "snapshot/style.jsonl.zst",
    ];
    assert!(names.iter().all(|name| same(&earlier, to.path(), name)));
    assert_eq!(files(to.path()), names.into_iter().chain(["adoption.json"]).map(str::to_owned).collect());
}

#[tokio::test]
async fn finished_batches_come_under_this_run_s_name_and_nothing_comes_that_no_record_names() {
    let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
    let result = adopted(&earlier, AdoptableStage::Generation, to.path()).await.unwrap();
    let StageResult::Adoption { rollouts, dataset: None, .. } = result else { panic!("{result:?}") };
    assert_eq!(
        rollouts,
        Some(AdoptedRollouts { batches: 2, samples: 3 }),
        "the third batch has a sample without an end"
    );
    let there = files(to.path());
    for (sample, batch) in [(0, "new-1"), (1, "new-1"), (2, "new-2")] {
        for name in ["t1.json", "outcome.json"] {
            assert!(there.contains(&format!("rollouts/{batch}/{sample}/{name}")), "{there:?}");
        }
        for name in ["t1.json.zst", "p1.diff", "pr.md"] {
            assert!(there.contains(&format!("rollouts/{batch}/{sample}/uid-{sample}/{name}")), "{there:?}");
        }
    }
    assert!(
        !there.iter().any(|name| name.contains("uid-lost") || name.contains("old-") || name.starts_with("dataset"))
    );
}

#[tokio::test]
async fn a_dataset_comes_with_its_snapshot_its_lineage_and_its_verdicts_and_no_rollouts() {
    let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
    let result = adopted(&earlier, AdoptableStage::Dataset, to.path()).await.unwrap();
    let StageResult::Adoption { rollouts: None, dataset: Some(dataset), .. } = result else { panic!("{result:?}") };
    assert_eq!((dataset.accepted_first, dataset.accepted_second), (5, 3));
    let names = ["manifest.json", "train.jsonl", "eval.jsonl", "lineage.jsonl"].map(|name| format!("dataset/{name}"));
    assert!(names.iter().all(|name| same(&earlier, to.path(), name)));
    assert!(same(&earlier, to.path(), "verified/old-1/cafe.jsonl"));
    assert!(!files(to.path()).iter().any(|name| name.starts_with("rollouts")));
}

#[tokio::test]
async fn what_was_adopted_once_is_reported_again_when_the_earlier_run_is_gone() {
    let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
    let first = adopted(&earlier, AdoptableStage::Dataset, to.path()).await.unwrap();
    std::fs::remove_dir_all(earlier.path().join("dataset")).unwrap();
    std::fs::remove_dir_all(earlier.path().join("snapshot")).unwrap();
    assert_eq!(adopted(&earlier, AdoptableStage::Dataset, to.path()).await.unwrap(), first);
}

#[tokio::test]
async fn an_adoption_that_was_stopped_anywhere_goes_on_to_the_same_end() {
    let (earlier, whole) = (Earlier::new(), tempfile::tempdir().unwrap());
    let result = adopted(&earlier, AdoptableStage::Generation, whole.path()).await.unwrap();
    // Whatever it had not yet written, and the documents that end a sample or a stage: the others are written before them.
    for stopped_at in ["adoption.json", "rollouts/new-2/2/outcome.json", "rollouts/new-1/1/t1.json", SNAPSHOT] {
        let to = tempfile::tempdir().unwrap();
        adopted(&earlier, AdoptableStage::Generation, to.path()).await.unwrap();
        for name in ["adoption.json", stopped_at] {
            _ = std::fs::remove_file(to.path().join(name));
        }
        if stopped_at.ends_with("t1.json") {
            std::fs::remove_file(to.path().join("rollouts/new-1/1/outcome.json")).unwrap();
        }
        assert_eq!(adopted(&earlier, AdoptableStage::Generation, to.path()).await.unwrap(), result, "{stopped_at}");
        assert_eq!(files(to.path()), files(whole.path()), "{stopped_at}");
    }
}

/// What befalls an earlier run.
type Harm = Box<dyn Fn(&Earlier)>;

#[tokio::test]
async fn what_is_missing_damaged_or_of_another_kind_is_named_and_the_field_with_it() {
    let names = FieldNames { git_credentials: String::new(), store_credentials: "credentials".to_owned() };
    let remove = |name: &'static str| move |earlier: &Earlier| std::fs::remove_file(earlier.path().join(name)).unwrap();
    let spoil = |name: &'static str| {
        move |earlier: &Earlier| {
            let length = std::fs::metadata(earlier.path().join(name)).unwrap().len();
            earlier.write(name, &vec![b'x'; usize::try_from(length).unwrap()]);
        }
    };
    let harms: [(Harm, AdoptableStage, &str, &str); 7] = [
        (Box::new(remove("dataset/manifest.json")), AdoptableStage::Dataset, "dataset/manifest.json", "NothingToAdopt"),
        (Box::new(remove(SNAPSHOT)), AdoptableStage::Snapshot, SNAPSHOT, "NothingToAdopt"),
        (Box::new(remove("rollouts/old-1/0/outcome.json")), AdoptableStage::Generation, "no batch", "NothingToAdopt"),
        (Box::new(remove("snapshot/style.jsonl.zst")), AdoptableStage::Snapshot, "style.jsonl.zst", "AdoptedDamaged"),
        (
            Box::new(spoil("snapshot/repository.bundle")),
            AdoptableStage::Snapshot,
            "repository.bundle",
            "AdoptedDamaged",
        ),
        (
            Box::new(spoil("rollouts/old-1/1/uid-1/p1.diff")),
            AdoptableStage::Generation,
            "uid-1/p1.diff",
            "AdoptedDamaged",
        ),
        (
            Box::new(spoil("dataset/manifest.json")),
            AdoptableStage::Dataset,
            "dataset/manifest.json",
            "ManifestMalformed",
        ),
    ];
    for (harm, through, named, reason) in harms {
        let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
        harm(&earlier);
        let failure = names.failure(&adopted(&earlier, through, to.path()).await.unwrap_err());
        assert!(failure.message.contains(named) && failure.reason == reason, "{failure:?}");
        assert_eq!(failure.field.as_deref(), Some("spec.from.uri"), "{failure:?}");
        assert!(!to.path().join("adoption.json").exists());
    }
}

#[tokio::test]
async fn a_dataset_that_the_student_could_not_take_is_refused_before_anything_is_copied() {
    let plan = |format: &str, context: u32| -> VerificationPlan {
        serde_json::from_value(
            json!({"student": {"toolCallFormat": format, "contextLength": context, "minKeptRatio": "0.88"}}),
        )
        .unwrap()
    };
    for (asked, word) in [(plan("XML", 4096), "toolCallFormat"), (plan("Hermes", 2048), "contextLength")] {
        let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
        let request = Request { verification: Some(asked), ..request(&earlier, AdoptableStage::Dataset, to.path()) };
        let error = run(&request, &Progress::detect(), &Redactor::default()).await.unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("Generation"), "{error}");
        assert_eq!(files(to.path()), BTreeSet::new());
    }
    let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
    let longer =
        Request { verification: Some(plan("Hermes", 8192)), ..request(&earlier, AdoptableStage::Dataset, to.path()) };
    assert!(run(&longer, &Progress::detect(), &Redactor::default()).await.is_ok());
}

#[tokio::test]
async fn a_folder_that_has_another_snapshot_is_not_written_over() {
    let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(to.path().join("snapshot")).unwrap();
    std::fs::write(to.path().join(SNAPSHOT), "another").unwrap();
    let error = adopted(&earlier, AdoptableStage::Snapshot, to.path()).await.unwrap_err();
    assert!(matches!(error, AdoptionError::Taken { .. }), "{error}");
}

#[tokio::test]
async fn what_was_adopted_is_known_by_its_address_and_nothing_else_is_adopted_over_it() {
    let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
    adopted(&earlier, AdoptableStage::Snapshot, to.path()).await.unwrap();
    let known = std::fs::read_to_string(to.path().join("adoption.json")).unwrap();
    assert!(known.contains("\"pvc://earlier/ml/old/1\""), "not where it happened to be mounted: {known}");
    let error = adopted(&earlier, AdoptableStage::Dataset, to.path()).await.unwrap_err();
    assert!(matches!(error, AdoptionError::AdoptedBefore { through: AdoptableStage::Snapshot, .. }), "{error}");
    let mut other = request(&earlier, AdoptableStage::Snapshot, to.path());
    other.address = "pvc://earlier/ml/old/2".to_owned();
    let error = run(&other, &Progress::detect(), &Redactor::default()).await.unwrap_err();
    assert!(matches!(&error, AdoptionError::AdoptedBefore { from, .. } if from.ends_with("old/1")), "{error}");
}

#[tokio::test]
async fn an_address_that_is_none_of_a_store_is_the_earlier_run_s_and_not_this_one_s() {
    let (earlier, to) = (Earlier::new(), tempfile::tempdir().unwrap());
    let request = Request { from: "ftp://x/y".to_owned(), ..request(&earlier, AdoptableStage::Snapshot, to.path()) };
    let error = run(&request, &Progress::detect(), &Redactor::default()).await.unwrap_err();
    let names = FieldNames { git_credentials: String::new(), store_credentials: "credentials".to_owned() };
    assert_eq!(names.failure(&error).field.as_deref(), Some("spec.from.uri"));
}
