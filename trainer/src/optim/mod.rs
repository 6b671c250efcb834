//! What turns gradients into steps: `AdamW` over flat f32 values, in the host's memory or as tensors, the learning rate of each step, and clipping by
//! the global norm. No model and no ranks: whoever shards a model hands over the values of its shard.

mod adamw;
mod clip;
mod schedule;
mod tensors;

pub use adamw::{AdamW, DecayRule, Shard, ShardError};
pub use clip::{clip_factor, sum_of_squares};
pub use schedule::{Decline, Schedule, warm_up_steps};
pub use tensors::{TensorShard, tensor_sum_of_squares};
