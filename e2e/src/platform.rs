//! sera-operator on a cluster, as a platform team puts it there: images loaded, both charts installed by helm. What is applied to it
//! afterwards is the tests' and the demo's.

use std::path::Path;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};

use crate::cluster::{Cluster, ImageError as LoadError, ToolError};
use crate::images::{Image, ImageArchive};
use crate::progress::Progress;

/// The namespace that the operator is installed in.
pub const NAMESPACE: &str = "sera-system";
/// The Helm release of the operator, which is also the name of its Deployment, `ServiceAccount` and Lease.
pub const RELEASE: &str = "sera-operator";

const CRDS_RELEASE: &str = "sera-operator-crds";
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/manifests");
/// The folder of the charts.
pub(crate) const CHARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts");
/// Helm waits this long for the Deployment: images are loaded already, so this is many times what it takes on a busy machine.
const READY_WITHIN: &str = "--timeout=3m";
/// What helm says where another one is at the release.
const BUSY: &str = "another operation";
/// How often it is asked again then, and how many times: for as long as the other one may wait.
const ASK_AGAIN: (Duration, usize) = (Duration::from_secs(2), 90);

/// Why the operator is not on the cluster.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// An image was not taken.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// helm or kubectl said no.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// Has a cluster know the project's kinds, as they are generated, without a chart.
pub async fn define_kinds(cluster: &Cluster) -> Result<(), ToolError> {
    cluster.kubectl(["apply", "--server-side", "--filename", MANIFESTS]).await?;
    cluster.kubectl(["wait", "--for=condition=Established", "--filename", MANIFESTS]).await?;
    Ok(())
}

/// Loads `archives` and installs (or upgrades) both charts with them. `settings` are further arguments of helm, such as `--set=replicas=2`.
pub async fn install(
    cluster: &Cluster,
    archives: &[ImageArchive],
    settings: &[String],
    progress: &Progress,
) -> Result<(), PlatformError> {
    for archive in archives {
        progress.step(format!("loading {}", archive.reference));
        cluster.load_image(&archive.path).await?;
    }
    progress.step("installing the custom resources");
    let chart = |name| Path::new(CHARTS).join(name).display().to_string();
    helm(cluster, &upgrade(CRDS_RELEASE, chart("sera-operator-crds"))).await?;
    progress.step("installing the operator");
    let mut arguments = upgrade(RELEASE, chart("sera-operator"));
    arguments.extend(archives.iter().flat_map(image_values));
    arguments.extend(settings.iter().cloned());
    helm(cluster, &arguments).await?;
    Ok(())
}

/// Runs helm. A demo that was interrupted may have left one that is still at it, and is waited for.
async fn helm(cluster: &Cluster, arguments: &[String]) -> Result<(), ToolError> {
    let (delay, times) = ASK_AGAIN;
    let often = ConstantBuilder::new().with_delay(delay).with_max_times(times);
    let is_busy = |error: &ToolError| error.to_string().contains(BUSY);
    (|| cluster.helm(arguments)).retry(often).when(is_busy).await?;
    Ok(())
}

fn upgrade(release: &str, chart: String) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["upgrade", "--install", "--create-namespace", "--wait", READY_WITHIN].map(String::from).into();
    arguments.extend([format!("--namespace={NAMESPACE}"), release.to_owned(), chart]);
    arguments
}

fn image_values(archive: &ImageArchive) -> Vec<String> {
    let key = match archive.image {
        Image::Operator => "operator",
        Image::Rollout => "rollout",
        Image::Sandbox => "sandbox",
        Image::Environment => "environment",
        Image::Teacher => "teacher",
        Image::Trainer => "trainer",
    };
    let (registry, repository, tag) = archive.parts();
    [("registry", registry), ("repository", repository), ("tag", tag)]
        .map(|(part, value)| format!("--set-string=images.{key}.{part}={value}"))
        .into()
}
