//! What goes wrong with GitHub, once a request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::{insert, message};

/// What one request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: for the requests between others.
    None,
    /// The hour's requests are spent; more come after so many seconds.
    RateLimit(u64),
    /// Too much at once: a secondary limit, for so many seconds.
    SecondaryLimit(u64),
    /// The credentials may not do this.
    Forbidden,
    /// An error of the server's own, with this status and a page for people.
    Server(u16),
    /// The answer comes after this time.
    Slow(Duration),
    /// 200, with what is no JSON.
    Garbage,
    /// 200 and JSON, but of something else.
    Foreign,
    /// 200 and the beginning of an answer, and then the connection breaks.
    BrokenOff,
}

impl Fault {
    /// The answer; none where the request is to be served after all.
    pub(super) async fn answer(self) -> Option<Response> {
        Some(match self {
            Self::None => return None,
            Self::Slow(delay) => {
                tokio::time::sleep(delay).await;
                return None;
            }
            Self::RateLimit(seconds) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let said = "API rate limit exceeded for 127.0.0.1. (But here's the good news: Authenticated requests get a higher rate limit.)";
                let headers =
                    [("x-ratelimit-limit", 60), ("x-ratelimit-remaining", 0), ("x-ratelimit-reset", now + seconds)];
                with_headers(message(StatusCode::FORBIDDEN, said), &headers)
            }
            Self::SecondaryLimit(seconds) => {
                let said = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
                with_headers(message(StatusCode::TOO_MANY_REQUESTS, said), &[("retry-after", seconds)])
            }
            Self::Forbidden => message(StatusCode::FORBIDDEN, "Resource not accessible by integration"),
            Self::Server(status) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, [(header::CONTENT_TYPE, "text/html")], "<html><title>Unicorn!</title></html>").into_response()
            }
            Self::Garbage => "[{\"number\": 1, \"title\": \"cut".into_response(),
            Self::Foreign => "{\"current_user_url\": \"x\"}".into_response(),
            Self::BrokenOff => {
                let pieces = [Ok(Bytes::from_static(b"[{")), Err(std::io::Error::other("broken off"))];
                let mut headers = HeaderMap::new();
                insert(&mut headers, "etag", "W/\"broken\"");
                (headers, Body::from_stream(futures::stream::iter(pieces))).into_response()
            }
        })
    }
}

fn with_headers(mut response: Response, headers: &[(&'static str, u64)]) -> Response {
    for (name, value) in headers {
        insert(response.headers_mut(), name, &value.to_string());
    }
    response
}
