//! A driver for tests: it starts the program, speaks to it, and says what should have been.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use sera_sandbox::frame::{self, DataReader, DataWriter};
use sera_sandbox::wire::{Answer, ChangedFile, CommandEnd, EditOperation, FileNow, PROTOCOL, Policy, Request};
use tempfile::TempDir;

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sera-sandbox");

/// Says what a test leaves out because it cannot be had here, which CI does not put up with.
pub(crate) fn left_out(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("left out: {why}");
}

/// Where programs are: the system's before others, which may be scripts that look for a version first.
pub(crate) fn search_path() -> String {
    format!("/usr/bin:/bin:{}", std::env::var("PATH").unwrap_or_default())
}

/// A policy that gives nothing away.
pub(crate) fn policy() -> Policy {
    Policy {
        egress: false,
        landlock_required: true,
        env: Vec::new(),
        setup: None,
        setup_timeout_ms: 60_000,
        writable_paths: Vec::new(),
        disk_bytes: None,
        memory_bytes: None,
        processes: None,
    }
}

/// A slot that is served without namespaces, in a folder of its own.
pub(crate) struct Sandbox {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The folder: `workspace`, `tmp`, `home`, and `driver`, which is hidden.
    pub(crate) folder: TempDir,
    pub(crate) workspace: PathBuf,
    pub(crate) protections: Vec<String>,
    pub(crate) shell: String,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) end: CommandEnd,
    pub(crate) output: String,
    pub(crate) cut_bytes: u64,
}

impl Sandbox {
    /// A slot with an empty tree.
    pub(crate) fn new() -> Self {
        Self::with(&policy())
    }

    pub(crate) fn with(policy: &Policy) -> Self {
        let mut sandbox = Self::start(policy, |_, _| {});
        sandbox.put("empty", &Tree::new());
        sandbox
    }

    /// Starts the program after `prepare` has had its way with the folder and the command line.
    pub(crate) fn start(policy: &Policy, prepare: impl FnOnce(&Path, &mut Command)) -> Self {
        Self::try_start(policy, prepare).unwrap()
    }

    pub(crate) fn try_start(policy: &Policy, prepare: impl FnOnce(&Path, &mut Command)) -> Result<Self, Answer> {
        let folder = tempfile::Builder::new().prefix("sera sandbox ").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("driver")).unwrap();
        std::fs::write(path("driver/key"), "the-drivers-key").unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--stdio"]);
        for name in ["workspace", "tmp", "home"] {
            command.arg(format!("--{name}")).arg(path(name));
        }
        command.arg("--stash").arg(folder.path()).arg("--hide").arg(path("driver")).arg("--hide=/dev");
        command.env("SERA_API_KEY", "the-drivers-variable").env("PATH", search_path());
        prepare(folder.path(), &mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let (workspace, protections, shell) = (PathBuf::new(), Vec::new(), String::new());
        let mut sandbox = Self { child, input, output, folder, workspace, protections, shell };
        match sandbox.ask(&Request::Hello { protocol: PROTOCOL, policy: policy.clone() }) {
            Answer::Ready { protections, workspace, shell, .. } => {
                (sandbox.protections, sandbox.workspace, sandbox.shell) = (protections, workspace.into(), shell);
                Ok(sandbox)
            }
            other => Err(other),
        }
    }

    /// A slot with namespaces of its own, and an empty tree; none where the kernel has none, which CI does not put up with.
    pub(crate) fn local(policy: &Policy) -> Option<Self> {
        Self::local_with(policy, &[])
    }

    pub(crate) fn local_with(policy: &Policy, options: &[&str]) -> Option<Self> {
        let mut sandbox = Self::start(policy, |folder, command| {
            *command = Command::new(PROGRAM);
            command.args(["serve", "--stdio", "--local"]).arg(folder.join("slot"));
            command
                .arg("--hide")
                .arg(folder.join("driver"))
                .args(options)
                .env("SERA_API_KEY", "the-drivers-variable")
                .env("PATH", search_path());
        });
        if !sandbox.protections.iter().any(|kept| kept == "pid-namespace") {
            left_out("this kernel gives no namespaces");
            return None;
        }
        sandbox.put("empty", &Tree::new());
        Some(sandbox)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        self.say(request);
        self.hear()
    }

    pub(crate) fn say(&mut self, request: &Request) {
        frame::write_message(self.input.as_mut().unwrap(), request).unwrap();
    }

    pub(crate) fn hear(&mut self) -> Answer {
        frame::read_message(&mut self.output).unwrap().expect("the program has gone")
    }

    /// Closes the connection, and waits for the program to end.
    pub(crate) fn leave(&mut self) -> std::process::ExitStatus {
        drop(self.input.take());
        self.child.wait().unwrap()
    }

    /// Puts a tree, and answers how many files were written.
    pub(crate) fn put(&mut self, name: &str, tree: &Tree) -> u64 {
        match self.try_put(name, &tree.tar()) {
            Answer::Put { written, .. } => written,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn try_put(&mut self, name: &str, tar: &[u8]) -> Answer {
        self.say(&Request::Put { tree: name.to_owned() });
        let mut stream = DataWriter::new(self.input.as_mut().unwrap());
        stream.write_all(tar).unwrap();
        stream.finish().unwrap();
        self.hear()
    }

    pub(crate) fn exec(&mut self, command: &str) -> Executed {
        self.exec_for(command, 30_000)
    }

    pub(crate) fn exec_for(&mut self, command: &str, timeout_ms: u64) -> Executed {
        let request = Request::Exec { command: command.to_owned(), timeout_ms, max_output: 100_000 };
        match self.ask(&request) {
            Answer::Executed { end, output, cut_bytes, .. } => Executed { end, output, cut_bytes },
            other => panic!("{command}: {other:?}"),
        }
    }

    /// The output of a command that has to succeed.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) -> String {
        let executed = self.exec(command);
        assert_eq!(executed.end, CommandEnd::Exited { code: 0 }, "{command}\n{}", executed.output);
        executed.output
    }

    /// The exit code of a command.
    #[track_caller]
    pub(crate) fn code(&mut self, command: &str) -> i32 {
        match self.exec(command).end {
            CommandEnd::Exited { code } => code,
            other => panic!("{command}: {other:?}"),
        }
    }

    pub(crate) fn edit(&mut self, operation: EditOperation) -> Result<String, String> {
        match self.ask(&Request::Edit { operation, max_chars: 16_000 }) {
            Answer::Edited { output, done: true } => Ok(output),
            Answer::Edited { output, done: false } => Err(output),
            other => panic!("{other:?}"),
        }
    }

    /// What has changed, with the contents of regular files.
    pub(crate) fn changed(&mut self) -> BTreeMap<String, Changed> {
        let files = match self.ask(&Request::Changed) {
            Answer::Changed { files } => files,
            other => panic!("{other:?}"),
        };
        let mut contents = Vec::new();
        DataReader::new(&mut self.output).read_to_end(&mut contents).unwrap();
        let mut contents = &contents[..];
        let changed = files.into_iter().map(|ChangedFile { path, now }| {
            let path = String::from_utf8(path.0).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string());
            (path, Changed::new(now, &mut contents))
        });
        let changed = changed.collect();
        assert!(contents.is_empty(), "more came than was announced");
        changed
    }

    /// Wipes the slot, and answers how many files were restored or removed.
    pub(crate) fn wipe(&mut self) -> u64 {
        match self.ask(&Request::Wipe) {
            Answer::Wiped { restored } => restored,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The processes that descend from one, by their parents.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent = |pid: u32| stat(pid)?.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok();
    let all: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    let mut found = vec![of];
    loop {
        let more: Vec<u32> = all
            .iter()
            .copied()
            .filter(|pid| !found.contains(pid) && parent(*pid).is_some_and(|parent| found.contains(&parent)))
            .collect();
        if more.is_empty() {
            return found.split_off(1);
        }
        found.extend(more);
    }
}

/// What is at a path that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    Gone,
    File(String),
    Executable(String),
    Link(String),
    TooLarge(u64),
}

impl Changed {
    fn new(now: FileNow, contents: &mut &[u8]) -> Self {
        match now {
            FileNow::Gone => Self::Gone,
            FileNow::TooLarge { bytes } => Self::TooLarge(bytes),
            FileNow::Link { target } => Self::Link(String::from_utf8_lossy(&target.0).into_owned()),
            FileNow::File { bytes, executable } => {
                let (content, rest) = contents.split_at(usize::try_from(bytes).unwrap());
                *contents = rest;
                let content = String::from_utf8_lossy(content).into_owned();
                if executable { Self::Executable(content) } else { Self::File(content) }
            }
        }
    }
}

/// A tree to put.
pub(crate) struct Tree {
    builder: tar::Builder<Vec<u8>>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()) }
    }

    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        files.iter().fold(Self::new(), |tree, (path, text)| tree.file(path, text.as_bytes()))
    }

    pub(crate) fn file(self, path: impl AsRef<Path>, content: &[u8]) -> Self {
        self.entry(path.as_ref(), 0o644, content)
    }

    pub(crate) fn executable(self, path: impl AsRef<Path>, content: &[u8]) -> Self {
        self.entry(path.as_ref(), 0o755, content)
    }

    fn entry(mut self, path: &Path, mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        self.builder.append_data(&mut header, path, content).unwrap();
        self
    }

    pub(crate) fn link(mut self, path: &str, target: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        self.builder.append_link(&mut header, path, target).unwrap();
        self
    }

    /// Everything in a folder.
    pub(crate) fn folder(path: &Path) -> Self {
        let mut tree = Self::new();
        tree.builder.follow_symlinks(false);
        tree.builder.append_dir_all(".", path).unwrap();
        tree
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut tar = self.builder.get_ref().clone();
        tar.extend([0; 1024]);
        tar
    }
}
