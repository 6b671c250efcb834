//! What has to be kept of a training to go on with it.

use std::ops::Range;

/// One rank's part of a unit of the model (a layer, the embedding): its weights and their moments, in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitState {
    /// The unit's name.
    pub unit: String,
    /// Which of the unit's values these are.
    pub range: Range<usize>,
    /// How many values the unit has in all.
    pub total: usize,
    /// The weights.
    pub weights: Vec<f32>,
    /// The mean gradients.
    pub mean: Vec<f32>,
    /// The mean squared gradients.
    pub square: Vec<f32>,
}
