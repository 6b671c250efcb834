//! What a driver counts while it works, for Prometheus and for the operator's collector. Counts only: which samples they are of is in the store.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use sera_crds::contract::{CONTRACT_VERSION, Progress, RolloutKind, RolloutOutcome, SampleOutcome, Silence, Usage};

use crate::budget::Budget;
use crate::sandbox::Counts;

/// Bounds of the histogram of calls, in seconds: from a small model's answer to the longest that is waited for.
const CALL_SECONDS: [f64; 10] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];
/// Bounds of the histogram of commands, in seconds: from `ls` to the default limit.
const COMMAND_SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 60.0, 300.0];

/// The counters.
#[derive(Debug)]
pub(crate) struct Meter {
    registry: Registry,
    rollouts: IntCounterVec,
    running: IntGauge,
    samples: IntGaugeVec,
    calls: IntCounter,
    tokens: IntCounterVec,
    reasked: IntCounterVec,
    call_seconds: Histogram,
    command_seconds: Histogram,
    pull_requests: IntCounterVec,
    duplicates: IntCounter,
    cost: Gauge,
    slots: IntGaugeVec,
    broken_replicas: IntGauge,
    retries: IntGauge,
    ends: Mutex<Ends>,
}

/// How the samples ended so far.
#[derive(Debug, Default)]
struct Ends {
    samples: u64,
    done: u64,
    first: BTreeMap<RolloutOutcome, u64>,
    second: BTreeMap<RolloutOutcome, u64>,
}

/// What is known elsewhere when somebody asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) budget: &'a Budget,
    pub(crate) slots: Counts,
    pub(crate) broken_replicas: usize,
    /// Why the teacher answers nobody, if it does not.
    pub(crate) silence: Option<Silence>,
    pub(crate) retries: u64,
}

/// The kinds of tokens: read and not cached, read from the prefix cache, written.
const TOKENS: [&str; 3] = ["input", "cached", "output"];

/// A rollout that is under way for as long as this lives.
pub(crate) struct Running<'a>(&'a IntGauge);

impl Meter {
    /// All counters, at nothing.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauge = |name: &str, help: &str| registered(&registry, IntGauge::new(name, help)?);
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let histogram = |name: &str, help: &str, bounds: &[f64]| {
            registered(&registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(bounds.to_vec()))?)
        };
        let rollouts =
            counter("sera_rollouts_total", "Rollouts that ended, by kind and outcome.", &["rollout", "outcome"])?;
        let tokens = counter(
            "sera_teacher_tokens_total",
            "Tokens: read and not cached, read from the prefix cache, written.",
            &["kind"],
        )?;
        // A series that begins above nothing has not risen, as far as Prometheus knows: what dashboards and alerts ask for is there from the start.
        for kind in [RolloutKind::First, RolloutKind::Second] {
            for outcome in [RolloutOutcome::Submitted, RolloutOutcome::TeacherError] {
                rollouts.with_label_values(&[kind.stem(), &format!("{outcome:?}")]).inc_by(0);
            }
        }
        for kind in TOKENS {
            tokens.with_label_values(&[kind]).inc_by(0);
        }
        Ok(Self {
            rollouts,
            running: gauge("sera_rollouts_running", "Rollouts under way.")?,
            samples: gauges(
                "sera_samples",
                "Samples of this process: all of them, and those that have an end.",
                &["state"],
            )?,
            calls: registered(
                &registry,
                IntCounter::new("sera_teacher_calls_total", "Calls that the teacher answered.")?,
            )?,
            tokens,
            reasked: counter(
                "sera_turns_reasked_total",
                "Answers that could not be used and were asked again, by why.",
                &["why"],
            )?,
            call_seconds: histogram(
                "sera_teacher_call_seconds",
                "How long answered calls took, retries included.",
                &CALL_SECONDS,
            )?,
            command_seconds: histogram(
                "sera_command_seconds",
                "How long commands took in their sandbox.",
                &COMMAND_SECONDS,
            )?,
            pull_requests: counter(
                "sera_pull_requests_total",
                "Synthetic pull requests, by whether they give a line away.",
                &["leaks"],
            )?,
            duplicates: registered(
                &registry,
                IntCounter::new(
                    "sera_duplicate_patches_total",
                    "First patches that equal an earlier one of this process.",
                )?,
            )?,
            cost: registered(
                &registry,
                Gauge::new("sera_teacher_cost_usd", "What all calls cost, where a price is known.")?,
            )?,
            slots: gauges("sera_sandboxes", "Sandboxes, by whether they can be used.", &["state"])?,
            broken_replicas: gauge(
                "sera_teacher_replicas_left_alone",
                "Replicas of the teacher that are left alone after failures.",
            )?,
            retries: gauge("sera_teacher_retries", "Calls that were tried again so far.")?,
            ends: Mutex::default(),
            registry,
        })
    }

    /// Says how many samples there are.
    pub(crate) fn expect(&self, samples: u64) {
        self.ends().samples = samples;
    }

    /// Counts an answered call.
    pub(crate) fn called(&self, usage: &Usage, took: Duration) {
        self.calls.inc();
        let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        for (kind, tokens) in TOKENS.into_iter().zip([read, usage.cached_tokens, usage.completion_tokens]) {
            self.tokens.with_label_values(&[kind]).inc_by(tokens);
        }
        self.call_seconds.observe(took.as_secs_f64());
    }

    /// Counts an answer that could not be used.
    pub(crate) fn reasked(&self, why: &str) {
        self.reasked.with_label_values(&[why]).inc();
    }

    /// Counts a command.
    pub(crate) fn executed(&self, took: Duration) {
        self.command_seconds.observe(took.as_secs_f64());
    }

    /// Counts a rollout as under way until what is returned is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        self.running.inc();
        Running(&self.running)
    }

    /// Counts a rollout that ended here.
    pub(crate) fn rolled_out(&self, kind: RolloutKind, outcome: RolloutOutcome) {
        self.rollouts.with_label_values(&[kind.stem(), &format!("{outcome:?}")]).inc();
    }

    /// Counts a pull request that was written here.
    pub(crate) fn wrote_pull_request(&self, leaks: bool) {
        self.pull_requests.with_label_values(&[if leaks { "true" } else { "false" }]).inc();
    }

    /// Counts a first patch that was there before.
    pub(crate) fn met_duplicate(&self) {
        self.duplicates.inc();
    }

    /// Counts a sample that has its end; returns how many of how many do.
    pub(crate) fn ended(&self, outcome: &SampleOutcome) -> (u64, u64) {
        let mut ends = self.ends();
        ends.done += 1;
        *ends.first.entry(outcome.first).or_default() += 1;
        if let Some(second) = outcome.second {
            *ends.second.entry(second).or_default() += 1;
        }
        (ends.done, ends.samples)
    }

    /// Counts an attempt at a task as one that has its end; returns how many of how many do.
    pub(crate) fn attempted(&self, outcome: RolloutOutcome) -> (u64, u64) {
        let mut ends = self.ends();
        ends.done += 1;
        *ends.second.entry(outcome).or_default() += 1;
        (ends.done, ends.samples)
    }

    /// What `/progress` says.
    pub(crate) fn progress(&self, around: Surroundings<'_>) -> Progress {
        let ends = self.ends();
        Progress {
            version: CONTRACT_VERSION,
            samples: ends.samples,
            done: ends.done,
            first: ends.first.clone(),
            second: ends.second.clone(),
            usage: around.budget.spent(),
            cost: around.budget.cost(),
            silence: around.silence,
            slots: around.slots.fit,
            quarantined: around.slots.quarantined,
        }
    }

    /// What `/metrics` says, in Prometheus' text format.
    pub(crate) fn text(&self, around: Surroundings<'_>) -> Result<Vec<u8>, prometheus::Error> {
        let (samples, done) = {
            let ends = self.ends();
            (ends.samples, ends.done)
        };
        set(&self.samples, "all", samples);
        set(&self.samples, "done", done);
        set(&self.slots, "fit", around.slots.fit.into());
        set(&self.slots, "quarantined", around.slots.quarantined.into());
        self.broken_replicas.set(i64::try_from(around.broken_replicas).unwrap_or(i64::MAX));
        self.retries.set(i64::try_from(around.retries).unwrap_or(i64::MAX));
        if let Some(cost) = around.budget.cost() {
            self.cost.set(cost.as_str().parse().unwrap_or_default());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn set(gauges: &IntGaugeVec, state: impl Display, value: u64) {
    gauges.with_label_values(&[&state.to_string()]).set(i64::try_from(value).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_to_both_who_ask() {
        let (meter, budget) = (Meter::new().unwrap(), Budget::new(sera_crds::contract::BudgetSlice::default()));
        let usage = Usage { calls: 1, prompt_tokens: 100, cached_tokens: 90, completion_tokens: 7 };
        meter.expect(64);
        meter.called(&usage, Duration::from_millis(3));
        budget.spend(usage);
        meter.rolled_out(RolloutKind::First, RolloutOutcome::StepLimit);
        let running = meter.running();
        let around = Surroundings {
            budget: &budget,
            slots: Counts { fit: 7, quarantined: 1 },
            broken_replicas: 2,
            silence: None,
            retries: 3,
        };
        let text = String::from_utf8(meter.text(around).unwrap()).unwrap();
        for line in [
            "sera_teacher_tokens_total{kind=\"cached\"} 90",
            "sera_teacher_tokens_total{kind=\"input\"} 10",
            "sera_rollouts_total{outcome=\"StepLimit\",rollout=\"t1\"} 1",
            "sera_rollouts_running 1",
            "sera_sandboxes{state=\"quarantined\"} 1",
            "sera_teacher_replicas_left_alone 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(running);
        let progress = meter.progress(around);
        assert_eq!((progress.samples, progress.done, progress.usage, progress.slots), (64, 0, usage, 7));
        assert!(String::from_utf8(meter.text(around).unwrap()).unwrap().contains("sera_rollouts_running 0"));
    }
}
