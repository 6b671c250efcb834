//! Pods that are lost: with their node, which says nothing any more, and by the kubelet that evicts them. The run says which, and what to do, and goes on
//! when that is done.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use sera_crds::conditions::ConditionType;
use sera_crds::run::RunStatus;
use sera_crds::values::Stage;
use sera_e2e::git_server::Behaviour;
use serde_json::{Value, json};

use super::ground::{Ground, message, reason, status};
use super::run::until_at_work;
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![Company::Welcome; a_pod_that_takes_more_disk_than_it_may_says_which_limit_to_raise];
pub(crate) const ASKED: &[Test] =
    tests![Company::Asked; a_pod_whose_node_is_lost_is_named_with_what_ends_it_and_the_run_goes_on];

/// Less than the folders take that a pod is given: the kubelet looks every ten seconds.
const LESS_THAN_ANYTHING: &str = "1Ki";
/// The one node, and what makes Kubernetes give up the pods of a node that has been shut down.
const OUT_OF_SERVICE: [&str; 4] = ["taint", "node", "node", "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"];
const BACK_IN_SERVICE: [&str; 4] = ["taint", "node", "node", "node.kubernetes.io/out-of-service-"];
/// A node that says it is well, and on which nothing may run: where all nodes are silent Kubernetes takes itself for the one that is cut off, and gives no pod
/// up. It has to say so every few seconds.
const ANOTHER: &str = "well";
const EVERY: Duration = Duration::from_secs(5);
/// Until a node counts as lost, its pod is to end and has had the time for it, and the operator has waited a minute more: three minutes.
const LOST_AND_SAID: Duration = Duration::from_mins(8);

async fn a_pod_that_takes_more_disk_than_it_may_says_which_limit_to_raise(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.git.set_behaviour(Behaviour::Hang);
    ground.apply_run("billing", json!({"pods": disk(LESS_THAN_ANYTHING)})).await?;
    let run = ground.until("billing", |status| reason(status, ConditionType::Stalled) == Some("OutOfDisk")).await?;
    let said = message(status(&run)?, ConditionType::Stalled);
    ensure!(said.starts_with("spec.pods.snapshot.resources.limits.ephemeral-storage: "), "it says {said:?}");
    ensure!(said.contains("exceed"), "what the kubelet says is not in {said:?}");

    ground.git.set_behaviour(Behaviour::Serve);
    ground.change_run("billing", json!({"pods": disk("1Gi")})).await?;
    ground.until_snapshotted("billing").await?;
    Ok(())
}

/// How much disk the pod of a snapshot may take.
fn disk(most: &str) -> Value {
    json!({"snapshot": {"resources": {"limits": {"ephemeral-storage": most}}}})
}

async fn a_pod_whose_node_is_lost_is_named_with_what_ends_it_and_the_run_goes_on(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(LOST_AND_SAID);
    ground.git.set_behaviour(Behaviour::Hang);
    let at_once = ["unreachable", "not-ready"].map(|what| {
        let key = format!("node.kubernetes.io/{what}");
        json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1})
    });
    ground.apply_run("billing", json!({"pods": {"snapshot": {"tolerations": at_once}}})).await?;
    let pod = until_at_work(&ground, Stage::Snapshot).await?;
    let cluster = ground.space.cluster().await?;
    let kubelet = cluster.component("kubelet")?;
    kubelet.stop()?;
    let named = tokio::select! {
        named = is_named_and_given_up(&ground, &pod) => named,
        Err(error) = another_is_well(&ground) => Err(error),
    };
    kubelet.cont()?;
    named?;
    cluster.kubectl(BACK_IN_SERVICE).await?;
    Api::<Node>::all(ground.space.client()).delete(ANOTHER, &DeleteParams::default()).await?;

    ground.git.set_behaviour(Behaviour::Serve);
    let run = ground.until_snapshotted("billing").await?;
    let said = status(&run)?;
    ensure!(said.attempts.get(&Stage::Snapshot) == Some(&1), "a lost node is no failure: {:?}", said.recent_failures);
    Ok(())
}

/// Makes the other node, and has it say that it is well for as long as it is polled.
async fn another_is_well(ground: &Ground) -> Result<Infallible> {
    let nodes: Api<Node> = Api::all(ground.space.client());
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": ANOTHER}, "spec": {"unschedulable": true},
    });
    nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await.context("no other node can be made")?;
    let began = Timestamp::now();
    loop {
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
            "lastHeartbeatTime": Timestamp::now(), "lastTransitionTime": began,
        });
        let status = Patch::Strategic(json!({"status": {"conditions": [ready]}}));
        nodes.patch_status(ANOTHER, &PatchParams::default(), &status).await.context("the other node cannot be well")?;
        tokio::time::sleep(EVERY).await;
    }
}

/// Waits until the run says what to do about the pod, and does it.
async fn is_named_and_given_up(ground: &Ground, pod: &str) -> Result<()> {
    let name = pod.to_owned();
    let is_said = move |status: &RunStatus| {
        let said = message(status, ConditionType::Reconciling);
        said.contains(&name) && said.contains("node.kubernetes.io/out-of-service")
    };
    ground.until("billing", is_said).await.context("the pod of a lost node is not named")?;
    ground.space.cluster().await?.kubectl(OUT_OF_SERVICE).await?;
    let is_gone = |pod: Option<&Pod>| pod.is_none();
    let gone = await_condition(ground.space.api::<Pod>(), pod, is_gone);
    tokio::time::timeout(LOST_AND_SAID, gone).await.context("the pod of a lost node stays")??;
    Ok(())
}
