//! What has to be there before controllers make sense: an API server that answers, and our kinds on it. Neither ends the
//! process when it is missing: it says so, stays unready and goes on by itself when it is there.

use std::time::Duration;

use kube::{Client, Resource};
use sera_crds::{RolloutBatch, SpecializationRun};
use tokio::time::sleep;

use super::{
    advice::explain,
    readiness::{Readiness, Startup},
};

/// Between two tries. A cluster that is being made is up within minutes; nobody waits longer than this for us then.
const AGAIN: Duration = Duration::from_secs(2);

/// Waits until the API server answers and serves the kinds of `sera.dev/v1alpha1`, and notes both as reached.
pub async fn wait_for_cluster(client: &Client, readiness: &Readiness) {
    let mut told = Told::default();
    while let Err(error) = client.apiserver_version().await {
        told.once(&format!("{}; trying again", explain(&error)));
        sleep(AGAIN).await;
    }
    readiness.reached(Startup::ApiServer);
    while let Some(missing) = missing_kinds(client).await {
        told.once(&format!("{missing}; trying again"));
        sleep(AGAIN).await;
    }
    readiness.reached(Startup::CustomResources);
}

/// What keeps our kinds from being served, in words; `None` when nothing does.
pub async fn missing_kinds(client: &Client) -> Option<String> {
    let group_version = SpecializationRun::api_version(&());
    let wanted = [SpecializationRun::plural(&()), RolloutBatch::plural(&())];
    // Discovery is open to every service account, unlike a look at the definitions themselves.
    let served = match client.list_api_group_resources(&group_version).await {
        Ok(list) => list.resources,
        Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
        Err(error) => return Some(explain(&error)),
    };
    let missing: Vec<_> = wanted.iter().filter(|kind| !served.iter().any(|resource| resource.name == **kind)).collect();
    (!missing.is_empty()).then(|| {
        let names = missing.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" and ");
        format!("the cluster does not serve {names} of {group_version}: install the chart sera-operator-crds")
    })
}

/// Says a thing once while it stays true.
#[derive(Default)]
struct Told(Option<String>);

impl Told {
    fn once(&mut self, text: &str) {
        if self.0.as_deref() != Some(text) {
            tracing::error!("{text}");
            self.0 = Some(text.to_owned());
        }
    }
}
