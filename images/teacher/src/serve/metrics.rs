//! What `/metrics` shows: how answers ended, tokens, refusals, times, and what the engine says of itself.

use std::time::Duration;

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, Opts, Registry, TextEncoder};
use sera_trainer::inference::EngineState;

use crate::protocol::TokenCounts;

/// Bounds of the histograms in seconds: from a short prompt that is in the cache to a long answer of a slow model.
const BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    tokens: IntCounterVec,
    first_token: Histogram,
    seconds: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let histogram = |name: &str, help: &str| -> Result<Histogram, prometheus::Error> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let requests = counter(
            "sera_serving_requests_total",
            "Requests that were taken, by how they ended: stop, tool_calls, length, hung_up, failed.",
            "outcome",
        )?;
        let refusals = counter("sera_serving_refusals_total", "Requests that were refused, by status.", "status")?;
        let tokens = counter(
            "sera_serving_tokens_total",
            "Tokens of prompts (cached ones included), found in the cache, and written.",
            "tokens",
        )?;
        let first_token = histogram("sera_serving_first_token_seconds", "From a request to its first token.")?;
        let seconds = histogram("sera_serving_answer_seconds", "From a request to the end of its answer.")?;
        Ok(Self { registry, requests, refusals, tokens, first_token, seconds })
    }

    pub(super) fn first_token(&self, took: Duration) {
        self.first_token.observe(took.as_secs_f64());
    }

    pub(super) fn ended(&self, outcome: &str, counts: TokenCounts, took: Duration) {
        self.requests.with_label_values(&[outcome]).inc();
        for (tokens, count) in [("prompt", counts.prompt), ("cached", counts.cached), ("completion", counts.completion)]
        {
            self.tokens.with_label_values(&[tokens]).inc_by(count);
        }
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, status: u16) {
        self.refusals.with_label_values(&[&status.to_string()]).inc();
    }

    /// All of it and the engine's state, as Prometheus reads them.
    pub(super) fn text(&self, engine: Option<EngineState>) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!("the metrics cannot be written: {error}");
        }
        String::from_utf8(text).unwrap_or_default() + &engine.map(of_engine).unwrap_or_default()
    }
}

/// What the engine says of itself.
fn of_engine(state: EngineState) -> String {
    let lines = [
        ("running", "gauge", "Requests that are being answered.", state.running),
        ("waiting", "gauge", "Requests that wait.", state.waiting),
        ("cache_blocks", "gauge", "Blocks of the cache.", state.blocks),
        ("cache_blocks_used", "gauge", "Blocks of the cache that requests hold.", state.blocks_used),
        ("cache_evictions_total", "counter", "Blocks that were forgotten to make room.", state.evicted),
        ("preemptions_total", "counter", "Requests that had to begin anew because there was no room.", state.preempted),
        ("steps_total", "counter", "Steps of the model.", state.steps),
        (
            "step_requests_total",
            "counter",
            "Requests in a step, over all steps; by steps, the batch's size.",
            state.batched,
        ),
        ("computed_tokens_total", "counter", "Tokens that were computed.", state.computed),
    ];
    let line = |(name, kind, help, value): (&str, &str, &str, u64)| {
        let name = format!("sera_serving_{name}");
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    };
    lines.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tokens_and_the_engine_are_shown() {
        let metrics = Metrics::new().unwrap();
        metrics.first_token(Duration::from_millis(30));
        metrics.ended("stop", TokenCounts { prompt: 100, cached: 64, completion: 5 }, Duration::from_secs(1));
        metrics.refused(429);
        let text = metrics.text(Some(EngineState { running: 3, evicted: 7, ..EngineState::default() }));
        for line in [
            "sera_serving_requests_total{outcome=\"stop\"} 1",
            "sera_serving_tokens_total{tokens=\"cached\"} 64",
            "sera_serving_refusals_total{status=\"429\"} 1",
            "sera_serving_first_token_seconds_count 1",
            "sera_serving_running 3",
            "sera_serving_cache_evictions_total 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
    }
}
