//! What a pass costs that finds nothing to do. Who becomes the leader looks at everything once; so the Lease is taken from the operator for a moment, and
//! the same process, which knows everything already, gets it back.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use sera_e2e::cluster::Cluster;
use serde_json::json;

use super::metrics::PassTimes;
use super::process::{Process, QUIET, until};

/// The flags of that operator. It notices sooner that the Lease is gone, and may ask as often as it likes; its passes are the same.
pub(super) const FLAGS: [&str; 6] =
    ["--leader-elect=on", "--lease-namespace=default", "--lease-retry-period=1s", "--qps=2000", "--burst=2000", QUIET];

/// How often everything is looked at.
const LOOKS: u32 = 5;
/// The Lease of an operator that is told no other name.
pub(super) const LEASE: &str = "sera-operator";
/// By which the Lease is renewed, and nothing else is written. How many of these there are is a matter of time.
const RENEWAL: &str = "PUT";
/// How long the operator is left alone before and after, so that what it still had to do is not counted, and what it did is.
const SETTLE: Duration = Duration::from_secs(3);

/// What those passes took.
pub(super) struct Again {
    /// How many there were.
    pub(super) passes: f64,
    /// How long they took.
    pub(super) times: PassTimes,
    /// How many requests the operator made in that time, but for renewals. The election reads too: without a run these are its own.
    pub(super) requests: f64,
}

/// Has a new operator look at `runs` runs again and again.
pub(super) async fn look(program: &Path, cluster: &Cluster, runs: u32) -> Result<Again> {
    let leases: Api<Lease> = Api::namespaced(cluster.client(), "default");
    let operator = Process::operator(program, &cluster.kubeconfig_path(), &FLAGS).await?;
    until("the operator leads", || is_held(&leases)).await?;
    passes_reach(&operator, f64::from(runs)).await?;
    tokio::time::sleep(SETTLE).await;

    let before = operator.metrics().await?;
    for look in 1..=LOOKS {
        take(&leases).await?;
        until("the operator leads again", || is_held(&leases)).await?;
        passes_reach(&operator, before.passes() + f64::from(runs * look)).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let after = operator.metrics().await?;
    operator.end().await?;
    leases.delete(LEASE, &DeleteParams::default()).await?;
    Ok(Again {
        passes: after.passes() - before.passes(),
        times: after.pass_times().since(&before.pass_times()),
        requests: after.requests_but(RENEWAL) - before.requests_but(RENEWAL),
    })
}

async fn passes_reach(operator: &Process, count: f64) -> Result<()> {
    until("every run was looked at", || async { Ok(operator.metrics().await?.passes() >= count) }).await
}

/// Removes the holder's name, as somebody might by hand: the leader steps down, and stands again.
async fn take(leases: &Api<Lease>) -> Result<()> {
    let nobody = Patch::Merge(json!({"spec": {"holderIdentity": null}}));
    leases.patch(LEASE, &PatchParams::default(), &nobody).await?;
    Ok(())
}

/// Whether somebody has the Lease.
pub(super) async fn is_held(leases: &Api<Lease>) -> Result<bool> {
    Ok(leases.get_opt(LEASE).await?.and_then(|lease| lease.spec?.holder_identity).is_some())
}
