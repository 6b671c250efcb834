//! What turns gradients into steps: `AdamW` over flat f32 values, the learning rate of each step, and clipping by the global norm. No tensors and no
//! ranks: whoever shards a model hands over the values of its shard.

mod adamw;
mod clip;
mod schedule;

pub use adamw::{AdamW, DecayRule, Shard, ShardError};
pub use clip::{clip_factor, sum_of_squares};
pub use schedule::{Decline, Schedule, warm_up_steps};
