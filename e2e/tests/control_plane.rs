//! The control plane that needs no root: it stands by itself, admits as a real cluster does, loses nothing when its API
//! server is killed, and leaves nothing however its owner ends. Tests of objects are elsewhere.

#[path = "support/home.rs"]
mod home;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use sera_e2e::cluster::{Cluster, Machine};
use tempfile::TempDir;

use home::{Home, PATIENCE, signal};

#[tokio::test]
async fn two_stand_side_by_side_and_leave_nothing() -> Result<()> {
    if !may_boot() {
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
    if !may_boot() {
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
    if !may_boot() {
        return Ok(());
    }
    let home = Home::new()?;
    let mut owner = home.spawn(&["bench", "boots"])?;
    home.until_processes(1)?;
    signal(&owner, Signal::SIGINT)?;
    owner.wait()?;
    ensure!(home.clusters() == 0 && home.processes().is_empty(), "{:?}", home.processes());
    Ok(())
}

#[test]
fn a_demo_that_is_stopped_says_how_to_go_on() -> Result<()> {
    let (home, folder) = (Home::new()?, TempDir::new()?);
    // In cargo's place: it takes long, and says so when whoever started it listens to signals for certain.
    let (cargo, begun) = (folder.path().join("cargo"), folder.path().join("begun"));
    let script = format!("#!/bin/sh\nsleep 0.5\necho $$ >'{}'\nexec sleep 60 >/dev/null 2>&1\n", begun.display());
    std::fs::write(&cargo, script)?;
    std::fs::set_permissions(&cargo, Permissions::from_mode(0o755))?;
    for (told, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut demo = home.command(&["demo"]);
        let demo = demo.env("CARGO", &cargo).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let start = Instant::now();
        let builder = loop {
            ensure!(start.elapsed() < PATIENCE, "the demo has built nothing");
            let said = std::fs::read_to_string(&begun).unwrap_or_default();
            if let Ok(pid) = said.trim().parse() {
                break Pid::from_raw(pid);
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        signal(&demo, told)?;
        let output = demo.wait_with_output()?;
        nix::sys::signal::kill(builder, Signal::SIGKILL)?;
        std::fs::remove_file(&begun)?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{told} ended it with {}: {words}", output.status);
        ensure!(words.contains("`cargo demo` goes on"), "{words}");
    }
    ensure!(home.clusters() == 0, "a cluster was booted");
    Ok(())
}

#[test]
fn what_a_killed_owner_leaves_is_swept_by_the_next_boot() -> Result<()> {
    if !may_boot() {
        return Ok(());
    }
    let home = Home::new()?;
    let mut owner = home.spawn(&["bench", "boots"])?;
    home.until_processes(2)?;
    signal(&owner, Signal::SIGKILL)?;
    owner.wait()?;
    let left = home.processes();
    ensure!(!left.is_empty(), "nothing was left to be swept");
    ensure!(text(&home.run(&["status"])?).contains("left behind"));

    home.run(&["up", "--control-plane-only", "--name", "next"])?;
    let there = home.processes();
    ensure!(left.iter().all(|process| !there.contains(process)), "{left:?} were left, {there:?} are there");
    ensure!(home.clusters() == 1);
    home.run(&["down", "--name", "next"])?;
    ensure!(home.clusters() == 0 && home.processes().is_empty(), "{:?}", home.processes());
    Ok(())
}

#[test]
fn the_command_line_boots_shows_uses_and_removes_a_cluster() -> Result<()> {
    if !may_boot() {
        return Ok(());
    }
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
    ensure!(home.clusters() == 0 && home.processes().is_empty(), "{:?}", home.processes());
    Ok(())
}

#[test]
fn what_the_command_line_does_not_take_is_named_and_every_command_has_its_help() -> Result<()> {
    let home = Home::new()?;
    for command in ["up", "down", "status", "logs", "kubeconfig", "load-image", "shell", "demo", "chaos", "bench"] {
        let help = home.run(&[command, "--help"])?;
        ensure!(text(&help).contains(&format!("Usage: cargo e2e {command}")), "{command}: {}", text(&help));
        if command != "shell" {
            let refused = home.command(&[command, "--no-such-flag"]).output()?;
            let words = String::from_utf8_lossy(&refused.stderr);
            let first = words.lines().next().unwrap_or_default();
            ensure!(refused.status.code() == Some(2) && first.contains("--no-such-flag"), "{command}: {words}");
            ensure!(words.contains("--help"), "{command} leads nowhere: {words}");
        }
    }
    for (line, word) in [
        (&["up", "--name", "Not_A_Name"][..], "Not_A_Name"),
        (&["load-image"], "<ARCHIVE>"),
        (&["logs", "--follow"], "<COMPONENT>"),
        (&["chaos", "--seed", "many"], "--seed"),
    ] {
        let refused = home.command(line).output()?;
        let words = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(2) && words.contains(word), "{line:?}: {words}");
    }
    for line in [&["load-image", "/no/such/archive"][..], &["logs", "etcd"], &["shell", "true"]] {
        let failed = home.command(line).output()?;
        let words = String::from_utf8_lossy(&failed.stderr);
        ensure!(failed.status.code() == Some(1) && words.trim().lines().count() == 1, "{line:?}: {words}");
        ensure!(words.contains("cargo e2e up"), "{line:?} does not say what to do: {words}");
    }
    ensure!(home.clusters() == 0, "a cluster was booted");
    Ok(())
}

/// Whether a cluster of our own may be booted: one that is there is used instead, and not broken.
fn may_boot() -> bool {
    let may = std::env::var_os("KUBECONFIG").is_none();
    if !may {
        eprintln!("left out, because it boots a cluster and KUBECONFIG is set");
    }
    may
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
