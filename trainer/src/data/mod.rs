//! What is trained on: the lines of a dataset as tokens with their loss mask, and which of them each step and each rank sees. No tensors.

mod cache;
mod lines;
mod order;
mod read;
mod renderer;

pub use order::{Order, OrderError, share};
pub use read::{DataError, Dataset, Limits};
pub use renderer::{LineProblem, Renderer};
