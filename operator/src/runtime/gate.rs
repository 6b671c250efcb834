//! The gate that every write to the API server passes: it is open only while this process holds the lease, and it knows which
//! writes are in flight, so that the lease is released after them. Who holds the lease is decided in `lease`.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Why a write was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the write was not sent: this replica does not hold the leader's lease")]
pub struct Closed;

/// How long writes may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Closed,
    /// Open up to this instant of the monotonic clock, whether or not anybody comes to close it.
    Until(Instant),
    /// Open until closed: there is no election.
    Always,
}

#[derive(Debug)]
struct State {
    opening: Opening,
    in_flight: usize,
}

/// A gate for writes; clones are the same gate.
///
/// The instant of expiry is compared when a write asks to pass, not by a timer: a process that was stopped for a minute and
/// wakes up finds the gate shut before its first write.
#[derive(Clone, Debug)]
pub struct Gate {
    state: watch::Sender<State>,
}

impl Gate {
    /// A gate that lets nothing through yet.
    pub fn closed() -> Self {
        Self { state: watch::Sender::new(State { opening: Opening::Closed, in_flight: 0 }) }
    }

    /// Opens the gate until `deadline`, or moves the deadline of an open one.
    pub fn open_until(&self, deadline: Instant) {
        self.state.send_modify(|state| state.opening = Opening::Until(deadline));
    }

    /// Opens the gate for good, for a process that runs without an election.
    pub fn open(&self) {
        self.state.send_modify(|state| state.opening = Opening::Always);
    }

    /// Shuts the gate: no write passes from here on; those in flight go on.
    pub fn close(&self) {
        self.state.send_modify(|state| state.opening = Opening::Closed);
    }

    /// Asks to pass at `now`. The permit stands for the write while it is in flight.
    ///
    /// # Errors
    /// [`Closed`] when the gate is shut, or its deadline has passed.
    pub fn enter(&self, now: Instant) -> Result<Permit, Closed> {
        let mut deadline = Err(Closed);
        self.state.send_if_modified(|state| {
            deadline = match state.opening {
                Opening::Always => Ok(None),
                Opening::Until(until) if now < until => Ok(Some(until)),
                Opening::Until(_) | Opening::Closed => Err(Closed),
            };
            state.in_flight += usize::from(deadline.is_ok());
            false
        });
        deadline.map(|deadline| Permit { deadline, gate: self.clone() })
    }

    /// Waits until no write is in flight; `false` when some still are after `patience`.
    pub async fn drained(&self, patience: Duration) -> bool {
        let mut state = self.state.subscribe();
        tokio::time::timeout(patience, state.wait_for(|state| state.in_flight == 0))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }
}

/// A write in flight; it has ended when this is dropped.
#[derive(Debug)]
pub struct Permit {
    deadline: Option<Instant>,
    gate: Gate,
}

impl Permit {
    /// When this process may no longer count on the lease: a write that has no answer by then is given up. `None`: never.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.state.send_if_modified(|state| {
            state.in_flight -= 1;
            state.in_flight == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[test]
    fn a_new_gate_lets_nothing_pass() {
        assert_eq!(Gate::closed().enter(Instant::now()).err(), Some(Closed));
    }

    #[test]
    fn a_write_passes_before_the_deadline_and_not_at_it() {
        let (gate, now) = (Gate::closed(), Instant::now());
        gate.open_until(now + LEASE);
        assert_eq!(gate.enter(now).unwrap().deadline(), Some(now + LEASE));
        assert!(gate.enter(now + Duration::from_millis(9_999)).is_ok());
        assert_eq!(gate.enter(now + LEASE).err(), Some(Closed));
    }

    #[test]
    fn renewing_moves_the_deadline_and_closing_ends_it() {
        let (gate, now) = (Gate::closed(), Instant::now());
        gate.open_until(now + LEASE);
        gate.open_until(now + 2 * LEASE);
        assert!(gate.enter(now + LEASE).is_ok());
        gate.close();
        assert!(gate.enter(now).is_err());
    }

    #[tokio::test]
    async fn it_is_drained_when_the_last_write_has_ended_and_not_before() {
        let gate = Gate::closed();
        gate.open();
        let (first, second) = (gate.enter(Instant::now()).unwrap(), gate.enter(Instant::now()).unwrap());
        gate.close();
        drop(first);
        assert!(!gate.drained(Duration::from_millis(20)).await);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.drained(Duration::from_secs(10)).await }
        });
        drop(second);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_write_that_was_refused_is_not_waited_for() {
        let gate = Gate::closed();
        assert!(gate.enter(Instant::now()).is_err());
        assert!(gate.drained(Duration::ZERO).await);
    }
}
