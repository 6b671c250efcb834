//! A kind that a cluster may have or not: it is looked for at the start, and then every so often, so that whoever installs it need not restart anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::{Client, Resource};
use tokio::sync::oneshot;

use super::{Children, Wake, WatchedChild, watch_children};
use crate::runtime::advice;

/// What the API server answers where there is nothing.
const NOT_FOUND: u16 = 404;
/// How often a kind that was not there is looked for again.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// How soon, where nobody knows whether it is there.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Whether the cluster has a kind.
#[derive(Debug, Clone, Default)]
pub struct Offer(Arc<AtomicBool>);

impl Offer {
    /// Whether it has it.
    pub fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps `children` as the API server has them from when it has their kind at all, for ever. Where it does not have it, there are none, which `synced`
/// learns at once.
pub async fn watch_offered<W: WatchedChild>(
    client: Client,
    api: kube::Api<W>,
    offer: Offer,
    children: Children<W::Facts>,
    wake: impl Fn(Wake),
    synced: oneshot::Sender<()>,
) {
    let mut synced = Some(synced);
    loop {
        match has::<W>(&client).await {
            Ok(true) => break,
            Ok(false) => {
                if let Some(synced) = synced.take() {
                    // Nobody waits any more where the process is ending.
                    let _ = synced.send(());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => {
                tracing::warn!(
                    "whether the cluster has {} objects cannot be found out: {}",
                    W::kind(&()),
                    advice::chain(&error)
                );
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
    offer.0.store(true, Ordering::Relaxed);
    let synced = synced.unwrap_or_else(|| oneshot::channel().0);
    // What waits for the kind gets a pass when the first list is whole.
    watch_children(api, None, children, wake, synced).await;
}

/// Whether the API server has the kind.
async fn has<W: Resource<DynamicType = ()>>(client: &Client) -> Result<bool, kube::Error> {
    match client.list_api_group_resources(&W::api_version(&())).await {
        Ok(found) => Ok(found.resources.iter().any(|resource| resource.kind == W::kind(&()))),
        // Of a group that is not there the API server says so in plain text, without a reason.
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(false),
        Err(error) => Err(error),
    }
}
