//! What is counted as it happens: attempts, stages, samples. No label holds a name that a user chose: what grows with the number of runs is for status
//! and Events, and for the few gauges of the census.

mod census;

use jiff::Timestamp;
use prometheus::{Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};
use sera_crds::values::{Stage, Usd};

pub(super) use self::census::Census;
use crate::{
    names::Kind,
    plan::record::{AttemptOutcome, Record},
    runtime::metrics::{Error, Metrics},
};

/// Buckets of a stage in seconds: from a snapshot of a small repository to three days of rollouts.
const STAGE_SECONDS: [f64; 12] =
    [5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0, 259_200.0];

/// The stages of a run that have Jobs of their own, and those of a batch.
const RUN_STAGES: [Stage; 5] = [Stage::Snapshot, Stage::Generation, Stage::Dataset, Stage::Training, Stage::Evaluation];
const BATCH_STAGES: [Stage; 3] = [Stage::Snapshot, Stage::Rollouts, Stage::Verification];

/// The verdicts on trajectories that were accepted, and the kinds of tokens.
const ACCEPTED: [&str; 2] = ["AcceptedFirst", "AcceptedSecond"];
const TOKENS: [&str; 3] = ["read", "cached", "written"];

/// Bounds of recall in tenths, as verification counts it.
const RECALL: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// What is counted of stages, attempts and trajectories; clones are the same.
#[derive(Clone)]
pub(super) struct Telemetry {
    stage_seconds: HistogramVec,
    attempts: IntCounterVec,
    failures: IntCounterVec,
    samples: IntCounter,
    trajectories: IntCounterVec,
    recall: Histogram,
    tokens: IntCounterVec,
    cost: Counter,
}

impl Telemetry {
    /// Registers the metrics.
    pub(super) fn new(metrics: &Metrics) -> Result<Self, Error> {
        let stage_seconds =
            HistogramOpts::new("sera_stage_seconds", "How long stages took that are done, from their first attempt")
                .buckets(STAGE_SECONDS.to_vec());
        let attempts = Opts::new("sera_attempts_total", "Attempts of stages that ended, by outcome");
        let failures = Opts::new("sera_attempt_failures_total", "Attempts of stages that failed, by reason");
        let telemetry = Self {
            stage_seconds: metrics.register(HistogramVec::new(stage_seconds, &["kind", "stage"]))?,
            attempts: metrics.register(IntCounterVec::new(attempts, &["kind", "stage", "outcome"]))?,
            failures: metrics.register(IntCounterVec::new(failures, &["kind", "stage", "reason"]))?,
            samples: metrics.register(IntCounter::new("sera_samples_total", "Samples that have their verdicts"))?,
            trajectories: metrics.register(IntCounterVec::new(
                Opts::new(
                    "sera_trajectories_total",
                    "Trajectories by their first verdict: AcceptedFirst, AcceptedSecond, or why they were rejected",
                ),
                &["verdict"],
            ))?,
            recall: metrics.register(Histogram::with_opts(
                HistogramOpts::new("sera_recall", "Recall of second rollouts, to the tenth").buckets(RECALL.to_vec()),
            ))?,
            tokens: metrics.register(IntCounterVec::new(
                Opts::new(
                    "sera_sample_tokens_total",
                    "Tokens of samples that have their verdicts: read, cached or written",
                ),
                &["kind"],
            ))?,
            cost: metrics.register(Counter::new(
                "sera_sample_cost_dollars_total",
                "What those tokens cost, where that is known",
            ))?,
        };
        telemetry.begin();
        Ok(telemetry)
    }

    /// Has every series from the start that is known by then: one that begins above nothing has not risen, as far as Prometheus knows, and a stage may be
    /// the only one of its kind for a week.
    fn begin(&self) {
        let of_runs = RUN_STAGES.map(|stage| (Kind::Run, stage));
        for (kind, stage) in of_runs.into_iter().chain(BATCH_STAGES.map(|stage| (Kind::Batch, stage))) {
            let labels = [kind.as_str(), stage.as_str()];
            self.stage_seconds.with_label_values(&labels);
            for outcome in ["Succeeded", "Failed"] {
                self.attempts.with_label_values(&[labels[0], labels[1], outcome]);
            }
        }
        for verdict in ACCEPTED {
            self.trajectories.with_label_values(&[verdict]);
        }
        for kind in TOKENS {
            self.tokens.with_label_values(&[kind]);
        }
    }

    /// Counts what a batch came to when it is verified for the first time; another verdict on the same samples makes nothing new.
    fn count_samples(&self, before: &Record, after: &Record) {
        let (None, Some(_), Some(generation)) = (&before.verification, &after.verification, &after.generation) else {
            return;
        };
        let totals = &generation.totals;
        self.samples.inc_by(totals.attempted);
        let accepted = ACCEPTED.into_iter().zip([totals.accepted_first, totals.accepted_second]);
        let rejected = totals.rejected.iter().map(|(reason, count)| (reason.as_str(), *count));
        for (verdict, count) in accepted.chain(rejected) {
            self.trajectories.with_label_values(&[verdict]).inc_by(count);
        }
        for (count, bound) in totals.recall_histogram.iter().zip(RECALL) {
            // The middle of a bin stands for all that is in it.
            (0..(*count).min(totals.attempted)).for_each(|_| self.recall.observe(bound - 0.05));
        }
        let read = totals.tokens.saturating_sub(totals.cached_tokens).saturating_sub(totals.output_tokens);
        for (kind, count) in TOKENS.into_iter().zip([read, totals.cached_tokens, totals.output_tokens]) {
            self.tokens.with_label_values(&[kind]).inc_by(count);
        }
        if let Some(cost) = &totals.cost {
            self.cost.inc_by(dollars(cost));
        }
    }

    /// Counts what happened between two statuses, once the second is written.
    pub(super) fn count(&self, kind: Kind, before: &Record, after: &Record) {
        if kind == Kind::Batch {
            self.count_samples(before, after);
        }
        for (stage, attempt) in &after.attempts {
            let known = before.attempts.get(stage).filter(|known| known.number == attempt.number);
            let (Some(end), None) = (&attempt.end, known.and_then(|known| known.end.as_ref())) else { continue };
            let labels = [kind.as_str(), stage.as_str()];
            let outcome = match &end.outcome {
                AttemptOutcome::Succeeded => "Succeeded",
                AttemptOutcome::Failed(failure) => {
                    self.failures.with_label_values(&[labels[0], labels[1], &failure.reason]).inc();
                    "Failed"
                }
                AttemptOutcome::Lost => "Lost",
                AttemptOutcome::Withdrawn => "Withdrawn",
                AttemptOutcome::Disrupted => "Disrupted",
            };
            self.attempts.with_label_values(&[labels[0], labels[1], outcome]).inc();
        }
        // By their own ends, and not by those of attempts: those of a run's generation are dry runs.
        for (stage, time) in after.times.iter().filter(|(stage, _)| after.attempts.contains_key(*stage)) {
            let had_ended = before.times.get(stage).is_some_and(|known| known.ended.is_some());
            let is_done = after.conditions.holds((*stage).into());
            if let Some(ended) = time.ended.filter(|_| is_done && !had_ended) {
                self.stage_seconds
                    .with_label_values(&[kind.as_str(), stage.as_str()])
                    .observe(seconds(time.began, ended));
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a double, and a billion dollars in millionths fit its 53 bits"
)]
fn dollars(amount: &Usd) -> f64 {
    amount.millionths() as f64 / 1e6
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}
