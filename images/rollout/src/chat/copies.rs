//! The copies of a teacher behind one name: a headless Service has an address for each, and they come and go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout};
use url::Url;

use super::attempt::{Connection, Line};
use super::error::SetupError;

/// How often the name is looked up. A copy that has come is asked by then; one that has gone is left alone before, when it does not answer.
const AGAIN: Duration = Duration::from_secs(10);
/// The same while no copy is known.
const SOON: Duration = Duration::from_secs(1);
/// How long a look may take.
const LONGEST: Duration = Duration::from_secs(5);

/// Says which addresses a name has.
type LookUp = Box<dyn Fn() -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The copies of a teacher.
pub(super) struct Copies {
    url: Url,
    line: Arc<Line>,
    look_up: LookUp,
    looked: Mutex<Option<Instant>>,
}

/// What a look has found. Nobody else looks until it is taken.
pub(super) struct Found<'a> {
    /// At least one, each of them once.
    pub(super) addresses: Vec<SocketAddr>,
    _looked: MutexGuard<'a, Option<Instant>>,
}

impl Copies {
    /// Those behind the name of this URL's host.
    pub(super) fn of(url: &Url, line: Arc<Line>) -> Self {
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or_default();
        let look_up: LookUp = Box::new(move || {
            let name = name.clone();
            Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })
        });
        Self { url: url.clone(), line, look_up, looked: Mutex::default() }
    }

    /// A client of the copy at this address.
    pub(super) fn connection(&self, address: SocketAddr) -> Result<Connection, SetupError> {
        self.line.connection_to(&self.url, address)
    }

    /// Looks where they are, if it is time to: others are waited for only where none is known yet.
    pub(super) async fn look(&self, is_known: bool) -> Option<Found<'_>> {
        let mut looked = if is_known { self.looked.try_lock().ok()? } else { self.looked.lock().await };
        let pause = if is_known { AGAIN } else { SOON };
        if looked.is_some_and(|looked| looked.elapsed() < pause) {
            return None;
        }
        *looked = Some(Instant::now());
        match timeout(LONGEST, (self.look_up)()).await {
            Ok(Ok(found)) => Some(Found { addresses: of_one_kind(found)?, _looked: looked }),
            Ok(Err(problem)) => {
                tracing::debug!(url = %self.url, "the name has no address: {problem}");
                None
            }
            Err(_) => {
                tracing::debug!(url = %self.url, "nobody says which addresses the name has");
                None
            }
        }
    }
}

/// Each address once. A copy may have one of IPv4 and one of IPv6: then those count that come first. None where there are none.
fn of_one_kind(mut addresses: Vec<SocketAddr>) -> Option<Vec<SocketAddr>> {
    let is_ipv4 = addresses.first()?.is_ipv4();
    addresses.retain(|address| address.is_ipv4() == is_ipv4);
    addresses.sort_unstable();
    addresses.dedup();
    Some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Copies {
        /// Copies whose addresses `look_up` says.
        pub(in crate::chat) fn told(url: &Url, line: Arc<Line>, look_up: LookUp) -> Self {
            Self { look_up, ..Self::of(url, line) }
        }

        /// As if nobody had looked for long.
        pub(in crate::chat) async fn forget(&self) {
            *self.looked.lock().await = None;
        }
    }

    #[test]
    fn a_copy_with_two_kinds_of_addresses_counts_once() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let both = addresses(&["10.0.0.2:8000", "[fd00::2]:8000", "10.0.0.1:8000", "10.0.0.2:8000"]);
        assert_eq!(of_one_kind(both), Some(addresses(&["10.0.0.1:8000", "10.0.0.2:8000"])));
        assert_eq!(of_one_kind(Vec::new()), None);
    }
}
