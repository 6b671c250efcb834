//! Loading image archives into a cluster. Making them is the business of others.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::folder::ClusterFolder;
use super::node::config;
use crate::packages::PackageError;

/// Why an image was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The program that loads it could not be run.
    #[error("cannot run {program}, which loads images")]
    Run {
        /// The program.
        program: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The archive of busybox could not be written.
    #[error("cannot write the archive of busybox")]
    Archive(#[source] io::Error),
    /// busybox is missing.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The archive was refused.
    #[error("cannot load {archive}: {complaint}")]
    Refused {
        /// The archive.
        archive: PathBuf,
        /// What the program that loads said.
        complaint: String,
    },
    /// Nothing runs there.
    #[error("the cluster has no node that an image could be loaded into")]
    NoNode,
    /// The cluster is not ours, and nobody said how to load an image there.
    #[error(
        "cannot load an image into the cluster of KUBECONFIG: set {LOAD_VARIABLE} to a command that is run with the \
         archive's path, such as `kind load image-archive` or `minikube image load`"
    )]
    Foreign,
}

/// Names the command that loads an image archive into a cluster that is not ours.
pub(super) const LOAD_VARIABLE: &str = "SERA_LOAD_IMAGE";

/// Loads an image archive into the containerd of a node.
pub(super) async fn load_image(folder: &ClusterFolder, archive: &Path) -> Result<(), ImageError> {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(config::containerd_socket(folder)).args(["--namespace", "k8s.io", "images", "import"]);
    load_by(ctr, archive).await
}

/// Runs a program that loads an archive, whose path is its last argument.
pub(super) async fn load_by(mut program: Command, archive: &Path) -> Result<(), ImageError> {
    let output = program.arg(archive).stdin(Stdio::null()).output().await.map_err(|source| {
        let program = program.as_std().get_program().to_string_lossy().into_owned();
        ImageError::Run { program, source }
    })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ImageError::Refused { archive: archive.to_owned(), complaint })
}
