//! The client for the API server: every request is counted, takes a token, passes the gate when it writes, ends in time and is
//! tried again where that is safe. How a token is had is in `throttle`, who may write in `gate`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tracing::Instrument;

use super::{
    advice::chain,
    gate::{self, Gate},
    metrics::RestMetrics,
    throttle::Throttle,
    traces::spans,
};

/// How long a connection to the API server may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take, its answer's body included (a watch: its headers). A page of 500 runs takes well under one
/// second; the API server itself gives up after 60.
const REQUEST: Duration = Duration::from_secs(30);
/// A peer that vanished without a word is found after `KEEPALIVE + PROBES × PROBE_EVERY` = 30 s, watches included. Without it a
/// watch on a dead connection is trusted for as long as it was asked for, near five minutes.
const KEEPALIVE: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// How often one request is sent at most.
const ATTEMPTS: u32 = 4;
/// The delay before a read is sent again, doubled each time, when the API server names none.
const RETRY_READ: Duration = Duration::from_millis(100);
/// Longer than this no request waits for an API server that asked for patience: its caller backs off instead.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why there is no client, or a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a pod's service account was found.
    #[error("no cluster is configured: set KUBECONFIG, or run in a pod with a service account ({})", chain(.0))]
    NoCluster(#[source] Box<kube::config::InferConfigError>),
    /// The kubeconfig names a proxy.
    #[error("the kubeconfig asks for the proxy {0}, which is not supported: reach the API server without one")]
    Proxy(http::Uri),
    /// The certificates or credentials cannot be used.
    #[error("the credentials for the cluster cannot be used: {}; check the kubeconfig, or the service account's files", chain(.0))]
    Credentials(#[source] Box<kube::Error>),
    /// The user agent has characters that a header cannot have.
    #[error("the user agent is no header value")]
    UserAgent(#[source] header::InvalidHeaderValue),
    /// No connection, or one that broke.
    #[error("cannot reach the API server at {server}: {}; check that it is up and that this address is right", chain(.source.as_ref()))]
    Unreachable {
        /// Host and port.
        server: String,
        /// What the connection said.
        #[source]
        source: BoxError,
    },
    /// No answer in time.
    #[error("the API server at {server} did not answer within {patience:?}")]
    Silent {
        /// Host and port.
        server: String,
        /// How long was waited.
        patience: Duration,
    },
}

/// Finds the cluster as kubectl does, else by the pod's service account.
///
/// # Errors
/// [`Error::NoCluster`], [`Error::Proxy`].
pub async fn find_cluster() -> Result<Config, Error> {
    let config = Config::infer().await.map_err(|error| Error::NoCluster(Box::new(error)))?;
    config.proxy_url.as_ref().map_or(Ok(()), |proxy| Err(Error::Proxy(proxy.clone())))?;
    Ok(config)
}

/// What a client keeps to.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Where each request takes a token; `None`: it takes none (the election must not wait behind other work).
    pub throttle: Option<Arc<Throttle>>,
    /// What each write must pass; `None`: nothing (the election itself).
    pub gate: Option<Gate>,
    /// Where requests are counted.
    pub metrics: RestMetrics,
}

/// A client for the cluster of `config` that keeps to `manners`.
///
/// # Errors
/// [`Error::Credentials`], [`Error::UserAgent`].
pub fn connect(mut config: Config, manners: Manners) -> Result<Client, Error> {
    let agent = concat!("sera-operator/", env!("CARGO_PKG_VERSION"));
    config.headers.push((header::USER_AGENT, agent.parse().map_err(Error::UserAgent)?));
    let namespace = config.default_namespace.clone();
    let server = config.cluster_url.authority().map_or_else(String::new, ToString::to_string);
    let transport = transport(&config).map_err(|error| Error::Credentials(Box::new(error)))?;
    let pipeline = Arc::new(Pipeline { transport, server, manners });
    let service = tower::service_fn(move |request| {
        let pipeline = Arc::clone(&pipeline);
        async move { pipeline.send(request).await }
    });
    Ok(Client::new(service, namespace))
}

/// Connections, credentials and addresses, as `kube` makes them, but with dead peers noticed; and without its retries, which
/// would also repeat a write that may have happened.
fn transport(config: &Config) -> kube::Result<Transport> {
    // Only the first one in a program counts, and it is the only one that is compiled in.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(PROBE_EVERY));
    connector.set_keepalive_retries(Some(PROBES));
    let http =
        HttpClient::builder(TokioExecutor::new()).build(config.rustls_https_connector_with_connector(connector)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(BoxCloneSyncService::new(service))
}

type Transport = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

/// An answer: of a watch the stream, of everything else all of it.
type Answer = Result<Response<Either<Incoming, Full<Bytes>>>, BoxError>;

/// The way of a request, and of its repetitions.
struct Pipeline {
    transport: Transport,
    server: String,
    manners: Manners,
}

impl Pipeline {
    async fn send(&self, request: Request<Body>) -> Answer {
        let span = spans::request(request.method(), request.uri().path());
        let (answer, sendings) = self.send_with_patience(request).instrument(span.clone()).await;
        spans::answered(&span, answer.as_ref().ok().map(Response::status), sendings);
        answer
    }

    /// Sends a request until there is an answer to be content with, and says how often.
    async fn send_with_patience(&self, request: Request<Body>) -> (Answer, u32) {
        let kind = Kind::of(&request);
        let (parts, body) = request.into_parts();
        let mut body = Some(body);
        let mut attempt = 1;
        loop {
            // A body that cannot be sent twice is sent once; `kube` makes none such for the requests that we make.
            let this_body = match body.as_ref().and_then(Body::try_clone) {
                Some(copy) => copy,
                None => body.take().unwrap_or_else(Body::empty),
            };
            let answer = self.attempt(kind, Request::from_parts(parts.clone(), this_body)).await;
            let Some(pause) = kind.retry_after(&answer, attempt).filter(|_| body.is_some() && attempt < ATTEMPTS)
            else {
                return (answer, attempt);
            };
            attempt += 1;
            self.hold_back(&answer, pause).await;
        }
    }

    /// Waits before a repetition; when the API server asked for patience, everybody waits.
    async fn hold_back(&self, answer: &Answer, pause: Duration) {
        match &self.manners.throttle {
            Some(throttle) if asked_for_patience(answer).is_some() => throttle.pause(pause),
            _ => tokio::time::sleep(pause).await,
        }
    }

    async fn attempt(&self, kind: Kind, request: Request<Body>) -> Answer {
        if let Some(throttle) = &self.manners.throttle {
            let waited = throttle.wait().await;
            self.manners.metrics.throttled(waited);
        }
        let permit = match &self.manners.gate {
            Some(gate) if kind.writes() => Some(gate.enter(Instant::now())?),
            _ => None,
        };
        let patience = permit
            .as_ref()
            .and_then(gate::Permit::deadline)
            .map_or(REQUEST, |deadline| deadline.saturating_duration_since(Instant::now()).min(REQUEST));
        let method = request.method().clone();
        let started = Instant::now();
        let answer = match tokio::time::timeout(patience, self.exchange(kind, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Silent { server: self.server.clone(), patience }.into()),
        };
        let code = answer.as_ref().ok().map(Response::status);
        self.manners.metrics.answered(&self.server, kind.verb(&method), &method, code, started.elapsed());
        drop(permit);
        answer
    }

    /// Sends one request. All but a watch is read to its end here, so that time limits, repetitions and the gate cover the body
    /// as well; its bytes are handed on, not copied.
    async fn exchange(&self, kind: Kind, request: Request<Body>) -> Answer {
        let lost = |source: BoxError| self.lost(source);
        let response = self.transport.clone().oneshot(request).await.map_err(lost)?;
        let (parts, incoming) = response.into_parts();
        let body = if kind == Kind::Watch {
            Either::Left(incoming)
        } else {
            Either::Right(Full::new(incoming.collect().await.map_err(|error| lost(error.into()))?.to_bytes()))
        };
        Ok(Response::from_parts(parts, body))
    }

    fn lost(&self, source: BoxError) -> BoxError {
        // A credential that cannot be refreshed comes this way too, and is not the network's fault.
        if source.is::<kube::Error>() || source.is::<kube::client::AuthError>() {
            return source;
        }
        Error::Unreachable { server: self.server.clone(), source }.into()
    }
}

/// What a request does, as far as its manners depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Watch,
    Write,
}

impl Kind {
    fn of<B>(request: &Request<B>) -> Self {
        let watch = |query: &str| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
        match *request.method() {
            Method::GET | Method::HEAD if request.uri().query().is_some_and(watch) => Self::Watch,
            Method::GET | Method::HEAD => Self::Read,
            _ => Self::Write,
        }
    }

    fn writes(self) -> bool {
        self == Self::Write
    }

    /// The verb by which durations are told apart: a watch is a GET that has no end.
    fn verb(self, method: &Method) -> &str {
        if self == Self::Watch { "WATCH" } else { method.as_str() }
    }

    /// How long to wait before the request may be sent again; `None` when it may not. A 429 says that nothing was done, so
    /// writes may follow it too; after anything else a write may have happened, and is left to the next pass, which looks first.
    /// A watch is opened again by its watcher, which has its own backoff.
    fn retry_after(self, answer: &Answer, attempt: u32) -> Option<Duration> {
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
fn asked_for_patience(answer: &Answer) -> Option<Duration> {
    let response = answer.as_ref().ok().filter(|response| response.status() == StatusCode::TOO_MANY_REQUESTS)?;
    Some(retry_after(response.headers()).unwrap_or(Duration::from_secs(1)))
}

/// `Retry-After` in seconds, the only form that API servers send.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        net::SocketAddr,
        num::NonZeroU32,
        sync::{Mutex, PoisonError},
    };

    use axum::{Router, extract::State, response::IntoResponse};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{ListParams, PostParams},
    };
    use tokio::net::TcpListener;

    use super::*;
    use crate::runtime::{backoff::ErrorClass, backoff::class_of, metrics::Metrics, throttle::Limit};

    /// What the server does with one request.
    #[derive(Clone, Debug)]
    enum Act {
        Answer(u16),
        Busy(&'static str),
        /// No answer ever.
        Hang,
    }

    #[derive(Clone, Default)]
    struct Script(Arc<Mutex<(VecDeque<Act>, Vec<String>)>>);

    impl Script {
        fn seen(&self) -> Vec<String> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
        }
    }

    /// A server over real HTTP that plays `acts` in turn, then answers with success.
    async fn server(acts: impl IntoIterator<Item = Act>) -> (SocketAddr, Script) {
        let script = Script(Arc::new(Mutex::new((acts.into_iter().collect(), Vec::new()))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(play).with_state(script.clone());
        tokio::spawn(axum::serve(listener, routes).into_future());
        (address, script)
    }

    async fn play(State(script): State<Script>, request: axum::extract::Request) -> axum::response::Response {
        let agent = request.headers()[header::USER_AGENT].to_str().unwrap().to_owned();
        let act = {
            let mut script = script.0.lock().unwrap();
            script.1.push(format!("{} {agent}", request.method()));
            script.0.pop_front().unwrap_or(Act::Answer(200))
        };
        let list = r#"{"apiVersion":"v1","kind":"ConfigMapList","metadata":{},"items":[]}"#;
        let one = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
        let status = |code: u16| {
            let body = format!(
                r#"{{"apiVersion":"v1","kind":"Status","status":"Failure","message":"no","reason":"X","code":{code}}}"#
            );
            (StatusCode::from_u16(code).unwrap(), body)
        };
        match act {
            Act::Answer(200) if request.method() == Method::GET => list.into_response(),
            Act::Answer(200) => one.into_response(),
            Act::Answer(code) => status(code).into_response(),
            Act::Busy(after) => ([(header::RETRY_AFTER, after)], status(429)).into_response(),
            Act::Hang => std::future::pending().await,
        }
    }

    struct Setup {
        metrics: RestMetrics,
        gate: Gate,
        api: Api<ConfigMap>,
    }

    fn setup(address: SocketAddr) -> Setup {
        let (metrics, gate) = (Metrics::new().unwrap().rest(), Gate::closed());
        let limit = Limit::new(1000.0, NonZeroU32::new(100).unwrap()).unwrap();
        let throttle = Some(Arc::new(Throttle::new(limit)));
        let manners = Manners { throttle, gate: Some(gate.clone()), metrics: metrics.clone() };
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let api = Api::namespaced(connect(config, manners).unwrap(), "default");
        Setup { metrics, gate, api }
    }

    fn config_map() -> ConfigMap {
        ConfigMap {
            metadata: kube::core::ObjectMeta { name: Some("a".to_owned()), ..Default::default() },
            ..ConfigMap::default()
        }
    }

    #[tokio::test]
    async fn a_read_is_repeated_after_a_server_s_failure_and_each_sending_is_counted() {
        let (address, script) = server([Act::Answer(503), Act::Answer(500)]).await;
        let Setup { metrics, api, .. } = setup(address);
        api.list(&ListParams::default()).await.unwrap();
        assert_eq!((script.seen().len(), metrics.sent()), (3, 3));
        assert_eq!(script.seen()[0], concat!("GET sera-operator/", env!("CARGO_PKG_VERSION")));
    }

    #[tokio::test]
    async fn a_read_is_given_up_after_four_sendings_and_never_repeated_when_it_was_refused() {
        let (address, script) = server(vec![Act::Answer(503); 9]).await;
        let error = setup(address).api.list(&ListParams::default()).await.unwrap_err();
        assert!(matches!(error, kube::Error::Api(status) if status.code == 503));
        assert_eq!(script.seen().len(), 4);
        let (address, script) = server([Act::Answer(403)]).await;
        setup(address).api.list(&ListParams::default()).await.unwrap_err();
        assert_eq!(script.seen().len(), 1);
    }

    #[tokio::test]
    async fn a_write_that_may_have_happened_is_never_repeated() {
        let (address, script) = server([Act::Answer(504)]).await;
        let Setup { gate, api, .. } = setup(address);
        gate.open();
        let error = api.create(&PostParams::default(), &config_map()).await.unwrap_err();
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 504));
        assert_eq!((script.seen().len(), class_of(&error)), (1, ErrorClass::Transient));
    }

    #[tokio::test]
    async fn a_busy_server_is_obeyed_by_reads_and_writes_and_by_everybody_else_meanwhile() {
        let (address, script) = server([Act::Busy("1")]).await;
        let Setup { gate, api, .. } = setup(address);
        gate.open();
        let started = Instant::now();
        let writing = tokio::spawn({
            let api = api.clone();
            async move { api.create(&PostParams::default(), &config_map()).await }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        api.list(&ListParams::default()).await.unwrap();
        assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
        writing.await.unwrap().unwrap();
        assert_eq!(script.seen().len(), 3);
    }

    #[tokio::test]
    async fn a_server_that_asks_for_more_patience_than_a_pass_has_is_left_to_the_backoff() {
        let (address, script) = server([Act::Busy("600")]).await;
        let error = setup(address).api.list(&ListParams::default()).await.unwrap_err();
        assert!(matches!(error, kube::Error::Api(status) if status.code == 429));
        assert_eq!(script.seen().len(), 1);
    }

    #[tokio::test]
    async fn a_write_passes_no_shut_gate_and_a_read_does() {
        let (address, script) = server([]).await;
        let Setup { api, .. } = setup(address);
        api.list(&ListParams::default()).await.unwrap();
        let error = api.create(&PostParams::default(), &config_map()).await.unwrap_err();
        assert!(matches!(&error, kube::Error::Service(cause) if cause.is::<gate::Closed>()), "{error:?}");
        assert_eq!(script.seen().len(), 1, "nothing was sent");
    }

    #[tokio::test]
    async fn a_write_without_an_answer_is_given_up_when_the_lease_may_be_another_s() {
        let (address, script) = server([Act::Hang]).await;
        let Setup { gate, api, .. } = setup(address);
        gate.open_until(Instant::now() + Duration::from_millis(300));
        let started = Instant::now();
        let error = api.create(&PostParams::default(), &config_map()).await.unwrap_err();
        assert!(
            matches!(&error, kube::Error::Service(cause) if cause.to_string().contains("did not answer")),
            "{error:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_eq!(script.seen().len(), 1);
        assert!(gate.drained(Duration::ZERO).await, "it is in flight no more");
    }

    #[tokio::test]
    async fn a_write_is_in_flight_until_it_is_answered() {
        let (address, _) = server([Act::Hang]).await;
        let Setup { gate, api, .. } = setup(address);
        gate.open();
        let writing = tokio::spawn(async move { api.create(&PostParams::default(), &config_map()).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.close();
        assert!(!gate.drained(Duration::from_millis(50)).await);
        writing.abort();
        assert!(gate.drained(Duration::from_secs(5)).await, "a write that is dropped is in flight no more");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_with_what_to_check() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = setup(address).api.list(&ListParams::default()).await.unwrap_err();
        let told = crate::runtime::advice::explain(&error);
        assert!(
            told.contains(&format!("cannot reach the API server at {address}")) && told.contains("refused"),
            "{told}"
        );
    }

    #[test]
    fn watches_are_told_from_reads_by_their_query() {
        let of = |method: &str, uri: &str| Kind::of(&Request::builder().method(method).uri(uri).body(()).unwrap());
        assert_eq!(of("GET", "/api/v1/pods?limit=500&resourceVersion=0"), Kind::Read);
        assert_eq!(of("GET", "/api/v1/pods?&watch=true&timeoutSeconds=290"), Kind::Watch);
        assert_eq!(of("GET", "/api/v1/pods?labelSelector=watch"), Kind::Read);
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(of(method, "/api/v1/pods?watch=true"), Kind::Write);
        }
    }
}
