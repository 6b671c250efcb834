//! Dense decoder models as Hugging Face transformers defines them (Qwen3, Qwen2, Llama): configuration, weights, a block's forward and backward, and
//! the loss of a whole batch with every gradient. No files: tensors come by name, and gradients leave by name, a layer at a time.

mod block;
mod config;
mod lora;
mod loss;
mod names;
mod source;
#[cfg(test)]
pub(crate) mod testing;
mod weights;

pub use block::{BlockGradients, BlockValues, Tokens, block_bwd, block_fwd};
pub use config::{Config, ConfigError, Family};
pub use lora::{LoraError, LoraSettings};
pub use loss::{Batch, BatchError, Keep, evaluate, hidden_states, loss, loss_and_gradients, train};
pub(crate) use names::is_passed_over;
pub use source::{Apart, Head, Source, Unit};
pub use weights::{Layer, Model, Named, QkNorm, Supply, Unread, WeightsError};
