//! Passes on what ranks write to standard error, a line at a time, with the rank's number before it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ChildStderr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::super::wait::until;

/// The longest line that is kept together, in bytes.
const LONGEST: u64 = 64 * 1024;
/// How long the last lines of ranks that have ended are waited for: a process that a rank left behind may keep its standard error open for ever.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A thread a rank.
pub(super) struct Relays {
    count: usize,
    done: Sender<()>,
    finished: Receiver<()>,
}

impl Default for Relays {
    fn default() -> Self {
        let (done, finished) = channel();
        Self { count: 0, done, finished }
    }
}

impl Relays {
    pub(super) fn add(&mut self, rank: usize, stderr: ChildStderr) {
        let done = self.done.clone();
        self.count += 1;
        thread::spawn(move || {
            // Standard error that cannot be written to any more is nothing to end a training for.
            let _ = pass_on(rank, stderr, &mut io::stderr());
            let _ = done.send(());
        });
    }

    /// Waits for the last lines.
    pub(super) fn finish(&self) {
        let latest = Instant::now() + LAST_LINES;
        for _ in 0..self.count {
            if self.finished.recv_timeout(until(latest)).is_err() {
                return;
            }
        }
    }
}

/// Goes on reading where it cannot write: a rank shall not wait for a reader that has gone.
fn pass_on(rank: usize, from: impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut from = BufReader::new(from);
    loop {
        let mut line = format!("[rank {rank}] ").into_bytes();
        if from.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        // At once, so that the lines of several ranks do not mix.
        let _ = to.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_whose_it_is() {
        let mut out = Vec::new();
        pass_on(3, &b"one\n\ntwo \xff\nhalf"[..], &mut out).unwrap();
        assert_eq!(out, b"[rank 3] one\n[rank 3] \n[rank 3] two \xff\n[rank 3] half\n");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut out = Vec::new();
        pass_on(0, &vec![b'a'; 200_000][..], &mut out).unwrap();
        let said = String::from_utf8(out).unwrap();
        let lines: Vec<_> = said.lines().map(|line| line.strip_prefix("[rank 0] ").unwrap().len()).collect();
        assert_eq!(lines, [65_536, 65_536, 65_536, 200_000 - 3 * 65_536]);
    }
}
