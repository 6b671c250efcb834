//! How the group ends when a rank is lost while others train, and gather weights beside that.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::free_port;

/// How soon the other has to end.
const LIMIT: Duration = Duration::from_secs(30);

/// A rank of two that trains the smallest model, everything divided between them, with what it steps there.
fn rank(rank: usize, port: u16, residence: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sera-trainer"))
        .args(["bench", "--row", "small-again", "--sharding", "zero3", "--steps", "10000", "--residence", residence])
        .envs([("RANK", rank), ("WORLD_SIZE", 2), ("LOCAL_RANK", rank), ("MASTER_PORT", port.into())].map(as_text))
        .envs([("MASTER_ADDR", "127.0.0.1"), ("SERA_RENDEZVOUS_ID", "a test"), ("RAYON_NUM_THREADS", "1")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn as_text((name, number): (&str, usize)) -> (&str, String) {
    (name, number.to_string())
}

/// Whether it has the thread that gathers, and that has done something.
fn gathers(child: &Child) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", child.id())) else { return false };
    threads.flatten().any(|thread| {
        let read = |name| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let waited =
            read("status").lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok());
        read("comm").trim() == "gather" && waited.is_some_and(|times: u32| times > 20)
    })
}

fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let latest = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < latest, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_rank_lost_while_weights_are_gathered_ahead_ends_the_other_who_names_it_and_the_collective() {
    for residence in ["host", "device"] {
        let port = free_port();
        let mut ranks = [rank(0, port, residence), rank(1, port, residence)];
        until("they do not train", 4 * LIMIT, || ranks.iter().all(gathers));
        kill(Pid::from_raw(ranks[1].id().try_into().unwrap()), Signal::SIGKILL).unwrap();
        until("rank 0 has not ended", LIMIT, || ranks[0].try_wait().unwrap().is_some());
        let mut said = String::new();
        ranks[0].stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!ranks[0].wait().unwrap().success() && !ranks[1].wait().unwrap().success());
        let named = ["all_gather", "reduce_scatter", "all_reduce", "the work before collective"];
        let named = named.map(|collective| said.contains(&format!("rank 1 of 2 was lost in {collective}")));
        assert!(named.contains(&true), "{residence}: {said}");
    }
}
