//! What a training step takes, and what it leaves to be kept.

mod line;
mod state;

pub use line::Line;
pub use state::UnitState;
