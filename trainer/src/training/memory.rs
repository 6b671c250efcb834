//! How much memory a rank needs, by what for: arithmetic alone, so that a training which cannot fit is refused before it begins, with what would fit.

use sera_crds::contract::{LoraPlan, MethodPlan};
use sera_crds::values::Sharding;

use crate::model::{Config, Family};
use crate::ops::{Attention, LOGITS};

/// The bytes of an f32: gradients, master weights, moments and logits.
const F32: u64 = 4;
/// Buffers of scores that attention's backward has at once where operations are composed: scores, probabilities, their gradient, and one on its way. In
/// f32 on a CPU scores never leave a core's caches.
const SCORE_BUFFERS: u64 = 4;
/// Buffers of logits that the loss has at once: what comes out of the projection, its exponentials, their gradient; in f32 on a CPU they lie in one.
const LOGIT_BUFFERS: u64 = 3;
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
}

/// What one rank needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// The weights that are computed with, and a unit that is gathered where they are divided.
    pub weights: u64,
    /// Gradients of what is trained, f32, and those of one unit while it is computed.
    pub gradients: u64,
    /// Master weights and two moments, f32.
    pub optimizer: u64,
    /// Every block's input, and what one block has at once while it is computed again.
    pub activations: u64,
    /// A chunk of logits.
    pub logits: u64,
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

/// Numbers of a model: how many values it has, whole and by the units that are gathered and reduced together.
#[derive(Debug, Clone, Copy)]
struct Counts {
    all: u64,
    trained: u64,
    largest: u64,
    largest_trained: u64,
}

impl Bytes {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.activations + self.logits
    }
}

impl Need<'_> {
    /// The sum, part by part.
    pub fn bytes(&self) -> Bytes {
        let counts = counts(self.config, self.method);
        let share = |values: u64, divided: bool| if divided { values.div_ceil(self.world.max(1)) } else { values };
        let (divides_weights, divides_gradients, divides_optimizer) = match self.sharding {
            Sharding::None => (false, false, false),
            Sharding::Zero1 => (false, false, true),
            Sharding::Zero2 => (false, true, true),
            Sharding::Zero3 => (true, true, true),
        };
        let weights = if divides_weights {
            // What is trained is kept as master weights alone; a unit is gathered in f32 and becomes what is computed with.
            share(counts.all - counts.trained.min(counts.all), true) * self.width + counts.largest * (self.width + F32)
        } else {
            counts.all * self.width
        };
        Bytes {
            weights,
            gradients: (share(counts.trained, divides_gradients) + counts.largest_trained) * F32,
            optimizer: share(counts.trained, divides_optimizer) * 3 * F32,
            activations: self.activations(),
            logits: (if self.fused() { 1 } else { LOGIT_BUFFERS })
                * F32
                * (LOGITS as u64).min(self.tokens * self.config.vocabulary as u64),
        }
    }

    /// Whether the operations are those for f32 on a CPU.
    fn fused(&self) -> bool {
        self.on_cpu && self.width == F32
    }

    fn activations(&self) -> u64 {
        let config = self.config;
        let [hidden, layers, heads] = [config.hidden, config.layers, config.heads].map(|value| value as u64);
        let (kept, inputs) = (self.kept.min(layers), if self.offload { 1 } else { layers });
        let values = VALUES.values(config);
        let fed = Widths { hidden: 1, heads: 0, keys: 0, inner: VALUES.inner }.values(config);
        let back = FED_BACK.values(config).max(ATTENDED_BACK.values(config).saturating_sub(fed));
        let all = (ENDS + inputs) * hidden * self.width + kept.max(1) * values * self.width + back * F32;
        let scores = (Attention::of_head(config.head_dim).scores as u64).min(heads * self.tokens * self.tokens);
        self.tokens * all + if self.fused() { 0 } else { SCORE_BUFFERS * F32 * scores }
    }

    /// Of how many blocks values can be kept with all of it in `available` bytes.
    pub fn blocks_that_fit(&self, available: u64) -> u64 {
        let fits = |kept: &u64| Need { kept: *kept, ..*self }.bytes().total() <= available;
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

fn counts(config: &Config, method: &MethodPlan) -> Counts {
    let [hidden, vocabulary, layers] = [config.hidden, config.vocabulary, config.layers].map(|value| value as u64);
    let linears = linears(config);
    let norms = 2 * hidden + if config.family == Family::Qwen3 { 2 * config.head_dim as u64 } else { 0 };
    let layer =
        norms + linears.iter().map(|(_, out, from, bias)| out * from + if *bias { *out } else { 0 }).sum::<u64>();
    let embedding = vocabulary * hidden;
    let head = hidden + if config.tied { 0 } else { embedding };
    let all = layers * layer + embedding + head;
    match method {
        MethodPlan::Full {} => {
            let largest = layer.max(embedding).max(head);
            Counts { all, trained: all, largest, largest_trained: largest }
        }
        MethodPlan::Lora(lora) => {
            let chosen = |name: &str| {
                lora.target_modules.is_empty() || lora.target_modules.iter().any(|module| module.as_str() == name)
            };
            let adapters: u64 = linears
                .iter()
                .filter(|(name, ..)| chosen(name))
                .map(|(_, out, from, _)| u64::from(lora.rank) * (out + from))
                .sum();
            Counts {
                all: all + layers * adapters,
                trained: layers * adapters,
                largest: (layer + adapters).max(embedding).max(head),
                largest_trained: adapters,
            }
        }
    }
}

/// A block's linear layers: name, rows, columns, whether it has a bias.
fn linears(config: &Config) -> [(&'static str, u64, u64, bool); 7] {
    let (hidden, inner) = (config.hidden as u64, config.intermediate as u64);
    let queries = (config.heads * config.head_dim) as u64;
    let keys = (config.kv_heads * config.head_dim) as u64;
    [
        ("q_proj", queries, hidden, config.qkv_bias),
        ("k_proj", keys, hidden, config.qkv_bias),
        ("v_proj", keys, hidden, config.qkv_bias),
        ("o_proj", hidden, queries, config.output_bias),
        ("gate_proj", inner, hidden, config.mlp_bias),
        ("up_proj", inner, hidden, config.mlp_bias),
        ("down_proj", hidden, inner, config.mlp_bias),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::qwen3_8b;

    fn need<'a>(config: &'a Config, method: &'a MethodPlan) -> Need<'a> {
        Need {
            config,
            method,
            sharding: Sharding::None,
            world: 1,
            width: 2,
            tokens: 32_768,
            offload: false,
            on_cpu: false,
            kept: 0,
        }
    }

    #[test]
    fn the_parameters_of_qwen3_8b_and_of_its_adapters_are_counted() {
        let full = counts(&qwen3_8b(), &MethodPlan::Full {});
        assert_eq!((full.all, full.trained, full.largest), (8_190_735_360, 8_190_735_360, 622_333_952));
        let lora = counts(&qwen3_8b(), &MethodPlan::Lora(LoraPlan::default()));
        assert_eq!((lora.trained, lora.all - lora.trained), (87_293_952, 8_190_735_360));
    }

    #[test]
    fn the_counts_are_those_of_the_tensors_themselves() {
        for (family, tied) in [("qwen3", true), ("qwen2", false), ("llama", true)] {
            let config = crate::model::testing::config(family, tied);
            let tensors = crate::model::testing::tensors(&config);
            let values: usize = tensors.values().map(candle_core::Tensor::elem_count).sum();
            assert_eq!(counts(&config, &MethodPlan::Full {}).all, values as u64, "{family}");
        }
    }

    #[test]
    fn each_way_of_sharding_divides_one_thing_more() {
        let (config, method) = (qwen3_8b(), MethodPlan::Full {});
        let with = |sharding| Need { sharding, world: 8, ..need(&config, &method) }.bytes();
        let (none, one, two, three) =
            (with(Sharding::None), with(Sharding::Zero1), with(Sharding::Zero2), with(Sharding::Zero3));
        assert_eq!(none.optimizer, 12 * 8_190_735_360);
        assert_eq!((one.optimizer * 8, one.gradients, one.weights), (none.optimizer, none.gradients, none.weights));
        assert!(two.gradients < one.gradients / 3 && two.weights == one.weights && two.optimizer == one.optimizer);
        assert!(three.weights < two.weights / 3 && three.gradients == two.gradients);
    }

    #[test]
    fn what_would_fit_is_said_and_is_true() {
        let (config, method) = (qwen3_8b(), MethodPlan::Full {});
        let need = Need { world: 8, ..need(&config, &method) };
        let available = 80 << 30;
        assert!(need.bytes().total() > available);
        let fitting = need.what_would_fit(available);
        assert!(fitting.iter().any(|words| words.starts_with("sharding ZeRO2")), "{fitting:?}");
        assert!(fitting.iter().any(|words| words.starts_with("method lora")), "{fitting:?}");
        assert!(need.what_would_fit(1 << 30).is_empty());
    }
}
