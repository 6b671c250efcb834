//! The client for the API server: every request is counted, takes a token, passes the gate when it writes, ends in time and is
//! tried again where that is safe (`kind`). How a token is had is in `throttle`, who may write in `gate`.

mod kind;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, header};
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

use self::kind::{Kind, asked_for_patience};
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
