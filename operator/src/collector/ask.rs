//! One question to one program. Whatever answers there is not trusted: an answer has a time and a size, and is read as counts or not at all.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sera_crds::contract::{CONTRACT_VERSION, Progress, TrainingProgress};

use super::Speaker;
use crate::facts::{Live, LiveRollouts, LiveTraining};

/// How long a program has for its answer: it is one hop away and has nothing to compute.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read.
const MOST_BYTES: usize = 64 * 1024;

/// A client that asks programs.
#[derive(Clone)]
pub(super) struct Asker(Client<HttpConnector, Empty<Bytes>>);

impl Asker {
    pub(super) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http())
    }

    /// How far a program is; none where it does not say so in time and in this release's words.
    pub(super) async fn ask(&self, url: &str, speaker: Speaker) -> Option<Live> {
        let answer = async {
            let response = self.0.get(url.parse().ok()?).await.ok()?;
            if !response.status().is_success() {
                return None;
            }
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.ok()?;
            Some(body.to_bytes())
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.ok().flatten()?;
        match speaker {
            Speaker::Rollouts => rollouts(&answer).map(Live::Rollouts),
            Speaker::Training => training(&answer).map(Live::Training),
        }
    }
}

fn rollouts(answer: &[u8]) -> Option<LiveRollouts> {
    let Progress { version, samples, done, usage, silence, .. } = serde_json::from_slice(answer).ok()?;
    let tokens = usage.prompt_tokens.saturating_add(usage.completion_tokens);
    (version == CONTRACT_VERSION).then_some(LiveRollouts { samples, done, tokens, silence, gets_on: false })
}

fn training(answer: &[u8]) -> Option<LiveTraining> {
    let TrainingProgress { version, step, total_steps, loss, tokens_per_second, warmup_steps, .. } =
        serde_json::from_slice(answer).ok()?;
    (version == CONTRACT_VERSION).then_some(LiveTraining {
        step,
        total_steps,
        loss,
        tokens_per_second,
        warmup_steps,
        eta: None,
    })
}
