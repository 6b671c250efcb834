//! The metrics of the domain. But for a few gauges that can be switched off, no label holds a name that a user chose: what grows with the number of runs
//! is for status and Events.

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::reflector::Store;
use prometheus::{
    Counter, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use sera_crds::{
    RolloutBatch, SpecializationRun,
    run::{Phase, TrainingStatus},
    values::Usd,
};

use crate::{
    names::Kind,
    plan::record::{AttemptOutcome, Record},
    runtime::metrics::{Error, Metrics},
    subject::Subject,
};

/// Buckets of a stage in seconds: from a snapshot of a small repository to three days of rollouts.
const STAGE_SECONDS: [f64; 12] =
    [5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0, 259_200.0];

/// Bounds of recall in tenths, as verification counts it.
const RECALL: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// How many runs have gauges of their own; those that are over these many, in no order, have none.
const MOST_RUNS: usize = 200;

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
        Ok(Self {
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
                    "sera_teacher_tokens_total",
                    "Tokens of samples that have their verdicts: read, cached or written",
                ),
                &["kind"],
            ))?,
            cost: metrics.register(Counter::new(
                "sera_teacher_cost_dollars_total",
                "What those tokens cost, where that is known",
            ))?,
        })
    }

    /// Counts what a batch came to when it is verified for the first time; another verdict on the same samples makes nothing new.
    fn count_samples(&self, before: &Record, after: &Record) {
        let (None, Some(_), Some(generation)) = (&before.verification, &after.verification, &after.generation) else {
            return;
        };
        let totals = &generation.totals;
        self.samples.inc_by(totals.attempted);
        let accepted = [("AcceptedFirst", totals.accepted_first), ("AcceptedSecond", totals.accepted_second)];
        let rejected = totals.rejected.iter().map(|(reason, count)| (reason.as_str(), *count));
        for (verdict, count) in accepted.into_iter().chain(rejected) {
            self.trajectories.with_label_values(&[verdict]).inc_by(count);
        }
        for (count, bound) in totals.recall_histogram.iter().zip(RECALL) {
            // The middle of a bin stands for all that is in it.
            (0..*count).for_each(|_| self.recall.observe(bound - 0.05));
        }
        let read = totals.tokens.saturating_sub(totals.cached_tokens).saturating_sub(totals.output_tokens);
        for (kind, count) in [("read", read), ("cached", totals.cached_tokens), ("written", totals.output_tokens)] {
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
            if let (AttemptOutcome::Succeeded, Some(time)) = (&end.outcome, after.times.get(stage)) {
                self.stage_seconds.with_label_values(&labels).observe(seconds(time.began, end.at));
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

/// How many objects there are in each phase, and how far each run is, counted when somebody asks.
#[derive(Clone)]
pub(super) struct Census {
    stores: Arc<[(Store<SpecializationRun>, Store<RolloutBatch>)]>,
    gauge: IntGaugeVec,
    of_runs: Option<RunGauges>,
}

/// Gauges with a run's name, for dashboards: the only ones, few, and to be switched off.
#[derive(Clone)]
struct RunGauges {
    progress: IntGaugeVec,
    accepted: IntGaugeVec,
    cost: GaugeVec,
    loss: GaugeVec,
    pace: IntGaugeVec,
}

impl RunGauges {
    fn new() -> prometheus::Result<Self> {
        let labels = &["namespace", "run"];
        let progress = Opts::new("sera_run_progress_percent", "How much of its present stage a run has done");
        let accepted =
            Opts::new("sera_run_accepted_trajectories", "How many trajectories the dataset of a run would have");
        let cost = Opts::new("sera_run_cost_dollars", "What the teacher's tokens of a run have cost");
        let loss = Opts::new("sera_training_loss", "The loss a trained token of a run's last training step");
        let pace = Opts::new(
            "sera_training_tokens_per_second",
            "Tokens that all ranks of a run's training work through in a second",
        );
        Ok(Self {
            progress: IntGaugeVec::new(progress, labels)?,
            accepted: IntGaugeVec::new(accepted, labels)?,
            cost: GaugeVec::new(cost, labels)?,
            loss: GaugeVec::new(loss, labels)?,
            pace: IntGaugeVec::new(pace, labels)?,
        })
    }

    fn count(&self, run: &SpecializationRun) {
        let (record, owner) = (run.record(), run.owner());
        let labels = [owner.namespace.as_str(), owner.name.as_str()];
        let percent = record.progress.map_or(0, |(_, percent)| i64::from(percent));
        self.progress.with_label_values(&labels).set(percent);
        if let Some(generation) = record.generation {
            let accepted = i64::try_from(generation.totals.accepted).unwrap_or(i64::MAX);
            self.accepted.with_label_values(&labels).set(accepted);
            if let Some(cost) = &generation.totals.cost {
                self.cost.with_label_values(&labels).set(dollars(cost));
            }
        }
        let Some(TrainingStatus { loss, tokens_per_second, .. }) = record.training else { return };
        if let Some(loss) = loss.and_then(|loss| loss.as_str().parse().ok()) {
            self.loss.with_label_values(&labels).set(loss);
        }
        if let Some(pace) = tokens_per_second {
            self.pace.with_label_values(&labels).set(i64::try_from(pace).unwrap_or(i64::MAX));
        }
    }

    fn reset(&self) {
        self.progress.reset();
        self.accepted.reset();
        self.cost.reset();
        self.loss.reset();
        self.pace.reset();
    }

    fn all(&self) -> [&dyn Collector; 5] {
        [&self.progress, &self.accepted, &self.cost, &self.loss, &self.pace]
    }
}

impl Census {
    /// A census of the objects in `stores`; with gauges of each run, where those are wanted.
    pub(super) fn of(
        stores: Vec<(Store<SpecializationRun>, Store<RolloutBatch>)>,
        gauges_of_runs: bool,
    ) -> prometheus::Result<Self> {
        let gauge = Opts::new("sera_objects", "Runs and batches, by phase");
        Ok(Self {
            stores: stores.into(),
            gauge: IntGaugeVec::new(gauge, &["kind", "phase"])?,
            of_runs: gauges_of_runs.then(RunGauges::new).transpose()?,
        })
    }

    fn count<S: Subject>(&self, store: &Store<S>) {
        for object in store.state() {
            let phase = object.record().phase.unwrap_or(Phase::Pending);
            self.gauge.with_label_values(&[S::KIND.as_str(), phase.as_str()]).inc();
        }
    }
}

impl Collector for Census {
    fn desc(&self) -> Vec<&Desc> {
        let of_runs = self.of_runs.iter().flat_map(RunGauges::all).flat_map(Collector::desc);
        self.gauge.desc().into_iter().chain(of_runs).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.reset();
        for (runs, batches) in &*self.stores {
            self.count(runs);
            self.count(batches);
        }
        let mut families = self.gauge.collect();
        if let Some(gauges) = &self.of_runs {
            gauges.reset();
            let runs = self.stores.iter().flat_map(|(runs, _)| runs.state());
            runs.take(MOST_RUNS).for_each(|run| gauges.count(&run));
            families.extend(gauges.all().into_iter().flat_map(Collector::collect));
        }
        families
    }
}
