//! How fast answers come: the turns of a real rollout, asked again by many clients at once, each request with a connection of its own. Prints a table;
//! `cargo bench -p sera-teacher` (or with `--profile dev`) runs it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench fails by panicking, and so do its helpers"
)]

#[path = "../tests/rehearsal/support/mod.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::agent::{Dialect, request, rollout};
use support::repository::Repository;
use support::teacher::Teacher;

/// How many clients ask at once, and how many requests they make together.
const LOADS: [(usize, usize); 4] = [(1, 500), (16, 4000), (64, 4000), (256, 4000)];

fn main() {
    // What cargo passes to benches (`--bench`) means nothing here.
    let teacher = Teacher::start(&[]);
    let repository = Repository::new();
    let prompt = format!("Something is wrong with `Session.send` in {}/net/session.py.", repository.path().display());
    let messages = rollout(&teacher, &repository, "You have tools.", &prompt, Dialect::Usual).messages;
    let requests: Vec<Value> = (0..messages.len())
        .filter(|at| messages[*at]["role"] == "assistant")
        .map(|at| request(&messages[..at], Dialect::Usual))
        .collect();
    let longest = requests.last().map_or(0, |request| request.to_string().len());
    println!("{} turns of one rollout, the longest request {longest} bytes", requests.len());
    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>12} {:>14}",
        "clients", "p50 ms", "p99 ms", "max ms", "requests/s", "CPU ms/request"
    );
    for (clients, count) in LOADS {
        measure(&teacher, &requests, clients, count);
    }
    println!("resident memory of the teacher: {} MiB", resident(&teacher) / 1024);
}

fn measure(teacher: &Teacher, requests: &[Value], clients: usize, count: usize) {
    let (began, cpu) = (Instant::now(), cpu(teacher));
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let client = |number: usize| {
            let turns = requests.iter().cycle().skip(number).take(count / clients);
            turns.map(|request| {
                let began = Instant::now();
                assert_eq!(teacher.complete(request).status, 200);
                began.elapsed()
            })
        };
        let threads: Vec<_> =
            (0..clients).map(|number| scope.spawn(move || client(number).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client failed")).collect()
    });
    let elapsed = began.elapsed();
    let used = self::cpu(teacher).saturating_sub(cpu);
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    let made = f64::from(u32::try_from(took.len()).unwrap_or(u32::MAX));
    println!(
        "{clients:>8} {:>10.2} {:>10.2} {:>10.2} {:>12.0} {:>14.2}",
        at(50),
        at(99),
        at(100),
        made / elapsed.as_secs_f64(),
        used.as_secs_f64() * 1000.0 / made
    );
}

/// The processor time that the teacher has used.
fn cpu(teacher: &Teacher) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", teacher.pid())).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    // utime and stime, in hundredths of a second on every Linux there is.
    let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The teacher's resident memory in KiB.
fn resident(teacher: &Teacher) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", teacher.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
