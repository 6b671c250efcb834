//! Supervised fine-tuning of a student: the arithmetic of its model with every gradient written out, and the optimizer. No conversations (that is
//! `sera-chat`), no files, no ranks.

pub mod model;
pub mod ops;
pub mod optim;
