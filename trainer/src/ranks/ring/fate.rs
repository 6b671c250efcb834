//! What has become of the group, as one rank knows it: shared by the thread that computes and the thread that watches over the others.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::super::RankError;

/// Why the group has come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fate {
    /// A rank is no more.
    Lost { rank: usize, reason: String },
    /// Two ranks are not at the same place.
    Diverged { rank: usize, theirs: String, own: usize, ours: String },
}

/// What the computing thread has seen, and rank 0 has to judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) fate: Fate,
    /// Whether there can be no other reason. A connection that closed may have been closed by one who had heard of another's end.
    pub(super) certain: bool,
}

/// Where the computing thread is.
#[derive(Debug, Clone, Copy)]
struct Place {
    collective: &'static str,
    number: u64,
}

/// What both threads know.
#[derive(Debug)]
pub(super) struct Shared {
    rank: usize,
    world: usize,
    state: Mutex<State>,
    changed: Condvar,
    to_caller: UnixStream,
    to_watch: UnixStream,
}

#[derive(Debug)]
struct State {
    fate: Option<(Fate, Instant)>,
    /// Who left first, and after how many collectives.
    left: Option<(usize, u64)>,
    /// Whether the computing thread knows.
    told: bool,
    place: Place,
    reports: VecDeque<Report>,
    closing: Option<u64>,
}

/// What the watching thread has to do.
#[derive(Debug, Default)]
pub(super) struct Errands {
    pub(super) reports: Vec<Report>,
    /// After how many collectives this rank leaves, if it does.
    pub(super) closing: Option<u64>,
}

/// What a thread waits on to be woken by the other.
pub(super) type Bell = UnixStream;

impl Shared {
    /// With the bells of the computing and of the watching thread.
    pub(super) fn new(rank: usize, world: usize) -> io::Result<(Self, Bell, Bell)> {
        let (to_caller, callers) = UnixStream::pair()?;
        let (to_watch, watchs) = UnixStream::pair()?;
        for bell in [&to_caller, &callers, &to_watch, &watchs] {
            bell.set_nonblocking(true)?;
        }
        let place = Place { collective: BETWEEN, number: 0 };
        let state = State { fate: None, left: None, told: false, place, reports: VecDeque::new(), closing: None };
        let shared = Self { rank, world, state: Mutex::new(state), changed: Condvar::new(), to_caller, to_watch };
        Ok((shared, callers, watchs))
    }

    /// The state is a few plain values, each whole at any time: a thread that panicked leaves nothing broken in it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The computing thread begins a collective; whether the group still stands.
    pub(super) fn begin(&self, collective: &'static str, number: u64) -> bool {
        let mut state = self.state();
        state.place = Place { collective, number };
        state.fate_at(number).is_none()
    }

    /// The computing thread goes on to its own work.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.place = Place { collective: BETWEEN, number: state.place.number + 1 };
    }

    /// Whether the group still stands for the collective that was begun.
    pub(super) fn stands(&self) -> bool {
        let state = self.state();
        state.fate_at(state.place.number).is_none()
    }

    /// Says what has become of the group. The first word stands.
    pub(super) fn decide(&self, fate: Fate) {
        let mut state = self.state();
        if state.fate.is_none() {
            state.fate = Some((fate, Instant::now()));
        }
        drop(state);
        self.tell_caller();
    }

    /// A rank has left after so many collectives. Whoever begins another is told.
    pub(super) fn leave(&self, rank: usize, count: u64) {
        let mut state = self.state();
        if state.left.is_none_or(|(_, before)| count < before) {
            state.left = Some((rank, count));
        }
        drop(state);
        self.tell_caller();
    }

    fn tell_caller(&self) {
        self.changed.notify_all();
        ring_bell(&self.to_caller);
    }

    /// Tells the watching thread what was seen, and waits for its word; as long as that may take at most. Then what was seen is the word.
    pub(super) fn judge(&self, report: Report, longest: Duration) -> RankError {
        let mut state = self.state();
        state.reports.push_back(report.clone());
        ring_bell(&self.to_watch);
        let number = state.place.number;
        let undecided = |state: &mut State| state.fate_at(number).is_none();
        let (mut state, _) =
            self.changed.wait_timeout_while(state, longest, undecided).unwrap_or_else(PoisonError::into_inner);
        if state.fate_at(number).is_none() {
            state.fate = Some((report.fate, Instant::now()));
        }
        self.error_of(&mut state)
    }

    /// The error for the computing thread, where the group does not stand.
    pub(super) fn error(&self) -> RankError {
        self.error_of(&mut self.state())
    }

    fn error_of(&self, state: &mut State) -> RankError {
        state.told = true;
        let Place { collective, number } = state.place;
        let fate = state
            .fate_at(number)
            .unwrap_or_else(|| Fate::Lost { rank: self.rank, reason: "its own thread ended".to_owned() });
        self.error_from(fate, collective, number)
    }

    fn error_from(&self, fate: Fate, collective: &'static str, number: u64) -> RankError {
        match fate {
            Fate::Lost { rank, reason } => RankError::Lost { rank, world: self.world, collective, number, reason },
            Fate::Diverged { rank, theirs, own, ours } => RankError::Diverged { rank, theirs, own, ours },
        }
    }

    /// The error, if it was decided so long ago and the computing thread has not come to hear of it.
    pub(super) fn unheard(&self, after: Duration) -> Option<RankError> {
        let mut state = self.state();
        let (fate, when) = state.fate.clone()?;
        if state.told || when.elapsed() < after {
            return None;
        }
        state.told = true;
        let Place { collective, number } = state.place;
        Some(self.error_from(fate, collective, number))
    }

    /// Whether it is decided.
    pub(super) fn is_decided(&self) -> bool {
        self.state().fate.is_some()
    }

    /// This rank leaves after so many collectives.
    pub(super) fn close(&self, count: u64) {
        self.state().closing = Some(count);
        ring_bell(&self.to_watch);
    }

    /// What is to be done, each once.
    pub(super) fn errands(&self) -> Errands {
        let mut state = self.state();
        Errands { reports: state.reports.drain(..).collect(), closing: state.closing }
    }
}

/// What a rank does between two collectives, so that "lost in … number 3" reads well.
const BETWEEN: &str = "the work before collective";

impl State {
    /// What has become of the group for one who has come to this collective.
    fn fate_at(&self, number: u64) -> Option<Fate> {
        let left = || self.left.filter(|(_, count)| number >= *count);
        self.fate.as_ref().map(|(fate, _)| fate.clone()).or_else(|| {
            left().map(|(rank, count)| Fate::Lost {
                rank,
                reason: format!("it left after {count} collectives, and its last lines say why"),
            })
        })
    }
}

/// A bell that cannot be rung has not been heard for a whole buffer of rings: it still rings.
fn ring_bell(mut bell: &UnixStream) {
    let _ = bell.write(&[1]);
}

/// Takes back what was rung.
pub(super) fn quieten(mut bell: &Bell) {
    let mut bytes = [0; 64];
    while matches!(bell.read(&mut bytes), Ok(read) if read == bytes.len()) {}
}
