//! What an engine is told, what it is given, what it answers and why it may refuse. No work.

use std::convert::Infallible;

use candle_core::{DType, Error};
use sera_crds::values::Sharding;

use super::StateError;
use crate::device::DeviceError;
use crate::model::{BatchError, Keep, LoraError, LoraSettings};
use crate::ops::{AttentionBy, AttentionError, SegmentsError};
use crate::optim::{AdamW, DecayRule, ShardError};
use crate::ranks::RankError;

/// One training line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it is called where something is wrong with it, and what its dropout is drawn from.
    pub id: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Whether each token is to be learnt; the first one never is.
    pub loss: Vec<bool>,
}

impl Line {
    /// How many tokens are predicted.
    pub fn trained(&self) -> usize {
        self.loss.iter().skip(1).filter(|loss| **loss).count()
    }
}

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// All weights.
    Full,
    /// Adapters beside frozen weights.
    Lora(LoraSettings),
}

/// What the losses of a step's tokens are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalise {
    /// The trained tokens of the whole global batch: every token counts the same.
    PerToken,
    /// The trained tokens of their line, and then the lines: every line counts the same.
    MeanOfMeans,
}

/// Where what is stepped, master weights and moments, and its gradients live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Residence {
    /// In the host's memory. The fastest for models that are computed there, to which it belongs
    Host,
    /// On the model's device, as tensors. On a processor that is slower, and is there for tests
    Device,
}

/// How an engine trains. Every rank has the same.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is trained.
    pub method: Method,
    /// What is divided between ranks.
    pub sharding: Sharding,
    /// The optimizer's constants.
    pub optimizer: AdamW,
    /// What decays.
    pub decay: DecayRule,
    /// The global norm that gradients are clipped to; infinite: they are not.
    pub clip_norm: f64,
    /// What z-loss is weighed with: see [`Batch::penalise`](crate::model::Batch::penalise). Losses of steps have it, those of evaluations have not.
    pub z_loss: f64,
    /// What the model computes in: f32 or bf16. Master weights and moments are f32.
    pub compute: DType,
    /// How attention is computed.
    pub attention: AttentionBy,
    /// What losses are divided by.
    pub normalise: Normalise,
    /// What dropout is drawn from.
    pub seed: u64,
    /// What of a forward pass waits for the backward pass, and where; it changes no result.
    pub keep: Keep,
    /// Where what is stepped lives.
    pub residence: Residence,
    /// The most tokens of a sequence that short lines share, none of which sees another; none: each line has a sequence to itself, as it has wherever
    /// lines count the same ([`Normalise::MeanOfMeans`]).
    pub packing: Option<usize>,
    /// Whether units that are divided are gathered while the one before them is computed with; it changes no result.
    pub ahead: bool,
}

impl Settings {
    /// The usual: undivided, in f32 and the host's memory, clipped at a norm of one, every token counting the same, each line in a sequence of its own.
    pub fn of(method: Method) -> Self {
        Self {
            method,
            sharding: Sharding::None,
            optimizer: AdamW::default(),
            decay: DecayRule::default(),
            clip_norm: 1.0,
            z_loss: 0.0,
            compute: DType::F32,
            attention: AttentionBy::default(),
            normalise: Normalise::PerToken,
            seed: 0,
            keep: Keep::default(),
            residence: Residence::Host,
            packing: None,
            ahead: true,
        }
    }
}

/// Which step of a training it is, and how it is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn {
    /// Its number, from 1: dropout is drawn from it.
    pub step: u32,
    /// How many are taken with it, from 1: those that were left out are none for the moments, whose bias is corrected by this.
    pub taken: u32,
    /// The learning rate.
    pub rate: f64,
    /// The highest loss at which it is taken; above it, it is left out as one that is not finite.
    pub limit: f64,
}

/// What a step did, the same on every rank.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The mean loss a trained token.
    pub loss: f64,
    /// How many tokens were predicted.
    pub trained: u64,
    /// How many tokens there were.
    pub tokens: u64,
    /// The global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Whether it was clipped.
    pub clipped: bool,
    /// Why nothing was stepped, with the ids of the lines it may come from: loss or gradient were not finite, or the loss was above its limit.
    pub skipped: Option<String>,
}

/// A loss over all ranks' lines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Summed over predicted tokens.
    pub loss_sum: f64,
    /// How many those are.
    pub trained: u64,
}

/// What this rank holds of the model and its training, in bytes; activations and what collectives and operations use for a moment are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Weights as they are computed with, and the most that was gathered at once.
    pub weights: usize,
    /// The most that gradients took.
    pub gradients: usize,
    /// Master weights and both moments.
    pub optimizer: usize,
}

/// What an engine cannot do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Lines that make no batch.
    #[error("line {id}: {source}")]
    Line {
        /// Which ones.
        id: String,
        /// Why.
        source: BatchError,
    },
    /// Lines that make no sequence.
    #[error("line {id}: {source}")]
    Sequence {
        /// Which ones.
        id: String,
        /// Why.
        source: SegmentsError,
    },
    /// A global batch in which nothing is to be learnt.
    #[error("no token of {0} is to be learnt; leave these lines out, or look at their loss masks")]
    NothingTrained(String),
    /// A type that is not computed in.
    #[error("training computes in f32 or bf16, not in {0:?}")]
    Compute(DType),
    /// Adapters that cannot be made.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// What the device cannot hold.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Attention that cannot be computed as asked for.
    #[error(transparent)]
    Attention(#[from] AttentionError),
    /// State that is not this engine's.
    #[error(transparent)]
    State(#[from] StateError),
    /// A collective that did not come to its end.
    #[error(transparent)]
    Ranks(#[from] RankError),
    /// Gradients that do not fit their weights.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// A tensor operation that failed, for want of memory for example.
    #[error("a tensor could not be computed: {0}")]
    Tensor(#[from] Error),
    /// What whoever takes the trained tensors could not do.
    #[error("tensor `{name}` could not be handed over: {reason}")]
    Taken {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

impl From<Infallible> for EngineError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
