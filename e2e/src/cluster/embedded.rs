//! A cluster that this crate booted: its folder, its record and its components. Booting is `boot`'s, undoing `teardown`'s.

use std::process::ChildStdin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::component::{Component, ComponentError, spawn};
use super::folder::{Claim, ClusterFolder, ComponentRecord, FolderError, Record};
use super::process::ProcessId;
use super::teardown::{self, TeardownError};

/// A cluster of ours, owned by this process or only looked at.
#[derive(Debug)]
pub(super) struct Embedded {
    folder: ClusterFolder,
    record: Mutex<Record>,
    hold: Option<Hold>,
}

/// What makes a cluster this process's own.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) claim: Claim,
    /// The pipe that keeps the node alive.
    pub(super) lifeline: Option<ChildStdin>,
}

impl Embedded {
    /// A cluster that this process is about to boot. Dropped, it is taken down.
    pub(super) fn new(claim: Claim, record: Record) -> Result<Self, FolderError> {
        let folder = claim.folder().clone();
        teardown::own(&folder);
        let cluster = Self { folder, record: Mutex::new(record), hold: Some(Hold { claim, lifeline: None }) };
        cluster.update(|_| ())?;
        Ok(cluster)
    }

    /// A cluster that is up and belongs to nobody, or to another process.
    pub(super) fn attach(folder: ClusterFolder) -> Result<Self, FolderError> {
        let record = folder.read_record()?;
        Ok(Self { folder, record: Mutex::new(record), hold: None })
    }

    /// Lets it live on when this process ends.
    pub(super) fn release(mut self) -> ClusterFolder {
        teardown::disown(&self.folder);
        self.hold = None;
        self.folder.clone()
    }

    /// Takes it down, if it is this process's own.
    pub(super) fn take_down(&mut self) -> Result<(), TeardownError> {
        let Some(hold) = self.hold.take() else { return Ok(()) };
        drop(hold.lifeline);
        let result = teardown::undo(hold.claim.folder());
        teardown::disown(&self.folder);
        result
    }

    pub(super) fn folder(&self) -> &ClusterFolder {
        &self.folder
    }

    pub(super) fn record(&self) -> Record {
        self.locked().clone()
    }

    /// Changes the record, in memory and on disk.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Record) -> T) -> Result<T, FolderError> {
        let mut record = self.locked();
        let result = change(&mut record);
        self.folder.write_record(&record)?;
        Ok(result)
    }

    pub(super) fn set_lifeline(&mut self, lifeline: Option<ChildStdin>) {
        if let Some(hold) = &mut self.hold {
            hold.lifeline = lifeline;
        }
    }

    /// The first process of the node's namespaces.
    pub(super) fn init(&self) -> Option<ProcessId> {
        self.locked().node.as_ref().and_then(|node| node.init)
    }

    /// Records a component, then starts it.
    pub(super) fn start(&self, name: &str, command: Vec<String>) -> Result<(), ComponentError> {
        self.update(|record| record.components.insert(name.to_owned(), ComponentRecord { command, process: None }))?;
        self.start_again(name)
    }

    /// Starts a component as its record says.
    pub(super) fn start_again(&self, name: &str) -> Result<(), ComponentError> {
        let record = self.record();
        let component = record.components.get(name).ok_or_else(|| unknown(&record, name))?;
        let process = spawn(&self.folder, self.init(), name, component)
            .map_err(|source| ComponentError::Start { name: name.to_owned(), source })?;
        self.update(|record| {
            if let Some(component) = record.components.get_mut(name) {
                component.process = Some(process);
            }
        })?;
        Ok(())
    }

    /// A component by its name.
    pub(super) fn component(&self, name: &str) -> Result<Component<'_>, ComponentError> {
        let record = self.locked();
        if record.components.contains_key(name) { Ok(Component::new(self, name)) } else { Err(unknown(&record, name)) }
    }

    /// All components, by name.
    pub(super) fn components(&self) -> Vec<Component<'_>> {
        self.locked().components.keys().map(|name| Component::new(self, name)).collect()
    }

    /// The first component that was started and is gone.
    pub(super) fn first_ended(&self) -> Option<String> {
        let record = self.locked();
        let mut components = record.components.iter();
        let ended = components.find(|(_, component)| component.process.is_some_and(|process| !process.is_alive()));
        ended.map(|(name, _)| name.clone())
    }

    fn locked(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            eprintln!("cluster {}: {error}", self.folder.name());
        }
    }
}

fn unknown(record: &Record, name: &str) -> ComponentError {
    let known = record.components.keys().cloned().collect::<Vec<_>>().join(", ");
    ComponentError::Unknown { name: name.to_owned(), known }
}
