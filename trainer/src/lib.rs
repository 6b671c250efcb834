//! Supervised fine-tuning of a student: the arithmetic of its model with every gradient written out, the optimizer, and the ranks that share the
//! work; around them the data, the checkpoints (in a folder or a bucket) and the loop, and what answers with the model that comes of it. How
//! conversations become tokens is `sera-chat`'s.

pub mod bench;
pub mod bucket;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod device;
mod draw;
mod durable;
pub mod engine;
pub mod files;
pub mod generate;
pub mod inference;
pub mod model;
pub mod ops;
pub mod optim;
pub mod ranks;
pub mod training;
mod wide;
