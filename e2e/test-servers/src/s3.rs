//! A real S3-compatible server: `s3s-fs`, over a folder of its own. It looks whether an object is there before it writes one, as several servers do
//! that people run; S3 itself lets one of two writers win, and so does what stands in front of this one, unless it is told not to.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::sync::{Mutex, watch};

use crate::served::Served;

/// The one bucket.
const BUCKET: &str = "sera";
/// Who may read and write it.
const ACCESS_KEY: &str = "tests-access-key";
const SECRET_KEY: &str = "tests-secret-key";
/// How long a body takes on a slow line: long enough that every writer has looked before the first has written.
const SLOW_LINE: Duration = Duration::from_millis(100);

/// How the server meets writers of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// One after another, as S3 does: of those that want to create, one wins.
    OneAtATime,
    /// All at once over slow lines, as a server that looks and then writes meets them: all win.
    AllAtOnce,
}

/// What the server does wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    Nothing,
    /// Every so many requests, one is answered 503, as a store that is asked too much does.
    Busy(u64),
    /// Every write takes so long, half of them before it is done and half after it: who goes away meanwhile does not know which.
    Slow(Duration),
    /// Whoever writes to a name with this in it is answered with this status.
    Refuses(String, u16),
}

/// A running server; it ends, and its objects go, when it is dropped.
pub struct S3Server {
    served: Served,
    trouble: watch::Sender<Trouble>,
    abandoned: Arc<AtomicU64>,
    folder: TempDir,
}

/// What a request needs to know.
struct Shared {
    service: S3Service,
    conduct: Conduct,
    trouble: watch::Receiver<Trouble>,
    requests: AtomicU64,
    abandoned: Arc<AtomicU64>,
    writing: Mutex<()>,
}

/// Counts a request whose client goes away before it is answered.
struct Answering {
    abandoned: Arc<AtomicU64>,
    is_answered: bool,
}

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.is_answered {
            self.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl S3Server {
    /// Starts a server on a free loopback port.
    pub fn start(conduct: Conduct, tls: bool) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), conduct, tls)
    }

    /// The same at an address of this machine, so that pods of a cluster reach it.
    pub fn start_at(address: IpAddr, conduct: Conduct, tls: bool) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join(BUCKET))?;
        let files = FileSystem::new(folder.path()).map_err(|error| anyhow::anyhow!("no S3 server: {error:?}"))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let trouble = watch::Sender::new(Trouble::Nothing);
        let abandoned = Arc::new(AtomicU64::new(0));
        let shared = Arc::new(Shared {
            abandoned: Arc::clone(&abandoned),
            service: builder.build(),
            conduct,
            trouble: trouble.subscribe(),
            requests: AtomicU64::new(0),
            writing: Mutex::new(()),
        });
        let served = Served::start_at(address, tls, |_| Router::new().fallback(answer).with_state(shared))
            .context("the S3 server cannot be started")?;
        Ok(Self { served, trouble, abandoned, folder })
    }

    /// From now on it does this wrong.
    pub fn make(&self, trouble: Trouble) {
        self.trouble.send_replace(trouble);
    }

    /// Where the bucket's objects lie on this machine, a file each by their names, for who wants to damage some.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// How many writes lost their client before they were answered.
    pub fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// `http://host:port`.
    pub fn origin(&self) -> String {
        self.served.origin()
    }

    /// The URI of a prefix in its bucket.
    pub fn uri(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// The keys of a Secret that lets a client in.
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ENDPOINT_URL", self.served.origin()),
        ];
        keys.extend(self.ca_pem().map(|pem| ("ca.crt", pem.to_owned())));
        keys
    }

    /// The certificate of the CA that a client has to trust, in PEM; none without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.served.ca_pem()
    }
}

/// Answers a request, or does what trouble says.
async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let number = shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let trouble = shared.trouble.borrow().clone();
    if let Some(refusal) = refusal(&trouble, number, &request) {
        return refusal;
    }
    let writes = matches!(*request.method(), Method::PUT | Method::POST | Method::DELETE);
    if !writes {
        return serve(&shared.service, request).await;
    }
    let mut answering = Answering { abandoned: Arc::clone(&shared.abandoned), is_answered: false };
    let [before, after] = match trouble {
        Trouble::Slow(time) if number.is_multiple_of(2) => [time, Duration::ZERO],
        Trouble::Slow(time) => [Duration::ZERO, time],
        _ => [Duration::ZERO; 2],
    };
    tokio::time::sleep(before).await;
    let answer = write(&shared, request).await;
    tokio::time::sleep(after).await;
    answering.is_answered = true;
    answer
}

/// Hands a writer's request to the server, in the way that was asked for.
async fn write(shared: &Shared, request: Request) -> Response {
    match shared.conduct {
        Conduct::OneAtATime => {
            // Whole before its turn comes, so that a client that stalls holds up nobody else.
            let (head, body) = request.into_parts();
            let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
                return StatusCode::BAD_REQUEST.into_response();
            };
            let _turn = shared.writing.lock().await;
            serve(&shared.service, Request::from_parts(head, Body::from(body))).await
        }
        Conduct::AllAtOnce => serve(&shared.service, request.map(slowly)).await,
    }
}

/// What a request is answered instead of what it asks for.
fn refusal(trouble: &Trouble, number: u64, request: &Request) -> Option<Response> {
    let status = match trouble {
        Trouble::Busy(every) if number.is_multiple_of(*every) => 503,
        Trouble::Refuses(part, status)
            if *request.method() != Method::GET && request.uri().path().contains(part.as_str()) =>
        {
            *status
        }
        _ => return None,
    };
    let (code, message) = match status {
        403 => ("AccessDenied", "Access Denied."),
        404 => ("NoSuchBucket", "The specified bucket does not exist."),
        _ => ("SlowDown", "Please reduce your request rate."),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    Some((status, body).into_response())
}

/// A body whose first piece takes its time.
fn slowly(body: Body) -> Body {
    let delay = futures::stream::once(async {
        tokio::time::sleep(SLOW_LINE).await;
        Ok(bytes::Bytes::new())
    });
    Body::from_stream(delay.chain(body.into_data_stream()))
}

async fn serve(service: &S3Service, request: Request) -> Response {
    match service.call(request.map(s3s::Body::http_body_unsync)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}")).into_response(),
    }
}
