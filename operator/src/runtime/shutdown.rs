//! The end: who asks for it, and how the parts learn of it. A first SIGTERM or SIGINT asks for an orderly end within two
//! seconds, a second one ends at once.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long passes under way have to end. With the events (below), the writes in flight and the release of the lease (`lease`),
/// and the server's goodbye it adds up to less than the two seconds in which the process ends.
pub const PASSES: Duration = Duration::from_millis(900);
/// How long the events that wait have to be published.
pub const EVENTS: Duration = Duration::from_millis(200);

/// The wish to end; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Nobody has asked yet, and no signal does.
    pub fn new() -> Self {
        Self::default()
    }

    /// SIGTERM and SIGINT ask for the end; the second of them ends the process on the spot, with the exit code of a program
    /// that the signal killed.
    ///
    /// # Errors
    /// When the process may not listen to signals.
    pub fn on_signals() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = Self::new();
        tokio::spawn(shutdown.clone().listen(terminate, interrupt));
        Ok(shutdown)
    }

    async fn listen(self, mut terminate: Signal, mut interrupt: Signal) {
        let name = next(&mut terminate, &mut interrupt).await.0;
        tracing::info!("{name}: ending");
        self.request();
        let (name, number) = next(&mut terminate, &mut interrupt).await;
        tracing::warn!("a second {name}: ending at once; the lease is left to expire");
        std::process::exit(128 + number);
    }

    /// Asks for the end.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until somebody asks.
    pub fn requested(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }

    /// Runs `work` until it is done or the end is asked for; `None` for the latter.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.token.run_until_cancelled(work).await
    }

    /// Runs `work`, which is to end by itself when the end is asked for; what has not ended [`PASSES`] after that is cut off.
    pub async fn see_out<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let cut_off = async {
            self.token.cancelled().await;
            tokio::time::sleep(PASSES).await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = cut_off => {
                tracing::warn!("passes that did not end within {PASSES:?} were cut off; they are made anew at the next start");
                None
            }
        }
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
        _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn every_clone_learns_of_the_end_and_work_stops_for_it() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.or(async { 7 }).await, Some(7));
        let working = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.or(std::future::pending::<()>()).await }
        });
        assert!(!shutdown.is_requested());
        shutdown.clone().request();
        shutdown.requested().await;
        assert_eq!(working.await.unwrap(), None);
    }

    #[tokio::test]
    async fn work_that_ends_by_itself_is_seen_out_and_work_that_does_not_is_cut_off() {
        let shutdown = Shutdown::new();
        let requested = shutdown.requested();
        let obedient = shutdown.see_out(async {
            requested.await;
            7
        });
        shutdown.request();
        assert_eq!(obedient.await, Some(7));
        let asked = Instant::now();
        assert_eq!(shutdown.see_out(std::future::pending::<()>()).await, None);
        assert!((PASSES..2 * PASSES).contains(&asked.elapsed()));
    }
}
