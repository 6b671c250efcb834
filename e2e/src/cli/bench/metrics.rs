//! What a controller says of itself under `/metrics`. The operator's names are controller-runtime's and client-go's, so that controllers of others are
//! read likewise.

use std::collections::BTreeMap;

/// What `/metrics` said.
pub(super) struct Metrics {
    text: String,
    /// The value of the label `controller` of the passes that count.
    controller: &'static str,
}

impl Metrics {
    pub(super) fn new(text: String, controller: &'static str) -> Self {
        Self { text, controller }
    }

    /// The values of all series of a name, with their labels.
    fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.text.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")?;
            Some((labels, value.parse().ok()?))
        })
    }

    /// The same, for the passes of this controller.
    fn of_passes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.series(name).filter(|(labels, _)| label(labels, "controller") == Some(self.controller))
    }

    /// How many passes have ended.
    pub(super) fn passes(&self) -> f64 {
        self.of_passes("controller_runtime_reconcile_time_seconds_count").map(|(_, count)| count).sum()
    }

    /// How long those passes took.
    pub(super) fn pass_times(&self) -> PassTimes {
        let buckets = self.of_passes("controller_runtime_reconcile_time_seconds_bucket");
        PassTimes(buckets.filter_map(|(labels, count)| Some((label(labels, "le")?.to_owned(), count))).collect())
    }

    /// How many requests the API server was sent.
    pub(super) fn requests(&self) -> f64 {
        self.requests_but("")
    }

    /// The same without those of one method.
    pub(super) fn requests_but(&self, method: &str) -> f64 {
        let requests = self.series("rest_client_requests_total");
        requests.filter(|(labels, _)| label(labels, "method") != Some(method)).map(|(_, count)| count).sum()
    }
}

/// How many statuses of a resource an API server that says this under `/metrics` has patched, as controllers do.
pub(super) fn status_patches(text: &str, resource: &str) -> f64 {
    let metrics = Metrics::new(text.to_owned(), "");
    let wanted = [("verb", "PATCH"), ("subresource", "status"), ("resource", resource)];
    let requests = metrics.series("apiserver_request_total");
    let of_status =
        requests.filter(|(labels, _)| wanted.iter().all(|(name, value)| label(labels, name) == Some(value)));
    of_status.map(|(_, count)| count).sum()
}

/// The value of a label.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

/// How many passes took at most how long: a histogram, by the bounds of its buckets as they were written.
pub(super) struct PassTimes(BTreeMap<String, f64>);

impl PassTimes {
    /// Those that have ended since.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |bound: &String| earlier.0.get(bound).copied().unwrap_or_default();
        Self(self.0.iter().map(|(bound, count)| (bound.clone(), count - before(bound))).collect())
    }

    /// The upper bound of the bucket that this share of them ends in, in words.
    pub(super) fn at_most(&self, share: f64) -> String {
        let mut buckets: Vec<(f64, f64)> =
            self.0.iter().filter_map(|(bound, count)| Some((bound.parse().ok()?, *count))).collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let all = buckets.last().map_or(0.0, |(_, count)| *count);
        match buckets.iter().find(|(_, count)| *count >= share * all) {
            Some((bound, _)) if bound.is_finite() => format!("{} ms", bound * 1000.0),
            _ => "more than the largest bucket".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Metrics, status_patches};

    const EARLIER: &str = r#"
controller_runtime_reconcile_time_seconds_bucket{controller="run",le="0.001"} 10
controller_runtime_reconcile_time_seconds_bucket{controller="run",le="0.01"} 20
controller_runtime_reconcile_time_seconds_bucket{controller="run",le="+Inf"} 20
controller_runtime_reconcile_time_seconds_count{controller="run"} 20
controller_runtime_reconcile_time_seconds_count{controller="batch"} 7
rest_client_requests_total{code="200",host="h",method="GET"} 3
rest_client_requests_total{code="201",host="h",method="POST"} 4
rest_client_requests_total{code="409",host="h",method="PUT"} 5
"#;
    const LATER: &str = r#"
controller_runtime_reconcile_time_seconds_bucket{controller="run",le="0.001"} 108
controller_runtime_reconcile_time_seconds_bucket{controller="run",le="0.01"} 120
controller_runtime_reconcile_time_seconds_bucket{controller="run",le="+Inf"} 121
controller_runtime_reconcile_time_seconds_count{controller="run"} 121
"#;
    #[test]
    fn passes_and_requests_are_counted_of_this_controller_alone() {
        let metrics = Metrics::new(EARLIER.to_owned(), "run");
        let counts = [metrics.passes(), metrics.requests(), metrics.requests_but("PUT")];
        assert_eq!(counts.map(|count| count.to_string()), ["20", "12", "7"]);
    }

    #[test]
    fn only_patches_of_a_resources_status_are_counted() {
        let text = r#"
apiserver_request_total{code="200",resource="rolloutbatches",scope="resource",subresource="status",verb="PATCH"} 5
apiserver_request_total{code="409",resource="rolloutbatches",scope="resource",subresource="status",verb="PATCH"} 2
apiserver_request_total{code="200",resource="rolloutbatches",scope="resource",subresource="",verb="PATCH"} 11
apiserver_request_total{code="200",resource="pods",scope="resource",subresource="status",verb="PATCH"} 13
apiserver_request_total{code="200",resource="rolloutbatches",scope="resource",subresource="status",verb="GET"} 17
apiserver_request_total{code="200",resource="specializationruns",scope="resource",subresource="status",verb="PATCH"} 3
"#;
        assert_eq!(status_patches(text, "rolloutbatches").to_string(), "7");
        assert_eq!(status_patches(text, "specializationruns").to_string(), "3");
    }

    #[test]
    fn what_passes_took_since_is_read_from_the_difference_of_the_buckets() {
        let [earlier, later] = [EARLIER, LATER].map(|text| Metrics::new(text.to_owned(), "run").pass_times());
        assert_eq!(earlier.at_most(0.5), "1 ms");
        assert_eq!(earlier.at_most(0.99), "10 ms");
        let since = later.since(&earlier);
        assert_eq!(since.at_most(0.9), "1 ms");
        assert_eq!(since.at_most(0.99), "10 ms");
        assert_eq!(since.at_most(1.0), "more than the largest bucket");
    }
}
