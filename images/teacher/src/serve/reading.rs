//! Requests on their way in: how long one may be, how many are read at a time, and for how long, so that no number of clients takes more memory than
//! the answers themselves. What a request says is not looked at here.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::SOON;
use crate::http::{LONGEST_REQUEST, Refusal};

/// How many requests are read and taken apart at a time: a long one takes milliseconds, and many times its length in memory.
const AT_ONCE: usize = 16;
/// How long a request may take to come, and how long it may wait for others before it is read.
const WITHIN: Duration = Duration::from_mins(1);
/// The longest request, for each token of the context: a token is some four letters, of which JSON may make six bytes each, and there are tools and
/// names besides.
const BYTES_A_TOKEN: usize = 64;
/// What a request may have in any case.
const ALWAYS: usize = 1 << 20;

/// A request that has come; it counts as one that is read until it is dropped.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) body: Bytes,
    _place: OwnedSemaphorePermit,
}

/// Reads requests.
#[derive(Debug)]
pub(super) struct Reading {
    places: Arc<Semaphore>,
    within: Duration,
}

impl Reading {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)), within: WITHIN }
    }

    /// Reads a request for a model with this context; none is known while the model is being loaded.
    pub(super) async fn read(&self, mut request: Request, context: Option<usize>) -> Result<Read, Refusal> {
        let place = timeout(self.within, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(Refusal::overloaded("too many requests are being read; try again later", SOON));
        };
        DefaultBodyLimit::max(longest(context)).apply(&mut request);
        let Ok(body) = timeout(self.within, Bytes::from_request(request, &())).await else {
            let message = format!("the request did not come within {} s", self.within.as_secs_f32());
            return Err(invalid(StatusCode::REQUEST_TIMEOUT, message));
        };
        let body = body.map_err(|rejection| {
            invalid(rejection.status(), format!("the request cannot be read: {}", rejection.body_text()))
        })?;
        Ok(Read { body, _place: place })
    }
}

/// How many bytes a request may have.
fn longest(context: Option<usize>) -> usize {
    context.unwrap_or_default().saturating_mul(BYTES_A_TOKEN).clamp(ALWAYS, LONGEST_REQUEST)
}

fn invalid(status: StatusCode, message: String) -> Refusal {
    Refusal::new(status, "invalid_request_error", "invalid_request", message)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures::stream;

    use super::*;

    fn reading(places: usize) -> Reading {
        Reading { places: Arc::new(Semaphore::new(places)), within: Duration::from_millis(50) }
    }

    fn request(body: impl Into<Body>) -> Request {
        Request::new(body.into())
    }

    #[tokio::test]
    async fn a_request_is_as_long_as_its_context_may_need_and_no_longer() {
        assert_eq!((longest(None), longest(Some(4096)), longest(Some(1 << 17))), (ALWAYS, ALWAYS, 8 << 20));
        assert_eq!(longest(Some(usize::MAX)), LONGEST_REQUEST);
        let reading = reading(1);
        assert_eq!(reading.read(request(vec![b' '; ALWAYS]), None).await.unwrap().body.len(), ALWAYS);
        let refused = reading.read(request(vec![b' '; ALWAYS + 1]), None).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(reading.read(request(vec![b' '; ALWAYS + 1]), Some(1 << 17)).await.is_ok());
    }

    #[tokio::test]
    async fn a_request_that_does_not_come_is_not_waited_for() {
        let never = Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
        let refused = reading(1).read(request(never), None).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn only_so_many_are_read_at_a_time() {
        let reading = reading(1);
        let first = reading.read(request("one"), None).await.unwrap();
        let refused = reading.read(request("two"), None).await.unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (StatusCode::TOO_MANY_REQUESTS, Some(SOON)));
        drop(first);
        assert_eq!(reading.read(request("two"), None).await.unwrap().body, "two");
    }
}
