//! What stands between an operator and the API server: it hands calls on, counts them, and does to each what the script says. It speaks plain HTTP on
//! the loopback, and to the API server as the chart's service account: a call that the chart does not grant is refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::call::Call;
use super::course::Course;
use super::intent;
use super::outage::Outages;
use super::past;
use super::random::Random;
use super::rights;
use super::script::{Fault, When};

/// The longest that an answer is held; a new leader needs the time of a lease to be one.
const HELD_FOR: Duration = Duration::from_secs(9);
/// The longest that news of a watch is late, in milliseconds.
const LONGEST_LAG: u64 = 2_000;

type Answer = Response<UnsyncBoxBody<Bytes, Error>>;

/// Why a call gets no answer: the connection ends.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The script says so.
    #[error("the script breaks the connection")]
    Broken,
    /// The operator's request broke off.
    #[error("the operator's request cannot be read")]
    Read(#[from] hyper::Error),
    /// It cannot be handed on.
    #[error("the operator's request cannot be handed on")]
    HandOn(#[from] http::Error),
    /// The API server did not answer.
    #[error("the API server does not answer")]
    Upstream(#[from] kube::Error),
    /// What the API server says of the past makes no sense.
    #[error("the API server's answer cannot be read")]
    Nonsense(#[from] serde_json::Error),
    /// The task that asks it broke down.
    #[error("the task that asks the API server broke down")]
    Task(#[from] tokio::task::JoinError),
}

/// The proxy of one operator. It ends when it is dropped.
pub(super) struct Proxy {
    address: SocketAddr,
    _connections: JoinSet<()>,
}

/// What every connection of one operator shares.
struct Seat {
    number: usize,
    course: Arc<Course>,
    upstream: Client,
    process: Arc<AtomicI32>,
    outages: Outages,
    /// Whether its operator is cut off: nothing that it asks gets an answer.
    cut_off: watch::Sender<bool>,
}

impl Proxy {
    /// Listens for the operator of a seat, whose process id stands in `process`.
    pub(super) async fn start(
        number: usize,
        course: Arc<Course>,
        upstream: Client,
        process: Arc<AtomicI32>,
        outages: Outages,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let seat = Arc::new(Seat { number, course, upstream, process, outages, cut_off: watch::Sender::default() });
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, seat));
        Ok(Self { address, _connections: connections })
    }

    /// Where it listens.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn accept(listener: TcpListener, seat: Arc<Seat>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        connections.spawn(serve(connection, Arc::clone(&seat)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(connection: TcpStream, seat: Arc<Seat>) {
    let service = service_fn(move |request| {
        let seat = Arc::clone(&seat);
        async move { seat.answer(request).await }
    });
    // That a connection breaks is the point.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
}

impl Seat {
    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let call = Call::of(&head.method, &head.uri);
        self.until_connected().await;
        let fault = if call.is_work() { self.course.next_call(self.number, &call) } else { None };
        let account = rights::account(&self.course.namespace);
        let mut request = Request::builder().method(head.method).uri(head.uri).header(rights::TAKEN_FOR, account);
        for name in [header::ACCEPT, header::CONTENT_TYPE, header::USER_AGENT] {
            if let Some(value) = head.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(body.clone())?;
        self.meet(call, fault, request).await
    }

    async fn meet(&self, call: Call, fault: Option<Fault>, request: Request<Bytes>) -> Result<Answer, Error> {
        match fault {
            Some(Fault::Kill(When::Before)) => {
                self.course.kill(&self.process);
                Err(Error::Broken)
            }
            Some(Fault::Kill(When::After)) => {
                let answer = self.forward(&call, request).await;
                drop(answer);
                self.course.kill(&self.process);
                Err(Error::Broken)
            }
            Some(Fault::Drop(When::Before)) => Err(Error::Broken),
            Some(Fault::Drop(When::After)) => {
                drop(self.forward(&call, request).await);
                Err(Error::Broken)
            }
            Some(Fault::Refuse(code)) => Ok(refusal(code)),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.forward(&call, request).await
            }
            Some(Fault::Hold) => {
                let answer = self.forward(&call, request).await;
                // A task of its own: whoever is cut off gives up long before, and must be heard again all the same.
                tokio::spawn(Self::cut_off(self.number, Arc::clone(&self.course), self.cut_off.clone())).await?;
                answer
            }
            Some(Fault::Stale(behind)) => self.answer_from_the_past(&call, behind, request).await,
            Some(Fault::Restart(when)) => {
                if when == When::After {
                    drop(self.forward(&call, request).await);
                }
                self.outages.ask();
                Err(Error::Broken)
            }
            None => self.forward(&call, request).await,
        }
    }

    /// Answers a read as it would have been answered some time ago. Where the API server does not know that any more it is answered as it is.
    async fn answer_from_the_past(
        &self,
        call: &Call,
        behind: Duration,
        request: Request<Bytes>,
    ) -> Result<Answer, Error> {
        let version = Instant::now().checked_sub(behind).and_then(|then| self.course.past.at(then));
        let asked = version.as_deref().map(|version| past::request(call, &request, version)).transpose()?.flatten();
        let (Some(version), Some(asked)) = (version, asked) else { return self.forward(call, request).await };
        let answer = self.forward(call, asked).await?;
        let (seat, is_known) = (self.number, answer.status().is_success());
        let word = if is_known { "is answered as of" } else { "cannot be answered any more as of" };
        self.course.note(&format!("  operator {seat}: {call} {word} version {version}, {behind:?} ago"));
        match (is_known, &call.name) {
            (false, _) => self.forward(call, request).await,
            (true, None) => Ok(answer),
            (true, Some(_)) => {
                let list = answer.into_body().collect().await?.to_bytes();
                let object = past::only(serde_json::from_slice(&list)?);
                Ok(object.map_or_else(|| refusal(404), |object| said(StatusCode::OK, &object)))
            }
        }
    }

    /// Cuts the operator off until another leads and has written something.
    async fn cut_off(number: usize, course: Arc<Course>, cut_off: watch::Sender<bool>) {
        cut_off.send_replace(true);
        let is_over = tokio::time::timeout(HELD_FOR, course.until_another_writes(number)).await.is_ok();
        cut_off.send_replace(false);
        let who = if is_over { "another has written" } else { "nobody else has written" };
        course.note(&format!("operator {number} is heard again: {who}"));
    }

    async fn until_connected(&self) {
        let mut cut_off = self.cut_off.subscribe();
        // The sender lives as long as this value.
        let _ = cut_off.wait_for(|is_cut_off| !is_cut_off).await;
    }

    /// Has the API server answer, in a task of its own: a call that is on its way arrives though the operator dies.
    async fn forward(&self, call: &Call, request: Request<Bytes>) -> Result<Answer, Error> {
        if call.makes("jobs") {
            intent::check(&self.course, &self.upstream, request.body()).await;
        }
        let upstream = self.upstream.clone();
        let sent = tokio::spawn(async move { upstream.send(request.map(Body::from)).await });
        let answer = sent.await??;
        if call.is_write() && call.is_work() {
            self.course.has_written(self.number);
            self.course.note(&format!("  operator {}: {call} is answered by {}", self.number, answer.status()));
        }
        let (mut head, body) = answer.into_parts();
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
            head.headers.remove(name);
        }
        let body = if call.is_watch { self.late(body) } else { body.map_err(Error::from).boxed_unsync() };
        Ok(Response::from_parts(head, body))
    }

    /// News of a watch, some of it late, and all of it at an end after a while.
    fn late(&self, body: Body) -> UnsyncBoxBody<Bytes, Error> {
        let script = &self.course.script;
        let mut random = Random::of(self.course.calls(), 3);
        let share = script.lag_percent;
        let news = body.into_data_stream().map_err(Error::from).then(move |news| {
            let lag = if random.percent(share) { random.millis(1, LONGEST_LAG) } else { Duration::ZERO };
            async move {
                if !lag.is_zero() {
                    tokio::time::sleep(lag).await;
                }
                news
            }
        });
        let end = script.cut_watches;
        let end = async move {
            match end {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        StreamBody::new(news.take_until(Box::pin(end)).map_ok(Frame::data)).boxed_unsync()
    }
}

/// The answer of an API server that does not do what it is asked.
fn refusal(code: u16) -> Answer {
    let reason = match code {
        409 => "Conflict",
        404 => "NotFound",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": "the chaos runner refuses this call",
    });
    let mut answer = said(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &status);
    if code == 429 {
        answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    answer
}

/// An answer that is made here.
fn said(status: StatusCode, what: &Value) -> Answer {
    let body = Full::new(Bytes::from(what.to_string())).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}
