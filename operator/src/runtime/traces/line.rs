//! The line to the collector: how one batch of spans gets there, and what is said when none do.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, uri::Scheme};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use tokio::runtime::Handle;
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};

use super::Error;
use crate::runtime::advice::chain;

/// How long one answer may take: OpenTelemetry's default.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is read of an answer; collectors answer with a few bytes.
const ANSWER_BYTES: usize = 64 * 1024;

type Transport = BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, legacy::Error>;

/// Why a batch did not arrive.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// No connection, or one that broke.
    #[error("it cannot be reached: {}", chain(.0.as_ref()))]
    Unreachable(#[source] BoxError),
    /// No answer in time.
    #[error("it did not answer within {PATIENCE:?}")]
    Silent,
    /// An answer that is none of success.
    #[error("it answers {0}")]
    Refused(StatusCode),
    /// There are no threads any more.
    #[error("the operator is ending")]
    Ending,
}

/// The way to the collector; clones are the same.
#[derive(Clone)]
pub(super) struct Line {
    transport: Transport,
    threads: Handle,
    /// Why the last request failed: the library keeps that to itself.
    trouble: Arc<Mutex<Option<Lost>>>,
}

impl Line {
    /// A line to `collector`, whose requests are made on `threads`.
    ///
    /// # Errors
    /// [`Error::Authorities`].
    pub(super) fn new(collector: &Uri, threads: Handle) -> Result<Self, Error> {
        let (client, mut tcp) = (Client::builder(TokioExecutor::new()), HttpConnector::new());
        tcp.enforce_http(false);
        let transport = if collector.scheme() == Some(&Scheme::HTTPS) {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
            let tls = tls.map_err(Error::Authorities)?.https_only().enable_http1().wrap_connector(tcp);
            BoxCloneSyncService::new(client.build(tls))
        } else {
            BoxCloneSyncService::new(client.build(tcp))
        };
        Ok(Self { transport, threads, trouble: Arc::default() })
    }

    fn note(&self, trouble: Option<Lost>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(ToString::to_string)
    }
}

impl Debug for Line {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Line")
    }
}

#[async_trait]
impl HttpClient for Line {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The library calls from a thread of its own, on which nothing of tokio works.
        let exchange = exchange(self.transport.clone(), request);
        let answer = self.threads.spawn(async move { tokio::time::timeout(PATIENCE, exchange).await }).await;
        match answer.map_or(Err(Lost::Ending), |answer| answer.unwrap_or(Err(Lost::Silent))) {
            Ok(answer) => {
                let status = answer.status();
                self.note((!status.is_success()).then_some(Lost::Refused(status)));
                Ok(answer)
            }
            Err(lost) => {
                let error = lost.to_string().into();
                self.note(Some(lost));
                Err(error)
            }
        }
    }
}

async fn exchange(transport: Transport, request: Request<Bytes>) -> Result<Response<Bytes>, Lost> {
    let answer = transport.oneshot(request.map(Full::new)).await;
    let (parts, body) = answer.map_err(|error| Lost::Unreachable(error.into()))?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(Lost::Unreachable)?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// The library's exporter, with a voice: that spans are lost is said once, and again only after some have arrived.
#[derive(Debug)]
pub(super) struct Exporter {
    pub(super) spans: opentelemetry_otlp::SpanExporter,
    pub(super) line: Line,
    pub(super) collector: Uri,
    pub(super) told: AtomicBool,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.spans.export(batch).await;
        let (told, collector) = (self.told.swap(exported.is_err(), Ordering::Relaxed), &self.collector);
        match &exported {
            Ok(()) if told => tracing::info!("traces reach the collector at {collector} again"),
            Err(error) if !told => {
                let why = self.line.trouble().unwrap_or_else(|| error.to_string());
                tracing::warn!(
                    "traces do not reach the collector at {collector}, and are lost until they do: {why}; check --otlp-endpoint: \
                     OTLP over HTTP is wanted, by default on port 4318"
                );
            }
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.spans.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.spans.set_resource(resource);
    }
}
