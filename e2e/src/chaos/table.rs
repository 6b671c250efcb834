//! What is printed of trials: a line when one has ended, and a table of all of them at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::script::Trial;
use super::trial::Verdict;

/// What came of all trials.
#[derive(Debug, Default)]
pub struct Report {
    lines: BTreeMap<&'static str, Line>,
    failed: Vec<(Trial, Vec<String>)>,
}

/// What came of trials of one kind.
#[derive(Debug, Default, Clone, Copy)]
struct Line {
    trials: u64,
    passed: u64,
    kills: u64,
    /// Restarts of the API server that they lived through, each by all trials of its time.
    restarts: u64,
    calls: u64,
    took: Duration,
}

impl Report {
    /// What came of these.
    pub(super) fn of(verdicts: Vec<Verdict>) -> Self {
        let mut report = Self::default();
        for verdict in verdicts {
            for name in [verdict.trial.family(), "in all"] {
                let line = report.lines.entry(name).or_default();
                line.trials += 1;
                line.passed += u64::from(verdict.wrongs.is_empty());
                line.kills += verdict.kills;
                line.restarts += verdict.restarts;
                line.calls += verdict.calls;
                line.took += verdict.took;
            }
            if !verdict.wrongs.is_empty() {
                report.failed.push((verdict.trial, verdict.wrongs));
            }
        }
        report
    }

    /// Whether nothing was wrong in any of them.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty()
    }

    /// What was wrong, a line a trial.
    pub fn failures(&self) -> Vec<String> {
        self.failed.iter().map(|(trial, wrongs)| format!("{trial}: {}", wrongs.join("; "))).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["trials", "passed", "kills", "restarts", "calls", "seconds"];
        let [trials, passed, kills, restarts, calls, seconds] = heads;
        writeln!(out, "{:<22} {trials:>6} {passed:>6} {kills:>6} {restarts:>8} {calls:>8} {seconds:>9}", "kind")?;
        let all = self.lines.get_key_value("in all");
        for (name, line) in self.lines.iter().filter(|(name, _)| **name != "in all").chain(all) {
            let Line { trials, passed, kills, restarts, calls, took } = line;
            let seconds = took.as_secs();
            writeln!(out, "{name:<22} {trials:>6} {passed:>6} {kills:>6} {restarts:>8} {calls:>8} {seconds:>9}")?;
        }
        Ok(())
    }
}

/// Prints a line about a trial that has ended; what was wrong, how it is repeated, and where its logs are.
pub(super) fn print(verdict: &Verdict) {
    let Verdict { trial, wrongs, calls, kills, restarts, took, again, folder, .. } = verdict;
    let word = if wrongs.is_empty() { "ok" } else { "WRONG" };
    let family = trial.family();
    let trial_name = trial.to_string();
    let seconds = took.as_secs_f32();
    let broken = format!("{kills:>3} kills {restarts:>3} restarts");
    println!("{word:<6} {trial_name:<18} {family:<20} {calls:>5} calls {broken} {seconds:>6.1} s");
    for wrong in wrongs {
        println!("       {wrong}");
    }
    if !wrongs.is_empty() {
        println!("       again: cargo e2e chaos {again}; its logs: {}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn verdict(seed: u64, wrongs: &[&str]) -> Verdict {
        Verdict {
            trial: Trial::Seed(seed),
            wrongs: wrongs.iter().map(ToString::to_string).collect(),
            calls: 100,
            kills: 2,
            restarts: 1,
            took: Duration::from_secs(10),
            harvest: None,
            again: String::new(),
            folder: PathBuf::new(),
        }
    }

    #[test]
    fn a_report_counts_by_kind_and_in_all_and_names_what_failed() {
        let report = Report::of(vec![verdict(0, &[]), verdict(8, &["a sample is lost"]), verdict(2, &[])]);
        assert!(!report.is_good());
        assert_eq!(report.failures(), ["seed-8: a sample is lost"]);
        let text = report.to_string();
        let numbers = |name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line[22..].split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(numbers("kills "), ["2", "1", "4", "2", "200", "20"]);
        assert_eq!(numbers("storms"), ["1", "1", "2", "1", "100", "10"]);
        assert_eq!(numbers("in all"), ["3", "2", "6", "3", "300", "30"]);
    }
}
