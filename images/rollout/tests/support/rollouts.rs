//! A store with finished rollouts in it, as the rollout stage leaves them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sera_crds::contract::{
    CONTRACT_VERSION, FileDigest, FunctionRef, IndexedFunction, Message, PullRequest, RetriedTurns, RolloutKind,
    RolloutOutcome, RolloutRecord, SampleOutcome, TeacherMark, ToolCall, Trajectory, Usage,
};
use sera_crds::values::BugKind;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// A rollout that is to be stored.
pub(crate) struct Finished<'a> {
    pub(crate) outcome: RolloutOutcome,
    pub(crate) patch: &'a str,
    /// What the only tool call showed.
    pub(crate) observation: &'a str,
}

impl<'a> Finished<'a> {
    /// One that submitted a patch.
    pub(crate) fn submitted(patch: &'a str) -> Self {
        Self { outcome: RolloutOutcome::Submitted, patch, observation: "exit code 0" }
    }
}

/// A store in the making.
pub(crate) struct Rollouts {
    folder: PathBuf,
}

impl Rollouts {
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn uri(&self) -> String {
        url::Url::from_file_path(&self.folder).unwrap().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The files of verdicts of a batch, by name.
    pub(crate) fn verdicts(&self, batch: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.path(&format!("verified/{batch}")))
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        files.sort();
        files
    }

    fn write(&self, name: &str, content: &[u8]) -> FileDigest {
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        FileDigest {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            bytes: content.len() as u64,
            sha256: hex::encode(Sha256::digest(content)),
        }
    }

    fn commit(&self, name: &str, document: &impl Serialize) {
        self.write(name, &serde_json::to_vec(document).unwrap());
    }

    /// Takes a snapshot of a repository with fifty functions, and returns the files and first lines of those that it sets aside: ten or so.
    pub(crate) fn snapshot(&self) -> Vec<(String, u64)> {
        let repository = self.folder.with_file_name("repository");
        std::fs::create_dir_all(repository.join("src")).unwrap();
        for file in 0..25 {
            let function = |name: &str| format!("def {name}_{file}(x):\n    y = x + {file}\n    return y * 2\n\n\n");
            let text = ["first", "second"].map(function).concat();
            std::fs::write(repository.join(format!("src/m{file}.py")), text).unwrap();
        }
        for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "--message=all"]] {
            let mut git = Command::new("git");
            git.arg("-C")
                .arg(&repository)
                .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
                .args(arguments);
            assert!(git.status().unwrap().success(), "git {arguments:?}");
        }
        let source = repository.to_str().unwrap();
        let store = self.uri();
        let taken =
            program(&["snapshot", "--url", source, "--commits=1", "--store", &store, "--held-out-fraction=0.2"]);
        assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
        let functions = program(&["functions", "--store", &store]);
        let functions = String::from_utf8(functions.stdout).unwrap();
        let functions = functions.lines().map(|line| serde_json::from_str::<IndexedFunction>(line).unwrap());
        functions
            .filter(|function| function.held_out)
            .map(|function| (function.file, function.lines.0.into()))
            .collect()
    }

    /// A finished rollout of a sample.
    pub(crate) fn rollout(&self, batch: &str, sample: u64, rollout: RolloutKind, finished: &Finished<'_>) {
        let stem = rollout.stem();
        let pod = format!("pod-{sample}");
        let folder = format!("rollouts/{batch}/{sample}");
        let trajectory = trajectory(sample, rollout, finished.observation);
        let packed = zstd::encode_all(&serde_json::to_vec(&trajectory).unwrap()[..], 0).unwrap();
        let record = RolloutRecord {
            version: CONTRACT_VERSION,
            sample,
            rollout,
            folder: pod.clone(),
            outcome: finished.outcome,
            problem: None,
            function: function(sample),
            bug_kind: (rollout == RolloutKind::First).then_some(BugKind::ALL[3]),
            trajectory: self.write(&format!("{folder}/{pod}/{stem}.json.zst"), &packed),
            patch: self.write(&format!("{folder}/{pod}/p{}.diff", &stem[1..]), finished.patch.as_bytes()),
            usage: usage(3),
            retried: RetriedTurns::default(),
            teacher: teacher(),
            prompts: "5e".into(),
            protections: Vec::new(),
        };
        self.commit(&format!("{folder}/{stem}.json"), &record);
    }

    /// The end of a sample.
    pub(crate) fn end(&self, batch: &str, sample: u64, first: RolloutOutcome, second: Option<RolloutOutcome>) {
        let text = FileDigest { name: "pr.md".into(), bytes: 1, sha256: "7a".into() };
        let outcome = SampleOutcome {
            version: CONTRACT_VERSION,
            sample,
            folder: format!("pod-{sample}"),
            function: function(sample),
            bug_kinds: vec![BugKind::ALL[3], BugKind::ALL[4]],
            first,
            pull_request: second.map(|_| PullRequest { text, tries: 1, leaks: sample % 10 == 2 }),
            second,
            usage: usage(10),
            teacher: teacher(),
        };
        self.commit(&format!("rollouts/{batch}/{sample}/outcome.json"), &outcome);
    }

    /// A sample with both rollouts and its end.
    pub(crate) fn sample(&self, batch: &str, sample: u64, first: &Finished<'_>, second: &Finished<'_>) {
        self.rollout(batch, sample, RolloutKind::First, first);
        self.rollout(batch, sample, RolloutKind::Second, second);
        self.end(batch, sample, first.outcome, Some(second.outcome));
    }
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sera-rollout")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn function(sample: u64) -> FunctionRef {
    FunctionRef { snapshot: 0, file: "src/billing.py".into(), name: format!("f{sample}"), lines: (20, 30) }
}

fn teacher() -> TeacherMark {
    TeacherMark { model: "nobody".into(), rehearsal: true }
}

fn usage(calls: u64) -> Usage {
    Usage { calls, prompt_tokens: 100 * calls, cached_tokens: 90 * calls, completion_tokens: 7 * calls }
}

fn trajectory(sample: u64, rollout: RolloutKind, observation: &str) -> Trajectory {
    let turn = |id: &str, name: &str| Message::Assistant {
        content: String::new(),
        reasoning: Some(format!("What sample {sample} is about.")),
        tool_call: ToolCall { id: id.into(), name: name.into(), arguments: serde_json::Map::new() },
        usage: None,
    };
    let messages = vec![
        Message::System { content: "You work in /testbed.".into() },
        Message::User { content: "Something is wrong.".into() },
        turn("a", "bash"),
        Message::Tool { tool_call_id: "a".into(), content: observation.into(), review: false },
        turn("b", "submit"),
        Message::Tool { tool_call_id: "b".into(), content: "Look it over.".into(), review: true },
        turn("c", "submit"),
    ];
    let tools = ["bash", "submit"].map(|name| {
        serde_json::json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
    });
    Trajectory { version: CONTRACT_VERSION, sample, rollout, rehearsal: true, tools: tools.into(), messages }
}
