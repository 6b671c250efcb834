//! The stages of a run, in their order.

use super::choice::choice;

choice! {
    /// A stage of a run. A stage locks the part of the spec that it works from before it starts.
    Stage: "a stage" {
        /// The repository's commits are taken and its functions indexed.
        Snapshot = "Snapshot",
        /// The teacher makes trajectories, and they are verified.
        Generation = "Generation",
        /// Trajectories become training lines.
        Dataset = "Dataset",
        /// The student is trained, merged and published.
        Training = "Training",
        /// Student, base and teacher are compared on functions that training never saw.
        Evaluation = "Evaluation",
        /// The student answers requests.
        Serving = "Serving",
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

impl From<AdoptableStage> for Stage {
    fn from(stage: AdoptableStage) -> Self {
        match stage {
            AdoptableStage::Snapshot => Self::Snapshot,
            AdoptableStage::Generation => Self::Generation,
            AdoptableStage::Dataset => Self::Dataset,
        }
    }
}
