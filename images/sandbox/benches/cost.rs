//! What the sandbox costs, as a table: `cargo bench -p sera-sandbox`. A command beside plain `sh -c`, and a tree of ten thousand files beside plain
//! `tar`. The files lie beneath `TMPDIR`: ext4 without a journal (not what machines have, but some virtual ones) takes up to ten times as long for a
//! file that is made soon after others were removed, whoever makes it.

use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use sera_sandbox::frame::{self, DataWriter};
use sera_sandbox::wire::{Answer, PROTOCOL, Policy, Request};

/// How often a command is run.
const COMMANDS: usize = 300;
/// How often a shell is started.
const SHELLS: usize = 30;
/// How many files the tree has, and how many lines of `value = N` each of them: about 5 KB, as a source file has.
const FILES: usize = 10_000;
const LINES: usize = 400;
/// How often a tree is put and wiped.
const ROUNDS: usize = 7;

type Problem = Box<dyn std::error::Error>;

fn main() -> Result<(), Problem> {
    // `cargo test` runs benches too, and wants nothing of them.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut slot = Slot::start(folder.path())?;
    println!("{:<60} {:>9}  (median, in ms)", "", "ms");
    commands(&mut slot)?;
    trees(&mut slot)
}

fn commands(slot: &mut Slot) -> Result<(), Problem> {
    slot.put("nothing", &tree(0, "")?)?;
    for (what, command) in [("true", "true"), ("a program", "/bin/true"), ("100 KB of output", "seq 1 18000")] {
        let plain = || Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().map(drop);
        tell(&format!("{what}: sh -c"), COMMANDS, || Ok(plain()?))?;
        tell(&format!("{what}: in the slot's shell"), COMMANDS, || slot.exec(command))?;
    }
    tell("exit, and a command in a new shell", SHELLS, || {
        slot.exec("exit")?;
        slot.exec("true")
    })
}

fn trees(slot: &mut Slot) -> Result<(), Problem> {
    let (nothing, one, other) = (tree(0, "")?, tree(FILES, "one")?, tree(FILES, "other")?);
    println!("\na tree of {FILES} files, {} MB", one.len() / 1_000_000);
    let mut times: [Vec<Duration>; 6] = Default::default();
    for round in 0..ROUNDS {
        let beside = tempfile::tempdir()?;
        times[5].push(timed(|| extract(beside.path(), &one))?);
        drop(beside);
        slot.put(&format!("nothing {round}"), &nothing)?;
        times[0].push(timed(|| slot.put(&format!("one {round}"), &one))?);
        times[1].push(timed(|| slot.ask(&Request::Wipe))?);
        slot.exec("for f in d1/*/*; do echo changed >>$f; done; rm -rf d2; mkdir new && cp -r d3 new")?;
        times[2].push(timed(|| slot.ask(&Request::Wipe))?);
        times[3].push(timed(|| slot.put(&format!("one {round}"), &nothing))?);
        times[4].push(timed(|| slot.put(&format!("other {round}"), &other))?);
    }
    let names = [
        "put, nothing of it there",
        "wipe, nothing changed",
        "wipe, 200 files edited, 200 removed, 200 made",
        "put again, the same tree",
        "put another tree, every file different",
        "tar -x of the same tree, which neither hashes nor keeps it",
    ];
    for (name, mut times) in names.into_iter().zip(times) {
        times.sort();
        println!("{name:<60} {:>9.2}", times[ROUNDS / 2].as_secs_f64() * 1000.0);
    }
    Ok(())
}

fn extract(folder: &Path, tar: &[u8]) -> Result<(), Problem> {
    let mut command = Command::new("tar");
    let mut child = command.arg("-C").arg(folder).args(["-xf", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(tar)?;
    if child.wait()?.success() { Ok(()) } else { Err("tar".into()) }
}

fn tell(what: &str, count: usize, mut work: impl FnMut() -> Result<(), Problem>) -> Result<(), Problem> {
    let mut times = (0..count).map(|_| timed(&mut work)).collect::<Result<Vec<_>, _>>()?;
    times.sort();
    println!("{what:<60} {:>9.2}", times[count / 2].as_secs_f64() * 1000.0);
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<Duration, Problem> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

/// A tree as a tar stream; `mark` makes its contents its own.
fn tree(files: usize, mark: &str) -> Result<Vec<u8>, Problem> {
    let mut builder = tar::Builder::new(Vec::new());
    for at in 0..files {
        let content = format!("# {mark} {at}\n{}", format!("value = {at}\n").repeat(LINES));
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, format!("d{}/e{}/f{at}.py", at % 50, at % 7), content.as_bytes())?;
    }
    Ok(builder.into_inner()?)
}

/// The program, spoken to.
struct Slot {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Slot {
    fn start(folder: &Path) -> Result<Self, Problem> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sera-sandbox"));
        command.args(["serve", "--stdio"]).arg("--local").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut slot = Self { input: child.stdin.take(), child, output };
        let policy = Policy {
            egress: false,
            landlock_required: false,
            env: Vec::new(),
            setup: None,
            setup_timeout_ms: 0,
            writable_paths: Vec::new(),
            disk_bytes: Some(1 << 40),
            memory_bytes: Some(1 << 40),
            processes: Some(1000),
        };
        match slot.ask(&Request::Hello { protocol: PROTOCOL, policy })? {
            Answer::Ready { protections, shell, .. } => println!("{shell}; {}\n", protections.join(", ")),
            other => return Err(format!("{other:?}").into()),
        }
        Ok(slot)
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, Problem> {
        frame::write_message(self.input.as_mut().ok_or("gone")?, request)?;
        self.hear()
    }

    fn hear(&mut self) -> Result<Answer, Problem> {
        match frame::read_message(&mut self.output)?.ok_or("the program has gone")? {
            Answer::Failed { message, .. } => Err(message.into()),
            answer => Ok(answer),
        }
    }

    fn exec(&mut self, command: &str) -> Result<(), Problem> {
        self.ask(&Request::Exec { command: command.to_owned(), timeout_ms: 60_000, max_output: 100_000 }).map(drop)
    }

    fn put(&mut self, tree: &str, tar: &[u8]) -> Result<(), Problem> {
        let input = self.input.as_mut().ok_or("gone")?;
        frame::write_message(input, &Request::Put { tree: tree.to_owned() })?;
        let mut stream = DataWriter::new(input);
        stream.write_all(tar)?;
        stream.finish()?;
        self.hear().map(drop)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
