//! What `/metrics` shows: calls and tokens by what was asked for, faults, refusals, and how long answers took.

use std::time::Duration;

use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};

use super::Fault;
use crate::protocol::TokenCounts;

/// Bounds of the histogram in seconds: answers take from a tenth of a millisecond to what a fault adds.
const BUCKETS: [f64; 9] = [0.0001, 0.000_25, 0.001, 0.0025, 0.01, 0.025, 0.1, 1.0, 10.0];

#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    calls: IntCounterVec,
    tokens: IntCounterVec,
    faults: IntCounterVec,
    refusals: IntCounterVec,
    seconds: HistogramVec,
}

impl Metrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let calls =
            counter("sera_teacher_calls_total", "Calls that were answered, by what they asked for.", &["kind"])?;
        let tokens = counter(
            "sera_teacher_tokens_total",
            "Tokens by what was asked for: of prompts (cached ones included), cached, and written.",
            &["kind", "tokens"],
        )?;
        let faults = counter("sera_teacher_faults_total", "Faults that were asked for and happened.", &["fault"])?;
        let refusals = counter("sera_teacher_refusals_total", "Calls that were refused, by status.", &["status"])?;
        let options = HistogramOpts::new("sera_teacher_answer_seconds", "How long answers took to make.")
            .buckets(BUCKETS.to_vec());
        let seconds = HistogramVec::new(options, &["kind"])?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { registry, calls, tokens, faults, refusals, seconds })
    }

    pub(super) fn answered(&self, kind: &str, counts: TokenCounts, took: Duration) {
        self.calls.with_label_values(&[kind]).inc();
        for (tokens, count) in [("prompt", counts.prompt), ("cached", counts.cached), ("completion", counts.completion)]
        {
            self.tokens.with_label_values(&[kind, tokens]).inc_by(count);
        }
        self.seconds.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.faults.with_label_values(&[fault.name()]).inc();
    }

    pub(super) fn refused(&self, status: u16) {
        self.refusals.with_label_values(&[&status.to_string()]).inc();
    }

    /// All of it, as Prometheus reads it.
    pub(super) fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!("the metrics cannot be written: {error}");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_tokens_are_counted_by_what_was_asked_for() {
        let metrics = Metrics::new().unwrap();
        metrics.answered("review", TokenCounts { prompt: 100, cached: 90, completion: 5 }, Duration::from_millis(1));
        metrics.fault(Fault::TwoCalls);
        metrics.refused(404);
        let text = metrics.text();
        for line in [
            "sera_teacher_calls_total{kind=\"review\"} 1",
            "sera_teacher_tokens_total{kind=\"review\",tokens=\"cached\"} 90",
            "sera_teacher_faults_total{fault=\"two-calls\"} 1",
            "sera_teacher_refusals_total{status=\"404\"} 1",
            "sera_teacher_answer_seconds_count{kind=\"review\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
