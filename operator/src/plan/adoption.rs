//! What a run has taken over from an earlier one, beside the snapshot: rollouts, which are then verified as if they were its own, or a dataset.

use sera_crds::{
    contract::{AdoptedDataset, AdoptedRollouts},
    run::GenerationTotals,
    values::Stage,
};

use super::{
    conditions::{ConditionType, Pen, Reason, Truth, Why},
    record::{Folded, Generation, Record, StageTime, Stored},
};

/// The most samples that a run may have: what the API lets `generation.maxSamples` be.
const MOST_SAMPLES: u32 = 20_000_000;

/// What was taken over.
pub(super) enum Adopted {
    /// The snapshot alone.
    Snapshot,
    /// The rollouts too.
    Rollouts(AdoptedRollouts),
    /// The dataset too.
    Dataset {
        /// It.
        dataset: Stored,
        /// Its first and its second trajectories.
        accepted: (u64, u64),
    },
}

impl Adopted {
    /// What the program says of it; none where that makes no sense.
    pub(super) fn of(rollouts: Option<AdoptedRollouts>, dataset: Option<AdoptedDataset>, folder: &str) -> Option<Self> {
        match (rollouts, dataset) {
            (None, None) => Some(Self::Snapshot),
            (Some(rollouts), None) => {
                let AdoptedRollouts { batches, samples } = rollouts;
                (batches > 0 && batches <= samples && samples <= MOST_SAMPLES).then_some(Self::Rollouts(rollouts))
            }
            (None, Some(AdoptedDataset { manifest, accepted_first, accepted_second })) => Some(Self::Dataset {
                dataset: Stored { uri: format!("{folder}/{}", manifest.path), sha256: manifest.sha256.parse().ok()? },
                accepted: (accepted_first, accepted_second),
            }),
            (Some(_), Some(_)) => None,
        }
    }

    /// Writes it down, with the locks and the conditions of what need not be done any more.
    pub(super) fn note(self, record: &mut Record, pen: Pen) {
        let adopted = |record: &mut Record, about, sentence: String| {
            record.conditions.set(pen, about, Truth::True, Why::new(Reason::Adopted, sentence));
        };
        if let Some(said) = record.conditions.get(ConditionType::Snapshotted).map(|said| said.message.clone()) {
            adopted(record, ConditionType::Snapshotted, format!("{said}, as an earlier run has taken them"));
        }
        match self {
            Self::Snapshot => {}
            Self::Rollouts(AdoptedRollouts { batches, samples }) => {
                // Nobody has verified them by this run's policy yet, and they have cost this run nothing.
                let totals = GenerationTotals { attempted: samples.into(), ..GenerationTotals::default() };
                let folded = Folded { through: batches, samples, adopted: samples, policy: None, totals };
                record.generation = Some(Generation { folded, ..Generation::default() });
                record.locked.extend([Stage::Generation, Stage::Rollouts]);
                record.times.entry(Stage::Generation).or_insert(StageTime::from(pen.now));
            }
            Self::Dataset { dataset, accepted: (first, second) } => {
                let totals = GenerationTotals {
                    accepted: first + second,
                    accepted_first: first,
                    accepted_second: second,
                    ..GenerationTotals::default()
                };
                record.generation = Some(Generation { totals, ..Generation::default() });
                record.dataset = Some(dataset);
                record.locked.extend([Stage::Generation, Stage::Rollouts, Stage::Dataset]);
                let sentence = format!("{first} first and {second} second trajectories are an earlier run's");
                adopted(record, ConditionType::Generated, sentence.clone());
                adopted(record, ConditionType::DatasetBuilt, sentence);
            }
        }
    }
}
