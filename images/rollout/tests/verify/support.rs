//! Patches made to measure, the program, and random numbers that are the same each time.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// One file of a patch: its path and its changed lines, signs included.
pub(crate) type FileLines<'a> = (&'a str, Vec<String>);

/// A patch in git's words, each file one hunk.
pub(crate) fn patch(files: &[FileLines<'_>]) -> String {
    files.iter().map(|(path, lines)| section(path, lines)).collect()
}

fn section(path: &str, lines: &[String]) -> String {
    let count = |sign: char| lines.iter().filter(|line| line.starts_with(sign)).count();
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let (old, new) = (count('-'), count('+'));
    format!(
        "diff --git a/{path} b/{path}\nindex 1..2 100644\n--- a/{path}\n+++ b/{path}\n@@ -1,{old} +1,{new} @@\n{body}"
    )
}

/// A patch of one file.
pub(crate) fn one_file(path: &str, lines: &[&str]) -> String {
    patch(&[(path, lines.iter().map(ToString::to_string).collect())])
}

/// The program, about to be run with `verify` and these arguments.
pub(crate) fn verify(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sera-rollout"));
    command.arg("verify").args(arguments).env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command with `input` on its standard input.
pub(crate) fn fed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program that ends early leaves input unread.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().unwrap()
    })
}

/// Numbers that look random and are the same on every machine: splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
