//! The replicas of one teacher: a rollout sticks to one, so that its prefix stays in that one's cache, and one that fails again and again is left
//! alone for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use url::Url;

use super::Patience;
use super::error::SetupError;

/// Failures in a row after which a replica is left alone: one may be the network's, and a second the first one's echo.
const FAILURES: u32 = 3;

/// The replicas.
pub(super) struct Replicas(Vec<Replica>);

/// One of them.
pub(super) struct Replica {
    /// Where calls go.
    url: Url,
    breaker: Mutex<Breaker>,
    patience: Patience,
}

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// Until when nobody is let through; then one is, and decides.
    shut_until: Option<Instant>,
}

impl Replicas {
    pub(super) fn new(bases: &[Url], patience: Patience) -> Result<Self, SetupError> {
        let replicas = bases
            .iter()
            .map(|base| Ok(Replica { url: endpoint(base)?, breaker: Mutex::default(), patience }))
            .collect::<Result<Vec<_>, SetupError>>()?;
        if replicas.is_empty() { Err(SetupError::NoUrl) } else { Ok(Self(replicas)) }
    }

    /// The replica for `key`: the first of its own order that is not left alone, and that this call has not just `failed` at. Where all are left
    /// alone, this waits for the first that may be tried again; none where that is not before `until`.
    pub(super) async fn admit(&self, key: &str, failed: Option<&Replica>, until: Instant) -> Option<&Replica> {
        let mut order = self.order(key);
        // The others come first; where there are none, it is tried again.
        order.sort_by_key(|replica| failed.is_some_and(|failed| std::ptr::eq(*replica, failed)));
        loop {
            let now = Instant::now();
            if now >= until {
                return None;
            }
            if let Some(replica) = order.iter().find(|replica| replica.lets_through(now)) {
                return Some(replica);
            }
            let soonest = order.iter().filter_map(|replica| replica.breaker().shut_until).min()?;
            if soonest >= until {
                return None;
            }
            tokio::time::sleep_until(soonest).await;
        }
    }

    /// How many are left alone for now.
    pub(super) fn broken(&self) -> usize {
        let now = Instant::now();
        self.0.iter().filter(|replica| replica.breaker().shut_until.is_some_and(|until| until > now)).count()
    }

    /// Rendezvous hashing: each key has its own order of all replicas, and one that goes away moves only its own keys.
    fn order(&self, key: &str) -> Vec<&Replica> {
        let mut weighed: Vec<_> = self.0.iter().map(|replica| (weight(key, replica.url.as_str()), replica)).collect();
        weighed.sort_unstable_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        weighed.into_iter().map(|(_, replica)| replica).collect()
    }
}

fn weight(key: &str, url: &str) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update([0]).chain_update(url).finalize().into()
}

/// Where a base address takes chat completions.
fn endpoint(base: &Url) -> Result<Url, SetupError> {
    let invalid = || SetupError::Url { url: base.clone() };
    if !matches!(base.scheme(), "http" | "https") {
        return Err(invalid());
    }
    let mut url = base.clone();
    url.path_segments_mut().map_err(|()| invalid())?.pop_if_empty().extend(["chat", "completions"]);
    Ok(url)
}

impl Replica {
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// It works.
    pub(super) fn succeeded(&self) {
        *self.breaker() = Breaker::default();
    }

    /// It failed; after a few times it is left alone, each time for longer.
    pub(super) fn failed(&self) {
        let mut breaker = self.breaker();
        breaker.failures = breaker.failures.saturating_add(1);
        if breaker.failures >= FAILURES {
            breaker.shut_until = Some(Instant::now() + self.pause(breaker.failures));
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let doublings = (failures - FAILURES).min(16);
        (self.patience.first_pause * 4).saturating_mul(1 << doublings).min(self.patience.longest_pause)
    }

    /// Whether a call may be made now. After a pause one may, and keeps the others waiting until it is known how it went.
    fn lets_through(&self, now: Instant) -> bool {
        let mut breaker = self.breaker();
        match breaker.shut_until {
            None => true,
            Some(until) if until > now => false,
            Some(_) => {
                breaker.shut_until = Some(now + self.pause(breaker.failures));
                true
            }
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// For how long a replica is left alone at first; long enough for a machine that is busy with other tests.
    const PAUSE: Duration = Duration::from_millis(400);

    fn replicas(count: usize) -> Replicas {
        let urls: Vec<Url> = (0..count).map(|n| format!("http://t{n}:8000/v1").parse().unwrap()).collect();
        let patience = Patience { first_pause: PAUSE / 4, longest_pause: PAUSE, ..Patience::default() };
        Replicas::new(&urls, patience).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_mins(5)
    }

    #[test]
    fn a_base_address_with_and_without_a_slash_leads_to_the_same_place() {
        for base in ["https://host/v1", "https://host/v1/"] {
            assert_eq!(endpoint(&base.parse().unwrap()).unwrap().as_str(), "https://host/v1/chat/completions");
        }
        assert!(endpoint(&"ftp://host/v1".parse().unwrap()).is_err() && endpoint(&"data:x".parse().unwrap()).is_err());
    }

    #[tokio::test]
    async fn rollouts_are_spread_and_each_sticks_to_its_replica_when_others_come_and_go() {
        let (three, two) = (replicas(3), replicas(2));
        let mut share: BTreeMap<String, u32> = BTreeMap::new();
        for n in 0..300 {
            let key = format!("{n}-t1");
            let of_three = three.admit(&key, None, soon()).await.unwrap().url().clone();
            assert_eq!(three.admit(&key, None, soon()).await.unwrap().url(), &of_three);
            if of_three.host_str() != Some("t2") {
                assert_eq!(
                    two.admit(&key, None, soon()).await.unwrap().url(),
                    &of_three,
                    "only the keys of the third move"
                );
            }
            *share.entry(of_three.to_string()).or_default() += 1;
        }
        assert!(share.len() == 3 && share.values().all(|count| (70..=130).contains(count)), "{share:?}");
    }

    #[tokio::test]
    async fn a_replica_that_fails_again_and_again_is_left_alone_and_then_tried_by_one() {
        let replicas = replicas(2);
        let first = replicas.admit("k", None, soon()).await.unwrap();
        for _ in 0..FAILURES {
            assert_eq!(replicas.admit("k", None, soon()).await.unwrap().url(), first.url());
            first.failed();
        }
        assert_eq!(replicas.broken(), 1);
        assert_ne!(replicas.admit("k", None, soon()).await.unwrap().url(), first.url());
        tokio::time::sleep(PAUSE).await;
        assert_eq!(replicas.admit("k", None, soon()).await.unwrap().url(), first.url(), "one is let through");
        assert_ne!(replicas.admit("k", None, soon()).await.unwrap().url(), first.url(), "and only one");
        first.succeeded();
        assert_eq!(replicas.admit("k", None, soon()).await.unwrap().url(), first.url());
    }

    #[tokio::test]
    async fn a_call_that_failed_goes_to_another_replica_and_the_next_one_comes_back() {
        let (replicas, only) = (replicas(3), replicas(1));
        let first = replicas.admit("k", None, soon()).await.unwrap();
        assert_ne!(replicas.admit("k", Some(first), soon()).await.unwrap().url(), first.url());
        assert_eq!(replicas.admit("k", None, soon()).await.unwrap().url(), first.url());
        let alone = only.admit("k", None, soon()).await.unwrap();
        assert_eq!(only.admit("k", Some(alone), soon()).await.unwrap().url(), alone.url());
    }

    #[tokio::test]
    async fn where_all_are_left_alone_the_first_to_come_back_is_waited_for_but_not_for_ever() {
        let replicas = replicas(1);
        let only = replicas.admit("k", None, soon()).await.unwrap();
        (0..FAILURES).for_each(|_| only.failed());
        assert!(replicas.admit("k", None, Instant::now() + Duration::from_millis(10)).await.is_none());
        assert!(replicas.admit("k", None, soon()).await.is_some());
    }
}
