//! The stages of a run and of a batch, in their order.

use super::choice::choice;

choice! {
    /// A stage of a run or a batch. A stage of a run locks the part of the spec that it works from before it starts.
    Stage: "a stage" {
        /// The repository's commits are taken and its functions indexed.
        Snapshot = "Snapshot",
        /// The teacher makes trajectories, and they are verified.
        Generation = "Generation",
        /// The samples of a batch are made. Only batches have this stage: a run's Generation is made of them.
        Rollouts = "Rollouts",
        /// The samples of a batch get their verdicts; or all samples of a run get new ones, after its policy was edited.
        Verification = "Verification",
        /// Trajectories become training lines.
        Dataset = "Dataset",
        /// The student is trained, merged and published.
        Training = "Training",
        /// Student, base and teacher are compared on functions that training never saw.
        Evaluation = "Evaluation",
        /// The student answers requests.
        Serving = "Serving",
        /// What the object has in its store is deleted, before the object itself goes.
        Reclaim = "Reclaim",
    }
}

choice! {
    /// A stage up to which an earlier run's work can be adopted.
    AdoptableStage: "a stage that can be adopted" {
        /// The snapshot alone.
        Snapshot = "Snapshot",
        /// The snapshot and the verified trajectories.
        Generation = "Generation",
        /// All of that and the dataset.
        Dataset = "Dataset",
    }
}

impl Stage {
    /// The stages of a run, in their order; a batch has Snapshot, Rollouts and Verification. Reclaim comes when either is deleted.
    pub const OF_A_RUN: [Self; 6] =
        [Self::Snapshot, Self::Generation, Self::Dataset, Self::Training, Self::Evaluation, Self::Serving];
}

impl From<AdoptableStage> for Stage {
    fn from(stage: AdoptableStage) -> Self {
        match stage {
            AdoptableStage::Snapshot => Self::Snapshot,
            AdoptableStage::Generation => Self::Generation,
            AdoptableStage::Dataset => Self::Dataset,
        }
    }
}
