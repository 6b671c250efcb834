//! How many values a model has and how many are trained, whole and by the units that are gathered and reduced together.

use sera_crds::contract::MethodPlan;

use crate::model::{Config, Family};

/// Numbers of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    /// All of them, adapters included.
    pub(super) all: u64,
    /// What is trained of them.
    pub(super) trained: u64,
    /// The largest unit: a layer, the embedding or the head.
    pub(super) largest: u64,
    /// The most that is trained of one unit.
    pub(super) largest_trained: u64,
}

/// Counts what `method` trains of a model.
pub(super) fn counts(config: &Config, method: &MethodPlan) -> Counts {
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
    use sera_crds::contract::LoraPlan;

    use super::*;
    use crate::model::testing::qwen3_8b;

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
}
