//! Whether a store keeps its word: of several writers that create one object, exactly one may win. Everything that is committed relies on it,
//! and some S3 servers look first and write then.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::try_join_all;
use object_store::ObjectStoreExt;

use super::{Creation, Store, StoreError};

/// How the probes' names begin.
const PREFIX: &str = ".probe-";
/// When the probe of another process is taken for one that was killed, in seconds: a probe takes a few at most.
const ABANDONED: i64 = 600;
/// Writers that are let loose on one object at once.
const WRITERS: u8 = 4;

impl Store {
    /// Refuses a store that cannot be written, or that lets two writers create one object. Leaves nothing behind.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{PREFIX}{}-{nanoseconds}", std::process::id());
        let outcome = self.race(&name).await;
        if let Err(error) = self.objects.delete(&self.path(&name)).await {
            tracing::debug!("the probe cannot be deleted: {error}");
        }
        self.sweep_probes().await;
        outcome
    }

    /// Deletes the probes of processes that were killed meanwhile.
    async fn sweep_probes(&self) {
        let Ok(listed) = self.objects.list_with_delimiter(Some(&self.root)).await else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for object in listed.objects {
            let is_probe = object.location.filename().is_some_and(|name| name.starts_with(PREFIX));
            let age = i64::try_from(now).unwrap_or_default() - object.last_modified.timestamp();
            if is_probe && age > ABANDONED {
                match self.objects.delete(&object.location).await {
                    Ok(()) => tracing::info!(probe = %object.location, "deleted the probe of a killed process"),
                    Err(error) => tracing::debug!(probe = %object.location, "cannot be deleted: {error}"),
                }
            }
        }
    }

    /// Lets several writers race for `name`, and then one more come late.
    async fn race(&self, name: &str) -> Result<(), StoreError> {
        let racers = (0..WRITERS).map(|writer| self.create(name, Bytes::from(vec![writer])));
        let outcomes = try_join_all(racers).await?;
        let winners = outcomes.into_iter().filter(|outcome| *outcome == Creation::Created).count();
        let late = self.create(name, Bytes::from(vec![WRITERS])).await?;
        if winners == 1 && late == Creation::Existed {
            Ok(())
        } else if winners == 0 && late == Creation::Existed {
            // The winner's answer was lost on its way, and its client asked again: that proves nothing.
            let source = "the answer to who was first of several writers was lost: try again".into();
            let source = object_store::Error::Generic { store: "the store", source };
            Err(StoreError::from_object_store(source, &self.uri, false))
        } else {
            Err(StoreError::NotConditional { uri: self.uri.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use crate::store::local;

    #[tokio::test]
    async fn a_local_folder_passes_and_is_left_empty() {
        let folder = tempfile::tempdir().unwrap();
        local(folder.path()).probe().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn old_probes_are_swept_and_young_ones_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::now() - Duration::from_hours(1);
        for (name, age) in [(".probe-1-1", Some(long_ago)), (".probe-2-2", None), ("report.json", Some(long_ago))] {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(age.unwrap_or_else(SystemTime::now)).unwrap();
        }
        local(folder.path()).probe().await.unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".probe-2-2", "report.json"]);
    }
}
