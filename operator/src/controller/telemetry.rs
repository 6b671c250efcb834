//! The metrics of the domain. No label holds a name that a user chose: what grows with the number of runs is for status and Events.

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::reflector::Store;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use sera_crds::{RolloutBatch, SpecializationRun, run::Phase};

use crate::{
    names::Kind,
    plan::record::{AttemptOutcome, Record},
    runtime::metrics::{Error, Metrics},
    subject::Subject,
};

/// Buckets of a stage in seconds: from a snapshot of a small repository to three days of rollouts.
const STAGE_SECONDS: [f64; 12] =
    [5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0, 259_200.0];

/// What is counted of stages and attempts; clones are the same.
#[derive(Clone)]
pub(super) struct Telemetry {
    stage_seconds: HistogramVec,
    attempts: IntCounterVec,
    failures: IntCounterVec,
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
        })
    }

    /// Counts what happened between two statuses, once the second is written.
    pub(super) fn count(&self, kind: Kind, before: &Record, after: &Record) {
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
            };
            self.attempts.with_label_values(&[labels[0], labels[1], outcome]).inc();
            if let (AttemptOutcome::Succeeded, Some(time)) = (&end.outcome, after.times.get(stage)) {
                self.stage_seconds.with_label_values(&labels).observe(seconds(time.began, end.at));
            }
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// How many objects there are in each phase, counted when somebody asks.
#[derive(Clone)]
pub(super) struct Census {
    stores: Arc<[(Store<SpecializationRun>, Store<RolloutBatch>)]>,
    gauge: IntGaugeVec,
}

impl Census {
    /// A census of the objects in `stores`.
    pub(super) fn of(stores: Vec<(Store<SpecializationRun>, Store<RolloutBatch>)>) -> prometheus::Result<Self> {
        let gauge = Opts::new("sera_objects", "Runs and batches, by phase");
        Ok(Self { stores: stores.into(), gauge: IntGaugeVec::new(gauge, &["kind", "phase"])? })
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
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.reset();
        for (runs, batches) in &*self.stores {
            self.count(runs);
            self.count(batches);
        }
        self.gauge.collect()
    }
}
