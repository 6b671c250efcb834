//! Where rollouts take place: the snapshot's trees, the samples that are drawn from it, and the sandboxes.

use std::path::PathBuf;
use std::time::Duration;

use sera_crds::contract::{RolloutPlan, StyleExample};
use tokio::sync::OnceCell;

use super::RolloutError;
use super::driver::Driver;
use super::source::{Source, SourceError};
use crate::checkout::{CheckoutError, Snapshots, Tree};
use crate::progress::Progress;
use crate::sampling::{Purpose, Sample};
use crate::sandbox::{Place, Pool};
use crate::scratch::Scratch;
use crate::store::Store;

/// How long the containers of a pod may take to listen: as long as a pod may take to start, unless the spec says otherwise.
const PODS_PATIENCE: Duration = Duration::from_mins(15);

/// Where sandboxes are to come from.
#[derive(Debug, Clone)]
pub(crate) enum Sandboxes {
    /// Processes of this machine, started from this program, and what their commands must not read beside this command's own files.
    Local { program: PathBuf, hidden: Vec<PathBuf> },
    /// Containers of this pod, by the folder of their sockets.
    Pod(PathBuf),
}

/// What a ground is made of.
pub(crate) struct Materials<'a> {
    /// The store that has the snapshot.
    pub(crate) snapshot: &'a Store,
    pub(crate) plan: &'a RolloutPlan,
    pub(crate) purpose: Purpose,
    pub(crate) sandboxes: &'a Sandboxes,
    pub(crate) slots: u32,
    pub(crate) scratch: &'a Scratch,
}

/// What rollouts need around them.
pub(crate) struct Ground<'a> {
    source: Source,
    snapshots: Snapshots,
    /// Each made when the first sample needs it.
    trees: Vec<OnceCell<Tree>>,
    pool: &'a Pool,
}

impl<'a> Ground<'a> {
    pub(crate) async fn open(
        materials: Materials<'_>,
        driver: &'a Driver,
        progress: &Progress,
    ) -> Result<Self, RolloutError> {
        let Materials { snapshot, plan, purpose, sandboxes, slots, scratch } = materials;
        let folder = std::path::absolute(scratch.path()).map_err(CheckoutError::Scratch)?;
        let source = Source::read(snapshot, &folder, plan, purpose, progress).await?;
        let snapshots = Snapshots::open(&folder, source.bundle(), &source.manifest().commits).await?;
        let trees = (0..snapshots.count()).map(|_| OnceCell::new()).collect();
        let place = match sandboxes {
            Sandboxes::Local { program, hidden } => Place::Local {
                program: program.clone(),
                folder: folder.join("sandboxes"),
                // A slot sees its own files elsewhere. Of the rest, the others' and the driver's, it sees nothing.
                hidden: hidden.iter().chain([&folder]).cloned().collect(),
            },
            Sandboxes::Pod(folder) => Place::Pod { folder: folder.clone(), patience: PODS_PATIENCE },
        };
        let opened = Pool::open(&place, slots, plan).await?;
        let pool = driver.pool.get_or_init(|| async { opened }).await;
        Ok(Self { source, snapshots, trees, pool })
    }

    pub(super) const fn pool(&self) -> &'a Pool {
        self.pool
    }

    /// How many samples there are.
    pub(crate) fn samples(&self) -> u64 {
        self.source.len()
    }

    /// The sample of that number.
    pub(crate) fn sample(&self, number: u64) -> Result<Sample, RolloutError> {
        Ok(self.source.sample(number).map_err(SourceError::from)?)
    }

    pub(super) fn example(&self, number: u64) -> &StyleExample {
        self.source.example(number)
    }

    /// The tree of a snapshot.
    pub(super) async fn tree(&self, number: u32) -> Result<&Tree, RolloutError> {
        let cell = usize::try_from(number).ok().and_then(|position| self.trees.get(position));
        let cell = cell.ok_or(CheckoutError::NoSnapshot(number))?;
        Ok(cell.get_or_try_init(|| self.snapshots.tree(number)).await?)
    }
}
