//! Supervised fine-tuning of a student: the arithmetic of its model with every gradient written out, the optimizer, and the ranks that share the work.
//! No conversations: how they become tokens is `sera-chat`'s.

pub mod cli;
pub mod files;
pub mod generate;
pub mod model;
pub mod ops;
pub mod optim;
pub mod ranks;
