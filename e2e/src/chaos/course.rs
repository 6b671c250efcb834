//! How one run goes: what is known of it by all who take part, the calls that were made and what was found to be wrong. Nothing here acts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::sync::watch;

use super::call::Call;
use super::past::Past;
use super::script::{Fault, Script};

/// What is known of one run.
pub(super) struct Course {
    /// What befalls it.
    pub(super) script: Script,
    /// The run that is asked for.
    pub(super) run: Value,
    /// The namespace that it has for itself.
    pub(super) namespace: String,
    /// Where its logs are.
    pub(super) folder: PathBuf,
    began: Instant,
    /// When something befell a call for the last time.
    befallen: Mutex<Option<Instant>>,
    calls: AtomicU64,
    deliberate: AtomicU64,
    is_meddled_with: AtomicBool,
    kills: AtomicU64,
    /// Which version was the newest when, where reads are stale.
    pub(super) past: Past,
    by_kind: Mutex<BTreeMap<String, u64>>,
    wrongs: Mutex<Vec<String>>,
    /// What status has to say at some time, and has not yet.
    awaited: Mutex<Vec<&'static str>>,
    journal: Mutex<File>,
    /// Who wrote something last, and how often anybody did: what a held answer waits for.
    writes: watch::Sender<BTreeMap<usize, u64>>,
}

impl Course {
    /// The beginning of a run.
    pub(super) fn new(script: Script, run: Value, namespace: String, folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            script,
            run,
            namespace,
            folder: folder.to_owned(),
            began: Instant::now(),
            befallen: Mutex::default(),
            calls: AtomicU64::default(),
            deliberate: AtomicU64::default(),
            is_meddled_with: AtomicBool::default(),
            kills: AtomicU64::default(),
            past: Past::default(),
            by_kind: Mutex::default(),
            wrongs: Mutex::default(),
            awaited: Mutex::default(),
            journal: Mutex::new(File::create(folder.join("journal.log"))?),
            writes: watch::Sender::default(),
        })
    }

    /// Takes notice of a call of work, and says what befalls it.
    pub(super) fn next_call(&self, seat: usize, call: &Call) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if call.is_write() || call.name.is_some() {
            self.deliberate.fetch_add(1, Ordering::Relaxed);
        }
        *lock(&self.by_kind).entry(call.to_string()).or_default() += 1;
        let fault = self.script.faults.get(&number).copied();
        let fault = fault.filter(|fault| fault.can_befall(call, self.script.stale_looks));
        if fault.is_some() {
            *lock(&self.befallen) = Some(Instant::now());
        }
        let said = fault.map(|fault| format!(" [{fault:?}]")).unwrap_or_default();
        self.note(&format!("call {number} of operator {seat}: {call}{said}"));
        fault
    }

    /// Takes notice of what befalls all calls at once.
    pub(super) fn is_befallen(&self, what: &str) {
        self.note(what);
        *lock(&self.befallen) = Some(Instant::now());
    }

    /// For how long nothing has befallen a call.
    pub(super) fn undisturbed_for(&self) -> Duration {
        lock(&self.befallen).unwrap_or(self.began).elapsed()
    }

    /// How many calls of work were made.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many of them were made by passes: watches, and the lists that they begin with, come and go by themselves.
    pub(super) fn deliberate(&self) -> u64 {
        self.deliberate.load(Ordering::Relaxed)
    }

    /// Takes notice that somebody is about to do something, or has done it.
    pub(super) fn sets_about(&self, begins: bool) {
        self.is_meddled_with.store(begins, Ordering::SeqCst);
    }

    /// Whether somebody is doing something at this moment.
    pub(super) fn is_meddled_with(&self) -> bool {
        self.is_meddled_with.load(Ordering::SeqCst)
    }

    /// How often an operator was killed.
    pub(super) fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    /// The kinds of calls that were made most often, with their numbers.
    pub(super) fn most_frequent(&self) -> String {
        let mut all: Vec<(u64, String)> =
            lock(&self.by_kind).iter().map(|(call, times)| (*times, call.clone())).collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.iter().take(5).map(|(times, call)| format!("{times} × {call}")).collect::<Vec<_>>().join(", ")
    }

    /// Ends a process without a warning.
    pub(super) fn kill(&self, process: &AtomicI32) {
        let pid = process.swap(0, Ordering::SeqCst);
        if pid > 0 && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
            self.kills.fetch_add(1, Ordering::Relaxed);
            self.note("the operator is killed");
        }
    }

    /// Takes notice that the operator of a seat has written something.
    pub(super) fn has_written(&self, seat: usize) {
        self.writes.send_modify(|writes| *writes.entry(seat).or_default() += 1);
    }

    /// Waits until the operator of another seat has written something.
    pub(super) async fn until_another_writes(&self, seat: usize) {
        let others = |writes: &BTreeMap<usize, u64>| {
            writes.iter().filter(|(other, _)| **other != seat).map(|(_, times)| times).sum::<u64>()
        };
        let mut writes = self.writes.subscribe();
        let before = others(&writes.borrow_and_update());
        // The sender lives as long as this value.
        let _ = writes.wait_for(|writes| others(writes) > before).await;
    }

    /// Takes notice of a cause that status must name, since somebody is to do something about it.
    pub(super) fn expects(&self, words: &'static str) {
        lock(&self.awaited).push(words);
    }

    /// Takes notice of what a run that is stalled says.
    pub(super) fn hears(&self, words: &str) {
        lock(&self.awaited).retain(|awaited| !words.contains(awaited));
    }

    /// What status should have said, and never has.
    pub(super) fn unsaid(&self) -> Vec<&'static str> {
        lock(&self.awaited).clone()
    }

    /// Writes down that something is as it must not be.
    pub(super) fn wrong(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(&format!("WRONG: {what}"));
        lock(&self.wrongs).push(what);
    }

    /// Everything that was found to be wrong.
    pub(super) fn wrongs(&self) -> Vec<String> {
        lock(&self.wrongs).clone()
    }

    /// Adds a line to the journal, with the time since the beginning.
    pub(super) fn note(&self, what: &str) {
        let line = format!("{:8.3} {what}\n", self.began.elapsed().as_secs_f32());
        // A full disk shows in everything else.
        let _ = lock(&self.journal).write_all(line.as_bytes());
    }
}

/// The value of a mutex that no panic can leave half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
