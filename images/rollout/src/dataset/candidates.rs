//! What verification has found: every verdict of the batches that a dataset is made from, as candidates for a line, and what was left out and why.

use std::collections::BTreeMap;

use sera_crds::contract::{
    FileDigest, Fraction, FunctionRef, Judgement, Policy, Recalls, Rejection, RolloutKind, Verdict,
};
use sera_crds::values::BugKind;

use super::sketch::Sketch;
use crate::failure::{Cause, Explain};
use crate::store::{Digest, Store, StoreError};
use crate::verify::stage;

/// The folder of verdicts.
const FOLDER: &str = "verified";

/// A trajectory that could become a line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub(super) batch: String,
    pub(super) sample: u64,
    pub(super) rollout: RolloutKind,
    pub(super) function: FunctionRef,
    pub(super) bug_kind: Option<BugKind>,
    pub(super) patch_sha256: String,
    pub(super) kept: Fraction,
    pub(super) tokens: u32,
    pub(super) sketch: Option<Sketch>,
}

/// All verdicts under one policy.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// What was accepted, in the order of samples, the first rollout before the second.
    pub(super) accepted: Vec<Candidate>,
    /// What was not.
    pub(super) rejected: BTreeMap<Rejection, u64>,
    /// How much was found again.
    pub(super) recalls: Recalls,
    /// The files that they are from, in order.
    pub(super) files: Vec<FileDigest>,
}

/// Why there are no verdicts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CandidatesError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was verified at all.
    #[error("the store has no verified batch: run `sera-rollout verify` on its batches first")]
    Nothing,
    /// A batch was not verified, or under another policy.
    #[error(
        "batch {batch} was not verified under this policy ({policy}): run `sera-rollout verify` on it with the same settings and student first"
    )]
    NotVerified {
        /// The batch.
        batch: String,
        /// The policy's digest.
        policy: String,
    },
    /// A file of verdicts has something else in it.
    #[error("line {line} of {file} in the store is no verdict of this release: {source}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An accepted trajectory lacks what makes a line.
    #[error(
        "the verdict on sample {sample} in {file} accepts a trajectory without saying its length: verify the batch again, with the student"
    )]
    Incomplete {
        /// The file.
        file: String,
        /// The sample.
        sample: u64,
    },
}

impl Explain for CandidatesError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Nothing | Self::NotVerified { .. } => Cause::unavailable("NotVerified"),
            Self::Malformed { .. } | Self::Incomplete { .. } => Cause::conflict("VerdictsDamaged"),
        }
    }
}

/// The batches that have verdicts, in the order of their names.
pub(super) async fn batches(store: &Store) -> Result<Vec<String>, CandidatesError> {
    let files = store.list(FOLDER).await?;
    let mut batches: Vec<String> =
        files.iter().filter_map(|(name, _)| Some(name.split('/').nth(1)?.to_owned())).collect();
    batches.dedup();
    if batches.is_empty() { Err(CandidatesError::Nothing) } else { Ok(batches) }
}

/// Reads the verdicts of some batches.
pub(super) async fn read(store: &Store, batches: &[String], policy: &Policy) -> Result<Candidates, CandidatesError> {
    let policy = stage::digest(policy);
    let mut candidates = Candidates::default();
    for batch in batches {
        let file = format!("{FOLDER}/{batch}/{policy}.jsonl");
        let content = store.read_data(&file).await?;
        let content =
            content.ok_or_else(|| CandidatesError::NotVerified { batch: batch.clone(), policy: policy.clone() })?;
        for (position, line) in content.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let malformed = |source| CandidatesError::Malformed { file: file.clone(), line: position + 1, source };
            let verdict: Verdict = serde_json::from_slice(line).map_err(malformed)?;
            candidates.take(batch, &file, &verdict)?;
        }
        let Digest { bytes, sha256 } = Digest::of(&content);
        candidates.files.push(FileDigest { name: file, bytes, sha256 });
    }
    candidates.accepted.sort_by_key(|candidate| (candidate.sample, candidate.rollout));
    Ok(candidates)
}

impl Candidates {
    fn take(&mut self, batch: &str, file: &str, verdict: &Verdict) -> Result<(), CandidatesError> {
        if let Some(recall) = verdict.measures.as_ref().and_then(|measures| measures.recall) {
            self.recalls.add(recall, verdict.leaks);
        }
        for (rollout, judgement) in [(RolloutKind::First, &verdict.first), (RolloutKind::Second, &verdict.second)] {
            if let Some(reason) = judgement.rejected {
                *self.rejected.entry(reason).or_default() += 1;
                continue;
            }
            let candidate = candidate(batch, verdict, rollout, judgement);
            let incomplete = || CandidatesError::Incomplete { file: file.to_owned(), sample: verdict.sample };
            self.accepted.push(candidate.ok_or_else(incomplete)?);
        }
        Ok(())
    }
}

fn candidate(batch: &str, verdict: &Verdict, rollout: RolloutKind, judgement: &Judgement) -> Option<Candidate> {
    let (kept, all) = judgement.kept?;
    Some(Candidate {
        batch: batch.to_owned(),
        sample: verdict.sample,
        rollout,
        function: verdict.function.clone()?,
        bug_kind: verdict.bug_kind.filter(|_| rollout == RolloutKind::First),
        patch_sha256: judgement.patch_sha256.clone()?,
        kept: Fraction { matched: kept.into(), total: all.into() },
        tokens: judgement.tokens?,
        sketch: judgement.sketch.as_deref().and_then(Sketch::decode),
    })
}
