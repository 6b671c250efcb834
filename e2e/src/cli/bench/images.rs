//! `cargo e2e bench images`: how large each image is, and how long it takes from a pod's creation to its program's first word, with the image on the node
//! already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::runtime::wait::await_condition;
use sera_e2e::cluster::{BUSYBOX_IMAGE, Cluster};
use sera_e2e::images::{self, Image};
use sera_e2e::progress::Progress;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::process::{build_kind, until};

/// How long a pod may take.
const PATIENCE: Duration = Duration::from_mins(2);
const MIB: f64 = 1024.0 * 1024.0;
/// What stands for a size that is not to be had.
const NOT_THERE: &str = "-";

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// How many pods of each image, one after the other
    #[arg(long, default_value_t = 5)]
    pods: u32,
}

/// An image, and what it is asked to say.
struct Subject {
    name: &'static str,
    reference: String,
    /// The archive that it was loaded from; busybox is part of the node.
    archive: Option<PathBuf>,
    /// The program that is in it, where it is one of ours.
    program: Option<PathBuf>,
    /// The pod's command, where it is not the image's own, and its arguments.
    command: Option<&'static str>,
    argument: &'static str,
}

pub(super) async fn run(Images { pods }: Images) -> Result<ExitCode> {
    ensure!(pods > 0, "no pods, no times: --pods takes 1 or more");
    let cluster = Cluster::with_node().await?;
    let subjects = load(&cluster).await?;
    let sizes = sizes(&cluster, &subjects).await?;
    let api: Api<Pod> = Api::namespaced(cluster.client(), "default");
    println!("{} build; sizes in MiB; times in s, of {pods} pods one after the other", build_kind());
    println!(
        "{:<18} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "image", "program", "image", "gzip", "median", "least", "most"
    );
    for subject in &subjects {
        let program = subject.program.as_deref().map_or(Ok(NOT_THERE.to_owned()), length)?;
        let gzip = match &subject.archive {
            Some(archive) => mib(compressed(archive).await?),
            None => NOT_THERE.to_owned(),
        };
        let mut times = Vec::new();
        for _ in 0..pods {
            times.push(first_word(&api, subject).await?.as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let [least, median, most] = [0, times.len() / 2, times.len() - 1].map(|place| times[place]);
        let size = sizes.get(&subject.reference).copied().map_or(NOT_THERE.to_owned(), mib);
        println!("{:<18} {program:>8} {size:>8} {gzip:>8} {median:>8.2} {least:>8.2} {most:>8.2}", subject.name);
    }
    cluster.down().await?;
    Ok(ExitCode::SUCCESS)
}

/// Has the node hold every image. Busybox is there to say what any pod takes.
async fn load(cluster: &Cluster) -> Result<Vec<Subject>> {
    cluster.load_busybox().await?;
    let busybox = Subject {
        name: "busybox",
        reference: BUSYBOX_IMAGE.to_owned(),
        archive: None,
        program: None,
        command: Some("echo"),
        argument: "here",
    };
    let mut subjects = vec![busybox];
    for archive in images::build(&Image::ALL, &Progress::console()).await? {
        cluster.load_image(&archive.path).await?;
        // The environment has no program of ours: a shell, and what a repository needs.
        let is_environment = archive.image == Image::Environment;
        subjects.push(Subject {
            name: archive.image.name(),
            reference: archive.reference,
            archive: Some(archive.path),
            program: if is_environment { None } else { Some(images::program(archive.image)?) },
            command: is_environment.then_some("git"),
            argument: "--version",
        });
    }
    Ok(subjects)
}

/// How many bytes the node's runtime says that each image has, by its name. A node tells about its images every few seconds.
async fn sizes(cluster: &Cluster, subjects: &[Subject]) -> Result<BTreeMap<String, u64>> {
    let nodes: Api<Node> = Api::all(cluster.client());
    let told = async || {
        let nodes = nodes.list(&ListParams::default()).await?;
        let images = nodes.items.into_iter().filter_map(|node| node.status?.images).flatten();
        let named = images.flat_map(|image| {
            let size = image.size_bytes.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
            image.names.unwrap_or_default().into_iter().map(move |name| (name, size))
        });
        anyhow::Ok(named.collect::<BTreeMap<_, _>>())
    };
    let knows_all = async || {
        let told = told().await?;
        anyhow::Ok(subjects.iter().all(|subject| told.contains_key(&subject.reference)))
    };
    until("the node tells about its images", knows_all).await?;
    told().await
}

/// How long it takes from the creation of a pod until its program has said something, by the time that the runtime writes beside what it says.
async fn first_word(pods: &Api<Pod>, subject: &Subject) -> Result<Duration> {
    let mut container = json!({
        "name": "main", "image": subject.reference, "imagePullPolicy": "Never", "args": [subject.argument],
    });
    if let Some(command) = subject.command {
        container["command"] = json!([command]);
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": subject.name},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": false, "containers": [container]},
    });
    let begun = Timestamp::now();
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let ended = |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let waited = tokio::time::timeout(PATIENCE, await_condition(pods.clone(), subject.name, ended)).await;
    waited.with_context(|| format!("the pod of {} did not end within {PATIENCE:?}", subject.name))??;
    let said = pods.logs(subject.name, &LogParams { timestamps: true, ..LogParams::default() }).await?;
    let at = said.split_once(' ').and_then(|(at, _)| at.parse::<Timestamp>().ok());
    let at = at.with_context(|| format!("the pod of {} has said nothing that has a time: {said:?}", subject.name))?;
    pods.delete(subject.name, &DeleteParams::default().grace_period(0)).await?;
    until("the pod is gone", async || Ok(pods.get_opt(subject.name).await?.is_none())).await?;
    Ok(Duration::try_from(at.duration_since(begun))?)
}

/// How many bytes gzip makes of a file: what a registry would hold of it, and a node fetch.
async fn compressed(file: &Path) -> Result<u64> {
    let mut gzip = Command::new("gzip");
    gzip.arg("--stdout").arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut gzip = gzip.spawn().context("cannot run gzip")?;
    let mut output = gzip.stdout.take().context("gzip has no output")?;
    let (mut length, mut chunk) = (0_u64, vec![0; 1 << 16]);
    loop {
        let count = output.read(&mut chunk).await?;
        if count == 0 {
            break;
        }
        length += count as u64;
    }
    let status = gzip.wait().await?;
    ensure!(status.success(), "gzip has ended with {status}");
    Ok(length)
}

fn length(file: &Path) -> Result<String> {
    Ok(mib(std::fs::metadata(file)?.len()))
}

#[allow(clippy::cast_precision_loss)] // a file of so many bytes is none of ours
fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB)
}
