//! What the calls took that no record holds: those of rollouts that were at work when the process was stopped, and those whose result came second.
//! They are paid all the same. `<sample>/<folder>/spent.json` says so to whoever brings the sample to its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sera_crds::contract::{CONTRACT_VERSION, PullRequestRecord, RolloutRecord, SpentRecord, Usage};

use super::records::{RecordError, Shelf};
use crate::budget::Tally;
use crate::store::Store;

/// The name of the record.
const SPENT: &str = "spent.json";
/// The records that hold what rollouts took, those with other bug kinds included.
const ROLLOUTS: [&str; 4] = ["t1-1.json", "t1-2.json", "t1.json", "t2.json"];

/// What this process has spent on each sample that it has not brought to its end. It outlives the stage, which is dropped when the process is stopped.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    home: OnceLock<Home>,
    /// By the place of the sample's folder, and its number.
    open: Mutex<BTreeMap<(String, u64), Arc<Tally>>>,
}

/// Where this process's records go.
#[derive(Debug)]
struct Home {
    store: Store,
    folder: String,
}

impl Ledger {
    /// Says where records go. Only the first word counts: a process has one store, and one folder's name.
    pub(crate) fn begin(&self, store: &Store, folder: &str) {
        let home = Home { store: store.clone(), folder: folder.to_owned() };
        self.home.get_or_init(|| home);
    }

    /// What is counted for a sample.
    pub(crate) fn tally(&self, place: &str, sample: u64) -> Arc<Tally> {
        self.lock().entry((place.to_owned(), sample)).or_default().clone()
    }

    /// Writes down what was spent on samples without an end.
    pub(crate) async fn write_down(&self) -> Result<(), RecordError> {
        let Some(Home { store, folder }) = self.home.get() else { return Ok(()) };
        let open = self.lock().clone();
        for ((place, sample), tally) in open {
            settle(Shelf { store, place: &place, sample, folder }, &tally).await?;
        }
        Ok(())
    }

    /// Brings the account of a sample to its end: all that was spent on it and is in no record, by whichever process.
    pub(crate) async fn close(&self, shelf: Shelf<'_>) -> Result<Usage, RecordError> {
        settle(shelf, &self.tally(shelf.place, shelf.sample)).await?;
        let unrecorded = unrecorded(shelf).await?;
        self.lock().remove(&(shelf.place.to_owned(), shelf.sample));
        Ok(unrecorded)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Arc<Tally>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down what of a tally is in none of this process's records.
async fn settle(shelf: Shelf<'_>, tally: &Tally) -> Result<(), RecordError> {
    let mut left = tally.total();
    for name in ROLLOUTS {
        if let Some(record) = shelf.read::<RolloutRecord>(name).await?.filter(|found| found.folder == shelf.folder) {
            left -= record.usage;
        }
    }
    let written = shelf.read::<PullRequestRecord>("pr.json").await?.filter(|found| found.folder == shelf.folder);
    left -= written.map(|record| record.usage).unwrap_or_default();
    if left.calls == 0 {
        return Ok(());
    }
    tracing::info!(sample = shelf.sample, calls = left.calls, "calls of a rollout without an end are written down");
    let (sample, rehearsal) = (shelf.sample, tally.is_a_rehearsals());
    shelf.note(SPENT, &SpentRecord { version: CONTRACT_VERSION, sample, usage: left, rehearsal }).await
}

/// What processes have written down of a sample that is in no other record.
async fn unrecorded(shelf: Shelf<'_>) -> Result<Usage, RecordError> {
    let mut usage = Usage::default();
    for name in shelf.files_named(SPENT).await? {
        usage += shelf.read::<SpentRecord>(&name).await?.map(|record| record.usage).unwrap_or_default();
    }
    Ok(usage)
}

/// What was spent on a sample that has no end yet, as far as the store tells.
pub(crate) async fn spent_before(shelf: Shelf<'_>) -> Result<Usage, RecordError> {
    let mut usage = unrecorded(shelf).await?;
    for name in ROLLOUTS {
        usage += shelf.read::<RolloutRecord>(name).await?.map(|record| record.usage).unwrap_or_default();
    }
    let written = shelf.read::<PullRequestRecord>("pr.json").await?;
    usage += written.map(|record| record.usage).unwrap_or_default();
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::local;

    fn usage(calls: u64) -> Usage {
        Usage { calls, prompt_tokens: 100 * calls, cached_tokens: 90 * calls, completion_tokens: calls }
    }

    fn record(folder: &str, calls: u64) -> PullRequestRecord {
        let folder = folder.to_owned();
        let (usage, rehearsal) = (usage(calls), false);
        PullRequestRecord { version: CONTRACT_VERSION, sample: 7, folder, pull_request: None, usage, rehearsal }
    }

    #[tokio::test]
    async fn what_a_stopped_process_spent_is_counted_once_by_the_one_that_ends_the_sample() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(folder.path());
        let [stopped, next] =
            ["uid-1", "uid-2"].map(|folder| Shelf { store: &store, place: "rollouts/b3", sample: 7, folder });
        let ledger = Ledger::default();
        ledger.begin(&store, "uid-1");
        ledger.tally("rollouts/b3", 7).add(usage(5));
        stopped.commit("pr.json", record("uid-1", 2)).await.unwrap();
        ledger.write_down().await.unwrap();
        ledger.write_down().await.unwrap();
        assert_eq!(spent_before(next).await.unwrap(), usage(5), "two in the record and three beside it");

        let ledger = Ledger::default();
        ledger.begin(&store, "uid-2");
        ledger.tally("rollouts/b3", 7).add(usage(4));
        assert_eq!(ledger.close(next).await.unwrap(), usage(3 + 4), "the second process has no record of its own");
        ledger.write_down().await.unwrap();
        assert_eq!(spent_before(next).await.unwrap(), usage(2 + 3 + 4));
    }

    #[tokio::test]
    async fn a_sample_whose_calls_are_all_in_records_leaves_nothing_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = local(folder.path());
        let shelf = Shelf { store: &store, place: "rollouts/b3", sample: 7, folder: "uid-1" };
        let ledger = Ledger::default();
        ledger.write_down().await.unwrap();
        ledger.begin(&store, "uid-1");
        ledger.tally("rollouts/b3", 7).add(usage(2));
        shelf.commit("pr.json", record("uid-1", 2)).await.unwrap();
        assert_eq!(ledger.close(shelf).await.unwrap(), Usage::default());
        assert!(!folder.path().join("rollouts/b3/7/uid-1").exists());
    }
}
