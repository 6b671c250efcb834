//! Models that are 256 wide, with heads of 96 and a vocabulary of 4,097, and adapters beside them: logits, loss, every gradient and 60 steps of
//! `AdamW`, in f32 and in bf16, against what transformers and PEFT make of the same. The fixtures, and how to make them again, are in
//! `golden/parity.py`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]
#![allow(clippy::cast_precision_loss, reason = "counts are small")]

#[path = "../adapters/mod.rs"]
mod adapters;
#[path = "../device/mod.rs"]
mod device;
mod drawn;
mod golden;
mod passes;
mod steps;
mod sums;
