//! What a collector gets over real HTTP, and what is said when it gets nothing.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use clap::Parser;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use opentelemetry_sdk::trace::SpanExporter as _;
use prost::Message;
use tokio::net::TcpListener;
use tracing::Instrument;
use tracing_subscriber::{
    fmt,
    layer::{Filter, SubscriberExt},
    util::SubscriberInitExt,
};

use super::*;
use crate::{
    config::Config,
    runtime::{logs, metrics::Metrics, passes::Outcome},
};

/// A collector, which keeps what it is sent.
#[derive(Clone)]
pub(crate) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

/// A span as tests look at it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    /// The names of the spans that it lies in, the outermost first.
    pub(crate) within: Vec<String>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) is_of_client: bool,
    pub(crate) failed: bool,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::listen(([127, 0, 0, 1], 0).into()).await
    }

    async fn listen(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), received: Arc::default() };
        let take_in = |State(collector): State<Self>, headers: HeaderMap, body: Bytes| async move {
            collector.take_in(&headers, body);
        };
        let routes = Router::new().route("/v1/traces", post(take_in)).with_state(collector.clone());
        tokio::spawn(axum::serve(listener, routes).into_future());
        collector
    }

    fn take_in(&self, headers: &HeaderMap, body: Bytes) {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        self.received.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        format!("http://{}", self.address).parse::<Endpoint>().unwrap().traces()
    }

    /// What all the senders say of themselves.
    fn resources(&self) -> Vec<BTreeMap<String, String>> {
        let received = self.received.lock().unwrap();
        let resources = received.iter().flat_map(|request| &request.resource_spans);
        resources.map(|sent| texts(&sent.resource.as_ref().unwrap().attributes)).collect()
    }

    /// All spans, in the order in which they ended.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        let received = self.received.lock().unwrap();
        let scopes = received.iter().flat_map(|request| &request.resource_spans).flat_map(|sent| &sent.scope_spans);
        let spans: Vec<&Span> = scopes.flat_map(|scope| &scope.spans).collect();
        spans.iter().map(|span| seen(span, &spans)).collect()
    }
}

fn seen(span: &Span, all: &[&Span]) -> Seen {
    assert!(span.events.is_empty(), "what is logged is not sent: {span:?}");
    let mut within = Vec::new();
    let mut parent = &span.parent_span_id;
    while let Some(outer) = all.iter().find(|outer| outer.span_id == *parent && outer.trace_id == span.trace_id) {
        within.insert(0, outer.name.clone());
        parent = &outer.parent_span_id;
    }
    let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    let is_of_client = span.kind() == SpanKind::Client;
    Seen { name: span.name.clone(), within, attributes: texts(&span.attributes), is_of_client, failed }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: &KeyValue| pair.value.as_ref().and_then(|value| value.value.as_ref()).map(text);
    attributes.iter().map(|pair| (pair.key.clone(), value(pair).unwrap_or_default())).collect()
}

/// Traces that are taken in from this thread, until the guard is dropped.
pub(crate) fn traced(endpoint: Endpoint) -> (Traces, tracing::subscriber::DefaultGuard) {
    let traces = Traces::start(endpoint, "operator-1", &Handle::current()).unwrap().unwrap();
    let guard = tracing_subscriber::registry().with(traces.layer()).set_default();
    (traces, guard)
}

#[tokio::test]
async fn a_pass_arrives_with_its_steps_and_its_outcome_and_says_who_tells() {
    let collector = Collector::start().await;
    let (traces, guard) = traced(collector.endpoint());
    let passes = Metrics::new().unwrap().passes("run", 8).unwrap();
    let pass = passes.begin("ml", "billing");
    let steps = async {
        async { tracing::warn!("a line of the log") }.instrument(spans::step("observe")).await;
    };
    steps.instrument(pass.span()).await;
    pass.finish(Outcome::Failed);
    drop(passes.begin("research", "search"));
    tracing::info_span!("not for traces").in_scope(|| ());
    drop(guard);
    traces.end().await;

    let seen = collector.spans();
    let names: Vec<_> = seen.iter().map(|span| (span.name.as_str(), span.within.len(), span.failed)).collect();
    assert_eq!(names, [("observe", 1, false), ("pass", 0, true), ("pass", 0, false)]);
    assert_eq!(seen[0].within, ["pass"]);
    let said = |span: &Seen| ["kind", "namespace", "name", "outcome"].map(|key| span.attributes[key].clone());
    assert_eq!(said(&seen[1]), ["run", "ml", "billing", "error"]);
    assert_eq!(said(&seen[2]), ["run", "research", "search", "abandoned"]);
    assert_eq!(seen[1].attributes.len(), 4, "nothing else is sent: {:?}", seen[1]);
    let resource = &collector.resources()[0];
    assert_eq!(
        ["service.name", "service.version", "service.instance.id"].map(|key| resource[key].as_str()),
        ["sera-operator", env!("CARGO_PKG_VERSION"), "operator-1"]
    );
}

/// Where lines go that are to be looked at.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }

    /// A layer that writes here.
    fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let lines = self.clone();
        fmt::layer().with_ansi(false).without_time().with_target(false).with_writer(move || lines.clone())
    }
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

// A thread beside that of the test: the library sleeps on the latter.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_is_away_is_told_once_in_words_and_so_is_its_return() {
    let (lines, address) = (Lines::default(), free_address());
    let _guard = tracing_subscriber::registry().with(lines.layer()).set_default();
    let collector = format!("http://{address}/v1/traces").parse().unwrap();
    let exporter = exporter(collector, &Handle::current()).unwrap();
    for _ in 0..2 {
        exporter.export(Vec::new()).await.unwrap_err();
    }
    let told = lines.all();
    assert_eq!(told.len(), 1, "{told:#?}");
    for word in ["WARN", "http://127.0.0.1:", "refused", "--otlp-endpoint", "4318"] {
        assert!(told[0].contains(word), "{word} is not in {}", told[0]);
    }
    let _collector = Collector::listen(address).await;
    for _ in 0..2 {
        exporter.export(Vec::new()).await.unwrap();
    }
    let told = lines.all();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[1].contains("INFO") && told[1].contains("again"), "{}", told[1]);
}

#[tokio::test]
async fn passes_do_not_wait_for_a_collector_that_never_answers_nor_does_the_end() {
    // It takes connections, and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", mute.local_addr().unwrap()).parse().unwrap();
    let (traces, _guard) = traced(endpoint);
    let passes = Metrics::new().unwrap().passes("run", 8).unwrap();
    let began = Instant::now();
    // More than the queue holds.
    for _ in 0..10_000 {
        passes.begin("ml", "billing").finish(Outcome::Settled);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let asked = Instant::now();
    traces.end().await;
    assert!((FLUSH..2 * FLUSH).contains(&asked.elapsed()), "{:?}", asked.elapsed());
}

fn parsed(flags: &[&str]) -> Result<Endpoint, clap::Error> {
    let needed = ["sera-operator", "--rollout-image=localhost/rollout:1"];
    Config::try_parse_from(needed.iter().chain(flags)).map(|config| config.outlook.traces())
}

#[test]
fn traces_go_nowhere_by_default_and_else_below_the_collector_s_address_or_where_their_own_says() {
    let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
    assert_eq!(parsed(&[]).unwrap(), Endpoint::default());
    assert_eq!(parsed(&["--otlp-endpoint=", "--otlp-traces-endpoint="]).unwrap(), Endpoint::default());
    for (base, address) in [
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://acme.internal/otlp", "https://acme.internal/otlp/v1/traces"),
    ] {
        assert_eq!(parsed(&[&format!("--otlp-endpoint={base}")]).unwrap(), endpoint(address));
    }
    let flags = ["--otlp-endpoint=http://collector:4318", "--otlp-traces-endpoint=https://traces.acme.internal/otlp"];
    assert_eq!(parsed(&flags).unwrap(), endpoint("https://traces.acme.internal/otlp"));
    for bad in ["collector:4318", "grpc://collector:4317", "http://user:word@collector", "http://collector/?to=1"] {
        let error = parsed(&[&format!("--otlp-endpoint={bad}")]).unwrap_err().to_string();
        assert!(error.contains("--otlp-endpoint") && error.contains("http://otel-collector"), "{error}");
    }
}

#[test]
fn without_an_endpoint_there_are_no_traces() {
    let threads = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(Traces::start(Endpoint::default(), "operator-1", threads.handle()).unwrap().is_none());
}

#[test]
fn where_nobody_wants_traces_spans_for_them_are_ruled_out_for_good() {
    let wanted = tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        spans::step("plan").metadata().map(|span| logged("trace").callsite_enabled(span).is_never())
    });
    assert_eq!(wanted, Some(true), "each of them would be looked at again each time");
}

fn logged(level: &str) -> impl Filter<tracing_subscriber::Registry> + use<> {
    logs::filter(&level.parse().unwrap())
}

#[test]
fn spans_for_traces_leave_the_lines_of_the_log_as_they_are() {
    let lines = Lines::default();
    let _guard = tracing_subscriber::registry().with(lines.layer().with_filter(logged("info"))).set_default();
    let pass = tracing::info_span!("pass", object = "ml/billing");
    pass.in_scope(|| {
        spans::step("report").in_scope(|| tracing::info!("a line of the log"));
    });
    assert_eq!(lines.all(), [" INFO pass{object=\"ml/billing\"}: a line of the log"]);
}
