//! The folder of one cluster: what lies where in it, the record of what was made (written before it is made), and the
//! claim that says whether somebody still owns it. Undoing what the record names is `teardown`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{ClusterName, LONGEST_NAME};
use super::ours;
use super::process::ProcessId;
use super::wait::poll_until;
use crate::paths::{PathError, state_root};

/// The longest path of a unix socket that Linux takes, its end included (unix(7)).
const LONGEST_SOCKET: usize = 107;
/// The longest socket path below a cluster's folder.
const DEEPEST_SOCKET: &str = "containerd/containerd.sock.ttrpc";

/// What was made for a cluster, and its draft.
pub(super) const RECORD: &str = "record.json";
pub(super) const DRAFT: &str = "record.json.draft";
/// The folder that is made before there is a record.
pub(super) const LOGS: &str = "logs";

/// How long a process may hold a folder that only looks whether it is left behind.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// Why a cluster's folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no place for clusters.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The name would not do as a part of other names.
    #[error(
        "{0:?} is no name for a cluster: use 1 to {LONGEST_NAME} lower-case letters, digits and dashes, a letter first"
    )]
    Name(String),
    /// A cluster of this name is there.
    #[error("a cluster named {0} is there already: `cargo e2e down --name {0}` removes it, --name makes another one")]
    Taken(ClusterName),
    /// No cluster of this name is there.
    #[error("there is no cluster named {0}: `cargo e2e up --name {0}` boots one")]
    Missing(ClusterName),
    /// A folder of this name is there, and it is no cluster's.
    #[error(
        "{0} has no record of a cluster, and is somebody else's: set SERA_STATE_DIR to another folder, or take another --name"
    )]
    Foreign(PathBuf),
    /// Sockets would not fit.
    #[error("{0} is too deep a folder for unix sockets: set SERA_STATE_DIR to a shorter one")]
    TooDeep(PathBuf),
    /// The record is not what this version writes.
    #[error("cannot read the record {path}; `cargo e2e down` removes the cluster")]
    Record {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file could not be used.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// What a cluster consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// etcd, an API server and a controller manager: objects are stored and admitted, nothing runs.
    ControlPlane,
    /// A node as well: containers run.
    Node,
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ControlPlane => "control plane only",
            Self::Node => "with a node",
        })
    }
}

/// When a cluster ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Lifetime {
    /// With the process that booted it.
    Owner,
    /// When it is taken down.
    Persistent,
}

/// What was made, or is about to be, for one cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) name: ClusterName,
    pub(super) shape: Shape,
    /// The API server's address, once it is chosen.
    pub(super) server: Option<String>,
    /// Whether it outlives the process that booted it.
    pub(super) lifetime: Lifetime,
    /// Whether the boot came to its end.
    pub(super) ready: bool,
    /// What only a cluster with a node has.
    pub(super) node: Option<NodeRecord>,
    pub(super) components: BTreeMap<String, ComponentRecord>,
}

impl Record {
    /// The processes that were started, as far as they were recorded.
    pub(super) fn processes(&self) -> Vec<ProcessId> {
        let components = self.components.values().filter_map(|component| component.process);
        components.chain(self.node.as_ref().and_then(|node| node.init)).collect()
    }
}

/// What was made for a node outside of its namespaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct NodeRecord {
    /// The name of its cgroup, at the root of every hierarchy.
    pub(super) cgroup: String,
    /// The number of its network: its link and its addresses follow from it.
    pub(super) network: Option<u8>,
    /// The first process of its namespaces.
    pub(super) init: Option<ProcessId>,
}

/// How a component is started, and the process it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ComponentRecord {
    pub(super) command: Vec<String>,
    pub(super) process: Option<ProcessId>,
}

/// The folder of one cluster.
#[derive(Clone, Debug)]
pub(super) struct ClusterFolder {
    root: PathBuf,
}

impl ClusterFolder {
    fn named(clusters: &Path, name: &ClusterName) -> Self {
        Self { root: clusters.join(name.to_string()) }
    }

    /// The folder at this place.
    pub(super) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of a cluster that is there.
    pub(super) fn find(name: &ClusterName) -> Result<Self, FolderError> {
        let folder = Self::named(&clusters_root()?, name);
        if !folder.root.is_dir() {
            return Err(FolderError::Missing(name.clone()));
        }
        folder.own()
    }

    /// The same, unless it is somebody else's.
    fn own(self) -> Result<Self, FolderError> {
        if ours::is_cluster(&self.root, &self.lock_path()) { Ok(self) } else { Err(FolderError::Foreign(self.root)) }
    }

    /// The folder of the cluster that a kubeconfig belongs to, if it is one of ours.
    pub(super) fn of_kubeconfig(path: &Path) -> Option<Self> {
        let root = fs::canonicalize(path).ok()?.parent()?.to_owned();
        let clusters = fs::canonicalize(clusters_root().ok()?).ok()?;
        (root.parent() == Some(clusters.as_path())).then_some(Self { root })
    }

    /// The folders of all clusters that are there, and of those of which only the lock is left; what else lies there is somebody else's.
    pub(super) fn all() -> Result<Vec<Self>, FolderError> {
        Self::all_in(&clusters_root()?)
    }

    fn all_in(clusters: &Path) -> Result<Vec<Self>, FolderError> {
        let entries = match fs::read_dir(clusters) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| failed("list", clusters, source))?,
        };
        let mut roots = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(|source| failed("list", clusters, source))?;
            roots.insert(entry.path().with_extension(""));
        }
        Ok(roots.into_iter().filter_map(|root| Self { root }.own().ok()).collect())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn join(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The cluster's name, by its folder.
    pub(super) fn name(&self) -> String {
        self.root.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.join("kubeconfig")
    }

    pub(super) fn pki(&self) -> PathBuf {
        self.join("pki")
    }

    pub(super) fn log(&self, component: &str) -> PathBuf {
        self.join(LOGS).join(format!("{component}.log"))
    }

    pub(super) fn read_record(&self) -> Result<Record, FolderError> {
        let path = self.join(RECORD);
        let text = fs::read(&path).map_err(|source| failed("read", &path, source))?;
        serde_json::from_slice(&text).map_err(|source| FolderError::Record { path, source })
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), FolderError> {
        let path = self.join(RECORD);
        let text =
            serde_json::to_vec_pretty(record).map_err(|source| FolderError::Record { path: path.clone(), source })?;
        // Renamed into place: a crash leaves the old record or the new one, never half of one.
        let draft = self.join(DRAFT);
        fs::write(&draft, text).map_err(|source| failed("write", &draft, source))?;
        fs::rename(&draft, &path).map_err(|source| failed("rename", &draft, source))
    }

    /// Removes the folder, then the lock: for who holds the claim. Nothing outside of them is touched. The record goes last: whoever finds the rest
    /// when this process was killed has to know whose it is.
    pub(super) fn remove(&self) -> Result<(), FolderError> {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let remove = if is_folder { fs::remove_dir_all } else { fs::remove_file };
            if entry.file_name() != RECORD {
                removed(&entry.path(), remove(entry.path()))?;
            }
        }
        removed(&self.root, fs::remove_dir_all(&self.root))?;
        removed(&self.lock_path(), fs::remove_file(self.lock_path()))
    }

    fn lock_path(&self) -> PathBuf {
        self.root.with_extension("lock")
    }
}

/// A cluster's folder, held by this process: nobody else takes it for left behind. The kernel gives it up when the
/// process ends, however it ends.
#[derive(Debug)]
pub(super) struct Claim {
    folder: ClusterFolder,
    _lock: File,
}

impl Claim {
    /// Makes the folder of a new cluster, and holds it.
    pub(super) fn new_cluster(name: &ClusterName) -> Result<Self, FolderError> {
        let clusters = clusters_root()?;
        let folder = ClusterFolder::named(&clusters, name);
        if folder.join(DEEPEST_SOCKET).as_os_str().len() > LONGEST_SOCKET {
            return Err(FolderError::TooDeep(clusters));
        }
        let folder = if folder.root.exists() { folder.own()? } else { folder };
        fs::create_dir_all(&clusters).map_err(|source| failed("make", &clusters, source))?;
        let taken = || FolderError::Taken(name.clone());
        let claim = Self::soon(&folder)?.ok_or_else(taken)?;
        // What is in it gives all rights on the cluster: keys, and etcd's socket.
        match DirBuilder::new().mode(0o700).create(claim.folder.root()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(taken()),
            Err(source) => return Err(failed("make", claim.folder.root(), source)),
        }
        let logs = claim.folder.join(LOGS);
        fs::create_dir(&logs).map_err(|source| failed("make", &logs, source))?;
        Ok(claim)
    }

    /// Holds a folder, unless another process does, and goes on doing so: one that only looks is waited for.
    pub(super) fn soon(folder: &ClusterFolder) -> Result<Option<Self>, FolderError> {
        let mut claim = Ok(None);
        poll_until(LOOK_WITHIN, || {
            claim = Self::on(folder.clone());
            !matches!(claim, Ok(None))
        });
        claim
    }

    /// Holds a folder, unless another process does now.
    pub(super) fn on(folder: ClusterFolder) -> Result<Option<Self>, FolderError> {
        let path = folder.lock_path();
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(|source| failed("make", &path, source))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(failed("lock", &path, source)),
                // The last holder removes the file: a lock on a file that is gone holds nothing.
                Ok(()) if is_same_file(&file, &path) => return Ok(Some(Self { folder, _lock: file })),
                Ok(()) => {}
            }
        }
    }

    pub(super) fn folder(&self) -> &ClusterFolder {
        &self.folder
    }
}

fn clusters_root() -> Result<PathBuf, FolderError> {
    Ok(state_root()?.join("clusters"))
}

/// What came of removing something, where it is no failure that it was gone.
fn removed(path: &Path, result: io::Result<()>) -> Result<(), FolderError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| failed("remove", path, source)),
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => held.ino() == there.ino() && held.dev() == there.dev(),
        _ => false,
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> FolderError {
    FolderError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_others_beside_clusters_are_not_listed_and_not_taken_for_one() {
        let clusters = tempfile::tempdir().unwrap();
        for (folder, file, content) in [
            ("mine", RECORD, r#"{"name": "mine"}"#),
            ("prod", "kubeconfig", "theirs"),
            ("stage.d", RECORD, r#"{"name": "stage"}"#),
        ] {
            fs::create_dir(clusters.path().join(folder)).unwrap();
            fs::write(clusters.path().join(folder).join(file), content).unwrap();
        }
        fs::write(clusters.path().join("left.lock"), "").unwrap();
        fs::write(clusters.path().join("Cargo.lock"), "").unwrap();
        let names = ClusterFolder::all_in(clusters.path()).unwrap().iter().map(ClusterFolder::name).collect::<Vec<_>>();
        assert_eq!(names, ["left", "mine"]);
        let named = |name: &str| ClusterFolder::named(clusters.path(), &name.parse().unwrap()).own();
        assert!(named("mine").is_ok());
        assert!(matches!(named("prod"), Err(FolderError::Foreign(root)) if root.ends_with("prod")));
    }

    #[test]
    fn a_folder_is_held_by_one_claim_at_a_time_and_goes_with_it() {
        let clusters = tempfile::tempdir().unwrap();
        let folder = ClusterFolder::named(clusters.path(), &ClusterName::unnamed());
        let first = Claim::on(folder.clone()).unwrap().unwrap();
        assert!(Claim::on(folder.clone()).unwrap().is_none());
        fs::create_dir(folder.root()).unwrap();
        folder.remove().unwrap();
        drop(first);
        assert_eq!(fs::read_dir(clusters.path()).unwrap().count(), 0);
        assert!(Claim::on(folder).unwrap().is_some());
    }
}
