//! `helm test`, as somebody runs it after an installation: it passes where everything works, says why where something does not, and leaves nothing. Nor
//! does `helm uninstall`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, DeleteParams, ListParams, LogParams};
use kube::core::object::HasStatus;
use kube::{Resource, ResourceExt};
use sera_crds::RolloutBatch;
use sera_e2e::cluster::Cluster;
use sera_e2e::platform::{NAMESPACE, RELEASE};
use sera_test_servers::{Conduct, S3Server};
use serde::de::DeserializeOwned;
use serde_json::json;
use tempfile::TempDir;

use super::ground::Ground;
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Alone;
    helm_test_passes_and_leaves_nothing_nor_does_helm_uninstall,
    helm_test_says_which_store_refuses_and_what_to_change,
    helm_test_that_is_killed_takes_its_batch_along,
];

/// The pod, and what belongs to it.
const POD: &str = "sera-operator-test";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sera-operator");

/// What is in the operator's own namespace.
fn api<K>(ground: &Ground) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(ground.space.client(), NAMESPACE)
}

async fn helm_test(ground: &Ground, timeout: &str) -> Result<String> {
    let arguments = ["test", RELEASE, "--namespace", NAMESPACE, "--logs", timeout];
    Ok(ground.space.cluster().await?.helm(arguments).await?)
}

/// Sets values of the release, and leaves all others as they are.
pub(super) async fn set(ground: &Ground, settings: &[&str]) -> Result<()> {
    let fixed = ["upgrade", RELEASE, CHART, "--namespace", NAMESPACE, "--reuse-values"];
    ground.space.cluster().await?.helm([&fixed, settings].concat()).await?;
    Ok(())
}

/// Waits until none is left of a kind whose names a self-test gives.
async fn until_none_is_left<K>(ground: &Ground) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut left = Vec::new();
    for _ in 0..300 {
        let there = api::<K>(ground).list(&ListParams::default()).await?.items;
        left = there.iter().map(ResourceExt::name_any).filter(|name| name.starts_with("self-test-")).collect();
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("of kind {} these are left: {left:?}", K::kind(&()))
}

async fn helm_test_passes_and_leaves_nothing_nor_does_helm_uninstall(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let told = helm_test(&ground, "--timeout=5m").await?;
    for part in
        ["the admission policy refuses", "PersistentVolumeClaim self-test-", "Verified=True", "passed: 2 samples, "]
    {
        ensure!(told.contains(part), "it does not say {part:?}: {told}");
    }
    until_none_is_left::<RolloutBatch>(&ground).await?;
    until_none_is_left::<Pod>(&ground).await?;
    until_none_is_left::<PersistentVolumeClaim>(&ground).await?;
    ensure!(api::<ServiceAccount>(&ground).get_opt(POD).await?.is_none(), "the test's account stays");
    ensure!(api::<Role>(&ground).get_opt(POD).await?.is_none(), "the test's rights stay");
    uninstall_and_install_again(&ground).await
}

async fn uninstall_and_install_again(ground: &Ground) -> Result<()> {
    let cluster = ground.space.cluster().await?;
    let folder = TempDir::new()?;
    let values = folder.path().join("values.yaml");
    let get = ["get", "values", RELEASE, "--namespace", NAMESPACE, "--output=yaml"];
    tokio::fs::write(&values, cluster.helm(get).await?).await?;
    cluster.helm(["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=2m"]).await?;
    let left = left_of_the_chart(ground).await;
    // The other tests need it, whatever was left.
    let values = format!("--values={}", values.display());
    cluster.helm(["install", RELEASE, CHART, "--namespace", NAMESPACE, &values, "--wait", "--timeout=3m"]).await?;
    let left = left?;
    ensure!(left.is_empty(), "of an uninstalled chart are left: {left:?}");
    Ok(())
}

/// What carries the chart's labels, wherever it is, and whatever else is in its namespace, when that is nothing or has had half a minute.
async fn left_of_the_chart(ground: &Ground) -> Result<BTreeSet<String>> {
    let cluster = ground.space.cluster().await?;
    let (all, in_namespaces) = (kinds(cluster, &[]).await?, kinds(cluster, &["--namespaced=true"]).await?);
    let labelled = format!("--selector=app.kubernetes.io/instance={RELEASE}");
    let names = ["--output=name", "--ignore-not-found"];
    let mut left = BTreeSet::new();
    for _ in 0..10 {
        let ours = cluster.kubectl([&["get", &all, "--all-namespaces", &labelled][..], &names].concat()).await?;
        let near = cluster.kubectl([&["get", &in_namespaces, "--namespace", NAMESPACE][..], &names].concat()).await?;
        let near = near.lines().filter(|name| !is_anybodys(name));
        left = ours.lines().chain(near).map(str::to_owned).collect();
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    Ok(left)
}

/// The kinds of objects that can be listed, but for Events, which are no objects of anybody's.
async fn kinds(cluster: &Cluster, which: &[&str]) -> Result<String> {
    let listed = cluster.kubectl([&["api-resources", "--verbs=list", "--output=name"][..], which].concat()).await?;
    let kinds: Vec<&str> = listed.lines().filter(|kind| !kind.starts_with("events")).collect();
    Ok(kinds.join(","))
}

/// Whether Kubernetes has put it into every namespace, or helm for the chart of the custom resources.
fn is_anybodys(name: &str) -> bool {
    ["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(&name)
        || name.starts_with("secret/sh.helm.release.v1.sera-operator-crds.")
}

/// A bucket whose keys are wrong: the store is there, and cannot be written.
async fn helm_test_says_which_store_refuses_and_what_to_change(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let host = ground.space.cluster().await?.host_ip().context("pods cannot reach this machine")?;
    let server = S3Server::start_at(host, Conduct::OneAtATime, false)?;
    let mut keys: serde_json::Map<String, serde_json::Value> =
        server.keys().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    keys.insert("AWS_SECRET_ACCESS_KEY".to_owned(), json!("another-secret-key"));
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "self-test-s3"}, "stringData": keys});
    ground.space.cluster().await?.apply_in(NAMESPACE, &secret.to_string()).await?;
    let store = format!("--set=test.store={}", server.uri("runs"));
    set(&ground, &[&store, "--set=test.storeCredentialsSecret=self-test-s3"]).await?;
    let outcome = helm_test(&ground, "--timeout=5m").await;
    set(&ground, &["--set=test.store=", "--set=test.storeCredentialsSecret="]).await?;
    api::<Secret>(&ground).delete("self-test-s3", &DeleteParams::default()).await?;

    ensure!(outcome.is_err(), "it passed: {outcome:?}");
    let told = api::<Pod>(&ground).logs(POD, &LogParams::default()).await?;
    let last = told.lines().last().unwrap_or_default();
    ensure!(last.starts_with("failed: Store") && last.contains("test.store"), "it ends in other words: {told}");
    ensure!(last.contains("credentials"), "it does not say what is wrong: {told}");
    ensure!(!told.contains("another-secret-key"), "the key is in the log");
    until_none_is_left::<RolloutBatch>(&ground).await
}

async fn helm_test_that_is_killed_takes_its_batch_along(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let kill = async {
        for _ in 0..600 {
            let batches = api::<RolloutBatch>(&ground).list(&ListParams::default()).await?.items;
            if batches.iter().any(|batch| batch.name_any().starts_with("self-test-") && batch.status().is_some()) {
                let at_once = DeleteParams::default().grace_period(0);
                api::<Pod>(&ground).delete(POD, &at_once).await?;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the test has made no batch that the operator has seen")
    };
    // Helm waits for a pod that is gone until its time is over.
    let (_, killed) = tokio::join!(helm_test(&ground, "--timeout=20s"), kill);
    killed?;
    until_none_is_left::<RolloutBatch>(&ground).await?;
    until_none_is_left::<PersistentVolumeClaim>(&ground).await
}
