//! Inference on processors for many sequences at once: a cache of keys and values in blocks that sequences share, a scheduler that lets requests join
//! and leave at every step, and a forward pass of its own, which keeps no gradients. What requests and answers look like on the wire is not known here.

mod attention;
mod blocks;
mod engine;
mod forward;
mod matrix;
mod reader;
mod rounded;
mod sampling;
mod scheduler;
mod sequence;
mod simd;
mod source;
#[cfg(test)]
mod testing;
mod weights;

pub use attention::block_bytes;
pub use blocks::BLOCK;
pub use engine::{Engine, EngineError, EngineSettings, EngineState, RefusedPrompt};
pub use matrix::Kept;
pub use reader::Reader;
pub use sampling::Sampling;
pub(crate) use sampling::most_likely;
pub use sequence::{Ending, Event, Prompt};
pub use source::{Source, SourceError};
pub use weights::Weights;
