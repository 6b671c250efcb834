//! What a run of a walk may use, and what its samples give: its owner raises and lowers the one while it works, and the other is the same whatever batches
//! they are in.

use proptest::prelude::*;
use sera_crds::{
    contract::{Usage, VerificationCounts},
    run::GenerationTotals,
    values::{Sha256, Stage},
};

use super::world::World;
use crate::plan::{
    RunWork, Work,
    record::Batch,
    tests::{counts, digest, intent, policy},
    totals,
};

/// Of so many samples in a row the first ones give a trajectory of the first kind, and the first of these one of the second kind too: 24 are enough for
/// ten and six.
const ROW: u64 = 8;
const FIRST_OF_A_ROW: u64 = 4;
const SECOND_OF_A_ROW: u64 = 3;

/// How many first and second trajectories so many samples give, from the run's first on.
pub(super) fn yields(samples: u64) -> (u64, u64) {
    let of = |kind: u64| samples / ROW * kind + (samples % ROW).min(kind);
    (of(FIRST_OF_A_ROW), of(SECOND_OF_A_ROW))
}

/// What a batch gives and costs.
pub(super) fn gives(batch: &Batch) -> GenerationTotals {
    let (from, count) = (u64::from(batch.from), u64::from(batch.count));
    let (before, after) = (yields(from), yields(from + count));
    let usage = Usage {
        calls: 10 * count,
        prompt_tokens: 100 * count,
        cached_tokens: 80 * count,
        completion_tokens: 25 * count,
    };
    let counted = VerificationCounts { attempted: count, usage, ..counts(after.0 - before.0, after.1 - before.1) };
    totals::counted(&counted, None, &GenerationTotals::default())
}

/// Something that a run may use, or has to reach.
#[derive(Debug, Clone, Copy)]
pub(super) enum Means {
    /// How many tokens all batches together may take; a sample takes 125.
    Tokens(Option<u64>),
    /// How many trajectories are wanted.
    Target(u32),
    /// How many samples may be made.
    MaxSamples(u32),
    /// How many batches may be under way.
    Parallel(u32),
}

pub(super) fn means() -> impl Strategy<Value = Means> {
    use Means::*;
    prop_oneof![
        prop::sample::select(vec![None, Some(700), Some(2_500)]).prop_map(Tokens),
        prop::sample::select(vec![8, 16, 24, 32]).prop_map(Target),
        prop::sample::select(vec![20, 40, 64]).prop_map(MaxSamples),
        (1..=3_u32).prop_map(Parallel),
    ]
}

/// The digest of the policy and of what is asked of the dataset, which differs where one of them does.
pub(super) fn asked_of_dataset(work: &RunWork) -> Sha256 {
    let of_targets = if work.policy == policy('1') { ['a', 'd', 'b', '3'] } else { ['c', 'e', 'f', '4'] };
    digest(of_targets[work.accepted as usize / 8 - 1])
}

impl World {
    /// The API server refuses some of it once the dataset is begun.
    pub(super) fn edits_means(&mut self, means: Means) {
        let is_locked = self.object.record.locked.contains(&Stage::Dataset);
        if is_locked && matches!(means, Means::Target(_) | Means::MaxSamples(_)) {
            return;
        }
        self.was_held = true;
        self.edit(|intent| {
            let Some(Work::Run(work)) = &mut intent.work else { return };
            match means {
                Means::Tokens(most) => work.budget.max_tokens = most,
                Means::Target(wanted) => work.accepted = wanted,
                Means::MaxSamples(most) => work.max_samples = most,
                Means::Parallel(most) => work.parallel = most,
            }
            work.dataset = asked_of_dataset(work);
        });
    }

    /// How many copies of the teacher there are is the business of what is built; that its owner has said something is the plan's.
    pub(super) fn edits_replicas(&mut self) {
        self.edit(|intent| {
            let Some(Work::Run(work)) = &mut intent.work else { return };
            if let Some(serving) = &mut work.serving {
                serving.replicas = 3 - serving.replicas;
            }
        });
    }

    /// How many copies of the student are wanted.
    pub(super) fn copies(&self) -> u32 {
        let Some(Work::Run(work)) = &self.object.intent.work else { return 0 };
        work.serving.as_ref().map_or(0, |serving| serving.replicas)
    }

    /// The owner gives a run what it had at first.
    pub(super) fn has_its_means_again(&mut self) {
        let (Some(Work::Run(work)), Some(Work::Run(first))) = (&self.object.intent.work, &intent().work) else {
            return;
        };
        let is_other = [
            work.budget.max_tokens != first.budget.max_tokens,
            work.max_samples != first.max_samples,
            work.accepted != first.accepted,
        ];
        let again = [
            Means::Tokens(first.budget.max_tokens),
            Means::MaxSamples(first.max_samples),
            Means::Target(first.accepted),
        ];
        for (_, means) in is_other.into_iter().zip(again).filter(|(is_other, _)| *is_other) {
            self.edits_means(means);
        }
    }

    /// What the program of a Job that is made now is told. A dataset is made only where there is enough for it.
    pub(super) fn is_told(&mut self, name: &str, stage: Stage) {
        let Some(Work::Run(work)) = &self.object.intent.work else { return };
        let wanted = work.shares();
        let found = self.object.record.generation.as_ref().map(|known| yields(known.folded.samples.into()));
        let is_enough = found.is_some_and(|(first, second)| first >= wanted.0 && second >= wanted.1);
        assert!(stage != Stage::Dataset || is_enough, "a dataset of {wanted:?} is made of {found:?} trajectories");
        self.asked.insert(name.into(), wanted);
    }
}
