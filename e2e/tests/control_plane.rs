//! The control plane that needs no root: it stands by itself, admits as a real cluster does, loses nothing when its API
//! server is killed, and leaves nothing however its owner ends. Tests of objects are elsewhere.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sera_e2e::cluster::{Cluster, Machine};
use tempfile::TempDir;

/// How long to wait for what takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn two_stand_side_by_side_and_leave_nothing() -> Result<()> {
    if has_kubeconfig() {
        return Ok(());
    }
    let before = Machine::look();
    let (one, other) = tokio::try_join!(Cluster::control_plane(), Cluster::control_plane())?;
    create(&one, "mine").await?;
    ensure!(config_maps(&one).get_opt("mine").await?.is_some());
    ensure!(config_maps(&other).get_opt("mine").await?.is_none(), "two clusters share their objects");
    one.down().await?;
    ensure!(other.is_ready().await, "one went down with the other");
    other.down().await?;
    let left = Machine::look().leftovers_since(&before);
    ensure!(left.lines().is_empty(), "{:#?}", left.lines());
    Ok(())
}

#[tokio::test]
async fn it_admits_and_refuses_as_a_real_cluster_does() -> Result<()> {
    let cluster = Cluster::control_plane().await?;
    let unknown_field = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: strict}\ndatum: {}\n";
    refused(&cluster, unknown_field, "unknown field \"datum\"").await?;

    let anybody = ["auth", "can-i", "create", "pods", "--as=somebody"];
    ensure!(cluster.kubectl(anybody).await.is_err(), "a user without a role may create pods");

    cluster
        .apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: strict, labels: {pod-security.kubernetes.io/enforce: restricted}}\n")
        .await?;
    let careless = "apiVersion: v1\nkind: Pod\nmetadata: {name: careless, namespace: strict}\nspec: {containers: [{name: a, image: b}]}\n";
    refused(&cluster, careless, "violates PodSecurity").await?;

    let policy = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-secrets-of-this-name}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}
  validations: [{expression: "object.metadata.name != 'forbidden'", message: the name is forbidden}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-secrets-of-this-name}
spec: {policyName: no-secrets-of-this-name, validationActions: [Deny]}
"#;
    cluster.apply(policy).await?;
    let forbidden = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: forbidden}\n";
    let start = Instant::now();
    // A policy is in force some moments after it was stored.
    while refused(&cluster, forbidden, "the name is forbidden").await.is_err() {
        ensure!(start.elapsed() < PATIENCE, "the policy never came into force");
        cluster.kubectl(["delete", "configmap", "forbidden", "--ignore-not-found"]).await?;
    }
    cluster.down().await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_api_server_comes_back_with_its_objects() -> Result<()> {
    if has_kubeconfig() {
        return Ok(());
    }
    let cluster = Cluster::control_plane().await?;
    create(&cluster, "kept").await?;
    let server = cluster.component("kube-apiserver")?;
    server.kill()?;
    ensure!(!server.is_running() && !cluster.is_ready().await, "it was killed, and answers");
    server.restart()?;
    let start = Instant::now();
    while !cluster.is_ready().await {
        ensure!(start.elapsed() < PATIENCE, "it did not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(config_maps(&cluster).get_opt("kept").await?.is_some());
    ensure!(cluster.component("nobody").is_err_and(|error| error.to_string().contains("kube-apiserver")));
    cluster.down().await?;
    Ok(())
}

#[test]
fn an_interrupted_owner_takes_its_cluster_down() -> Result<()> {
    let home = Home::new()?;
    let mut owner = home.spawn(&["bench", "boots"])?;
    home.until_components(1)?;
    signal(&owner, Signal::SIGINT)?;
    owner.wait()?;
    ensure!(home.clusters()? == 0 && home.processes().is_empty(), "{:?}", home.processes());
    Ok(())
}

#[test]
fn what_a_killed_owner_leaves_is_swept_by_the_next_boot() -> Result<()> {
    let home = Home::new()?;
    let mut owner = home.spawn(&["bench", "boots"])?;
    home.until_components(2)?;
    signal(&owner, Signal::SIGKILL)?;
    owner.wait()?;
    let left = home.processes();
    ensure!(!left.is_empty(), "nothing was left to be swept");
    ensure!(text(&home.run(&["status"])?).contains("left behind"));

    home.run(&["up", "--control-plane-only", "--name", "next"])?;
    let there = home.processes();
    ensure!(left.iter().all(|process| !there.contains(process)), "{left:?} were left, {there:?} are there");
    ensure!(home.clusters()? == 1);
    home.run(&["down", "--name", "next"])?;
    ensure!(home.clusters()? == 0 && home.processes().is_empty(), "{:?}", home.processes());
    Ok(())
}

#[test]
fn the_command_line_boots_shows_uses_and_removes_a_cluster() -> Result<()> {
    let home = Home::new()?;
    let missing = home.command(&["kubeconfig"]).output()?;
    let complaint = String::from_utf8_lossy(&missing.stderr);
    ensure!(!missing.status.success() && complaint.contains("cargo e2e up"), "{complaint}");
    ensure!(complaint.trim().lines().count() == 1, "{complaint}");

    let up = home.run(&["up", "--control-plane-only"])?;
    ensure!(text(&up).starts_with("export KUBECONFIG="));
    home.run(&["up", "--control-plane-only"])?;
    let status = text(&home.run(&["status"])?);
    ensure!(status.contains("default") && status.contains("3 running"), "{status}");
    let names = text(&home.run(&["shell", "kubectl", "get", "namespaces", "--output=name"])?);
    ensure!(names.contains("namespace/kube-system"), "{names}");
    ensure!(home.command(&["shell", "sh", "-c", "exit 7"]).status()?.code() == Some(7));
    ensure!(text(&home.run(&["logs"])?).contains("kube-apiserver.log"));
    ensure!(!home.run(&["logs", "kube-apiserver"])?.stdout.is_empty());
    let kubeconfig = text(&home.run(&["kubeconfig"])?);
    ensure!(Path::new(kubeconfig.trim()).is_file());
    home.run(&["down"])?;
    ensure!(home.clusters()? == 0 && home.processes().is_empty(), "{:?}", home.processes());
    Ok(())
}

/// A user of the command line, with a state folder apart from everybody else's.
struct Home {
    state: TempDir,
}

impl Home {
    fn new() -> Result<Self> {
        Ok(Self { state: TempDir::with_prefix("e2e-")? })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sera-e2e"));
        command.args(arguments).env("SERA_STATE_DIR", self.state.path()).env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    fn spawn(&self, arguments: &[&str]) -> Result<std::process::Child> {
        Ok(self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?} ended with {}: {complaint}", output.status);
        Ok(output)
    }

    /// Files that stand for clusters.
    fn clusters(&self) -> Result<usize> {
        let clusters = self.state.path().join("clusters");
        Ok(if clusters.exists() {
            clusters.read_dir()?.filter_map(Result::ok).filter(|entry| entry.path().is_dir()).count()
        } else {
            0
        })
    }

    /// The processes of this user's clusters: those whose environment names the state folder, but for the command line's own.
    fn processes(&self) -> Vec<String> {
        let mark = format!("SERA_E2E_CLUSTER={}", self.state.path().display());
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let marked = entries.filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&mark)
        });
        marked.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn until_components(&self, count: usize) -> Result<()> {
        let start = Instant::now();
        while self.processes().len() < count {
            ensure!(start.elapsed() < PATIENCE, "no cluster came");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A test that failed half-way leaves nothing either.
        for name in ["default", "next"] {
            let _ = self.command(&["down", "--name", name]).output();
        }
    }
}

fn has_kubeconfig() -> bool {
    std::env::var_os("KUBECONFIG").is_some()
}

fn signal(owner: &std::process::Child, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(owner.id())?), signal)?)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn config_maps(cluster: &Cluster) -> Api<ConfigMap> {
    Api::default_namespaced(cluster.client())
}

async fn create(cluster: &Cluster, name: &str) -> Result<()> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let object = ConfigMap { metadata, ..ConfigMap::default() };
    config_maps(cluster).create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn refused(cluster: &Cluster, manifest: &str, because: &str) -> Result<()> {
    let error = cluster.apply(manifest).await.err().with_context(|| format!("taken, but {because}"))?;
    ensure!(error.to_string().contains(because), "{error}");
    Ok(())
}
