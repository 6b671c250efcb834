//! What a request does, and whether and when it may be sent again.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, header};

use super::{Answer, Error};

/// The delay before a read is sent again, doubled each time, when the API server names none.
const RETRY_READ: Duration = Duration::from_millis(100);
/// Longer than this no request waits for an API server that asked for patience: its caller backs off instead.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a request does, as far as its manners depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Watch,
    Write,
}

impl Kind {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let watch = |query: &str| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
        match *request.method() {
            Method::GET | Method::HEAD if request.uri().query().is_some_and(watch) => Self::Watch,
            Method::GET | Method::HEAD => Self::Read,
            _ => Self::Write,
        }
    }

    pub(super) fn writes(self) -> bool {
        self == Self::Write
    }

    /// The verb by which durations are told apart: a watch is a GET that has no end.
    pub(super) fn verb(self, method: &Method) -> &str {
        if self == Self::Watch { "WATCH" } else { method.as_str() }
    }

    /// How long to wait before the request may be sent again; `None` when it may not. A 429 says that nothing was done, so
    /// writes may follow it too; after anything else a write may have happened, and is left to the next pass, which looks first.
    /// A watch is opened again by its watcher, which has its own backoff.
    pub(super) fn retry_after(self, answer: &Answer, attempt: u32) -> Option<Duration> {
        if let Some(pause) = asked_for_patience(answer) {
            return (pause <= LONGEST_PAUSE).then_some(pause);
        }
        let transient = match answer {
            Ok(response) => matches!(response.status().as_u16(), 500 | 502..=504),
            Err(error) => error.is::<Error>(),
        };
        (self == Self::Read && transient).then(|| RETRY_READ * 2u32.saturating_pow(attempt - 1))
    }
}

/// The pause that a 429 asks for; a second where it names none that can be read.
pub(super) fn asked_for_patience(answer: &Answer) -> Option<Duration> {
    let response = answer.as_ref().ok().filter(|response| response.status() == StatusCode::TOO_MANY_REQUESTS)?;
    Some(retry_after(response.headers()).unwrap_or(Duration::from_secs(1)))
}

/// `Retry-After` in seconds, the only form that API servers send.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
