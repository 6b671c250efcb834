//! One question to one driver. Whatever answers there is not trusted: an answer has a time and a size, and is read as counts or not at all.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sera_crds::contract::{CONTRACT_VERSION, Progress};

/// How long a driver has for its answer: it is one hop away and has nothing to compute.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const MOST_BYTES: usize = 64 * 1024;

/// A client that asks drivers.
#[derive(Clone)]
pub(super) struct Asker(Client<HttpConnector, Empty<Bytes>>);

impl Asker {
    pub(super) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http())
    }

    /// How far a driver is; none where it does not say so in time and in this release's words.
    pub(super) async fn ask(&self, url: &str) -> Option<Progress> {
        let answer = async {
            let response = self.0.get(url.parse().ok()?).await.ok()?;
            if !response.status().is_success() {
                return None;
            }
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.ok()?;
            serde_json::from_slice::<Progress>(&body.to_bytes()).ok()
        };
        let progress = tokio::time::timeout(PATIENCE, answer).await.ok().flatten()?;
        (progress.version == CONTRACT_VERSION).then_some(progress)
    }
}
