//! The rollouts of an earlier run: of its batches those that are finished, in their order, under the names that they have in this run. What no record
//! names stays behind.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::{AdoptedRollouts, FileDigest, PullRequestRecord, RolloutRecord, SampleOutcome};
use serde::de::DeserializeOwned;

use super::{AdoptionError, Courier};
use crate::progress::Step;
use crate::verify::stage::ROLLOUTS;

/// What ends a sample.
const OUTCOME: &str = "outcome.json";
/// What ends the search for its pull request.
const PULL_REQUEST: &str = "pr.json";
/// How many samples are copied at once: each is a dozen small files, and stores answer in tens of milliseconds.
const AT_ONCE: usize = 32;

/// The documents of samples by their numbers: the names of those that lie in a sample's folder itself.
type Samples = BTreeMap<u64, BTreeSet<String>>;

pub(super) async fn adopt(courier: &Courier<'_>, run: &str) -> Result<AdoptedRollouts, AdoptionError> {
    let step = courier.progress.step("copying the rollouts");
    let batches = finished(&courier.from.list(ROLLOUTS).await?);
    let samples: usize = batches.iter().map(|(_, samples)| samples.len()).sum();
    if samples == 0 {
        return Err(AdoptionError::NoBatch { from: courier.address.to_owned() });
    }
    let mut copied = 0;
    for (number, (name, documents)) in batches.iter().enumerate() {
        let to = format!("{ROLLOUTS}/{run}-{}", number + 1);
        let mut going = stream::iter(documents)
            .map(|(sample, documents)| {
                let (from, to) = (format!("{ROLLOUTS}/{name}/{sample}"), format!("{to}/{sample}"));
                Folder { courier, from, to }.copy(documents)
            })
            .buffer_unordered(AT_ONCE);
        while going.try_next().await?.is_some() {
            copied += 1;
            step.update("samples", copied, samples as u64);
        }
    }
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    Ok(AdoptedRollouts { batches: count(batches.len()), samples: count(samples) })
}

/// The batches whose samples all have an end, for as long as they follow each other from sample 0 on: what a run has folded in.
fn finished(files: &[(String, u64)]) -> Vec<(String, Samples)> {
    let mut batches: BTreeMap<u64, (String, Samples)> = BTreeMap::new();
    for (name, _) in files {
        let mut parts = name.split('/').skip(1);
        let [Some(batch), Some(sample), Some(file)] = [parts.next(), parts.next(), parts.next()] else { continue };
        let number = batch.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
        let (Some(number), Ok(sample)) = (number, sample.parse()) else { continue };
        let (_, samples) = batches.entry(number).or_insert_with(|| (batch.to_owned(), Samples::new()));
        let documents = samples.entry(sample).or_default();
        if parts.next().is_none() {
            documents.insert(file.to_owned());
        }
    }
    let mut next = (1, 0);
    batches
        .into_iter()
        .map_while(|(number, (batch, samples))| {
            let follows = samples.keys().copied().eq(next.1..next.1 + samples.len() as u64);
            let is_finished = samples.values().all(|documents| documents.contains(OUTCOME));
            if number != next.0 || !follows || !is_finished {
                return None;
            }
            next = (number + 1, next.1 + samples.len() as u64);
            Some((batch, samples))
        })
        .collect()
}

/// A sample's folder, there and here.
struct Folder<'a> {
    courier: &'a Courier<'a>,
    from: String,
    to: String,
}

impl Folder<'_> {
    /// Copies what the documents name, and then the documents, the one that ends the sample last.
    async fn copy(self, documents: &BTreeSet<String>) -> Result<(), AdoptionError> {
        let outcome = self.read(OUTCOME).await?;
        if self.courier.has(&format!("{}/{OUTCOME}", self.to), &outcome).await? {
            return Ok(());
        }
        for name in documents.iter().filter(|name| *name != OUTCOME) {
            let document = self.read(name).await?;
            if name == PULL_REQUEST {
                let PullRequestRecord { folder, pull_request, .. } = self.parse(name, &document)?;
                self.files(&folder, pull_request.iter().map(|request| &request.text)).await?;
            } else if name.starts_with('t') {
                let RolloutRecord { folder, trajectory, patch, .. } = self.parse(name, &document)?;
                self.files(&folder, [&trajectory, &patch]).await?;
            }
            self.courier.commit(&format!("{}/{name}", self.to), document).await?;
        }
        let SampleOutcome { folder, pull_request, .. } = self.parse(OUTCOME, &outcome)?;
        self.files(&folder, pull_request.iter().map(|request| &request.text)).await?;
        self.courier.commit(&format!("{}/{OUTCOME}", self.to), outcome).await
    }

    async fn read(&self, name: &str) -> Result<Bytes, AdoptionError> {
        let file = format!("{}/{name}", self.from);
        self.courier.read(&file).await?.ok_or(AdoptionError::Gone { file })
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, document: &Bytes) -> Result<T, AdoptionError> {
        let malformed = |source| AdoptionError::Malformed { file: format!("{}/{name}", self.from), source };
        serde_json::from_slice(document).map_err(malformed)
    }

    async fn files<'f>(
        &self,
        folder: &str,
        files: impl IntoIterator<Item = &'f FileDigest>,
    ) -> Result<(), AdoptionError> {
        let step = Step::unseen("a file");
        for file in files {
            let [from, to] = [&self.from, &self.to].map(|sample| format!("{sample}/{folder}/{}", file.name));
            self.courier.file_as(&from, &to, &file.into(), &step).await?;
        }
        Ok(())
    }
}
