//! Launched ranks: they end together, with the right code, and none stays behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ample: the longest that is waited for are the 10 s that ranks have to end.
const LIMIT: Duration = Duration::from_mins(1);

/// A launcher whose environment says nothing of ranks, and that hears SIGINT: a shell has what it starts in the background ignore it, and so would what
/// these tests start.
fn launcher(arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_sera-trainer"), "launch"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for variable in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "JOB_COMPLETION_INDEX", "SERA_RENDEZVOUS_ID"] {
        command.env_remove(variable);
    }
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = launcher(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// A launcher whose ranks sum until they are ended.
struct Launched {
    child: Child,
    ranks: Vec<Pid>,
}

impl Launched {
    /// Three ranks, all running.
    fn three() -> Self {
        let arguments = ["--nproc-per-node", "3", "--", "ring", "--times", "0", "--mebibytes", "1"];
        let mut launched = Self { child: launcher(&arguments).spawn().unwrap(), ranks: Vec::new() };
        let latest = Instant::now() + LIMIT;
        while launched.ranks.len() < 3 {
            assert!(Instant::now() < latest, "the ranks did not start");
            thread::sleep(Duration::from_millis(20));
            let launcher = launched.child.id();
            launched.ranks = (0..3).filter_map(|rank| rank_of(launcher, rank)).collect();
        }
        launched
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// How the launcher ended, what it said, and that no rank is left.
    fn ending(mut self) -> (ExitStatus, String) {
        let latest = Instant::now() + LIMIT;
        let wait_for = |done: &mut dyn FnMut() -> bool| {
            while !done() {
                assert!(Instant::now() < latest, "somebody is left");
                thread::sleep(Duration::from_millis(20));
            }
        };
        let mut status = None;
        wait_for(&mut || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        wait_for(&mut || self.ranks.iter().all(|pid| has_ended(*pid)));
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.unwrap(), said)
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process that a launcher started as this rank, once it runs the program.
fn rank_of(launcher: u32, rank: usize) -> Option<Pid> {
    let variables = [format!("SERA_LAUNCHER={launcher}"), format!("RANK={rank}")];
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let entry = entry.unwrap();
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let has = |variable: &String| environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes());
        variables.iter().all(has).then(|| Pid::from_raw(pid))
    })
}

/// Whether it has ended, even if nobody has waited for it yet.
fn has_ended(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ") || status.contains("State:\tX")
}

#[test]
fn ranks_reach_each_other_and_the_first_says_how_fast() {
    let launched =
        launcher(&["--nproc-per-node", "2", "--", "ring", "--mebibytes", "1", "--times", "2"]).output().unwrap();
    let said = String::from_utf8(launched.stdout).unwrap();
    assert!(launched.status.success() && said.starts_with("all_reduce of 1 MiB over 2 ranks: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// A port that is held, whose next one is free.
fn held_port() -> (TcpListener, u16) {
    loop {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        if port.checked_add(1).is_some_and(|next| TcpListener::bind(("127.0.0.1", next)).is_ok()) {
            return (held, port);
        }
    }
}

#[test]
fn where_torchruns_agent_holds_the_port_ranks_meet_beside_it_and_where_another_program_does_they_say_so() {
    let ranks = |agents: &str| {
        let (_held, port) = held_port();
        let rank = |rank: usize| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sera-trainer"));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).args([
                "ring",
                "--mebibytes",
                "1",
                "--times",
                "2",
                "--deadline",
                "20",
            ]);
            command.env("RANK", rank.to_string()).env("WORLD_SIZE", "2").env("TORCHELASTIC_USE_AGENT_STORE", agents);
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string()).spawn().unwrap()
        };
        let [first, mut second] = [rank(0), rank(1)];
        let first = first.wait_with_output().unwrap();
        if !first.status.success() {
            second.kill().unwrap();
        }
        second.wait().unwrap();
        (first.status.code(), String::from_utf8(first.stderr).unwrap())
    };
    let (code, said) = ranks("True");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = ranks("False");
    assert!(code == Some(10) && said.contains("is in use on this machine"), "{code:?} {said}");
}

#[test]
fn what_ranks_say_has_their_number_before_it_and_the_first_that_fails_gives_the_code() {
    let (code, said) = run(&["--nproc-per-node", "2", "--", "ring", "--mebibytes", "0"]);
    assert_eq!(code, Some(2), "{said}");
    let of_launcher = said.lines().filter(|line| line.starts_with("sera-trainer launch: rank ")).count();
    assert_eq!(of_launcher, 1, "{said}");
    let of_ranks = |line: &&str| line.starts_with("[rank 0] ") || line.starts_with("[rank 1] ");
    assert_eq!(said.lines().filter(of_ranks).count() + 1, said.lines().count(), "{said}");
}

#[test]
fn a_rank_that_is_killed_ends_the_others_and_gives_the_code() {
    let launched = Launched::three();
    kill(launched.ranks[1], Signal::SIGKILL).unwrap();
    let (status, said) = launched.ending();
    assert_eq!(status.code(), Some(128 + 9), "{said}");
    assert!(said.contains("sera-trainer launch: rank 1 was ended by SIGKILL"), "{said}");
}

#[test]
fn a_rank_that_does_not_end_when_another_has_failed_is_killed() {
    let launched = Launched::three();
    kill(launched.ranks[2], Signal::SIGSTOP).unwrap();
    kill(launched.ranks[0], Signal::SIGKILL).unwrap();
    let (status, said) = launched.ending();
    assert_eq!(status.code(), Some(128 + 9), "{said}");
    assert!(said.contains("rank 0 was ended by SIGKILL; the others are ended"), "{said}");
}

#[test]
fn a_rank_that_was_stopped_hears_that_it_is_to_end() {
    let launched = Launched::three();
    let stopped = launched.ranks[1];
    kill(stopped, Signal::SIGSTOP).unwrap();
    let asked = Instant::now();
    launched.signal(Signal::SIGTERM);
    launched.ending();
    assert!(asked.elapsed() < Duration::from_secs(10), "nobody had to be killed, or to wait for a neighbour's silence");
}

#[test]
fn signals_are_passed_on() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let launched = Launched::three();
        launched.signal(signal);
        let (status, said) = launched.ending();
        assert_eq!(status.code(), Some(128 + signal as i32), "{said}");
        assert!(said.contains(&format!("{signal} is passed on")), "{said}");
    }
}

#[test]
fn no_rank_outlives_a_launcher_that_is_killed() {
    let launched = Launched::three();
    launched.signal(Signal::SIGKILL);
    let (status, _) = launched.ending();
    assert_eq!(status.code(), None);
}

#[test]
fn a_rank_whose_launcher_is_gone_does_not_begin() {
    let mut rank = Command::new(env!("CARGO_BIN_EXE_sera-trainer"));
    // No process has this number: it is more than there can be.
    let ended = rank.args(["ring"]).env("SERA_LAUNCHER", "2000000000").output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(11) && said.contains("the launcher of this rank has ended"), "{said}");
}

#[test]
fn nodes_that_cannot_be_are_refused_in_a_line_that_names_the_flag() {
    for (arguments, named) in [
        (vec!["--nproc-per-node", "0"], "--nproc-per-node times --nnodes is 0"),
        (vec!["--nproc-per-node", "600", "--nnodes", "2"], "is 1200: there are from 1 to 1024"),
        (vec!["--nnodes", "2", "--node-rank", "2"], "--node-rank (JOB_COMPLETION_INDEX) is 2 and --nnodes is 2"),
        (vec!["--nnodes", "2", "--master-port", "1"], "--master-addr (MASTER_ADDR)"),
    ] {
        let (code, said) = run(&[arguments, vec!["--", "ring"]].concat());
        assert_eq!((code, said.lines().count()), (Some(10), 1), "{said}");
        assert!(said.contains(named), "{said}");
    }
}
