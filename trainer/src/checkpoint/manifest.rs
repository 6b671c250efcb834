//! A checkpoint's manifest: which training it is of, how far that has come, and the digests of its files.

use std::collections::BTreeMap;

use sera_crds::contract::FileDigest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::needed;

/// The name of a checkpoint's manifest.
pub(super) const MANIFEST: &str = "manifest.json";

/// The layout's number: a checkpoint of another is passed over.
pub(super) const VERSION: u32 = 1;

/// What a checkpoint belongs to. Only what decides about the weights counts: how often checkpoints are written, how many ranks there are and what is
/// sharded between them may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The plan's sha256.
    pub plan: String,
    /// The base model's.
    pub model: String,
    /// The dataset's.
    pub dataset: String,
}

/// What a training has counted so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sums {
    /// Tokens that carried loss.
    pub trained_tokens: u64,
    /// All tokens.
    pub tokens: u64,
    /// Steps that were left out: loss or gradients were no numbers, or the loss was far too high.
    pub skipped: u32,
    /// The mean loss a trained token of the last step that was not skipped.
    pub loss: Option<f64>,
    /// The running mean of such losses, in whole millionths, which come back from JSON to the bit.
    pub mean_loss: Option<f64>,
    /// How many of them are in it.
    pub averaged: u32,
    /// Whether the loss was ever low enough that a high one means that the training breaks.
    pub has_been_low: bool,
    /// How many steps in a row had a high one, up to now.
    pub high_in_a_row: u32,
    /// The loss over the lines set aside, when it was looked at last.
    pub eval_loss: Option<f64>,
    /// The step after which that was.
    pub evaluated: Option<u32>,
    /// The lowest that was found so far.
    pub best_eval_loss: Option<f64>,
}

/// `manifest.json` of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The sha256 of the manifest with zeros in the place of this: one damaged bit could make it another training's. Empty in those written before.
    #[serde(default)]
    pub seal: String,
    /// The layout's number.
    pub version: u32,
    /// The step after which it was written: where the data goes on follows from it.
    pub step: u32,
    /// How many steps there are in all.
    pub total_steps: u32,
    /// How many ranks wrote it.
    pub world: usize,
    /// Which training it is of.
    pub origin: Origin,
    /// What that has counted.
    pub sums: Sums,
    /// The units that are trained, and how many values each has: where those of a rank lie follows from that.
    #[serde(default)]
    pub units: BTreeMap<String, usize>,
    /// The ranks' parts, by rank.
    pub parts: Vec<FileDigest>,
    /// The losses of all steps so far, a line each.
    pub losses: FileDigest,
}

impl Origin {
    /// What differs from another, with both digests: the first thing that does.
    pub(super) fn difference<'a>(&'a self, other: &'a Self) -> Option<(&'static str, &'a str, &'a str)> {
        [
            ("base model", &self.model, &other.model),
            ("dataset", &self.dataset, &other.dataset),
            ("plan", &self.plan, &other.plan),
        ]
        .into_iter()
        .find(|(_, own, others)| own != others)
        .map(|(what, own, others)| (what, own.as_str(), others.as_str()))
    }

    /// Whether another one is of the same base model and dataset by another plan.
    pub(super) fn differs_by_plan_alone(&self, other: &Self) -> bool {
        self.plan != other.plan && (&self.model, &self.dataset) == (&other.model, &other.dataset)
    }
}

impl Sums {
    /// Takes note of the loss over the lines set aside after step `step`, and says whether it is lower than any before it.
    pub fn evaluate(&mut self, step: u32, loss: f64) -> bool {
        (self.eval_loss, self.evaluated) = (Some(loss), Some(step));
        let lower = loss.is_finite() && self.best_eval_loss.is_none_or(|best| loss < best);
        if lower {
            self.best_eval_loss = Some(loss);
        }
        lower
    }
}

/// What stands in the place of a seal that is not known yet.
pub(super) fn unsealed() -> String {
    "0".repeat(64)
}

impl Manifest {
    /// The manifest as it is written, sealed.
    pub(super) fn sealed(&self) -> serde_json::Result<Vec<u8>> {
        let text = String::from_utf8_lossy(&serde_json::to_vec_pretty(self)?).into_owned();
        Ok(text.replacen(&self.seal, &hex::encode(Sha256::digest(&text)), 1).into_bytes())
    }

    /// Whether `content`, which this was read from, is what was sealed.
    pub(super) fn is_whole(&self, content: &[u8]) -> bool {
        let text = String::from_utf8_lossy(content);
        self.seal.is_empty() || hex::encode(Sha256::digest(text.replacen(&self.seal, &unsealed(), 1))) == self.seal
    }

    /// Which parts rank `rank` of a world of `world` needs to go on.
    pub fn needed(&self, rank: usize, world: usize) -> Vec<usize> {
        if self.world == world {
            return vec![rank];
        }
        if self.units.is_empty() {
            // Written before manifests had them.
            return (0..self.world).collect();
        }
        let totals: Vec<usize> = self.units.values().copied().collect();
        needed(&totals, self.world, rank, world)
    }

    /// The loss over the lines set aside after the step that this is of; none where it was looked at after another.
    pub(super) fn eval_loss(&self) -> Option<f64> {
        self.sums.eval_loss.filter(|_| self.sums.evaluated == Some(self.step))
    }

    /// Every file that has to be there.
    pub(super) fn files(&self) -> impl Iterator<Item = &FileDigest> {
        self.parts.iter().chain([&self.losses])
    }
}
