//! All sandboxes of one driver: lent to one rollout at a time, wiped after each, and kept apart for good where one fails or will not come clean.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use futures::future::try_join_all;
use sera_crds::contract::RolloutPlan;
use tokio::sync::Semaphore;

use super::{Place, SandboxError, Slot, policy, reach};

/// The sandboxes.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Slot>>,
    /// As many permits as there are idle slots; closed when the last one is gone.
    free: Semaphore,
    fit: AtomicU32,
    quarantined: AtomicU32,
}

/// A sandbox that is lent to a rollout. It has to be given back; one that is dropped is lost.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) slot: Slot,
}

/// How many sandboxes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Those that can be used.
    pub(crate) fit: u32,
    /// Those that cannot any more.
    pub(crate) quarantined: u32,
}

impl Pool {
    /// Starts or finds `slots` sandboxes. One that does not come up is counted with those that failed; that none does is an error.
    pub(crate) async fn open(place: &Place, slots: u32, plan: &RolloutPlan) -> Result<Self, SandboxError> {
        let (policy, workspace) = (policy(plan), plan.environment.working_dir.as_str());
        let opened = (0..slots).map(|number| async move {
            let opened = match place {
                Place::Local { program, folder, hidden } => {
                    let folder = folder.join(number.to_string());
                    let (stream, process) = reach::start(program, &folder, hidden, workspace)?;
                    (stream, Some(process))
                }
                Place::Pod { folder, patience } => {
                    (reach::connect(&folder.join(number.to_string()).join("socket"), *patience).await?, None)
                }
            };
            Ok::<_, SandboxError>((number, opened))
        });
        let streams = try_join_all(opened).await?;
        let mut idle = Vec::new();
        let mut last = None;
        for (number, (stream, process)) in streams {
            match Slot::greet(number, stream, process, &policy, workspace).await {
                Ok(slot) => idle.push(slot),
                Err(error) if error.is_everybodys() => return Err(error),
                Err(error) => {
                    tracing::error!(slot = number, "a sandbox cannot be used: {error}");
                    last = Some(error);
                }
            }
        }
        if let (true, Some(error)) = (idle.is_empty(), last) {
            return Err(error);
        }
        let fit = u32::try_from(idle.len()).unwrap_or(u32::MAX);
        Ok(Self {
            free: Semaphore::new(idle.len()),
            idle: Mutex::new(idle),
            fit: AtomicU32::new(fit),
            quarantined: AtomicU32::new(slots - fit),
        })
    }

    /// How many there are of each kind.
    pub(crate) fn counts(&self) -> Counts {
        Counts { fit: self.fit.load(Ordering::Relaxed), quarantined: self.quarantined.load(Ordering::Relaxed) }
    }

    /// Waits for a sandbox and puts `tree` into it, one that has it already first. A sandbox that fails at that is kept apart, and the next is taken.
    pub(crate) async fn lend(&self, tree: &str, archive: &Path) -> Result<Lease, SandboxError> {
        loop {
            let mut slot = self.take(tree).await?;
            if slot.has(tree) {
                return Ok(Lease { slot });
            }
            match slot.put(tree, archive).await {
                Ok(()) => return Ok(Lease { slot }),
                Err(error) => {
                    let everybodys = error.is_everybodys();
                    self.settle(slot, Err(&error));
                    if everybodys {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Takes a sandbox back, and wipes it.
    pub(crate) async fn give_back(&self, mut lease: Lease) {
        if !lease.slot.is_fit() {
            return self.settle(lease.slot, Ok(()));
        }
        let wiped = lease.slot.wipe().await;
        self.settle(lease.slot, wiped.as_ref().copied());
    }

    async fn take(&self, tree: &str) -> Result<Slot, SandboxError> {
        let exhausted = || SandboxError::Exhausted { quarantined: self.counts().quarantined };
        self.free.acquire().await.map_err(|_| exhausted())?.forget();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let position = idle.iter().position(|slot| slot.has(tree)).unwrap_or(0);
        if idle.is_empty() { Err(exhausted()) } else { Ok(idle.swap_remove(position)) }
    }

    /// Puts a sandbox back among the idle ones, or keeps it apart: where it failed, it is not known to be clean.
    fn settle(&self, slot: Slot, outcome: Result<(), &SandboxError>) {
        if slot.is_fit() && outcome.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
            self.free.add_permits(1);
            return;
        }
        let why = outcome.err().map_or_else(|| "it failed in its last rollout".to_owned(), ToString::to_string);
        tracing::error!(slot = slot.number(), "a sandbox is used no more: {why}");
        self.quarantined.fetch_add(1, Ordering::Relaxed);
        if self.fit.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.free.close();
        }
    }
}
