//! How fast pairs of patches are measured, beside Python on the same pairs, in the same run: diffs of a real repository's history, small ones and
//! ones of at least 1,500 changed lines.
//!
//! `cargo bench --bench verification [-- REPOSITORY]`; without a folder it takes this repository. Both sides have the pairs in memory, but for the
//! last table, which is `--pairs` from a file to nowhere. Figures of one thread are processor time, so that a busy machine does not make them wrong;
//! those of several are time on the wall.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sera_rollout::verify::{measure, pairs, patch_lines, recall};

/// The sizes of patches that are called small, in bytes.
const SMALL: std::ops::Range<usize> = 1_000..8_000;
/// How many changed lines a large one has at least.
const LARGE: u64 = 1_500;
/// How many pairs of each kind are taken at most.
const SMALL_PAIRS: usize = 2_000;
const LARGE_PAIRS: usize = 24;
/// How long each figure is measured for.
const FOR: Duration = Duration::from_secs(2);
/// How often each figure is measured; the best counts, for both sides.
const ROUNDS: usize = 3;

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verify/oracle.py");

struct Pair {
    first: Vec<u8>,
    second: Vec<u8>,
}

fn main() {
    let asked = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let repository = asked.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").to_owned());
    let patches = history(&repository);
    let small = pairs_of(patches.iter().filter(|patch| SMALL.contains(&patch.len())), SMALL_PAIRS);
    let large = pairs_of(patches.iter().filter(|patch| patch_lines(patch) >= LARGE), LARGE_PAIRS);
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    println!("{} diffs of {repository}; {processors} processors; {}", patches.len(), python_version());
    println!(
        "\n| pairs | what | one thread, pairs/s | times Python's list | times Python's Counter | times Python's both measures |\n|---|---|---|---|---|---|"
    );
    for (name, pairs) in [("small", &small), ("large", &large)] {
        compare(name, pairs);
    }
    println!("\n| `--pairs`, small | pairs/s | MB/s | times one thread |\n|---|---|---|---|");
    threads(&small, processors);
}

/// Diffs of a repository: of each commit whole and by file, and of spans of commits, which are larger.
fn history(repository: &str) -> Vec<Vec<u8>> {
    let log = git(repository, &["log", "--first-parent", "--no-merges", "--format=%H"]);
    let commits: Vec<&str> = std::str::from_utf8(&log).unwrap().split_whitespace().collect();
    let mut patches = Vec::new();
    for span in [1, 16] {
        for (newer, older) in commits.iter().zip(commits.iter().skip(span)).step_by(span) {
            let patch = git(repository, &["diff", older, newer]);
            if span == 1 {
                patches.extend(split(&patch));
            }
            patches.push(patch);
        }
    }
    patches
}

/// A diff's files, a patch each.
fn split(patch: &[u8]) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    for line in patch.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"diff --git ") {
            files.push(Vec::new());
        }
        if let Some(file) = files.last_mut() {
            file.extend(line);
        }
    }
    files
}

fn git(repository: &str, arguments: &[&str]) -> Vec<u8> {
    let output =
        Command::new("git").args(["-C", repository]).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}");
    output.stdout
}

/// Each patch with one that has two thirds of its changed lines, in another order of files, and as many of its own.
fn pairs_of<'a>(patches: impl Iterator<Item = &'a Vec<u8>>, most: usize) -> Vec<Pair> {
    let pairs: Vec<Pair> =
        patches.take(most).map(|patch| Pair { first: patch.clone(), second: variation(patch) }).collect();
    assert!(!pairs.is_empty(), "the repository's history has no diff of this size");
    pairs
}

fn variation(patch: &[u8]) -> Vec<u8> {
    let mut files = split(patch);
    files.reverse();
    let mut changed = 0;
    let vary = |line: &[u8]| {
        let is_change = matches!(line, [b'+' | b'-', second, ..] if !b"+-".contains(second));
        changed += usize::from(is_change);
        let own = is_change && changed % 3 == 0;
        if own { [line.strip_suffix(b"\n").unwrap_or(line), b" # another\n"].concat() } else { line.to_vec() }
    };
    files.concat().split_inclusive(|byte| *byte == b'\n').flat_map(vary).collect()
}

fn compare(name: &str, pairs: &[Pair]) {
    let [list, counter, both] = ["list", "counter", "both"].map(|how| python(pairs, how));
    let mean = |size: fn(&Pair) -> u64| pairs.iter().map(size).sum::<u64>() / pairs.len() as u64;
    let lines = mean(|pair| patch_lines(&pair.first));
    let kilobytes = mean(|pair| pair.first.len() as u64) / 1000;
    let what = format!("{name}: {} of {lines} changed lines, {kilobytes} KB", pairs.len());
    let row = |name: &str, rate: f64| {
        println!("| {what} | {name} | {rate:.0} | {:.1} | {:.1} | {:.1} |", rate / list, rate / counter, rate / both);
    };
    row("Python, recall by a list", list);
    row("Python, recall by a Counter", counter);
    row("Python, both measures", both);
    row("recall", rate(pairs, recall_of));
    row("both measures", rate(pairs, both_of));
}

fn recall_of(pair: &Pair) {
    black_box(recall(black_box(&pair.first), black_box(&pair.second)));
}

fn both_of(pair: &Pair) {
    black_box(measure(black_box(&pair.first), black_box(&pair.second)));
}

/// Pairs a second, on one thread.
fn rate(pairs: &[Pair], run: fn(&Pair)) -> f64 {
    let once = || {
        let begun = processor_time();
        let mut done = 0_u32;
        while processor_time().saturating_sub(begun) < FOR {
            pairs.iter().for_each(run);
            done += u32::try_from(pairs.len()).unwrap();
        }
        f64::from(done) / processor_time().saturating_sub(begun).as_secs_f64()
    };
    (0..ROUNDS).map(|_| once()).fold(0.0, f64::max)
}

/// How long this thread has been on a processor.
fn processor_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

/// Pairs a second in Python, which times itself.
fn python(pairs: &[Pair], how: &str) -> f64 {
    let input = json_lines(pairs);
    let file = input.path();
    let once = || {
        let output =
            Command::new("python3").args([ORACLE, how]).stdin(std::fs::File::open(file).unwrap()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seconds: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        f64::from(u32::try_from(pairs.len()).unwrap()) / seconds
    };
    (0..ROUNDS).map(|_| once()).fold(0.0, f64::max)
}

fn python_version() -> String {
    let output = Command::new("python3").arg("--version").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn json_lines(pairs: &[Pair]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for (id, Pair { first, second }) in pairs.iter().enumerate() {
        let [p1, p2] = [first, second].map(|patch| String::from_utf8_lossy(patch).into_owned());
        serde_json::to_writer(&mut file, &serde_json::json!({"id": id, "p1": p1, "p2": p2})).unwrap();
        std::io::Write::write_all(&mut file, b"\n").unwrap();
    }
    file
}

/// The whole command, JSON included, on more and more threads.
fn threads(small: &[Pair], processors: usize) {
    let once = json_lines(small);
    let once = std::fs::read(once.path()).unwrap();
    let input = once.repeat(20);
    let pairs = f64::from(u32::try_from(small.len() * 20).unwrap());
    let mut alone = 0.0;
    for count in std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count <= processors) {
        let run = || {
            let begun = Instant::now();
            let threads = NonZeroUsize::new(count).unwrap();
            pairs::measure_all(input.as_slice(), "memory", &mut std::io::sink(), threads, None, &mut |_| ()).unwrap();
            pairs / begun.elapsed().as_secs_f64()
        };
        let rate = (0..ROUNDS).map(|_| run()).fold(0.0, f64::max);
        if count == 1 {
            alone = rate;
        }
        let bytes = f64::from(u32::try_from(input.len()).unwrap()) / pairs;
        println!("| {count} threads | {rate:.0} | {:.0} | {:.2} |", rate * bytes / 1e6, rate / alone);
    }
}
