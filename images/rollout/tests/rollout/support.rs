//! A small repository as a snapshot in a store, a teacher that works by a script, and what a run leaves behind.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use sera_crds::contract::{CONTRACT_VERSION, FunctionRef, Message, RolloutRecord, SampleOutcome, Trajectory};
use sera_test_servers::S3Server;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::endpoint::{Endpoint, Reply, answer, call};

/// A file with tabs, as Go has them, and the line that every scripted fix changes.
pub(crate) const GO: &str = "package ring\n\nfunc Next(items []int, at int) int {\n\tif at >= len(items) {\n\t\treturn 0\n\t}\n\treturn items[at+1]\n}\n";
pub(crate) const WRONG: &str = "\treturn items[at+1]\n";
pub(crate) const RIGHT: &str = "\treturn items[(at+1)%len(items)]\n";
/// A text that a user could have written.
pub(crate) const ISSUE: &str = "Next panics for the last index of a ring, whatever the ring holds. I expected it to start over at the beginning, as a ring without an end does.";

/// The sandbox's program, beside ours. Cargo builds it with the whole workspace, and not with this crate alone.
pub(crate) fn sandbox_program() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_sera-rollout")).with_file_name("sera-sandbox");
    if program.exists() {
        return Some(program);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: build the workspace's programs", program.display());
    eprintln!("left out: {} is missing; `cargo build --bins` makes it", program.display());
    None
}

/// A store with a snapshot, and where the program works.
pub(crate) struct Place {
    folder: TempDir,
    store: Store,
}

/// The store: in a folder of the place, or a bucket's.
struct Store {
    uri: String,
    /// Where its files lie on this machine.
    folder: PathBuf,
    credentials: Option<PathBuf>,
}

/// A run of the program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
    pub(crate) message: String,
}

impl Place {
    /// With eight functions in its index.
    pub(crate) fn new() -> Self {
        Self::with_functions(
            ["Previous", "First", "Last", "Insert", "Remove", "Len", "Swap"].map(str::to_owned).as_slice(),
        )
    }

    /// The same, outside of /tmp: every slot has a /tmp of its own, in which nothing of the machine's has to be hidden.
    pub(crate) fn outside_tmp() -> Self {
        let folder = tempfile::Builder::new().prefix("sera-t").tempdir_in("/var/tmp").unwrap();
        Self::in_folder(folder, &files(&["Previous".to_owned()]), "0")
    }

    /// With `Next`, and functions of these names.
    pub(crate) fn with_functions(names: &[String]) -> Self {
        Self::of(&files(names), "0")
    }

    /// Of these files, with this share of functions set aside.
    pub(crate) fn of(files: &[(String, String)], held_out: &str) -> Self {
        Self::in_folder(tempfile::Builder::new().prefix("sera-t").tempdir().unwrap(), files, held_out)
    }

    /// With another place's repository, in a bucket.
    pub(crate) fn in_bucket(server: &S3Server, other: &Self) -> Self {
        let folder = tempfile::Builder::new().prefix("sera-t").tempdir().unwrap();
        let credentials = folder.path().join("s3");
        std::fs::create_dir(&credentials).unwrap();
        for (key, value) in server.keys() {
            std::fs::write(credentials.join(key), value).unwrap();
        }
        let prefix = "ml/billing/1";
        let store =
            Store { uri: server.uri(prefix), folder: server.bucket().join(prefix), credentials: Some(credentials) };
        let place = Self { folder, store };
        place.take_snapshot(&other.path("source"), "0");
        place
    }

    fn in_folder(folder: TempDir, files: &[(String, String)], held_out: &str) -> Self {
        let path = folder.path().join("store");
        let store = Store { uri: format!("file://{}", path.display()), folder: path, credentials: None };
        let place = Self { folder, store };
        let source = place.path("source");
        for (name, content) in files {
            let file = source.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        let git = |arguments: &[&str]| {
            let status = std::process::Command::new("git")
                .args(["-c", "user.name=n", "-c", "user.email=e@e.invalid", "-c", "core.autocrlf=false"])
                .args(arguments)
                .current_dir(&source)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success(), "git {arguments:?}");
        };
        git(&["init", "--quiet", "--initial-branch=main"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message=first"]);
        place.take_snapshot(&source, held_out);
        place
    }

    fn take_snapshot(&self, source: &Path, held_out: &str) {
        let status = self
            .stage("snapshot")
            .into_std()
            .args(["--commits=1", "--log-level=error"])
            .arg(format!("--held-out-fraction={held_out}"))
            .arg("--url")
            .arg(source)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "the snapshot");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of the store.
    pub(crate) fn stored(&self, name: &str) -> PathBuf {
        self.store.folder.join(name)
    }

    /// A stage of this store, with nothing else said.
    pub(crate) fn stage(&self, stage: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sera-rollout"));
        command.args([stage, "--store", &self.store.uri]).env_remove("RUST_LOG").stdin(Stdio::null());
        if let Some(credentials) = &self.store.credentials {
            command.arg("--store-credentials").arg(credentials);
        }
        command
    }

    /// The program, told to work on `count` samples of batch b1 with two sandboxes.
    pub(crate) fn rollout(&self, program: &Path, teacher: &str, count: u32, plan: &Value) -> Command {
        let mut plan = plan.clone();
        if plan.get("sandbox").is_none() {
            // Landlock is the sandbox's own matter, and not every kernel that tests run on has it.
            plan["sandbox"] = json!({"landlock": "BestEffort"});
        }
        let mut command = self.command("rollout", program, &plan);
        command
            .args(["--batch=b1", "--teacher-model=some-model", "--rehearsal"])
            .args([format!("--count={count}"), format!("--teacher-url={teacher}")]);
        command
    }

    /// The program, told to work in this store with two sandboxes and by this plan.
    pub(crate) fn command(&self, stage: &str, program: &Path, plan: &Value) -> Command {
        let mut command = self.stage(stage);
        command
            .args(["--sandbox=local", "--slots=2", "--teacher-retries=1"])
            .arg(format!("--plan-json={plan}"))
            .arg("--sandbox-program")
            .arg(program)
            .arg("--scratch")
            .arg(self.path("scratch"))
            .arg("--termination-message")
            .arg(self.path("termination"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub(crate) async fn finish(&self, mut command: Command) -> Finished {
        let child: Child = command.spawn().unwrap();
        let output = child.wait_with_output().await.unwrap();
        Finished {
            code: output.status.code(),
            log: String::from_utf8(output.stderr).unwrap(),
            message: std::fs::read_to_string(self.path("termination")).unwrap_or_default(),
        }
    }

    pub(crate) fn document<T: DeserializeOwned>(&self, sample: u64, name: &str) -> Option<T> {
        let bytes = std::fs::read(self.stored(&format!("rollouts/b1/{sample}/{name}"))).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    pub(crate) fn outcome(&self, sample: u64) -> SampleOutcome {
        self.document(sample, "outcome.json").expect("the sample has an end")
    }

    pub(crate) fn record(&self, sample: u64, name: &str) -> RolloutRecord {
        let record: RolloutRecord = self.document(sample, name).expect("the rollout was committed");
        assert_eq!((record.version, record.sample), (CONTRACT_VERSION, sample));
        record
    }

    /// A file that a record names.
    pub(crate) fn file(&self, sample: u64, folder: &str, name: &str) -> String {
        let path = self.stored(&format!("rollouts/b1/{sample}/{folder}/{name}"));
        String::from_utf8(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
    }

    pub(crate) fn patch(&self, record: &RolloutRecord) -> String {
        self.file(record.sample, &record.folder, &record.patch.name)
    }

    pub(crate) fn trajectory(&self, record: &RolloutRecord) -> Trajectory {
        let path = self.stored(&format!("rollouts/b1/{}/{}/{}", record.sample, record.folder, record.trajectory.name));
        serde_json::from_slice(&zstd::decode_all(&std::fs::read(path).unwrap()[..]).unwrap()).unwrap()
    }
}

/// The files of a repository with `Next`, and functions of these names.
fn files(names: &[String]) -> [(String, String); 3] {
    let others: String = names.iter().map(|name| format!("\nfunc {name}(n int) int {{\n\treturn n\n}}\n")).collect();
    [
        ("src/ring.go".to_owned(), format!("{GO}{others}")),
        (".gitignore".to_owned(), "*.log\nbuild/\n".to_owned()),
        (".gitattributes".to_owned(), "*.go text eol=crlf diff=nonsense\n".to_owned()),
    ]
}

impl Finished {
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.message, self.log);
        self
    }
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// Turn `n` of a first rollout, from 0.
    First(usize),
    /// Turn `n` of a second.
    Second(usize),
    Review,
    PullRequest,
}

/// What a request is about, as far as its words tell.
pub(crate) fn about(request: &Value) -> About {
    let messages = request["messages"].as_array().unwrap();
    let last = messages.last().unwrap();
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    if last["role"] == "user" && text(last).contains("yes if the change") {
        return About::Review;
    }
    if last["role"] == "user" && text(last).contains("<output>") {
        return About::PullRequest;
    }
    let turns = messages.iter().filter(|message| message["role"] == "assistant").count();
    if text(&messages[1]).contains("<issue>") { About::Second(turns) } else { About::First(turns) }
}

/// What a teacher does who finds the mistake: looks, corrects, runs something, and submits twice.
pub(crate) fn good_message(about: About) -> Value {
    match about {
        About::Review => json!({"content": "It is small and right.\nyes"}),
        About::PullRequest => json!({"content": format!("<output>\n{ISSUE}\n</output>")}),
        About::First(turn) | About::Second(turn) => match turn {
            0 => call("str_replace_editor", &json!({"command": "view", "path": "/testbed/src/ring.go"})),
            1 => call(
                "str_replace_editor",
                &json!({"command": "str_replace", "path": "/testbed/src/ring.go", "old_str": WRONG, "new_str": RIGHT}),
            ),
            2 => call("bash", &json!({"command": "grep -c items src/ring.go; echo noise > out.log"})),
            _ => call("submit", &json!({})),
        },
    }
}

/// The function that a request's task names: a second rollout's does it in the text that it was given.
pub(crate) fn function(request: &Value) -> String {
    let task = request["messages"][1]["content"].as_str().unwrap();
    task.split('`').nth(1).unwrap_or_default().to_owned()
}

/// A text that names the function.
pub(crate) fn text_about(function: &str) -> Value {
    json!({"content": format!("<output>\n`{function}` is where I saw it. {ISSUE}\n</output>")})
}

pub(crate) fn good(request: &Value) -> Reply {
    Reply::Json(answer(&good_message(about(request))))
}

/// A teacher who does well, but for what `otherwise` says.
pub(crate) async fn teacher(otherwise: impl Fn(usize, &Value) -> Option<Reply> + Send + Sync + 'static) -> Endpoint {
    Endpoint::start(move |number, request| otherwise(number, &request).unwrap_or_else(|| good(&request))).await
}

/// How many turns of the teacher a trajectory has.
pub(crate) fn turns(trajectory: &Trajectory) -> usize {
    trajectory.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count()
}

/// A function as a sample names it.
pub(crate) fn is_of_the_index(function: &FunctionRef) -> bool {
    function.file == "src/ring.go" && function.snapshot == 0
}
