//! A cluster that somebody else runs, found by KUBECONFIG. It is used, and neither changed in its workings nor taken down.

use std::env;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::load::{ImageError, LOAD_VARIABLE, load_by};
use super::node::image::{self, BUSYBOX_PACKAGE};
use crate::packages;
use crate::progress::Progress;

/// Names the address under which pods of a cluster that is not ours reach this machine.
const HOST_VARIABLE: &str = "SERA_HOST_IP";

/// Why the cluster of KUBECONFIG cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// KUBECONFIG does not hold what it should.
    #[error("KUBECONFIG is set, but cannot be used: correct it, or unset it to boot a cluster")]
    Kubeconfig(#[from] KubeconfigError),
    /// No client could be made of it.
    #[error("no client can be made of KUBECONFIG: correct it, or unset it to boot a cluster")]
    Client(#[from] kube::Error),
    /// The API server does not answer.
    #[error("the API server of KUBECONFIG, {server}, does not answer: start it, or unset KUBECONFIG to boot a cluster")]
    Silent {
        /// Its address.
        server: String,
        /// What was had instead of an answer.
        source: kube::Error,
    },
    /// The merged file could not be written.
    #[error("cannot merge the files of KUBECONFIG into one")]
    Merge(#[source] io::Error),
    /// The merged file could not be put into words.
    #[error("cannot merge the files of KUBECONFIG into one")]
    Yaml(#[from] serde_yaml::Error),
}

/// A cluster of somebody else's.
#[derive(Debug)]
pub(super) struct Foreign {
    kubeconfig: PathBuf,
    /// Where several files were merged.
    _merged: Option<NamedTempFile>,
    server: http::Uri,
}

/// Whether KUBECONFIG names a cluster, so that none is booted.
pub fn kubeconfig_is_set() -> bool {
    kubeconfig_variable().is_some()
}

/// What KUBECONFIG names, if it is set.
pub(super) fn kubeconfig_variable() -> Option<OsString> {
    env::var_os("KUBECONFIG").filter(|value| !value.is_empty())
}

impl Foreign {
    /// Connects to the cluster, and asks whether it is there.
    pub(super) async fn connect(variable: &OsString) -> Result<(Self, Client), ForeignError> {
        let files: Vec<PathBuf> = env::split_paths(variable).filter(|file| !file.as_os_str().is_empty()).collect();
        let mut all = Kubeconfig::default();
        for file in &files {
            all = all.merge(Kubeconfig::read_from(file)?)?;
        }
        let merged = if let [_] = files.as_slice() { None } else { Some(write_merged(&all)?) };
        let kubeconfig =
            merged.as_ref().map_or_else(|| files.first().cloned().unwrap_or_default(), |file| file.path().to_owned());
        let config = Config::from_custom_kubeconfig(all, &KubeConfigOptions::default()).await?;
        let server = config.cluster_url.clone();
        let client = Client::try_from(config)?;
        let answer = client.apiserver_version().await;
        answer.map_err(|source| ForeignError::Silent { server: server.to_string(), source })?;
        Ok((Self { kubeconfig, _merged: merged, server }, client))
    }

    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The address under which pods reach this machine: as told, or the one from which this machine reaches the cluster.
    pub(super) fn host_ip(&self) -> Option<IpAddr> {
        if let Some(told) = env::var(HOST_VARIABLE).ok().and_then(|address| address.parse().ok()) {
            return Some(told);
        }
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        // Nothing is sent: the kernel only chooses the route.
        socket.connect((self.server.host()?, self.server.port_u16().unwrap_or(443))).ok()?;
        Some(socket.local_addr().ok()?.ip())
    }

    /// Loads an image by the command that the user named.
    pub(super) async fn load_image(&self, archive: &Path) -> Result<(), ImageError> {
        let command = env::var(LOAD_VARIABLE).map_err(|_| ImageError::Foreign)?;
        let mut words = command.split_whitespace();
        let mut load = Command::new(words.next().ok_or(ImageError::Foreign)?);
        load.args(words).env("KUBECONFIG", &self.kubeconfig);
        load_by(load, archive).await
    }

    /// Loads the image that test pods run.
    pub(super) async fn load_busybox(&self) -> Result<(), ImageError> {
        packages::ensure(&[BUSYBOX_PACKAGE], &Progress::slow_only()).await?;
        let archive = NamedTempFile::with_suffix(".tar").map_err(ImageError::Archive)?;
        image::write_archive(archive.path()).map_err(ImageError::Archive)?;
        self.load_image(archive.path()).await
    }
}

fn write_merged(config: &Kubeconfig) -> Result<NamedTempFile, ForeignError> {
    let text = serde_yaml::to_string(config)?;
    let file = NamedTempFile::with_prefix("kubeconfig-").map_err(ForeignError::Merge)?;
    std::fs::write(file.path(), text).map_err(ForeignError::Merge)?;
    Ok(file)
}
