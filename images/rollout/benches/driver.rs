//! What the driver costs: memory with 256 rollouts at once, and CPU, memory and time a step beside mini-swe-agent on the same scripted teacher and the
//! same commands. Figures only; nothing here passes or fails.
//!
//! ```text
//! cargo build --bins && cargo bench -p sera-rollout --bench driver -- crowd 256
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
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("crowd"), count) => crowd(count.and_then(|count| count.parse().ok()).unwrap_or(256)).await,
        (Some("steps"), Some(python)) => steps(Path::new(&python)).await,
        _ => println!("say `crowd [N]`, or `steps PYTHON` with a python that has mini-swe-agent"),
    }
}

/// `count` rollouts at once in one driver.
async fn crowd(count: u32) {
    let program = sandbox_program().expect("the sandbox's program");
    let place = Place::with_functions(&(0..count).map(|n| format!("F{n}")).collect::<Vec<_>>());
    let teacher = Endpoint::start_slow(THINKING, |_, request| {
        script(&request, &format!("head -c {OUTPUT} /dev/zero | tr '\\0' x"))
    })
    .await;
    let mut command = place.rollout(&program, &teacher.url, count, &json!({"agent": {"maxSteps": TURNS + 2}}));
    command.args([format!("--slots={count}"), format!("--parallel={count}"), "--log-level=warn".into()]);
    let taken = watched(command).await;
    let outcomes = (0..u64::from(count))
        .filter(|sample| place.outcome(*sample).first == sera_crds::contract::RolloutOutcome::EmptyPatch)
        .count();
    println!(
        "{count} rollouts at once: {} calls, {outcomes} samples at their ends, driver {:.1} MiB at its peak ({:.0} KiB each), {:.2} ms CPU a call, {:.1} s",
        teacher.calls(),
        mib(taken.peak_kib),
        f64::from(u32::try_from(taken.peak_kib).unwrap()) / f64::from(count),
        taken.cpu.as_secs_f64() * 1e3 / f64::from(u32::try_from(teacher.calls()).unwrap()),
        taken.wall.as_secs_f64()
    );
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
    for (name, taken) in [("sera-rollout", &ours), ("mini-swe-agent", &theirs)] {
        let [(one, one_calls), (many, many_calls)] = taken[..] else { panic!("two runs") };
        let calls = f64::from(u32::try_from(many_calls - one_calls).unwrap());
        let more = f64::from(COMPARED[1] - COMPARED[0]);
        println!(
            "{name}: {:.3} ms CPU a step, {:.0} KiB a further rollout ({:.1} MiB with one), {:.1} ms wall a step of one rollout",
            (many.cpu.saturating_sub(one.cpu)).as_secs_f64() * 1e3 / calls,
            (f64::from(u32::try_from(many.peak_kib).unwrap()) - f64::from(u32::try_from(one.peak_kib).unwrap())) / more,
            mib(one.peak_kib),
            one.wall.as_secs_f64() * 1e3 / f64::from(u32::try_from(one_calls).unwrap()),
        );
    }
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

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap()) / 1024.0
}
