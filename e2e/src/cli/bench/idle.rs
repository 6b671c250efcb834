//! What an operator costs that has nothing to do: as the chart starts it, with its election, and without a single run.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::DeleteParams;
use sera_e2e::cluster::Cluster;

use super::again::{LEASE, is_held};
use super::process::{Process, QUIET, Rest, until};

/// The flags of that operator.
pub(super) const FLAGS: [&str; 3] = ["--leader-elect=on", "--lease-namespace=default", QUIET];
/// How long it has for what it does at its start.
const SETTLE: Duration = Duration::from_secs(3);

/// Leaves an operator alone for so many seconds.
pub(super) async fn look(program: &Path, cluster: &Cluster, seconds: u32) -> Result<Rest> {
    let leases: Api<Lease> = Api::namespaced(cluster.client(), "default");
    let operator = Process::operator(program, &cluster.kubeconfig_path(), &FLAGS).await?;
    until("the operator leads", || is_held(&leases)).await?;
    tokio::time::sleep(SETTLE).await;
    let rest = operator.left_alone(seconds).await?;
    operator.end().await?;
    leases.delete(LEASE, &DeleteParams::default()).await?;
    Ok(rest)
}
