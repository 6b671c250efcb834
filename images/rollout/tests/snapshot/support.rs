//! A place to run the program in, repositories made to measure, and what a run leaves behind.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use sera_crds::contract::{Failure, IndexedFunction, Outcome, SnapshotManifest, StageResult, Termination};
use tempfile::TempDir;

/// Seconds since 1970 of the newest commit of made repositories.
pub(crate) const NEWEST: i64 = 1_760_000_000;
/// A day, in seconds.
pub(crate) const DAY: i64 = 86_400;

/// A folder with a repository, scratch space and stores. Its name has what a shell or a URL could stumble over.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("it's a %20 \"place\" $HOME ").tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.path("scratch")
    }

    /// Writes a Secret as Kubernetes mounts it, and returns its folder.
    pub(crate) fn secret(&self, name: &str, keys: &[(&str, &str)]) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (key, value) in keys {
            std::fs::write(folder.join(key), value).unwrap();
        }
        folder
    }

    /// The program, told to take a snapshot of `url` into the store of that name, and nothing else.
    pub(crate) fn snapshot(&self, url: &str, store: &str) -> Snapshot {
        let message = self.path(&format!("termination-{store}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sera-rollout"));
        command
            .args(["snapshot", &format!("--url={url}"), "--retries=0", "--log-level=debug"])
            .arg("--store")
            .arg(file_uri(&self.path(store)))
            .arg("--scratch")
            .arg(self.scratch())
            .arg("--termination-message")
            .arg(&message)
            .env_remove("RUST_LOG")
            .env_remove("SERA_CA_CERTIFICATES")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Snapshot { command, message, store: self.path(store) }
    }
}

/// A `file://` URI, with what a URI cannot have spelt out.
pub(crate) fn file_uri(path: &Path) -> String {
    url::Url::from_file_path(path).unwrap().to_string()
}

/// A run that is being prepared.
pub(crate) struct Snapshot {
    command: Command,
    message: PathBuf,
    store: PathBuf,
}

impl Snapshot {
    pub(crate) fn flag(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        // In one piece, so that no value is taken for a flag.
        let mut argument = std::ffi::OsString::from(format!("{name}="));
        argument.push(value);
        self.command.arg(argument);
        self
    }

    /// A flag without a value.
    pub(crate) fn switch(mut self, name: &str) -> Self {
        self.command.arg(name);
        self
    }

    /// The same, without the repository's address.
    pub(crate) fn without_url(mut self) -> Self {
        let mut command = Command::new(self.command.get_program());
        command.args(self.command.get_args().filter(|argument| !argument.to_string_lossy().starts_with("--url=")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = command;
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The same, run by another program: its arguments, then this program and its own.
    pub(crate) fn wrapped(mut self, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).arg(self.command.get_program()).args(self.command.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = command;
        self
    }

    pub(crate) fn spawn(&mut self) -> Child {
        self.command.spawn().unwrap()
    }

    pub(crate) fn run(mut self) -> Finished {
        let output = self.command.output().unwrap();
        self.finished(output)
    }

    pub(crate) fn finished(&self, output: Output) -> Finished {
        let Output { status, stdout, stderr } = output;
        Finished {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
            message: std::fs::read_to_string(&self.message).unwrap_or_default(),
            store: self.store.clone(),
        }
    }
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The termination message, as it was left.
    pub(crate) message: String,
    store: PathBuf,
}

impl Finished {
    /// The result, of a run that must have succeeded.
    pub(crate) fn result(&self) -> StageResult {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        assert_eq!(self.stdout.trim_end(), self.message, "standard output and termination message differ");
        match Termination::parse(&self.message).unwrap().outcome {
            Outcome::Succeeded(result) => result,
            Outcome::Failed(failure) => panic!("{failure:?}"),
        }
    }

    /// The failure, of a run that must have failed.
    pub(crate) fn failure(&self) -> Failure {
        assert_eq!(self.stdout, "", "a failure has no result");
        match Termination::parse(&self.message).unwrap_or_else(|error| panic!("{error}\n{}", self.stderr)).outcome {
            Outcome::Failed(failure) => failure,
            Outcome::Succeeded(result) => panic!("{result:?}"),
        }
    }

    pub(crate) fn manifest_bytes(&self) -> Vec<u8> {
        std::fs::read(self.store.join("snapshot/manifest.json")).unwrap()
    }

    pub(crate) fn manifest(&self) -> SnapshotManifest {
        serde_json::from_slice(&self.manifest_bytes()).unwrap()
    }

    /// The function index, line by line.
    pub(crate) fn functions(&self) -> Vec<IndexedFunction> {
        let file = std::fs::File::open(self.functions_file()).unwrap();
        let text = std::io::read_to_string(zstd::Decoder::new(file).unwrap()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn functions_file(&self) -> PathBuf {
        self.store.join("snapshot/functions.jsonl.zst")
    }

    pub(crate) fn functions_bytes(&self) -> Vec<u8> {
        std::fs::read(self.functions_file()).unwrap()
    }

    pub(crate) fn style_bytes(&self) -> Vec<u8> {
        std::fs::read(self.store.join("snapshot/style.jsonl.zst")).unwrap()
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.store.join("snapshot/repository.bundle")
    }

    pub(crate) fn bundle_bytes(&self) -> Vec<u8> {
        std::fs::read(self.bundle()).unwrap()
    }
}

/// Runs git in `folder`, away from this machine's configuration, and returns what it prints; it must succeed.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    git_with_input(folder, arguments, b"")
}

/// Runs git as somebody who has a name.
pub(crate) fn git_as_ada(folder: &Path, arguments: &[&str]) -> String {
    git(folder, &[&["-c", "user.name=Ada Example", "-c", "user.email=ada@example.com"], arguments].concat())
}

fn git_with_input(folder: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Makes a bare repository whose branch `main` has a commit for each age in days (oldest first), each with a merged side commit, so that not all
/// commits are on the first-parent line. The tree has what trees can have. `weight` bytes of noise change with each commit.
pub(crate) fn repository(folder: &Path, ages_in_days: &[i64], weight: usize) -> PathBuf {
    let path = folder.to_owned();
    std::fs::create_dir_all(&path).unwrap();
    git(&path, &["init", "--quiet", "--bare", "-b", "main"]);
    let mut stream = Vec::new();
    let mut mark = 0;
    for (n, age) in ages_in_days.iter().enumerate() {
        let when = NEWEST - age * DAY;
        let side = if n == 0 {
            String::new()
        } else {
            mark += 1;
            commit(
                &mut stream,
                "refs/heads/side",
                mark,
                when - 60,
                &format!("side {n}"),
                &format!("from :{}\n", mark - 1),
            );
            file(&mut stream, "100644", &format!("side/{n}.txt"), format!("side {n}\n").as_bytes());
            format!("from :{}\nmerge :{mark}\n", mark - 1)
        };
        mark += 1;
        commit(&mut stream, "refs/heads/main", mark, when, &format!("change {n}: see also change {}", n + 1), &side);
        if n == 0 {
            everything_a_tree_can_have(&mut stream);
        }
        file(&mut stream, "100644", "src/lib.rs", library(n).as_bytes());
        file(&mut stream, "100644", "noise.bin", &noise(n as u64 + 1, weight));
    }
    writeln!(stream, "done").unwrap();
    git_with_input(&path, &["fast-import", "--quiet", "--done"], &stream);
    git(&path, &["update-ref", "-d", "refs/heads/side"]);
    path
}

/// A function that is the same in every commit, and one that is not.
fn library(version: usize) -> String {
    format!("pub fn double(x: u32) -> u32 {{\n    2 * x\n}}\n\npub fn version() -> u32 {{\n    double({version})\n}}\n")
}

fn everything_a_tree_can_have(stream: &mut Vec<u8>) {
    file(stream, "100755", "run.sh", b"#!/bin/sh\necho hi\n");
    file(stream, "120000", "link", b"src/lib.rs");
    file(
        stream,
        "100644",
        "data/model.bin",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    );
    file(stream, "100644", ".gitattributes", b"*.bin filter=lfs diff=lfs merge=lfs -text\n*.txt text eol=crlf\n");
    file(stream, "100644", "\"na\\303\\257ve \\377.txt\"", b"neither ASCII nor UTF-8\n");
    file(stream, "100644", ".gitmodules", b"[submodule \"dep\"]\n\tpath = dep\n\turl = https://git.invalid/dep.git\n");
    writeln!(stream, "M 160000 {} dep", "1".repeat(40)).unwrap();
}

fn commit(stream: &mut Vec<u8>, branch: &str, mark: usize, when: i64, message: &str, parents: &str) {
    let who = "Ada Example <ada@example.com>";
    write!(
        stream,
        "commit {branch}\nmark :{mark}\nauthor {who} {when} +0200\ncommitter {who} {when} -0700\ndata {}\n{message}\n{parents}",
        message.len()
    )
    .unwrap();
}

fn file(stream: &mut Vec<u8>, mode: &str, path: &str, content: &[u8]) {
    write!(stream, "M {mode} inline {path}\ndata {}\n", content.len()).unwrap();
    stream.extend_from_slice(content);
    stream.push(b'\n');
}

/// Bytes that do not compress, the same for the same seed (xorshift64).
pub(crate) fn noise(mut seed: u64, bytes: usize) -> Vec<u8> {
    let next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(bytes).collect()
}

/// A port of this machine that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until something listens on a port.
pub(crate) fn await_port(port: u16) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < deadline, "nothing listens on port {port}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// A server that ends with its test, and with it what it has started.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Makes a key pair, and returns the private half.
pub(crate) fn ssh_key(path: &Path, passphrase: &str) -> String {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-C", "test", "-N", passphrase, "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
    std::fs::read_to_string(path).unwrap()
}
