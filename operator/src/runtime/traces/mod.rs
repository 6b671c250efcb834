//! Traces, for whoever names a collector: the spans of passes, sent by OTLP over HTTP beside the passes, which never wait or fail for them. What does
//! not fit the queue is dropped.

mod line;
pub mod spans;
#[cfg(test)]
pub(crate) mod tests;

use std::{env, io, str::FromStr, sync::atomic::AtomicBool, time::Duration};

use http::Uri;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::SdkTracerProvider,
};
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use self::line::{Exporter, Line};

/// How long what is left may take at the end. It is sent while Events, the Lease and the server have their last words, and these take longer.
const FLUSH: Duration = Duration::from_millis(500);

/// Who tells, unless OpenTelemetry's own variables say otherwise.
const SERVICE: &str = "sera-operator";

/// Why there are no traces, though they were asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library does not take what the environment says.
    #[error("traces cannot be exported: {0}; check the variables that begin with OTEL_")]
    Exporter(#[from] ExporterBuildError),
    /// There is nobody to trust.
    #[error("no certificate authorities are found for the collector: {0}; name a file of them in SSL_CERT_FILE")]
    Authorities(#[source] io::Error),
}

/// Where spans go; nowhere by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint(Option<Uri>);

/// Something that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not the address of a collector: use a URL such as http://otel-collector.monitoring:4318, without user or query"
)]
pub struct BadEndpoint(String);

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        // OpenTelemetry's rule: a variable that is empty is not set.
        if text.is_empty() {
            return Ok(Self(None));
        }
        let uri: Option<Uri> = text.parse().ok();
        let usable = |uri: &Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && uri.query().is_none()
        };
        uri.filter(usable).map(|uri| Self(Some(uri))).ok_or_else(|| BadEndpoint(text.to_owned()))
    }
}

impl Endpoint {
    /// Where traces go that are sent to this base address: where OpenTelemetry says that a collector takes them.
    #[must_use]
    pub fn traces(&self) -> Self {
        let address = |base: &Uri| format!("{}/v1/traces", base.to_string().trim_end_matches('/')).parse().ok();
        Self(self.0.as_ref().and_then(address))
    }

    /// This one, or else `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0.or(other.0))
    }
}

/// The spans that are on their way; clones are the same.
#[derive(Clone, Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Sends spans to `endpoint` from now on, as `instance`, by requests that are made on `threads`; none where the endpoint is none. How many are
    /// sampled, queued and sent at once is set by OpenTelemetry's own variables, as are headers and more attributes.
    ///
    /// # Errors
    /// [`Error`].
    pub fn start(endpoint: Endpoint, instance: &str, threads: &Handle) -> Result<Option<Self>, Error> {
        let Some(collector) = endpoint.0 else { return Ok(None) };
        let exporter = exporter(collector, threads)?;
        let provider =
            SdkTracerProvider::builder().with_resource(resource(instance)).with_batch_exporter(exporter).build();
        Ok(Some(Self { provider }))
    }

    /// What takes in spans, whatever is logged.
    pub fn layer<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let wanted = filter_fn(|metadata| metadata.target() == spans::TARGET).with_max_level_hint(LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SERVICE))
            .with_context_activation(false)
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(wanted)
            .boxed()
    }

    /// Sends what is left, within half a second, and ends.
    pub async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("not all traces could be sent before the end");
        }
    }
}

/// What sends batches to `collector`.
fn exporter(collector: Uri, threads: &Handle) -> Result<Exporter, Error> {
    let line = Line::new(&collector, threads.clone())?;
    let spans = SpanExporter::builder()
        .with_http()
        .with_http_client(line.clone())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(collector.to_string())
        .build()?;
    Ok(Exporter { spans, line, collector, told: AtomicBool::new(false) })
}

/// Who tells. What the environment says goes before what is known here.
fn resource(instance: &str) -> Resource {
    let known = [
        KeyValue::new("service.name", SERVICE),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.to_owned()),
    ];
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(known)
        .with_detector(Box::new(EnvResourceDetector::new()));
    match env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}
