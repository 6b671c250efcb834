//! Restarts of the API server. A seed asks for one at a call of its own; all trials of the cluster live through it, and each takes notice.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use tokio::sync::{Notify, watch};

use super::course::Course;
use crate::cluster::Cluster;

/// How long the API server stays away.
const AWAY: Duration = Duration::from_secs(1);
/// The longest that it may take to answer again, on a machine that has much else to do.
const BACK_WITHIN: Duration = Duration::from_mins(2);
/// How long it is left alone when it answers again, whatever seeds ask for: other trials would get nothing done between two that follow each other.
const REST: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);

/// The restarts of one cluster's API server. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Outages {
    wanted: Arc<Notify>,
    count: watch::Sender<u64>,
}

impl Outages {
    /// Asks for a restart. What others have asked for since the last one is the same one.
    pub(super) fn ask(&self) {
        self.wanted.notify_one();
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Restarts the API server whenever somebody asks for it, and asks for it itself every so often where that is said. It ends only by an error.
    pub(super) async fn happen(&self, cluster: &Cluster, every: Option<Duration>) -> Result<Infallible> {
        let mut rest = Duration::ZERO;
        loop {
            let wanted = async {
                tokio::time::sleep(rest).await;
                self.wanted.notified().await;
            };
            tokio::select! {
                () = wanted => {}
                () = after(every) => {}
            }
            self.count.send_modify(|count| *count += 1);
            restart(cluster).await?;
            rest = REST;
        }
    }

    /// Tells a run of each of them, for as long as it is polled.
    pub(super) async fn tell(self, course: Arc<Course>) {
        let mut count = self.count.subscribe();
        // The sender lives as long as this value.
        while count.changed().await.is_ok() {
            course.is_befallen("the API server is restarted");
        }
    }
}

/// Waits for so long; for ever where there is no such time.
pub(super) async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Restarts the API server: it goes without a word, and comes back with what it had.
async fn restart(cluster: &Cluster) -> Result<()> {
    let server = cluster.component("kube-apiserver")?;
    server.kill()?;
    tokio::time::sleep(AWAY).await;
    server.restart()?;
    let client = cluster.client();
    tokio::time::timeout(BACK_WITHIN, answers(&client))
        .await
        .with_context(|| format!("the API server is not back after {BACK_WITHIN:?}"))
}

async fn answers(client: &Client) {
    while client.apiserver_version().await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chaos::script::Trial;

    #[tokio::test]
    async fn a_run_takes_notice_of_each_restart_and_has_all_its_time_again() {
        let folder = tempfile::tempdir().unwrap();
        let course = Course::new(Trial::Undisturbed.script(), json!({}), "ml".into(), folder.path()).unwrap();
        let (course, outages) = (Arc::new(course), Outages::default());
        let telling = tokio::spawn(outages.clone().tell(Arc::clone(&course)));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = course.undisturbed_for();
        assert!(before >= Duration::from_millis(50));
        outages.count.send_modify(|count| *count += 1);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(course.undisturbed_for() < before, "{:?}", course.undisturbed_for());
        assert_eq!(outages.count(), 1);
        let journal = std::fs::read_to_string(folder.path().join("journal.log")).unwrap();
        assert!(journal.contains("the API server is restarted"), "{journal}");
        telling.abort();
    }
}
