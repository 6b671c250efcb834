//! Leader election by a `coordination.k8s.io` Lease: which replica runs passes and writes. The decisions are in `machine`, the
//! requests in `elector`; what controllers see of it is [`Leadership`].
//!
//! A lease does not fence: a leader that lost it may not know yet. Two things make that harmless. The gate (`gate`) refuses
//! writes once the last renewal is too old by this process' own monotonic clock, well before another replica may take over; and
//! what is still on its way then meets resourceVersion preconditions and deterministic names.
//!
//! A process that loses the lease stays, as a warm standby, and stands again. To end it would be simpler, but an API server that
//! is away for minutes costs every replica its lease, and the kubelet would then hold all of them back for up to five minutes
//! more (`CrashLoopBackOff`). Nothing of an old term reaches the next: [`Term::run`] drops what is not finished.

mod elector;
mod machine;
#[cfg(test)]
mod model;

use futures::{Stream, StreamExt, stream};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::gate::Gate;

pub use self::{
    elector::{Candidate, Elector, Farewell},
    machine::{BadTiming, Timing},
};

/// This process' part in an election, running beside everything else.
#[derive(Debug)]
pub struct Election {
    leadership: Leadership,
    stop: CancellationToken,
    task: JoinHandle<Farewell>,
}

impl Election {
    /// Stands for election.
    pub fn start(elector: Elector) -> Self {
        let (leadership, stop) = (elector.leadership(), CancellationToken::new());
        let task = tokio::spawn(elector.run(stop.clone()));
        Self { leadership, stop, task }
    }

    /// No election: this process leads at once and for ever.
    pub fn unopposed(gate: Gate) -> Self {
        gate.open();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            stopped.await;
            gate.close();
            if gate.drained(elector::DRAIN).await { Farewell::Released } else { Farewell::Kept }
        });
        Self { leadership: Leadership::unopposed(), stop, task }
    }

    /// The handle by which controllers ask who leads.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Lets no more writes pass, waits for those in flight, and frees the lease for the next.
    pub async fn end(self) -> Farewell {
        self.stop.cancel();
        // A task that panicked released nothing.
        self.task.await.unwrap_or(Farewell::Kept)
    }
}

/// The term ended while something ran in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica lost the leader's lease in the middle of a pass; the next leader makes the pass anew")]
pub struct LeadershipLost;

/// Who leads; clones see the same.
#[derive(Clone, Debug)]
pub struct Leadership {
    current: watch::Receiver<Option<u64>>,
}

impl Leadership {
    /// The leadership of a process that runs without an election: it leads from the start and for ever.
    pub fn unopposed() -> Self {
        // A receiver keeps the last value when its sender is gone.
        Self { current: watch::Sender::new(Some(1)).subscribe() }
    }

    /// The present term, when this replica leads.
    pub fn term(&self) -> Option<Term> {
        let number = *self.current.borrow();
        number.map(|number| Term { number, current: self.current.clone() })
    }

    /// An item each time this replica becomes the leader, also for being it now. Several terms in a row that were not looked at
    /// are one item.
    pub fn gained(&self) -> impl Stream<Item = ()> + Send + use<> {
        let current = self.current.clone();
        stream::unfold((current, None), |(mut current, last)| async move {
            let gained = current.wait_for(|term| term.is_some() && *term != last).await.ok().map(|term| *term);
            match gained {
                Some(term) => Some(((), (current, term))),
                // Without an election there is nothing more to come; the stream stays open, as one that ends would end its reader.
                None => std::future::pending().await,
            }
        })
        .fuse()
    }
}

/// One unbroken time of leading.
#[derive(Clone, Debug)]
pub struct Term {
    number: u64,
    current: watch::Receiver<Option<u64>>,
}

impl Term {
    /// Runs `work` within this term: when the term ends first, `work` is dropped where it stands.
    ///
    /// # Errors
    /// [`LeadershipLost`] when the term ended first, or had ended already.
    pub async fn run<T>(mut self, work: impl Future<Output = T>) -> Result<T, LeadershipLost> {
        let number = self.number;
        let lost = async {
            if self.current.wait_for(|term| *term != Some(number)).await.is_err() {
                // The elector is gone, and with it the one who could end the term; the gate still can.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = lost => Err(LeadershipLost),
            done = work => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn leadership() -> (watch::Sender<Option<u64>>, Leadership) {
        let (terms, current) = watch::channel(None);
        (terms, Leadership { current })
    }

    #[tokio::test]
    async fn a_standby_has_no_term_and_a_leader_finishes_its_work_in_one() {
        let (terms, leadership) = leadership();
        assert!(leadership.term().is_none());
        terms.send_replace(Some(1));
        assert_eq!(leadership.term().unwrap().run(async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn work_is_dropped_when_its_term_ends_even_if_the_next_term_is_ours_again() {
        let (terms, leadership) = leadership();
        terms.send_replace(Some(1));
        let term = leadership.term().unwrap();
        let work = tokio::spawn(term.clone().run(std::future::pending::<()>()));
        tokio::task::yield_now().await;
        terms.send_replace(None);
        terms.send_replace(Some(2));
        assert_eq!(work.await.unwrap(), Err(LeadershipLost));
        assert_eq!(term.run(async {}).await, Err(LeadershipLost), "an old term does not come back");
    }

    #[tokio::test]
    async fn each_gain_of_leadership_is_one_item() {
        let (terms, leadership) = leadership();
        let mut gained = Box::pin(leadership.gained());
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, gained.next()).await.is_err());
        terms.send_replace(Some(1));
        assert_eq!(gained.next().await, Some(()));
        assert!(tokio::time::timeout(soon, gained.next()).await.is_err(), "one item a term");
        terms.send_replace(None);
        terms.send_replace(Some(2));
        assert_eq!(gained.next().await, Some(()));
    }

    #[tokio::test]
    async fn without_an_election_this_replica_leads_at_once_and_for_ever() {
        let leadership = Leadership::unopposed();
        let mut gained = Box::pin(leadership.gained());
        assert_eq!(gained.next().await, Some(()));
        assert!(tokio::time::timeout(Duration::from_millis(20), gained.next()).await.is_err());
        assert_eq!(leadership.term().unwrap().run(async { 7 }).await, Ok(7));
    }
}
