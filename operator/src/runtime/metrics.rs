//! The registry, and the metrics that are not about SERA, under the names that controller-runtime and client-go gave them, so
//! that dashboards and alerts made for other operators work. Metrics of the domain are registered by the domain.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector, process_collector::ProcessCollector, proto::MetricFamily,
};

use super::{backlog::Backlog, events::EventMetrics, passes::Passes};

/// Buckets of a pass in seconds: controller-runtime's, with finer ones below, as a pass that finds nothing to do is to take less
/// than five milliseconds.
const PASS_SECONDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Buckets of a request, and of the wait for a token, in seconds: client-go's.
const REQUEST_SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

/// Why a metric cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two metrics share a name, or a name or label is malformed.
    #[error("a metric cannot be registered; two share a name, or a name is malformed")]
    Register(#[source] prometheus::Error),
    /// The metrics cannot be written as text.
    #[error("the metrics cannot be written")]
    Encode(#[source] prometheus::Error),
}

/// All metrics of this process; clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    passes: PassMetrics,
    rest: RestMetrics,
    events: EventMetrics,
    master: IntGaugeVec,
}

impl Metrics {
    /// A registry of its own, with all that the runtime counts, and the process' memory, processor time and open files.
    ///
    /// # Errors
    /// [`Error::Register`], which no input can cause.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let build =
            IntGaugeVec::new(Opts::new("sera_operator_build_info", "Always 1; says what is running"), &["version"]);
        let build = registered(&registry, build)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(ProcessCollector::for_self())).map_err(Error::Register)?;
        let master =
            Opts::new("leader_election_master_status", "1 while this replica holds the lease of that name, else 0");
        Ok(Self {
            passes: PassMetrics::new(&registry)?,
            rest: RestMetrics::new(&registry)?,
            events: EventMetrics::new(&registry)?,
            master: registered(&registry, IntGaugeVec::new(master, &["name"]))?,
            registry,
        })
    }

    /// Registers a metric of the domain and hands it back.
    ///
    /// # Errors
    /// [`Error::Register`] when it was malformed, or its name is taken.
    pub fn register<C: Collector + Clone + 'static>(&self, collector: prometheus::Result<C>) -> Result<C, Error> {
        registered(&self.registry, collector)
    }

    /// The passes of one controller that makes at most `concurrency` at once, and what waits for them.
    ///
    /// # Errors
    /// [`Error::Register`] when they were asked for before.
    pub fn passes(&self, controller: &'static str, concurrency: u16) -> Result<Passes, Error> {
        let backlog = self.register(Backlog::new(controller))?;
        Ok(Passes::new(self.passes.clone(), backlog, controller, concurrency))
    }

    /// Where a client counts its requests.
    pub fn rest(&self) -> RestMetrics {
        self.rest.clone()
    }

    /// Where the publisher counts its events.
    pub fn events(&self) -> EventMetrics {
        self.events.clone()
    }

    /// Whether this replica holds the lease `name`.
    pub fn master(&self, name: &str) -> IntGauge {
        self.master.with_label_values(&[name])
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn text(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(Error::Encode)
    }
}

/// Registers `collector` and hands it back.
pub(crate) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> Result<C, Error> {
    let collector = collector.map_err(Error::Register)?;
    registry.register(Box::new(collector.clone())).map_err(Error::Register)?;
    Ok(collector)
}

/// What is measured of passes.
#[derive(Clone, Debug)]
pub(crate) struct PassMetrics {
    pub(crate) total: IntCounterVec,
    pub(crate) errors: IntCounterVec,
    pub(crate) seconds: HistogramVec,
    pub(crate) active: IntGaugeVec,
    pub(crate) limit: IntGaugeVec,
}

impl PassMetrics {
    fn new(registry: &Registry) -> Result<Self, Error> {
        let total = Opts::new(
            "controller_runtime_reconcile_total",
            "Passes by controller and result: success; requeue_after (waits for something); stalled (waits for its user); error; \
             abandoned (ended half way, as leadership was lost or the operator stopped)",
        );
        let errors = Opts::new(
            "controller_runtime_reconcile_errors_total",
            "Passes that failed and are tried again, by controller",
        );
        let seconds =
            HistogramOpts::new("controller_runtime_reconcile_time_seconds", "Seconds a pass took, by controller");
        let active = Opts::new("controller_runtime_active_workers", "Passes being made now, by controller");
        let limit =
            Opts::new("controller_runtime_max_concurrent_reconciles", "Passes that may be made at once, by controller");
        let controller = &["controller"];
        Ok(Self {
            total: registered(registry, IntCounterVec::new(total, &["controller", "result"]))?,
            errors: registered(registry, IntCounterVec::new(errors, controller))?,
            seconds: registered(registry, HistogramVec::new(seconds.buckets(PASS_SECONDS.to_vec()), controller))?,
            active: registered(registry, IntGaugeVec::new(active, controller))?,
            limit: registered(registry, IntGaugeVec::new(limit, controller))?,
        })
    }
}

/// What is measured of requests to the API server.
#[derive(Clone, Debug)]
pub struct RestMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    throttled: Histogram,
}

impl RestMetrics {
    fn new(registry: &Registry) -> Result<Self, Error> {
        let requests = Opts::new(
            "rest_client_requests_total",
            "Requests to the API server by status code (<error>: no answer), method and host; each repetition counts",
        );
        let seconds =
            HistogramOpts::new("rest_client_request_duration_seconds", "Seconds until the answer, by verb and host");
        let throttled = HistogramOpts::new(
            "rest_client_rate_limiter_duration_seconds",
            "Seconds a request waited for its turn (--qps, --burst)",
        );
        Ok(Self {
            requests: registered(registry, IntCounterVec::new(requests, &["code", "host", "method"]))?,
            seconds: registered(
                registry,
                HistogramVec::new(seconds.buckets(REQUEST_SECONDS.to_vec()), &["host", "verb"]),
            )?,
            throttled: registered(registry, Histogram::with_opts(throttled.buckets(REQUEST_SECONDS.to_vec())))?,
        })
    }

    /// Counts one request sent, and its answer.
    pub(crate) fn answered(&self, host: &str, verb: &str, method: &Method, code: Option<StatusCode>, took: Duration) {
        let code = code.as_ref().map_or("<error>", StatusCode::as_str);
        self.requests.with_label_values(&[code, host, method.as_str()]).inc();
        self.seconds.with_label_values(&[host, verb]).observe(took.as_secs_f64());
    }

    /// Notes how long a request waited for a token.
    pub(crate) fn throttled(&self, waited: Duration) {
        self.throttled.observe(waited.as_secs_f64());
    }

    /// How many requests were sent so far.
    pub fn sent(&self) -> u64 {
        let families = self.requests.collect();
        let requests =
            families.iter().flat_map(MetricFamily::get_metric).map(|metric| metric.get_counter().get_value());
        // Counters of this type are whole numbers, kept as such.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let sent = requests.sum::<f64>() as u64;
        sent
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntCounter;

    use super::*;

    #[test]
    fn the_text_has_the_names_that_dashboards_know() {
        let metrics = Metrics::new().unwrap();
        metrics.master("sera-operator").set(1);
        metrics.rest().answered("10.96.0.1:443", "GET", &Method::GET, Some(StatusCode::OK), Duration::from_millis(3));
        metrics.rest().answered("10.96.0.1:443", "POST", &Method::POST, None, Duration::from_millis(3));
        let text = metrics.text().unwrap();
        for line in [
            r#"leader_election_master_status{name="sera-operator"} 1"#,
            r#"rest_client_requests_total{code="200",host="10.96.0.1:443",method="GET"} 1"#,
            r#"rest_client_requests_total{code="<error>",host="10.96.0.1:443",method="POST"} 1"#,
            r#"rest_client_request_duration_seconds_count{host="10.96.0.1:443",verb="GET"} 1"#,
            concat!("sera_operator_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
        for family in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
            assert!(text.lines().any(|line| line.starts_with(family)), "{family} is not in\n{text}");
        }
        assert_eq!(metrics.rest().sent(), 2);
    }

    #[test]
    fn the_domain_registers_a_metric_once() {
        let metrics = Metrics::new().unwrap();
        let counter = || IntCounter::new("sera_rollouts_total", "Rollouts");
        metrics.register(counter()).unwrap().inc();
        assert!(metrics.text().unwrap().contains("sera_rollouts_total 1"));
        assert!(matches!(metrics.register(counter()), Err(Error::Register(_))));
        assert!(matches!(metrics.register(IntCounter::new("no name", "")), Err(Error::Register(_))));
    }
}
