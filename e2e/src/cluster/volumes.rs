//! The volumes of an embedded cluster, whose folders lie on this machine, and what may befall them: little room, or none to write at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Client;
use kube::api::Api;
use nix::mount::{MsFlags, mount};

use super::component::ComponentError;
use super::{Cluster, namespaces};

/// How often a claim is asked for its volume; the control plane takes a second or two to find it one.
const ASKS: u32 = 300;
const BETWEEN_ASKS: Duration = Duration::from_millis(100);

/// Why a volume could not be found, or changed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Kubernetes does not say.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// The claim gets no volume.
    #[error("claim {0} gets no volume: a cluster of ours has 64, and none is used twice")]
    Unbound(String),
    /// The volume is elsewhere.
    #[error("volume {0} is no folder of this machine")]
    Elsewhere(String),
    /// The cluster is not one of ours, or has no node.
    #[error("the volumes of this cluster are not ours to touch")]
    Foreign,
    /// It could not be mounted.
    #[error("cannot mount a file system on {}", folder.display())]
    Mount {
        /// The volume's folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How much can be written to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Nothing.
    ReadOnly,
    /// So many bytes, with what is there.
    Bytes(u64),
}

/// The folder behind a claim, once it has a volume.
pub async fn volume_of(client: &Client, namespace: &str, claim: &str) -> Result<PathBuf, VolumeError> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let mut bound = None;
    for _ in 0..ASKS {
        let spec = claims.get(claim).await?.spec.unwrap_or_default();
        bound = spec.volume_name.filter(|name| !name.is_empty());
        if bound.is_some() {
            break;
        }
        tokio::time::sleep(BETWEEN_ASKS).await;
    }
    let bound = bound.ok_or_else(|| VolumeError::Unbound(claim.to_owned()))?;
    let volume = Api::<PersistentVolume>::all(client.clone()).get(&bound).await?;
    let folder = volume.spec.and_then(|spec| spec.host_path).map(|source| source.path.into());
    folder.ok_or(VolumeError::Elsewhere(bound))
}

impl Cluster {
    /// Gives a volume a file system of its own, for as long as the cluster is up, or changes how large that is: what its folder held before is covered.
    /// Pods that have it mounted already see the change if it is not the first one.
    pub fn make_room(&self, folder: &Path, room: Room) -> Result<(), VolumeError> {
        const NAME: Option<&str> = Some("tmpfs");
        let init = self.embedded().map_err(|_: ComponentError| VolumeError::Foreign)?.init();
        let init = init.ok_or(VolumeError::Foreign)?;
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", init.pid())).unwrap_or_default();
        let is_mounted = mounts.lines().any(|line| line.split(' ').nth(1).map(Path::new) == Some(folder));
        let (mut flags, options) = match room {
            Room::ReadOnly => (MsFlags::MS_RDONLY, "mode=0777".to_owned()),
            Room::Bytes(most) => (MsFlags::empty(), format!("mode=0777,size={most}")),
        };
        flags.set(MsFlags::MS_REMOUNT, is_mounted);
        let mounted = namespaces::inside(init, || Ok(mount(NAME, folder, NAME, flags, Some(options.as_str()))?));
        mounted.map_err(|source| VolumeError::Mount { folder: folder.to_owned(), source })
    }
}
