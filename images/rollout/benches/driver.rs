//! What the driver costs: memory with 1, 16, 64 and 256 rollouts at once, and CPU, memory and time a step beside mini-swe-agent on the same scripted
//! teacher and the same commands. Figures only; nothing here passes or fails.
//!
//! ```text
//! cargo build --bins && cargo bench -p sera-rollout --bench driver -- crowd        # or some numbers of rollouts: crowd 256
//! cargo bench -p sera-rollout --bench driver -- steps /path/to/venv/bin/python     # with mini-swe-agent 2.4 in it
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench ends by panicking where something is missing"
)]

#[allow(dead_code, reason = "tests use the rest of it")]
#[path = "../tests/support/endpoint.rs"]
mod endpoint;
#[allow(dead_code, reason = "tests use the rest of it")]
#[path = "../tests/rollout/support.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use endpoint::{Endpoint, Reply, answer, call};
use serde_json::{Value, json};
use support::{About, Place, about, sandbox_program};
use tokio::process::Command;

/// Turns of each rollout before it submits: with two submits, the paper's mean of about 35 calls.
const TURNS: usize = 33;
/// What each command prints in the crowd, in bytes: conversations of some 20,000 tokens on average, as the paper's have.
const OUTPUT: usize = 4000;
/// How long the scripted teacher thinks in the crowd, so that all rollouts are under way at once.
const THINKING: Duration = Duration::from_millis(400);
/// How many rollouts are at once in a crowd, unless it is said.
const CROWDS: [u32; 4] = [1, 16, 64, 256];
/// Rollouts of each side in the comparison, after each other and at once.
const COMPARED: [u32; 2] = [1, 33];

/// What a process took.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    cpu: Duration,
    peak_kib: u64,
    wall: Duration,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["crowd"] => crowds(&CROWDS).await,
        ["crowd", counts @ ..] => {
            crowds(&counts.iter().map(|count| count.parse().unwrap()).collect::<Vec<u32>>()).await;
        }
        ["steps", python] => steps(Path::new(python)).await,
        _ => println!("say `crowd [N…]`, or `steps PYTHON` with a python that has mini-swe-agent"),
    }
}

/// Crowds of these sizes, a row each.
async fn crowds(counts: &[u32]) {
    println!(
        "| rollouts at once | calls | s | CPU a call, ms | peak, MiB | KiB a further rollout |\n|---|---|---|---|---|---|"
    );
    let mut smallest = None;
    for count in counts {
        let (taken, calls) = crowd(*count).await;
        let (fewer, least) = *smallest.get_or_insert((*count, taken.peak_kib));
        let further = if *count == fewer {
            "-".to_owned()
        } else {
            format!("{:.0}", further(taken.peak_kib, least, count - fewer))
        };
        println!(
            "| {count} | {calls} | {:.1} | {:.2} | {:.1} | {further} |",
            taken.wall.as_secs_f64(),
            taken.cpu.as_secs_f64() * 1e3 / number(calls),
            mib(taken.peak_kib),
        );
    }
}

/// `count` rollouts at once in one driver: what it took, and how many calls they made.
async fn crowd(count: u32) -> (Taken, usize) {
    let program = sandbox_program().expect("the sandbox's program");
    let place = Place::with_functions(&(0..count).map(|n| format!("F{n}")).collect::<Vec<_>>());
    let teacher = Endpoint::start_slow(THINKING, |_, request| {
        script(&request, &format!("head -c {OUTPUT} /dev/zero | tr '\\0' x"))
    })
    .await;
    let mut command = place.rollout(&program, &teacher.url, count, &json!({"agent": {"maxSteps": TURNS + 2}}));
    command.args([format!("--slots={count}"), format!("--parallel={count}"), "--log-level=warn".into()]);
    let taken = watched(command).await;
    let ended = |sample| place.outcome(sample).first == sera_crds::contract::RolloutOutcome::EmptyPatch;
    assert!((0..u64::from(count)).all(ended), "each rollout hands in nothing after its last command");
    (taken, teacher.calls())
}

/// A step here and a step there.
async fn steps(python: &Path) {
    let program = sandbox_program().expect("the sandbox's program");
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for count in COMPARED {
        let place = Place::with_functions(&(0..count).map(|n| format!("F{n}")).collect::<Vec<_>>());
        let teacher = Endpoint::start(|_, request| script(&request, "echo hello")).await;
        let mut command = place.rollout(
            &program,
            &teacher.url,
            count,
            &json!({"bugKinds": ["Naming"], "agent": {"maxSteps": TURNS + 2}}),
        );
        command.args([format!("--slots={count}"), format!("--parallel={count}"), "--log-level=warn".into()]);
        ours.push((watched(command).await, teacher.calls()));

        let teacher = Endpoint::start(|_, request| peers_script(&request)).await;
        let mut command = Command::new(python);
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer.py"))
            .arg(&teacher.url)
            .arg(count.to_string());
        theirs.push((watched(command).await, teacher.calls()));
    }
    println!(
        "| | CPU a step, ms | KiB a further rollout | MiB a process with one | wall a step of one rollout, ms |\n|---|---|---|---|---|"
    );
    let [ours, theirs] = [("sera-rollout", ours), ("mini-swe-agent", theirs)].map(|(name, taken)| {
        let [(one, one_calls), (many, many_calls)] = taken[..] else { panic!("two runs") };
        let cpu = many.cpu.saturating_sub(one.cpu).as_secs_f64() * 1e3 / number(many_calls - one_calls);
        let further = further(many.peak_kib, one.peak_kib, COMPARED[1] - COMPARED[0]);
        let wall = one.wall.as_secs_f64() * 1e3 / number(one_calls);
        println!("| {name} | {cpu:.3} | {further:.0} | {:.1} | {wall:.1} |", mib(one.peak_kib));
        (cpu, further, mib(one.peak_kib) * 1024.0)
    });
    println!(
        "\na further rollout there takes {:.0} times the CPU; {:.0} times the memory as a process of its own, {:.1} times as a thread",
        theirs.0 / ours.0,
        theirs.2 / ours.1,
        theirs.1 / ours.1
    );
}

/// The same command turn after turn, and then two submits without a change.
fn script(request: &Value, command: &str) -> Reply {
    let turn = match about(request) {
        About::First(turn) | About::Second(turn) => turn,
        About::Review | About::PullRequest => 0,
    };
    let message = if turn < TURNS { call("bash", &json!({"command": command})) } else { call("submit", &json!({})) };
    Reply::Json(answer(&message))
}

/// The same for mini-swe-agent, whose end is a command.
fn peers_script(request: &Value) -> Reply {
    let turns = request["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "assistant").count();
    let command = if turns < TURNS + 1 { "echo hello" } else { "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT" };
    Reply::Json(answer(&call("bash", &json!({"command": command}))))
}

/// Runs a command to its end, and says what the process itself took (what it starts is not counted).
async fn watched(mut command: Command) -> Taken {
    let begun = Instant::now();
    let mut child = command.stderr(std::process::Stdio::inherit()).spawn().unwrap();
    let folder = format!("/proc/{}", child.id().unwrap());
    let mut taken = Taken::default();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            taken.wall = begun.elapsed();
            return taken;
        }
        if let Some((cpu, peak_kib)) = looked_at(&folder) {
            (taken.cpu, taken.peak_kib) = (cpu, peak_kib.max(taken.peak_kib));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// CPU time of the process, its threads that have ended included, and the highest resident size so far.
fn looked_at(folder: &str) -> Option<(Duration, u64)> {
    let status = std::fs::read_to_string(format!("{folder}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()?;
    // After the name in brackets, which may have anything in it: user and system time are fields 14 and 15 of proc(5), in hundredths of a second.
    let stat = std::fs::read_to_string(format!("{folder}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((Duration::from_millis(ticks * 10), peak))
}

/// What each of `more` rollouts took, in KiB.
fn further(many_kib: u64, few_kib: u64, more: u32) -> f64 {
    (mib(many_kib) - mib(few_kib)) * 1024.0 / f64::from(more)
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap()) / 1024.0
}

fn number(calls: usize) -> f64 {
    f64::from(u32::try_from(calls).unwrap())
}
