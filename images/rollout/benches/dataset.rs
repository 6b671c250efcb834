//! How much memory and time verification and the dataset stage take for many long trajectories: writes a store of them, runs both commands on it, and
//! prints megabytes of conversation a second and the largest resident set of each process.
//!
//! `cargo bench --bench dataset -- STUDENT [TRAJECTORIES] [TOKENS]`; STUDENT is a model's directory. By default 10,000 trajectories of about 32,000
//! tokens, made of this repository's own files; 3 GB of scratch space are needed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sera_crds::contract::{
    CONTRACT_VERSION, FileDigest, FunctionRef, Message, RetriedTurns, RolloutKind, RolloutOutcome, RolloutRecord,
    SampleOutcome, TeacherMark, ToolCall, Trajectory, Usage,
};
use serde_json::json;
use sha2::{Digest, Sha256};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sera-rollout");
/// What a token takes in source code, in bytes, for a first guess at lengths.
const BYTES_A_TOKEN: usize = 4;
/// How many tokens an observation has.
const OBSERVATION: usize = 500;
/// How often a command's memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [student, numbers @ ..] = arguments.as_slice() else {
        println!("left out: name a student's directory, `cargo bench --bench dataset -- ./Qwen3-8B`");
        return;
    };
    let number =
        |position: usize, default: usize| numbers.get(position).map_or(default, |number| number.parse().unwrap());
    let (trajectories, tokens) = (number(0, 10_000), number(1, 32_000));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let uri = format!("file://{}", store.display());
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let snapshot = Command::new(PROGRAM)
        .args(["snapshot", "--commits", "1", "--url", repository, "--store", &uri])
        .output()
        .unwrap();
    assert!(snapshot.status.success(), "{}", String::from_utf8_lossy(&snapshot.stderr));
    let bytes = fill(&store, trajectories, tokens);
    println!("{trajectories} trajectories, {} MB of JSON", bytes / 1_000_000);
    println!("\n| command | s | MB/s | largest resident set, MB |\n|---|---|---|---|");
    let (plan, verification) = settings(folder.path(), trajectories);
    let count = (trajectories / 2).to_string();
    let common = ["--store", &uri, "--student", student];
    let verify = ["verify", "--batch", "b", "--first", "0", "--count", &count, "--settings", &verification];
    let dataset = ["dataset", "--plan", &plan, "--verification", &verification];
    measure("verify", &[&verify[..], &common].concat(), bytes);
    measure("dataset --dry-run", &[&dataset[..], &common, &["--dry-run"]].concat(), bytes);
    measure("dataset", &[&dataset[..], &common, &["--fewer"]].concat(), bytes);
}

/// Runs a command and prints what it took.
fn measure(name: &str, arguments: &[&str], bytes: u64) {
    let begun = Instant::now();
    let mut program = Command::new(PROGRAM)
        .args(["--log-level", "warn", "--timeout", "4h"])
        .args(arguments)
        .stdout(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut resident = 0;
    let status = loop {
        resident = resident_peak(program.id()).unwrap_or(resident);
        if let Some(status) = program.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    assert!(status.success(), "{arguments:?}");
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let speed = bytes as f64 / 1e6 / seconds;
    println!("| {name} | {seconds:.1} | {speed:.1} | {} |", resident / 1000);
}

/// The largest resident set of a process so far, in KiB.
fn resident_peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The plan and the verification's settings, as files.
fn settings(folder: &Path, trajectories: usize) -> (String, String) {
    let plan = json!({"acceptedTrajectories": trajectories, "firstRolloutShare": "0.5", "evalFraction": "0.02"});
    let student = json!({"toolCallFormat": "Hermes", "contextLength": 32768, "minKeptRatio": "0.5"});
    let verification = json!({"maxMeanToolTokens": 100_000, "threshold": "0", "student": student});
    let write = |name: &str, content: &serde_json::Value| {
        let file = folder.join(name);
        fs::write(&file, content.to_string()).unwrap();
        file.display().to_string()
    };
    (write("plan.json", &plan), write("verification.json", &verification))
}

/// Writes a store with one batch; returns how many bytes of JSON its trajectories have.
fn fill(store: &Path, trajectories: usize, tokens: usize) -> u64 {
    let sources = sources();
    let mut total = 0;
    for sample in 0..trajectories as u64 / 2 {
        let folder = store.join(format!("rollouts/b/{sample}"));
        fs::create_dir_all(folder.join("pod")).unwrap();
        for rollout in [RolloutKind::First, RolloutKind::Second] {
            let trajectory = trajectory(sample, rollout, &sources, tokens);
            let content = serde_json::to_vec(&trajectory).unwrap();
            total += content.len() as u64;
            let packed = zstd::encode_all(content.as_slice(), 1).unwrap();
            let patch = format!("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n+y{sample}\n");
            let record = record(sample, rollout, &folder, &packed, patch.as_bytes());
            fs::write(folder.join(format!("{}.json", rollout.stem())), serde_json::to_vec(&record).unwrap()).unwrap();
        }
        let outcome = SampleOutcome {
            version: CONTRACT_VERSION,
            sample,
            folder: "pod".into(),
            function: function(sample),
            bug_kinds: Vec::new(),
            first: RolloutOutcome::Submitted,
            pull_request: None,
            second: Some(RolloutOutcome::Submitted),
            usage: Usage::default(),
            teacher: teacher(),
        };
        fs::write(folder.join("outcome.json"), serde_json::to_vec(&outcome).unwrap()).unwrap();
    }
    total
}

fn record(sample: u64, rollout: RolloutKind, folder: &Path, packed: &[u8], patch: &[u8]) -> RolloutRecord {
    let file = |name: String, content: &[u8]| {
        fs::write(folder.join("pod").join(&name), content).unwrap();
        FileDigest { name, bytes: content.len() as u64, sha256: hex::encode(Sha256::digest(content)) }
    };
    let stem = rollout.stem();
    RolloutRecord {
        version: CONTRACT_VERSION,
        sample,
        rollout,
        folder: "pod".into(),
        outcome: RolloutOutcome::Submitted,
        problem: None,
        function: function(sample),
        bug_kind: None,
        trajectory: file(format!("{stem}.json.zst"), packed),
        patch: file(format!("p{}.diff", &stem[1..]), patch),
        usage: Usage::default(),
        retried: RetriedTurns::default(),
        teacher: teacher(),
        prompts: String::new(),
        protections: Vec::new(),
    }
}

fn function(sample: u64) -> FunctionRef {
    FunctionRef { snapshot: 0, file: format!("src/f{}.rs", sample % 500), name: "f".into(), lines: (1, 2) }
}

fn teacher() -> TeacherMark {
    TeacherMark { model: "none".into(), rehearsal: true }
}

/// A conversation whose observations are pieces of real files, each sample's other ones.
fn trajectory(sample: u64, rollout: RolloutKind, sources: &str, tokens: usize) -> Trajectory {
    let mut at = usize::try_from(sample * 7919 + u64::from(rollout == RolloutKind::Second) * 104_729).unwrap();
    let mut piece = |tokens: usize| {
        let begin = sources.floor_char_boundary(at % (sources.len() - tokens * BYTES_A_TOKEN));
        at += 15_485_863;
        &sources[begin..sources.floor_char_boundary(begin + tokens * BYTES_A_TOKEN)]
    };
    let mut messages = vec![
        Message::System { content: "You work on a repository.".into() },
        Message::User { content: piece(OBSERVATION).to_owned() },
    ];
    for turn in 0..tokens / (OBSERVATION + 150) {
        let id = format!("call-{turn}");
        let command = json!({"command": piece(50)});
        let words: String = (0..12).map(|n| format!("s{sample}{}t{turn}n{n} ", rollout.stem())).collect();
        messages.push(Message::Assistant {
            content: String::new(),
            reasoning: Some(words + piece(40)),
            tool_call: ToolCall {
                id: id.clone(),
                name: "bash".into(),
                arguments: command.as_object().unwrap().clone(),
            },
            usage: None,
        });
        messages.push(Message::Tool { tool_call_id: id, content: piece(OBSERVATION).to_owned(), review: false });
    }
    let tools = vec![json!({"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}})];
    Trajectory { version: CONTRACT_VERSION, sample, rollout, rehearsal: true, tools, messages }
}

/// The Rust files of this repository, one after the other, without what would be read as special tokens or marks.
fn sources() -> String {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![here.join("src"), here.join("../../crds/src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    let text: String = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    text.replace("<|", "<").replace("tool_call>", "call>").replace("think>", "thought>")
}
