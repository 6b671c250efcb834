//! A guard that measures one pass and records how it ended, from a closed set of outcomes, in metrics and in its span. A pass that
//! ends without saying how is recorded as abandoned, so that no early return, cancellation or panic goes uncounted.

use std::time::Instant;

use tracing::Span;

use super::{backlog::Backlog, metrics::PassMetrics, traces::spans};

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as it should be; nothing is expected.
    Settled,
    /// It goes on when something else happened, or at a time: waiting is no error.
    Waiting,
    /// It goes on when a user changed something.
    Stalled,
    /// It failed, and is tried again.
    Failed,
}

impl Outcome {
    /// The value of the label `result`: controller-runtime's word where it has one.
    fn label(self) -> &'static str {
        match self {
            Self::Settled => "success",
            Self::Waiting => "requeue_after",
            Self::Stalled => "stalled",
            Self::Failed => "error",
        }
    }
}

/// The label of a pass that never said how it ended.
const ABANDONED: &str = "abandoned";

/// The passes of one controller.
#[derive(Clone, Debug)]
pub struct Passes {
    metrics: PassMetrics,
    backlog: Backlog,
    controller: &'static str,
}

impl Passes {
    pub(super) fn new(metrics: PassMetrics, backlog: Backlog, controller: &'static str, concurrency: u16) -> Self {
        metrics.limit.with_label_values(&[controller]).set(concurrency.into());
        Self { metrics, backlog, controller }
    }

    /// What waits for a pass.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Begins a pass over an object.
    pub fn begin(&self, namespace: &str, name: &str) -> Pass {
        self.metrics.active.with_label_values(&[self.controller]).inc();
        let span = spans::pass(self.controller, namespace, name);
        Pass { passes: self.clone(), span, began: Instant::now(), outcome: None }
    }
}

/// A pass being made; it is recorded when this is dropped.
#[derive(Debug)]
#[must_use = "a pass that is dropped at once is recorded as abandoned"]
pub struct Pass {
    passes: Passes,
    span: Span,
    began: Instant,
    outcome: Option<Outcome>,
}

impl Pass {
    /// The span that what the pass does belongs in.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Says how the pass ended.
    pub fn finish(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Passes { metrics, controller, .. } = &self.passes;
        let (controller, result) = (*controller, self.outcome.map_or(ABANDONED, Outcome::label));
        let failed = self.outcome == Some(Outcome::Failed);
        spans::ended(&self.span, result, failed);
        metrics.active.with_label_values(&[controller]).dec();
        metrics.seconds.with_label_values(&[controller]).observe(self.began.elapsed().as_secs_f64());
        metrics.total.with_label_values(&[controller, result]).inc();
        if failed {
            metrics.errors.with_label_values(&[controller]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::metrics::Metrics;

    use super::*;

    fn lines(metrics: &Metrics) -> Vec<String> {
        let of_passes =
            |line: &&str| line.starts_with("controller_runtime") && !line.contains("_bucket") && !line.contains("_sum");
        metrics.text().unwrap().lines().filter(of_passes).map(str::to_owned).collect()
    }

    #[test]
    fn each_outcome_is_recorded_once_under_its_label() {
        let metrics = Metrics::new().unwrap();
        let passes = metrics.passes("run", 8).unwrap();
        for outcome in [Outcome::Settled, Outcome::Waiting, Outcome::Stalled, Outcome::Failed, Outcome::Settled] {
            passes.begin("ml", "billing").finish(outcome);
        }
        let lines = lines(&metrics);
        for line in [
            r#"controller_runtime_reconcile_total{controller="run",result="success"} 2"#,
            r#"controller_runtime_reconcile_total{controller="run",result="requeue_after"} 1"#,
            r#"controller_runtime_reconcile_total{controller="run",result="stalled"} 1"#,
            r#"controller_runtime_reconcile_total{controller="run",result="error"} 1"#,
            r#"controller_runtime_reconcile_errors_total{controller="run"} 1"#,
            r#"controller_runtime_reconcile_time_seconds_count{controller="run"} 5"#,
            r#"controller_runtime_active_workers{controller="run"} 0"#,
            r#"controller_runtime_max_concurrent_reconciles{controller="run"} 8"#,
        ] {
            assert!(lines.iter().any(|seen| seen == line), "{line} is not in {lines:#?}");
        }
    }

    #[test]
    fn a_pass_that_is_dropped_half_way_is_abandoned_and_active_until_then() {
        let metrics = Metrics::new().unwrap();
        let pass = metrics.passes("batch", 2).unwrap().begin("ml", "billing-7");
        assert!(lines(&metrics).contains(&r#"controller_runtime_active_workers{controller="batch"} 1"#.to_owned()));
        drop(pass);
        let lines = lines(&metrics);
        assert!(
            lines
                .contains(&r#"controller_runtime_reconcile_total{controller="batch",result="abandoned"} 1"#.to_owned())
        );
        assert!(lines.contains(&r#"controller_runtime_active_workers{controller="batch"} 0"#.to_owned()));
    }
}
