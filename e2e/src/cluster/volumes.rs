//! The volumes of an embedded cluster, whose folders lie on this machine, and what may befall them: little room, or none to write at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use nix::mount::{MsFlags, mount};
use serde_json::json;

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
    #[error("claim {0} gets no volume: a cluster of ours has 64, and none is used twice by itself")]
    Unbound(String),
    /// The volume is elsewhere.
    #[error("volume {0} is no folder of this machine")]
    Elsewhere(String),
    /// The cluster is not one of ours, or has no node.
    #[error("the volumes of this cluster are not ours to touch")]
    Foreign,
    /// What it held could not be removed.
    #[error("cannot empty {}", folder.display())]
    Empty {
        /// The volume's folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
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
        bound = match claims.get(claim).await {
            Ok(claim) => claim.spec.unwrap_or_default().volume_name.filter(|name| !name.is_empty()),
            Err(kube::Error::Api(status)) if status.code < 500 => return Err(kube::Error::Api(status).into()),
            // The API server is being restarted.
            Err(_) => None,
        };
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

/// Gives a volume back whose claim is gone: what it held is removed, and another claim may have it.
pub async fn recycle(client: &Client, folder: &Path) -> Result<(), VolumeError> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let all = volumes.list(&ListParams::default()).await?.items;
    let is_it = |volume: &&PersistentVolume| {
        let source = volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref());
        source.is_some_and(|source| Path::new(&source.path) == folder)
    };
    let name = all.iter().find(is_it).map(ResourceExt::name_any);
    let name = name.ok_or_else(|| VolumeError::Elsewhere(folder.display().to_string()))?;
    empty(folder).map_err(|source| VolumeError::Empty { folder: folder.to_owned(), source })?;
    let free = Patch::Merge(json!({"spec": {"claimRef": null}}));
    volumes.patch(&name, &PatchParams::default(), &free).await?;
    Ok(())
}

/// Removes what is in a folder, and not the folder, which is open to all.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_volume_held_is_removed_and_nothing_that_it_only_points_to() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        fs::create_dir_all(inside.path().join("runs/a")).unwrap();
        fs::write(inside.path().join("runs/a/b"), "").unwrap();
        symlink(outside.path(), inside.path().join("link")).unwrap();
        empty(inside.path()).unwrap();
        assert_eq!(fs::read_dir(inside.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}
