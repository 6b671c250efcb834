//! The faults that tests inflict on a cluster of ours, shown to be felt and to pass.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use tokio::time::timeout;

use crate::company::Company;
use crate::house::{PATIENCE, Space, Test, tests};

/// The one node of a cluster of ours.
const NODE: &str = "node";
/// Longer than a node is given that does not report: 20 s, and some moments to be noticed.
const LONGER_THAN_A_NODE_LASTS: Duration = Duration::from_secs(30);

pub(crate) const TESTS: &[Test] = tests![Company::Alone;
    a_killed_api_server_is_felt_and_comes_back_with_its_objects,
    a_stopped_kubelet_loses_its_node_and_gets_it_back,
];

async fn a_killed_api_server_is_felt_and_comes_back_with_its_objects(space: Space) -> Result<()> {
    let cluster = space.cluster().await?;
    let objects: Api<ConfigMap> = space.api();
    let object = serde_json::from_value(serde_json::json!({"metadata": {"name": "kept"}, "data": {"a": "1"}}))?;
    objects.create(&PostParams::default(), &object).await?;
    let server = cluster.component("kube-apiserver")?;
    server.kill()?;
    ensure!(!server.is_running(), "it was killed, and runs");
    ensure!(!cluster.is_ready().await, "it was killed, and answers");
    server.restart()?;
    until_ready(&space).await?;
    let kept = objects.get("kept").await?;
    ensure!(kept.data.is_some_and(|data| data.get("a").is_some_and(|value| value == "1")));
    Ok(())
}

async fn a_stopped_kubelet_loses_its_node_and_gets_it_back(space: Space) -> Result<()> {
    let cluster = space.cluster().await?;
    let nodes: Api<Node> = Api::all(space.client());
    let lost = timeout(PATIENCE, await_condition(nodes.clone(), NODE, |node: Option<&Node>| !is_ready(node)));
    let (paused, lost) = tokio::join!(cluster.pause_kubelet(LONGER_THAN_A_NODE_LASTS), lost);
    paused?;
    lost??;
    timeout(PATIENCE, await_condition(nodes, NODE, is_ready)).await??;
    Ok(())
}

async fn until_ready(space: &Space) -> Result<()> {
    let start = Instant::now();
    while !space.cluster().await?.is_ready().await {
        ensure!(start.elapsed() < PATIENCE, "the API server did not come back in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn is_ready(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}
