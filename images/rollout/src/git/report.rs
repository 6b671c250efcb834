//! What git says while it works, on its standard error: progress, which is shown, and messages, which are kept for when it fails.

use std::collections::VecDeque;

use crate::progress::Step;

/// Messages that are kept: git's last words tell why it failed, and a server may say a lot before.
const KEPT: usize = 40;
/// Bytes of a line that are looked at; a server decides how long its lines are.
const MAX_LINE: usize = 4096;

/// The report of one run of git.
pub(super) struct Report<'a> {
    step: Option<&'a Step>,
    line: Vec<u8>,
    messages: VecDeque<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(step: Option<&'a Step>) -> Self {
        Self { step, line: Vec::new(), messages: VecDeque::new() }
    }

    /// Takes what git has written next; a line ends with a line feed, or a carriage return if it is to be written over.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                _ if self.line.len() < MAX_LINE => self.line.push(byte),
                _ => {}
            }
        }
    }

    /// The messages, a line each.
    pub(super) fn finish(mut self) -> String {
        self.end_line();
        Vec::from(self.messages).join("\n")
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim().to_owned();
        self.line.clear();
        if line.is_empty() {
            return;
        }
        if let Some((phase, done, total)) = progress(&line) {
            if let Some(step) = self.step {
                step.update(phase, done, total);
            }
            return;
        }
        tracing::debug!(git = line);
        if self.messages.len() == KEPT {
            self.messages.pop_front();
        }
        self.messages.push_back(line);
    }
}

/// Reads `Receiving objects:  45% (450/1000), 1.20 MiB | 3.00 MiB/s` and `remote: Enumerating objects: 48, done.`
fn progress(line: &str) -> Option<(&str, u64, u64)> {
    let (phase, rest) = line.strip_prefix("remote:").unwrap_or(line).trim().split_once(": ")?;
    let rest = rest.trim();
    if let Some((_, counts)) = rest.split_once("% (") {
        let (done, total) = counts.split(')').next()?.split_once('/')?;
        return Some((phase, done.parse().ok()?, total.parse().ok()?));
    }
    let done = rest.split(',').next()?.parse().ok()?;
    Some((phase, done, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_from_messages() {
        assert_eq!(
            progress("Receiving objects:  45% (450/1000), 1.20 MiB | 3.00 MiB/s"),
            Some(("Receiving objects", 450, 1000))
        );
        assert_eq!(progress("remote: Counting objects: 100% (48/48), done."), Some(("Counting objects", 48, 48)));
        assert_eq!(progress("remote: Enumerating objects: 48, done."), Some(("Enumerating objects", 48, 0)));
        for message in [
            "fatal: repository 'x' not found",
            "remote: Total 48 (delta 8), reused 0",
            "127.0.0.1[0: 127.0.0.1]: errno=Connection refused",
        ] {
            assert_eq!(progress(message), None);
        }
    }

    #[test]
    fn the_last_messages_are_kept_and_an_endless_line_is_cut() {
        let mut report = Report::new(None);
        for n in 0..100 {
            report.take(format!("message {n}\nReceiving objects:   1% (1/100)\r").as_bytes());
        }
        report.take(&vec![b'x'; 10 * MAX_LINE]);
        let messages = report.finish();
        let lines: Vec<&str> = messages.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[KEPT - 1].len()), (KEPT, "message 61", MAX_LINE));
    }
}
