//! What becomes of the lead when an operator is told to end in the middle of a run, on a real API server: it ends at once and in order, and the one that
//! stands by goes on without waiting for the lease to expire. How an election goes when messages are lost is the business of the operator's own tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{batch::v1::Job, coordination::v1::Lease};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sera_crds::SpecializationRun;
use sera_crds::run::Phase;
use sera_e2e::{ask, cluster::Cluster, paths, platform};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// How long to wait for what takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long an operator may take to end.
const TO_END: Duration = Duration::from_secs(2);
/// How long the lead may be vacant: those that stand by look every two seconds, and a lease that nobody gives up expires after fifteen.
const TO_TAKE_OVER: Duration = Duration::from_secs(5);
const NAMESPACE: &str = "handover";

const RUN: &str = r#"
apiVersion: sera.dev/v1alpha1
kind: SpecializationRun
metadata: {name: billing, namespace: handover}
spec:
  source: {git: {url: "https://git.example/acme/billing.git"}}
  teacher: {rehearsal: {}}
  generation: {acceptedTrajectories: 8}
  training: {student: {uri: "builtin://tiny"}, gpusPerNode: 0}
  serve: {engine: builtin}
  output: {store: "s3://acme-ml/sera"}
"#;

#[tokio::test]
async fn a_leader_that_is_told_to_end_is_gone_within_two_seconds_and_the_one_that_stands_by_goes_on_with_its_run()
-> Result<()> {
    if std::env::var_os("KUBECONFIG").is_some() {
        eprintln!("left out, because it boots a cluster and KUBECONFIG is set");
        return Ok(());
    }
    let cluster = Cluster::control_plane().await?;
    platform::define_kinds(&cluster).await?;
    cluster.kubectl(["create", "namespace", NAMESPACE]).await?;
    let (runs, jobs): (Api<SpecializationRun>, Api<Job>) = (namespaced(&cluster), namespaced(&cluster));
    let leader = Operator::start(&cluster, "first").await?;
    until("the first operator leads", async || holder(&cluster).await.starts_with("first_")).await?;
    let heir = Operator::start(&cluster, "second").await?;
    cluster.apply(RUN).await?;
    until("the run is at work", async || job_of(&jobs).await.is_some()).await?;
    let job = job_of(&jobs).await;
    ensure!(holder(&cluster).await.starts_with("first_"), "both lead");

    let vacant = Instant::now();
    leader.ends_when_told().await?;
    let left = holder(&cluster).await;
    ensure!(!left.starts_with("first_"), "the lease is {left}'s still");
    until("the second operator leads", async || holder(&cluster).await.starts_with("second_")).await?;
    let vacant = vacant.elapsed();
    ensure!(vacant < TO_TAKE_OVER, "nobody led for {vacant:?}");
    ensure!(job.is_some() && job_of(&jobs).await == job, "the new leader makes work of its own");

    let suspended = json!({"spec": {"suspend": true}});
    runs.patch("billing", &PatchParams::default(), &Patch::Merge(suspended)).await?;
    let is_suspended = async || {
        let run = runs.get("billing").await.ok().and_then(|run| run.status);
        run.is_some_and(|status| status.phase == Some(Phase::Suspended))
    };
    until("the second operator does as its owner says", is_suspended).await?;
    heir.ends_when_told().await?;
    ensure!(holder(&cluster).await.is_empty(), "the lease is left to expire");
    println!("the lead was vacant for {:.1} s", vacant.as_secs_f32());
    cluster.down().await?;
    Ok(())
}

/// An operator as a process of this machine, as the chart starts it; killed when it is dropped.
struct Operator(Child);

impl Operator {
    /// Starts one in a pod of this name, and waits until it says that it is ready.
    async fn start(cluster: &Cluster, pod: &str) -> Result<Self> {
        let program = paths::program("sera-operator")?;
        let address: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
        let mut command = Command::new(&program);
        command
            .env("KUBECONFIG", cluster.kubeconfig_path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command.args(["--leader-elect=on", "--rollout-image=localhost/sera-rollout:handover"]);
        command.args([format!("--lease-namespace={NAMESPACE}"), format!("--namespaces={NAMESPACE}")]);
        command.args([format!("--pod-name={pod}"), format!("--listen={address}")]);
        let child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        until("an operator is ready", async || ask::get(address, "/readyz").await.is_ok()).await?;
        Ok(Self(child))
    }

    async fn ends_when_told(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.0.id().context("it has ended by itself")?.try_into()?);
        let told = Instant::now();
        kill(pid, Signal::SIGTERM)?;
        let status = self.0.wait().await?;
        let took = told.elapsed();
        ensure!(status.success(), "it ended with {status}");
        ensure!(took < TO_END, "it took {took:?} to end");
        Ok(())
    }
}

fn namespaced<K>(cluster: &Cluster) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(cluster.client(), NAMESPACE)
}

/// Who holds the lease; nobody where there is none.
async fn holder(cluster: &Cluster) -> String {
    let leases: Api<Lease> = namespaced(cluster);
    let lease = leases.get_opt("sera-operator").await.ok().flatten();
    lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default()
}

/// The uid of the one Job; none while there is none, or another beside it.
async fn job_of(jobs: &Api<Job>) -> Option<String> {
    let listed = jobs.list(&ListParams::default()).await.ok()?.items;
    let [job] = listed.as_slice() else { return None };
    job.uid()
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so().await {
        ensure!(start.elapsed() < PATIENCE, "{PATIENCE:?} were not enough until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
