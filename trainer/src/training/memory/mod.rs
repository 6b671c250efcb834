//! How much memory a rank needs, by what for: arithmetic alone, so that a training which cannot fit is refused before it begins, with what would fit.
//! What is counted is in `counts`, how a sum is told in `sum`, and the table of many plans in `table`.

mod counts;
mod sum;
mod table;

use sera_crds::contract::{LoraPlan, MethodPlan};
use sera_crds::values::Sharding;

use crate::model::Config;
use crate::ops::{Attention, GATED, Room, logits_at_once};
use counts::counts;

pub use sum::Sum;
pub use table::{DEVICES, table};

/// The bytes of an f32: gradients, master weights, moments and logits.
const F32: u64 = 4;
/// Buffers of scores that attention's backward has at once where operations are composed: scores, probabilities, their gradient, and one on its way. In
/// f32 on a CPU scores never leave a core's caches.
const SCORE_BUFFERS: u64 = 4;
/// Buffers of logits that the loss has at once: what comes out of the projection, its exponentials, their gradient; in f32 on a CPU they lie in one.
const LOGIT_BUFFERS: u64 = 3;
/// Buffers of what gates and is gated that the backward of the feed-forward part has at once, a piece at a time, where operations are composed: gate,
/// sigmoid, their product, its slope, the gradient, that times what is gated, and one on its way.
const GATED_BUFFERS: u64 = 7;
/// What lies between a block's input and its result, counted in the code: values of the hidden width (normalised twice, and the sum), of all heads
/// (queries before and after rotation, and what they attend to), of keys (before and after rotation, and values), and of the feed-forward part.
const VALUES: Widths = Widths { hidden: 3, heads: 3, keys: 3, inner: 3 };
/// What the backward of the feed-forward part adds to these (gradients of result, gate, up, their product, and of the normalised values by each)...
const FED_BACK: Widths = Widths { hidden: 3, heads: 0, keys: 0, inner: 3 };
/// ...and that of attention, where the feed-forward part is done with: gradients of result, output, queries, keys and values, by pieces and together.
const ATTENDED_BACK: Widths = Widths { hidden: 4, heads: 4, keys: 9, inner: 0 };
/// What there is of each token once, of the hidden width: the last block's result, normalised, its gradient, and that as it is put together.
const ENDS: u64 = 4;

/// What the need depends on.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// The model.
    pub config: &'a Config,
    /// What is trained of it.
    pub method: &'a MethodPlan,
    /// What is divided between ranks.
    pub sharding: Sharding,
    /// How many ranks there are.
    pub world: u64,
    /// The bytes of the numbers that are computed with: 4 or 2.
    pub width: u64,
    /// The longest line, in tokens.
    pub tokens: u64,
    /// Whether blocks' inputs wait in the host's memory; on a CPU that is the same memory.
    pub offload: bool,
    /// Whether a CPU computes.
    pub on_cpu: bool,
    /// Of how many blocks the values are kept for the backward pass.
    pub kept: u64,
    /// What `FlashAttention` computes attention with, where it does; none: it is computed in chunks.
    pub flash: Option<Flashed>,
}

/// What the room that `FlashAttention` needs depends on, beside the model and its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flashed {
    /// How many sequences the tokens are divided into at most.
    pub sequences: u64,
    /// How many multiprocessors the GPU has.
    pub multiprocessors: u64,
}

/// What one rank needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// The weights that are computed with; where they are divided, a unit of them and the one that is gathered meanwhile.
    pub weights: u64,
    /// Gradients of what is trained, f32, and those of one unit while it is computed.
    pub gradients: u64,
    /// Master weights and two moments, f32.
    pub optimizer: u64,
    /// Every block's input, and what one block has at once while it is computed again.
    pub activations: u64,
    /// A chunk of logits.
    pub logits: u64,
    /// What is copied of a unit's master weights and moments while a checkpoint is written or gone on from, when gradients, activations and logits
    /// are not there. Nothing on a GPU: the copy is made in the host's memory, which is not what is planned then.
    pub checkpoint: u64,
}

/// What one rank needs, as it is added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Values × their bytes; where they are divided, what is not trained, and a unit as it is computed with and as the next one is gathered.
    pub weights: Sum,
    /// What is trained, and what is trained of the largest unit, × 4.
    pub gradients: Sum,
    /// What is trained × 3 × 4.
    pub optimizer: Sum,
    /// Tokens × what of each block's input stays, × what lies between a block's input and its result, × what its gradients take; buffers of scores, or
    /// what `FlashAttention` has in their place.
    pub activations: Sum,
    /// Values of a chunk × buffers × 4.
    pub logits: Sum,
    /// On a CPU a rank's share of what is trained of the largest unit × 3 × 4; all of that where nothing is divided, as it is brought together again.
    pub checkpoint: Sum,
}

/// How many values of each width a token has.
#[derive(Debug, Clone, Copy)]
struct Widths {
    hidden: u64,
    heads: u64,
    keys: u64,
    inner: u64,
}

impl Widths {
    fn values(&self, config: &Config) -> u64 {
        let size = config.head_dim as u64;
        let (heads, keys) = (config.heads as u64 * size, config.kv_heads as u64 * size);
        self.hidden * config.hidden as u64
            + self.heads * heads
            + self.keys * keys
            + self.inner * config.intermediate as u64
    }
}

impl Bytes {
    /// The most that is there at once: in a step, or while a checkpoint is written or gone on from.
    pub fn total(&self) -> u64 {
        let at_checkpoint = self.weights.saturating_add(self.optimizer).saturating_add(self.checkpoint);
        self.in_step().max(at_checkpoint)
    }

    /// What is there in a step.
    pub fn in_step(&self) -> u64 {
        let others = [self.gradients, self.optimizer, self.activations, self.logits];
        others.into_iter().fold(self.weights, u64::saturating_add)
    }
}

impl Need<'_> {
    /// The sum, part by part.
    pub fn bytes(&self) -> Bytes {
        let Sums { weights, gradients, optimizer, activations, logits, checkpoint } = self.sums();
        Bytes {
            weights: weights.bytes(),
            gradients: gradients.bytes(),
            optimizer: optimizer.bytes(),
            activations: activations.bytes(),
            logits: logits.bytes(),
            checkpoint: checkpoint.bytes(),
        }
    }

    /// The same as it is added up.
    pub fn sums(&self) -> Sums {
        let counts = counts(self.config, self.method);
        let (divides_weights, divides_gradients, divides_optimizer) = match self.sharding {
            Sharding::None => (false, false, false),
            Sharding::Zero1 => (false, false, true),
            Sharding::Zero2 => (false, true, true),
            Sharding::Zero3 => (true, true, true),
        };
        let share = |values: u64, divided: bool, factors: &[u64]| {
            Sum::share(values, if divided { self.world } else { 1 }, factors)
        };
        let weights = if divides_weights {
            // What is trained is kept as master weights alone. While a unit is computed with, the next one is gathered: on a CPU in f32; on a GPU in what is
            // computed with, beside what NCCL receives it in where ranks' parts are not equally long.
            let frozen = counts.all - counts.trained.min(counts.all);
            let gathered = if self.on_cpu { F32 } else { 2 * self.width };
            share(frozen, true, &[self.width]).and(Sum::of(counts.largest, &[self.width + gathered]))
        } else {
            Sum::of(counts.all, &[self.width])
        };
        let unit = Sum::of(counts.largest_trained, &[F32]);
        let logits = (logits_at_once(self.on_cpu) as u64).min(self.tokens * self.config.vocabulary as u64);
        Sums {
            weights,
            gradients: share(counts.trained, divides_gradients, &[F32]).and(unit),
            optimizer: share(counts.trained, divides_optimizer, &[3, F32]),
            activations: self.activations(),
            logits: Sum::of(logits, &[if self.fused() { 1 } else { LOGIT_BUFFERS }, F32]),
            checkpoint: share(if self.on_cpu { counts.largest_trained } else { 0 }, divides_optimizer, &[3, F32]),
        }
    }

    /// Whether the operations are those for f32 on a CPU.
    fn fused(&self) -> bool {
        self.on_cpu && self.width == F32
    }

    fn activations(&self) -> Sum {
        let config = self.config;
        let [hidden, layers, heads] = [config.hidden, config.layers, config.heads].map(|value| value as u64);
        let (kept, inputs) = (self.kept.min(layers), if self.offload { 1 } else { layers });
        let values = VALUES.values(config);
        let fed = Widths { hidden: 1, heads: 0, keys: 0, inner: VALUES.inner }.values(config);
        let back = FED_BACK.values(config).max(ATTENDED_BACK.values(config).saturating_sub(fed));
        let scores = (Attention::of_head(config.head_dim).scores as u64).min(heads * self.tokens * self.tokens);
        let scores = Sum::of(scores, &[SCORE_BUFFERS, F32]);
        let gated = Sum::of((GATED as u64).min(self.tokens * config.intermediate as u64), &[GATED_BUFFERS, F32]);
        Sum::of(self.tokens, &[ENDS + inputs, hidden, self.width])
            .and(Sum::of(self.tokens, &[values, kept.max(1), self.width]))
            .and(Sum::of(self.tokens, &[back, F32]))
            .and(match self.flash {
                Some(flash) => self.beside_flash(flash, kept).and(gated),
                None if self.fused() => Sum::default(),
                // The one is done with where the other begins.
                None if gated.bytes() > scores.bytes() => gated,
                None => scores,
            })
    }

    /// What `FlashAttention` keeps and takes: logarithms of each block; in the backward sums, parts of the queries' gradient, and the gradients of keys
    /// and values for every head of queries, one of them in f32 while it is summed over the heads that share keys.
    fn beside_flash(&self, flash: Flashed, kept: u64) -> Sum {
        let [heads, size] = [self.config.heads, self.config.head_dim].map(|value| value as u64);
        let room = Room::most(self.tokens, flash.sequences, heads, size, flash.multiprocessors);
        Sum::of(self.tokens, &[heads, kept.max(1), F32])
            .and(Sum::of(room.sums, &[F32]))
            .and(Sum::of(room.parts, &[F32]))
            .and(Sum::of(self.tokens, &[heads * size, 2 * self.width + F32]))
    }

    /// What a rank on a GPU keeps in the host's memory, in bytes: the inputs of all blocks, where they wait there.
    pub fn on_host(&self) -> u64 {
        let factors = [self.config.layers as u64, self.config.hidden as u64, self.width];
        if self.offload && !self.on_cpu { Sum::of(self.tokens, &factors).bytes() } else { 0 }
    }

    /// Of how many blocks values can be kept with all of a step in `available` bytes; at a checkpoint they are gone.
    pub fn blocks_that_fit(&self, available: u64) -> u64 {
        let fits = |kept: &u64| Need { kept: *kept, ..*self }.bytes().in_step() <= available;
        (0..=self.config.layers as u64).rev().find(fits).unwrap_or(0)
    }

    /// What would fit into `available` bytes, in words, by one change: the least that costs something first.
    pub fn what_would_fit(&self, available: u64) -> Vec<String> {
        let mut fitting = Vec::new();
        let mut consider = |words: String, need: Need<'_>| {
            let total = need.bytes().total();
            if total <= available {
                fitting.push(format!("{words} ({})", readable(total)));
            }
        };
        for sharding in [Sharding::Zero1, Sharding::Zero2, Sharding::Zero3] {
            if sharding > self.sharding && self.world > 1 {
                consider(format!("sharding {sharding}"), Need { sharding, ..*self });
            }
        }
        if !self.offload && !self.on_cpu {
            consider("offload true".to_owned(), Need { offload: true, ..*self });
        }
        for world in [2, 4, 8, 16].into_iter().filter(|world| *world > self.world) {
            consider(format!("{world} ranks with sharding ZeRO3"), Need { world, sharding: Sharding::Zero3, ..*self });
        }
        if self.width == F32 {
            consider("precision bf16".to_owned(), Need { width: 2, ..*self });
        }
        let shorter = |tokens: &u64| Need { tokens: *tokens, ..*self }.bytes().total() <= available;
        if let Some(tokens) = (1..self.tokens / 1024).rev().map(|step| step * 1024).find(shorter) {
            consider(format!("contextLength {tokens}"), Need { tokens, ..*self });
        }
        if *self.method == (MethodPlan::Full {}) {
            let lora = MethodPlan::Lora(LoraPlan::default());
            consider("method lora".to_owned(), Need { method: &lora, ..*self });
        }
        fitting
    }
}

/// Bytes as people read them.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn readable(bytes: u64) -> String {
    if bytes < 1 << 30 {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    } else {
        format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
