//! One attempt at a call: one request over HTTP, and what became of it.

use std::convert::Infallible;
use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Certificate, Client, ClientBuilder, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::Patience;
use super::answer::{Answer, MAX_TEXT};
use super::body::{Pieces, Stop, said, whole};
use super::error::{ChatError, Fault, SetupError};
use super::overflow::is_overflow;

/// How long a connection may take to be made: TLS through a proxy of an enterprise.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the word is waited for that nothing more comes of an answer that is whole.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// The longest body of an answer that comes in one piece, in bytes: its text may be escaped twice.
const MAX_BODY: usize = 2 * MAX_TEXT;
/// The longest body of an error that is read, in bytes.
const MAX_ERROR: usize = 64 << 10;
/// The header by which a rehearsal teacher says in every answer that it is no model.
const REHEARSAL: &str = "x-sera-rehearsal";

/// What became of it.
pub(super) enum Attempt {
    /// There is an answer.
    Answered(Box<Answer>),
    /// There will be none, however often it is asked for.
    Refused(ChatError),
    /// Another attempt may do better.
    Failed(Fault),
}

/// How a teacher is called: what is said about us, and who is trusted.
pub(super) struct Line {
    headers: HeaderMap,
    certificates: Vec<Certificate>,
    /// How long a connection may take to be made.
    connect: Duration,
}

impl Line {
    pub(super) fn new(key: Option<SecretString>, ca: Option<&str>, patience: &Patience) -> Result<Self, SetupError> {
        // The one provider of this program; it fails where it is installed already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        if let Some(key) = key {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())).map_err(|_| SetupError::Key)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let certificates = ca.map(certificates).transpose()?.unwrap_or_default();
        Ok(Self { headers, certificates, connect: CONNECT.min(patience.call) })
    }

    /// A client of whoever is asked.
    pub(super) fn connection(&self) -> Result<Connection, SetupError> {
        self.certificates.iter().cloned().fold(self.builder(), ClientBuilder::add_root_certificate).try_into()
    }

    /// A client whose calls of `url` go to this address of its host. The name stays what proxies, certificates and the server go by.
    pub(super) fn connection_to(&self, url: &Url, address: SocketAddr) -> Result<Connection, SetupError> {
        let builder = self.builder().resolve(url.host_str().unwrap_or_default(), address);
        if url.scheme() == "http" {
            // There may be hundreds, and each would read the system's certificates for nothing.
            return builder.tls_certs_only([]).try_into();
        }
        self.certificates.iter().cloned().fold(builder, ClientBuilder::add_root_certificate).try_into()
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder()
            .default_headers(self.headers.clone())
            .user_agent(concat!("sera-rollout/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.connect)
            .redirect(redirect::Policy::none())
    }
}

/// An HTTP client.
pub(super) struct Connection {
    client: Client,
}

impl TryFrom<ClientBuilder> for Connection {
    type Error = SetupError;

    fn try_from(builder: ClientBuilder) -> Result<Self, SetupError> {
        let client = builder.build().map_err(|error| SetupError::Client { problem: chain(&error) })?;
        Ok(Self { client })
    }
}

impl Connection {
    /// Sends one request, in pieces, and reads its answer. `stall`: how long tokens may stop coming once they come.
    pub(super) async fn attempt(&self, url: &Url, body: Vec<Bytes>, stall: Duration) -> Attempt {
        let length: usize = body.iter().map(Bytes::len).sum();
        let body = Body::wrap_stream(stream::iter(body.into_iter().map(Ok::<Bytes, Infallible>)));
        // With its length: not every server takes chunks.
        let response = match self.client.post(url.clone()).header(CONTENT_LENGTH, length).body(body).send().await {
            Ok(response) => response,
            Err(error) => return not_sent(url, &error),
        };
        if response.status() != StatusCode::OK {
            return refused(url, response).await;
        }
        let kind = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default()
            .to_ascii_lowercase();
        let rehearsal = response.headers().get(REHEARSAL).is_some_and(|value| value == "true");
        let read = if kind.starts_with("text/event-stream") {
            read_stream(response, stall).await
        } else if kind.contains("json") {
            read_whole(response).await
        } else {
            Err(Stop::Fault(Fault::Garbled { problem: format!("its content type is '{kind}'") }))
        };
        match read {
            Ok(mut answer) => {
                answer.rehearsal = rehearsal;
                Attempt::Answered(Box::new(answer))
            }
            Err(Stop::Fault(fault)) => Attempt::Failed(fault),
            Err(Stop::Said(said)) if is_overflow(0, &said) => Attempt::Refused(ChatError::ContextOverflow { said }),
            Err(Stop::Said(said)) => Attempt::Failed(Fault::Garbled { problem: format!("it is an error ({said})") }),
        }
    }
}

fn certificates(bundle: &str) -> Result<Vec<Certificate>, SetupError> {
    let refused = |problem: String| SetupError::CaCertificate { problem };
    let found = Certificate::from_pem_bundle(bundle.as_bytes()).map_err(|error| refused(chain(&error)))?;
    if found.is_empty() { Err(refused("there is no certificate in it".to_owned())) } else { Ok(found) }
}

fn not_sent(url: &Url, error: &reqwest::Error) -> Attempt {
    let problem = chain(error);
    // TLS has no status; the words are rustls' own.
    if problem.contains("invalid peer certificate") {
        return Attempt::Refused(ChatError::Untrusted { url: url.clone(), problem });
    }
    Attempt::Failed(Fault::Unreachable { problem })
}

/// What a status other than 200 means.
async fn refused(url: &Url, response: Response) -> Attempt {
    let status = response.status();
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|value| pause(value.to_str().ok()?, Timestamp::now()));
    let said = said(&read_error(response).await);
    let code = status.as_u16();
    Attempt::Refused(match code {
        500..=599 if is_overflow(code, &said) => ChatError::ContextOverflow { said },
        408 | 409 | 425 | 429 | 500..=599 => return Attempt::Failed(Fault::Status { status: code, said, retry_after }),
        _ if is_overflow(code, &said) => ChatError::ContextOverflow { said },
        // Without credit nobody is answered any more, whatever was answered before.
        401..=403 => ChatError::NotLetIn { url: url.clone(), status: code, said },
        404 => ChatError::NotThere { url: url.clone(), said },
        _ => ChatError::Rejected { status: code, said },
    })
}

/// How long `Retry-After` asks for: seconds, or until a date.
fn pause(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
}

async fn read_error(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() >= MAX_ERROR {
            break;
        }
    }
    body
}

async fn read_whole(mut response: Response) -> Result<Answer, Stop> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| broken(&error))? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_BODY {
            return Err(Fault::TooLong { limit: MAX_BODY }.into());
        }
    }
    whole(&body)
}

async fn read_stream(mut response: Response, stall: Duration) -> Result<Answer, Stop> {
    let mut pieces = Pieces::default();
    let mut last_token = Instant::now();
    while !pieces.is_done() {
        // The first token may take as long as the whole call: a long prompt waits in a queue and is read.
        let piece = if pieces.is_whole() {
            // It is paid for, and all that is missing is the word that nothing more comes.
            match timeout(AFTERWARDS, response.chunk()).await {
                Ok(Ok(piece)) => Ok(piece),
                Ok(Err(_)) | Err(_) => break,
            }
        } else if pieces.has_begun() {
            timeout_at(last_token + stall, response.chunk()).await.map_err(|_| Fault::Stalled { limit: stall })?
        } else {
            response.chunk().await
        };
        let Some(piece) = piece.map_err(|error| broken(&error))? else { break };
        if pieces.take(&piece)? {
            last_token = Instant::now();
        }
    }
    pieces.finish()
}

fn broken(error: &reqwest::Error) -> Fault {
    Fault::Broken { problem: chain(error) }
}

/// An error with its causes, without the address, which may carry what it should not.
fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_given_in_seconds_or_until_a_date() {
        let now: Timestamp = "2026-11-06T08:49:30Z".parse().unwrap();
        assert_eq!(pause("7", now), Some(Duration::from_secs(7)));
        assert_eq!(pause("Fri, 06 Nov 2026 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(pause("Fri, 06 Nov 2026 08:00:00 GMT", now), None, "it is over");
        assert_eq!(pause("soon", now), None);
    }
}
