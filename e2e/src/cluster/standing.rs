//! Clusters that stand on their own: found by name, listed, brought up to stay, and taken down. What they consist of is
//! the business of the modules beside this one.

use super::boot::{self, BootError, Plan};
use super::embedded::Embedded;
use super::folder::{Claim, ClusterFolder, FolderError, Lifetime, Shape};
use super::name::ClusterName;
use super::process::marked;
use super::teardown::{self, TeardownError};
use super::{Cluster, ClusterError, Kind};
use crate::progress::Progress;

/// How a cluster of ours is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Some process boots it, or tests on it.
    InUse,
    /// It is up, and stays.
    Up,
    /// Nobody owns what is there: a crash left it.
    LeftBehind,
}

/// One of the clusters of this user on this machine.
#[derive(Debug)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// What it consists of, if its record can be read.
    pub shape: Option<Shape>,
    /// The API server's address, once it has one.
    pub server: Option<String>,
    /// How it is doing.
    pub state: State,
    /// Its components, and whether their processes are there.
    pub components: Vec<(String, bool)>,
}

/// All clusters of this user on this machine, by name.
pub fn list() -> Result<Vec<Summary>, FolderError> {
    ClusterFolder::all()?.into_iter().map(summary).collect()
}

fn summary(folder: ClusterFolder) -> Result<Summary, FolderError> {
    let name = folder.name();
    let state = match Claim::on(folder.clone())? {
        None => State::InUse,
        Some(_) if teardown::is_up(&folder) => State::Up,
        Some(_) => State::LeftBehind,
    };
    let Ok(cluster) = Embedded::attach(folder) else {
        return Ok(Summary { name, shape: None, server: None, state, components: Vec::new() });
    };
    let record = cluster.record();
    let components = cluster.components().iter().map(|one| (one.name().to_owned(), one.is_running())).collect();
    Ok(Summary { name, shape: Some(record.shape), server: record.server, state, components })
}

/// Takes a cluster down, whoever booted it. `false` if there is none of this name.
pub fn down(name: &ClusterName) -> Result<bool, TeardownError> {
    let folder = match ClusterFolder::find(name) {
        Err(FolderError::Missing(_)) => return Ok(false),
        folder => folder?,
    };
    let Some(_claim) = Claim::soon(&folder)? else { return Err(TeardownError::InUse(name.clone())) };
    teardown::undo(&folder)?;
    Ok(true)
}

impl Cluster {
    /// A cluster that stays when this process ends: the one in KUBECONFIG, else the one of this name, which is booted if
    /// it is not up. The second part says whether it was.
    pub async fn up(name: ClusterName, shape: Shape, progress: &Progress) -> Result<(Self, bool), ClusterError> {
        if let Some(cluster) = Self::in_kubeconfig(shape).await? {
            return Ok((cluster, false));
        }
        teardown::sweep().map_err(BootError::from)?;
        if ClusterFolder::find(&name).is_ok() {
            return Ok((Self::find(name, Some(shape)).await?, false));
        }
        let plan = Plan { name, shape, lifetime: Lifetime::Persistent };
        let (cluster, client) = boot::boot(plan, progress).await?;
        let folder = cluster.release();
        let cluster = Embedded::attach(folder).map_err(BootError::from)?;
        Ok((Self::new(client, Kind::Embedded(cluster)), true))
    }

    /// A cluster with a node that stays: the one in KUBECONFIG, else the one of this name, which is booted if it is not up.
    pub async fn lasting(name: &str, progress: &Progress) -> Result<Self, ClusterError> {
        let name = name.parse().map_err(BootError::from)?;
        Ok(Self::up(name, Shape::Node, progress).await?.0)
    }

    /// The cluster that somebody means: the one in KUBECONFIG, else the one of this name, which must be up.
    pub async fn find_here(name: ClusterName) -> Result<Self, ClusterError> {
        match Self::in_kubeconfig(Shape::ControlPlane).await? {
            Some(cluster) => Ok(cluster),
            None => Self::find(name, None).await,
        }
    }

    /// The cluster of this name, which must be up, and have the shape that is asked for.
    pub async fn find(name: ClusterName, shape: Option<Shape>) -> Result<Self, ClusterError> {
        let folder = ClusterFolder::find(&name).map_err(BootError::from)?;
        let embedded = Embedded::attach(folder).map_err(BootError::from)?;
        let record = embedded.record();
        if shape == Some(Shape::Node) && record.shape == Shape::ControlPlane {
            return Err(ClusterError::NoNode(name));
        }
        if !record.ready || marked(embedded.folder().root()).is_empty() {
            return Err(ClusterError::NotUp(name));
        }
        let client = boot::client(&embedded.folder().kubeconfig()).await?;
        Ok(Self::new(client, Kind::Embedded(embedded)))
    }
}
