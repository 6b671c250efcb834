//! `cargo demo`: from nothing to an operator at work on a real cluster. Each step finds what an earlier demo left and goes on from there; how a
//! step is done is the business of the modules that it calls.

mod example;
mod programs;
mod repository;
mod watch;

use std::path::Path;

use kube::Api;
use sera_crds::SpecializationRun;
use sera_crds::run::{RunStatus, ServingStatus};

use crate::cluster::{Cluster, ClusterError, ClusterName, Shape, ToolError, last_words};
use crate::images::{self, Image};
use crate::platform::{self, PlatformError};
use crate::progress::Progress;
use watch::End;

/// Where the demo's run lives.
const NAMESPACE: &str = "sera-demo";
/// What a run is made of, as kubectl names it.
const MADE_OF: &str = "specializationruns,rolloutbatches,jobs,deployments,services";
/// What is said where the demo is stopped before there is a cluster that could stay.
const STOPPED_EARLY: &str =
    "Stopped. What is built stays, and a cluster that was not up yet does not: `cargo demo` goes on from there.";

/// Why the demo ended early. Running it again goes on from where it was.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A program was not built.
    #[error(transparent)]
    Build(#[from] programs::BuildError),
    /// An image was not built.
    #[error(transparent)]
    Image(#[from] images::ImageError),
    /// The operator was not installed.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The example cannot be applied.
    #[error(transparent)]
    Example(#[from] example::ExampleError),
    /// There is no repository to specialise to.
    #[error(transparent)]
    Repository(#[from] repository::RepositoryError),
    /// kubectl said no.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The run could not be read.
    #[error("cannot read the run")]
    Read(#[from] kube::Error),
    /// Pods cannot reach this machine.
    #[error("cannot tell at which address the cluster's pods reach this machine: set SERA_HOST_IP to it")]
    NoHostAddress,
    /// The run needs somebody's help.
    #[error("the run is stalled, {reason}: {message}")]
    Stalled {
        /// Why, in one word.
        reason: String,
        /// Why, and what to do.
        message: String,
    },
}

/// Runs the demo to the end of what this release can do, and leaves the cluster up. So does Ctrl-C, which says how to go on.
pub async fn run(progress: &Progress) -> Result<(), DemoError> {
    last_words(STOPPED_EARLY);
    programs::build().await?;
    let (cluster, _) = Cluster::up(ClusterName::unnamed(), Shape::Node, progress).await?;
    let (kubeconfig, is_ours) = (cluster.kubeconfig_path(), cluster.is_ours());
    last_words(stopped(&kubeconfig, is_ours, None));
    progress.step("building the images");
    let archives = images::build(&Image::ALL, progress).await?;
    platform::install(&cluster, &archives, &[], progress).await?;

    let address = cluster.host_ip().ok_or(DemoError::NoHostAddress)?;
    let (_server, url) = repository::serve(address).await?;
    let example = example::of_repository(&url, NAMESPACE)?;
    progress.step("applying examples/quickstart-rehearsal.yaml");
    cluster.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n")).await?;
    cluster.apply(&example.manifests).await?;
    last_words(stopped(&kubeconfig, is_ours, Some(&example.run)));
    progress.finish(format!("{NAMESPACE}/{} specialises a student to {url}", example.run));

    let runs: Api<SpecializationRun> = Api::namespaced(cluster.client(), NAMESPACE);
    match watch::until_the_end(&runs, &example.run).await? {
        End::Ready(status) => {
            println!("\nThe run is Ready.\n{}", where_things_are(&status));
            if let Some(serving) = &status.serving {
                println!("\n{}", how_to_ask(&kubeconfig, serving));
            }
        }
        End::NotImplemented(status, message) => {
            println!("\nThis is as far as this release goes: {message}\n{}", where_things_are(&status));
        }
        End::Stalled { reason, message } => return Err(DemoError::Stalled { reason, message }),
    }
    let listed = cluster.kubectl(["get", MADE_OF, "--namespace", NAMESPACE]).await?;
    println!("\nWhat there is in {NAMESPACE}:\n{}", listed.trim_end());
    println!("\n{}", afterwards(&kubeconfig, is_ours, Some(&example.run)));
    Ok(())
}

/// Where the artifacts lie, a line each.
fn where_things_are(status: &RunStatus) -> String {
    let artifacts = status.artifacts.clone().unwrap_or_default();
    let mut lines: Vec<(&str, String)> = Vec::new();
    if let Some(snapshot) = artifacts.snapshot {
        lines.push((
            "snapshot",
            format!("{} (commits: {}, newest {})", snapshot.uri, snapshot.commits, snapshot.commit),
        ));
    }
    let others = [("dataset", artifacts.dataset), ("model", artifacts.model), ("report", artifacts.report)];
    lines.extend(others.into_iter().filter_map(|(what, artifact)| Some((what, artifact?.uri))));
    if let Some(serving) = &status.serving {
        lines.push(("served at", format!("{} as '{}'", serving.url, serving.model)));
    }
    lines.iter().map(|(what, place)| format!("  {what:<9} {place}")).collect::<Vec<_>>().join("\n")
}

/// A question to the student that can be pasted.
fn how_to_ask(kubeconfig: &Path, serving: &ServingStatus) -> String {
    let service = serving.url.trim_start_matches("http://").split('.').next().unwrap_or_default();
    let question = serde_json::json!({
        "model": serving.model, "max_tokens": 32, "messages": [{"role": "user", "content": "What does a signer do?"}],
    });
    format!(
        "Ask the student:\n  KUBECONFIG={} kubectl -n {NAMESPACE} port-forward svc/{service} 8000 &\n  curl -s http://127.0.0.1:8000/v1/chat/completions \
         -H 'content-type: application/json' -d '{question}'",
        kubeconfig.display()
    )
}

/// What is said where the demo is stopped on its way: how to go on, and what stays.
fn stopped(kubeconfig: &Path, is_ours: bool, run: Option<&str>) -> String {
    let meanwhile = match run {
        Some(_) => {
            " The run goes on without it, but a snapshot that it has not yet waits: nobody serves the repository."
        }
        None => "",
    };
    format!("Stopped: `cargo demo` goes on from here.{meanwhile}\n{}", afterwards(kubeconfig, is_ours, run))
}

/// What stays, how to look at it, and how to take it down where it is ours.
fn afterwards(kubeconfig: &Path, is_ours: bool, run: Option<&str>) -> String {
    let what = match run {
        Some(run) => format!("-n {NAMESPACE} describe srun {run}"),
        None => "get pods --all-namespaces".to_owned(),
    };
    let look = format!("  look at it:   KUBECONFIG={} kubectl {what}", kubeconfig.display());
    match run {
        _ if is_ours => {
            let told = run.map(|run| format!("   (and there: kubectl sera -n {NAMESPACE} status {run})"));
            let shell = format!("cargo e2e shell{}", told.unwrap_or_default());
            format!("The cluster stays up.\n{look}\n  in a shell:   {shell}\n  take it down: cargo e2e down")
        }
        Some(_) => format!("The operator stays in namespace {}, the run in {NAMESPACE}.\n{look}", platform::NAMESPACE),
        None => format!("What is installed of the operator stays in namespace {}.\n{look}", platform::NAMESPACE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stops_it_is_told_how_to_go_on_look_and_take_it_down() {
        let kubeconfig = Path::new("/state/default/kubeconfig");
        let ours = stopped(kubeconfig, true, Some("quickstart"));
        for expected in [
            "cargo demo",
            "KUBECONFIG=/state/default/kubeconfig kubectl -n sera-demo describe srun quickstart",
            "cargo e2e shell   (and there: kubectl sera -n sera-demo status quickstart)",
            "cargo e2e down",
        ] {
            assert!(ours.contains(expected), "{expected:?} is not among {ours}");
        }
        let early = stopped(kubeconfig, true, None);
        assert!(early.contains("get pods") && !early.contains("srun"), "there is no run yet: {early}");
    }

    #[test]
    fn nobody_is_told_to_take_down_a_cluster_that_is_not_ours() {
        for run in [None, Some("quickstart")] {
            let theirs = stopped(Path::new("/home/ada/.kube/config"), false, run);
            assert!(theirs.contains("sera-system") && !theirs.contains("cargo e2e"), "{theirs}");
        }
    }
}
