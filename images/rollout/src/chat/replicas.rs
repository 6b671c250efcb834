//! The replicas of one teacher: a rollout sticks to one, so that its prefix stays in that one's cache, and one that fails again and again is left
//! alone for a while.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use url::Url;

use super::Patience;
use super::attempt::{Connection, Line};
use super::copies::Copies;
use super::error::SetupError;

/// Failures in a row after which a replica is left alone: one may be the network's, and a second the first one's echo.
const FAILURES: u32 = 3;

/// The replicas.
pub(super) struct Replicas(Vec<Group>);

/// Those behind one address that was given: itself, or the copies whose addresses its name has.
struct Group {
    copies: Option<Copies>,
    replicas: Mutex<Vec<Arc<Replica>>>,
}

/// One of them.
pub(super) struct Replica {
    /// Where calls go.
    url: Url,
    /// Which of the addresses of the URL's host it has; none where that is left to the connection.
    address: Option<SocketAddr>,
    connection: Arc<Connection>,
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
    /// One for each of these base addresses; with `by_address`, one for each address that their hosts have.
    pub(super) fn new(bases: &[Url], by_address: bool, line: Line, patience: Patience) -> Result<Self, SetupError> {
        let line = Arc::new(line);
        let connection = Arc::new(line.connection()?);
        let group = |base: &Url| {
            let url = endpoint(base)?;
            let copies = by_address.then(|| Copies::of(&url, Arc::clone(&line)));
            Ok(Group::new(Replica::new(url, None, Arc::clone(&connection), patience), copies))
        };
        let groups = bases.iter().map(group).collect::<Result<Vec<_>, SetupError>>()?;
        if groups.is_empty() { Err(SetupError::NoUrl) } else { Ok(Self(groups)) }
    }

    /// The replica for `key`: the first of its own order that is not left alone, and that this call has not just `failed` at. Where all are left
    /// alone, this waits for the first that may be tried again; none where that is not before `until`.
    pub(super) async fn admit(&self, key: &str, failed: Option<&Arc<Replica>>, until: Instant) -> Option<Arc<Replica>> {
        for group in &self.0 {
            group.look_again().await;
        }
        let mut order = self.order(key);
        // The others come first; where there are none, it is tried again.
        order.sort_by_key(|replica| failed.is_some_and(|failed| Arc::ptr_eq(replica, failed)));
        loop {
            let now = Instant::now();
            if now >= until {
                return None;
            }
            if let Some(replica) = order.iter().find(|replica| replica.lets_through(now)) {
                return Some(Arc::clone(replica));
            }
            // Another call may have opened it since.
            let Some(soonest) = order.iter().filter_map(|replica| replica.breaker().shut_until).min() else { continue };
            if soonest >= until {
                return None;
            }
            tokio::time::sleep_until(soonest).await;
        }
    }

    /// How many are left alone for now.
    pub(super) fn broken(&self) -> usize {
        let now = Instant::now();
        self.all().iter().filter(|replica| replica.breaker().shut_until.is_some_and(|until| until > now)).count()
    }

    fn all(&self) -> Vec<Arc<Replica>> {
        self.0.iter().flat_map(|group| group.replicas().clone()).collect()
    }

    /// Rendezvous hashing: each key has its own order of all replicas, and one that goes away moves only its own keys.
    fn order(&self, key: &str) -> Vec<Arc<Replica>> {
        let mut weighed: Vec<_> = self.all().into_iter().map(|replica| (replica.weight(key), replica)).collect();
        weighed.sort_unstable_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        weighed.into_iter().map(|(_, replica)| replica).collect()
    }
}

impl Group {
    fn new(by_name: Replica, copies: Option<Copies>) -> Self {
        Self { copies, replicas: Mutex::new(vec![Arc::new(by_name)]) }
    }

    fn replicas(&self) -> MutexGuard<'_, Vec<Arc<Replica>>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the copies that there are now, where it is time to look. One that stays keeps what is known of it; and where nothing is found, or nobody
    /// says anything, all stay as they are: at first the one that goes by its name, whose calls say what is wrong.
    async fn look_again(&self) {
        let Some(copies) = &self.copies else { return };
        let is_known = self.replicas().iter().any(|replica| replica.address.is_some());
        let Some(found) = copies.look(is_known).await else { return };
        let mut replicas = self.replicas();
        let Some(any) = replicas.first().cloned() else { return };
        let replica = |address: SocketAddr| {
            let known = replicas.iter().find(|replica| replica.address == Some(address)).cloned();
            known.map_or_else(|| copies.connection(address).map(|made| any.at(address, made)), Ok)
        };
        match found.addresses.iter().copied().map(replica).collect::<Result<Vec<_>, _>>() {
            Ok(now) => *replicas = now,
            Err(problem) => tracing::warn!(url = %any.url, "no client for a copy: {problem}"),
        }
    }
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
    fn new(url: Url, address: Option<SocketAddr>, connection: Arc<Connection>, patience: Patience) -> Self {
        Self { url, address, connection, breaker: Mutex::default(), patience }
    }

    /// The copy at an address of the same name.
    fn at(&self, address: SocketAddr, connection: Connection) -> Arc<Self> {
        Arc::new(Self::new(self.url.clone(), Some(address), Arc::new(connection), self.patience))
    }

    /// How much a key is drawn to it.
    fn weight(&self, key: &str) -> [u8; 32] {
        let mut digest = Sha256::new().chain_update(key).chain_update([0]).chain_update(self.url.as_str());
        if let Some(address) = self.address {
            digest.update([0]);
            digest.update(address.to_string());
        }
        digest.finalize().into()
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

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

    use serde_json::json;

    use super::super::attempt::Attempt;
    use super::*;
    use crate::testing::endpoint::{Endpoint, Reply, answer};

    /// For how long a replica is left alone at first; long enough for a machine that is busy with other tests.
    const PAUSE: Duration = Duration::from_millis(400);

    fn replicas(count: usize) -> Replicas {
        let urls: Vec<Url> = (0..count).map(|n| format!("http://t{n}:8000/v1").parse().unwrap()).collect();
        let patience = Patience { first_pause: PAUSE / 4, longest_pause: PAUSE, ..Patience::default() };
        Replicas::new(&urls, false, line(), patience).unwrap()
    }

    fn line() -> Line {
        Line::new(None, None, &Patience::default()).unwrap()
    }

    /// Behind a name that has these addresses, which come and go.
    fn copies(addresses: &Arc<Mutex<Vec<SocketAddr>>>) -> Replicas {
        let url: Url = "http://teacher.example:8000/v1/chat/completions".parse().unwrap();
        let (line, addresses) = (Arc::new(line()), Arc::clone(addresses));
        let by_name = Replica::new(url.clone(), None, Arc::new(line.connection().unwrap()), Patience::default());
        let told = move || {
            let now = addresses.lock().unwrap().clone();
            Box::pin(async move { Ok(now) }) as futures::future::BoxFuture<'static, _>
        };
        Replicas(vec![Group::new(by_name, Some(Copies::told(&url, line, Box::new(told))))])
    }

    /// Has the name looked up again.
    async fn much_later(replicas: &Replicas) {
        replicas.0[0].copies.as_ref().unwrap().forget().await;
    }

    fn address(number: u16) -> SocketAddr {
        format!("10.0.0.{number}:8000").parse().unwrap()
    }

    /// The copies that so many rollouts stick to.
    async fn chosen(replicas: &Replicas, rollouts: u32) -> Vec<Option<SocketAddr>> {
        let mut chosen = Vec::new();
        for n in 0..rollouts {
            chosen.push(replicas.admit(&format!("{n}-t1"), None, soon()).await.unwrap().address);
        }
        chosen
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
        assert_ne!(replicas.admit("k", Some(&first), soon()).await.unwrap().url(), first.url());
        assert_eq!(replicas.admit("k", None, soon()).await.unwrap().url(), first.url());
        let alone = only.admit("k", None, soon()).await.unwrap();
        assert_eq!(only.admit("k", Some(&alone), soon()).await.unwrap().url(), alone.url());
    }

    #[tokio::test]
    async fn where_all_are_left_alone_the_first_to_come_back_is_waited_for_but_not_for_ever() {
        let replicas = replicas(1);
        let only = replicas.admit("k", None, soon()).await.unwrap();
        (0..FAILURES).for_each(|_| only.failed());
        assert!(replicas.admit("k", None, Instant::now() + Duration::from_millis(10)).await.is_none());
        assert!(replicas.admit("k", None, soon()).await.is_some());
    }

    #[tokio::test]
    async fn rollouts_are_spread_over_the_copies_behind_one_name_and_move_only_from_one_that_has_gone() {
        let addresses = Arc::new(Mutex::new(vec![address(1), address(2), address(3)]));
        let replicas = copies(&addresses);
        let first = chosen(&replicas, 300).await;
        let share = |of: u16| first.iter().filter(|chosen| **chosen == Some(address(of))).count();
        assert!([1, 2, 3].iter().all(|copy| (70..=130).contains(&share(*copy))), "{first:?}");
        assert_eq!(chosen(&replicas, 300).await, first);

        *addresses.lock().unwrap() = vec![address(1), address(3)];
        assert_eq!(chosen(&replicas, 300).await, first, "nobody looks again so soon");
        much_later(&replicas).await;
        for (before, after) in first.iter().zip(chosen(&replicas, 300).await) {
            assert!(
                after != Some(address(2)) && (after == *before || *before == Some(address(2))),
                "{before:?} {after:?}"
            );
        }
        *addresses.lock().unwrap() = vec![address(3), address(2), address(1)];
        much_later(&replicas).await;
        assert_eq!(chosen(&replicas, 300).await, first, "whoever comes back has its own again");
    }

    #[tokio::test]
    async fn a_name_that_has_no_address_goes_by_itself_until_it_has_one_and_keeps_the_last_that_it_had() {
        let addresses = Arc::new(Mutex::new(Vec::new()));
        let replicas = copies(&addresses);
        assert_eq!(chosen(&replicas, 1).await, [None]);
        addresses.lock().unwrap().push(address(1));
        much_later(&replicas).await;
        assert_eq!(chosen(&replicas, 1).await, [Some(address(1))]);
        addresses.lock().unwrap().clear();
        much_later(&replicas).await;
        assert_eq!(chosen(&replicas, 1).await, [Some(address(1))]);
    }

    #[tokio::test]
    async fn what_is_known_of_a_copy_stays_when_its_name_is_looked_up_again() {
        let addresses = Arc::new(Mutex::new(vec![address(1), address(2)]));
        let replicas = copies(&addresses);
        let first = replicas.admit("k", None, soon()).await.unwrap();
        (0..FAILURES + 4).for_each(|_| first.failed());
        much_later(&replicas).await;
        assert_ne!(replicas.admit("k", None, soon()).await.unwrap().address, first.address);
        assert_eq!(replicas.broken(), 1);
    }

    #[tokio::test]
    async fn a_call_goes_to_the_copy_s_address_by_the_name_of_all() {
        let endpoint = Endpoint::start(|_, _| Reply::Json(answer(&json!({"content": "hi"})))).await;
        let there: SocketAddr = endpoint.url.parse::<Url>().unwrap().socket_addrs(|| None).unwrap()[0];
        let url: Url = format!("http://teacher.example:{}/v1/chat/completions", there.port()).parse().unwrap();
        let connection = line().connection_to(&url, there).unwrap();
        let said = connection.attempt(&url, vec!["{}".into()], Duration::from_secs(5)).await;
        assert!(matches!(said, Attempt::Answered(_)));
    }
}
