//! What waits for a pass: which objects are due and have not begun, and since when. The scheduler keeps that to itself; this account
//! hears of the same requests, beginnings and ends, and is counted when somebody asks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntGauge, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Buckets of the wait for a pass in seconds. Those of client-go begin at ten nanoseconds, which tell nothing here: a request waits 20 ms for others.
const WAIT_SECONDS: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// The objects of one controller that wait for a pass, by `namespace/name`; clones are the same. An object is in it from the first
/// request on, or from the end of a pass that asked for another one, until that begins.
#[derive(Clone, Debug)]
pub struct Backlog {
    waiting: Arc<Mutex<HashMap<String, Waiting>>>,
    depth: IntGauge,
    adds: IntCounter,
    seconds: Histogram,
}

/// An object that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    due: Instant,
    /// Whether it was counted as added to the queue, which it is once it is due.
    added: bool,
}

impl Backlog {
    /// The empty backlog of `controller`, which is also the name of its queue, as with controller-runtime.
    ///
    /// # Errors
    /// When `controller` is no value of a label, which every text is.
    pub fn new(controller: &'static str) -> prometheus::Result<Self> {
        let labels = || HashMap::from(["name", "controller"].map(|label| (label.to_owned(), controller.to_owned())));
        let depth = Opts::new("workqueue_depth", "Objects whose pass is due and has not begun, by queue");
        let adds = Opts::new("workqueue_adds_total", "How often an object became due for a pass, by queue");
        let seconds = HistogramOpts::new(
            "workqueue_queue_duration_seconds",
            "Seconds an object waited from being due until its pass began, by queue",
        );
        Ok(Self {
            waiting: Arc::default(),
            depth: IntGauge::with_opts(depth.const_labels(labels()))?,
            adds: IntCounter::with_opts(adds.const_labels(labels()))?,
            seconds: Histogram::with_opts(seconds.const_labels(labels()).buckets(WAIT_SECONDS.to_vec()))?,
        })
    }

    /// A pass over `object` is asked for.
    pub fn requested(&self, object: String, now: Instant) {
        self.schedule(object, now, now);
    }

    /// The pass over `object` begins.
    pub fn begun(&self, object: &str, now: Instant) {
        if let Some(mut waiting) = self.lock().remove(object) {
            self.is_due(&mut waiting, now);
            self.seconds.observe(now.saturating_duration_since(waiting.due).as_secs_f64());
        }
    }

    /// The pass over `object` ended, and another one is wanted after `wait`, where there is one.
    pub fn ended(&self, object: String, wait: Option<Duration>, now: Instant) {
        if let Some(due) = wait.and_then(|wait| now.checked_add(wait)) {
            self.schedule(object, due, now);
        }
    }

    /// `object` is gone, and gets no pass.
    pub fn forgotten(&self, object: &str) {
        self.lock().remove(object);
    }

    /// How many objects are due at `now` and have not begun.
    pub fn depth(&self, now: Instant) -> usize {
        self.lock().values_mut().filter_map(|waiting| self.is_due(waiting, now).then_some(())).count()
    }

    /// The earlier of two times counts, as it does with the scheduler.
    fn schedule(&self, object: String, due: Instant, now: Instant) {
        let mut all = self.lock();
        let waiting = all.entry(object).or_insert(Waiting { due, added: false });
        waiting.due = waiting.due.min(due);
        self.is_due(waiting, now);
    }

    /// Whether an object is due; that it became so is counted here, as nothing happens at that moment.
    fn is_due(&self, waiting: &mut Waiting, now: Instant) -> bool {
        let is_due = waiting.due <= now;
        if is_due && !waiting.added {
            waiting.added = true;
            self.adds.inc();
        }
        is_due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> [&dyn Collector; 3] {
        [&self.depth, &self.adds, &self.seconds]
    }
}

impl Collector for Backlog {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let depth = self.depth(Instant::now());
        self.depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::metrics::Metrics;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backlog() -> (Backlog, Instant) {
        (Backlog::new("run").unwrap(), Instant::now())
    }

    #[test]
    fn an_object_counts_from_its_request_until_its_pass_begins_and_several_requests_are_one() {
        let (backlog, now) = backlog();
        backlog.requested("ml/billing".to_owned(), now);
        backlog.requested("ml/billing".to_owned(), now + SECOND);
        backlog.requested("ml/search".to_owned(), now + SECOND);
        assert_eq!((backlog.depth(now + SECOND), backlog.adds.get()), (2, 2));
        backlog.begun("ml/billing", now + 3 * SECOND);
        assert_eq!(backlog.depth(now + 3 * SECOND), 1);
        assert!((backlog.seconds.get_sample_sum() - 3.0).abs() < 1e-9, "the first request is when it became due");
    }

    #[test]
    fn a_pass_that_is_wanted_later_counts_when_it_is_due_and_not_before() {
        let (backlog, now) = backlog();
        backlog.ended("ml/billing".to_owned(), Some(10 * SECOND), now);
        assert_eq!((backlog.depth(now + 9 * SECOND), backlog.adds.get()), (0, 0));
        assert_eq!((backlog.depth(now + 10 * SECOND), backlog.adds.get()), (1, 1));
        assert_eq!((backlog.depth(now + 11 * SECOND), backlog.adds.get()), (1, 1), "it is added once");
        backlog.begun("ml/billing", now + 12 * SECOND);
        assert_eq!((backlog.depth(now + 12 * SECOND), backlog.adds.get()), (0, 1));
        assert!((backlog.seconds.get_sample_sum() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_pass_that_begins_as_it_is_due_was_added_even_if_nobody_counted_meanwhile() {
        let (backlog, now) = backlog();
        backlog.ended("ml/billing".to_owned(), Some(SECOND), now);
        backlog.begun("ml/billing", now + SECOND);
        assert_eq!((backlog.adds.get(), backlog.seconds.get_sample_count()), (1, 1));
    }

    #[test]
    fn a_request_comes_before_the_pass_that_is_wanted_later_and_is_not_put_off_by_one() {
        let (backlog, now) = backlog();
        backlog.ended("ml/billing".to_owned(), Some(600 * SECOND), now);
        backlog.requested("ml/billing".to_owned(), now + SECOND);
        assert_eq!(backlog.depth(now + SECOND), 1);
        backlog.ended("ml/billing".to_owned(), Some(600 * SECOND), now + SECOND);
        assert_eq!(backlog.depth(now + SECOND), 1, "what was asked for during a pass is still to come");
    }

    #[test]
    fn objects_that_are_gone_or_want_no_pass_are_not_kept() {
        let (backlog, now) = backlog();
        backlog.requested("ml/billing".to_owned(), now);
        backlog.ended("ml/search".to_owned(), Some(SECOND), now);
        backlog.ended("ml/checkout".to_owned(), None, now);
        backlog.ended("ml/for-ever".to_owned(), Some(Duration::MAX), now);
        backlog.forgotten("ml/billing");
        backlog.forgotten("ml/search");
        assert_eq!(backlog.depth(now + 600 * SECOND), 0);
        assert!(backlog.lock().is_empty());
    }

    #[test]
    fn both_queues_are_shown_under_the_names_and_labels_that_dashboards_know() {
        let metrics = Metrics::new().unwrap();
        let (runs, batches) = (metrics.passes("run", 8).unwrap(), metrics.passes("batch", 8).unwrap());
        runs.backlog().requested("ml/billing".to_owned(), Instant::now());
        batches.backlog().ended("ml/billing-7".to_owned(), Some(600 * SECOND), Instant::now());
        let text = metrics.text().unwrap();
        for line in [
            r#"workqueue_depth{controller="run",name="run"} 1"#,
            r#"workqueue_depth{controller="batch",name="batch"} 0"#,
            r#"workqueue_adds_total{controller="run",name="run"} 1"#,
            r#"workqueue_queue_duration_seconds_count{controller="batch",name="batch"} 0"#,
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
    }
}
