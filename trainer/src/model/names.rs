//! Which tensors a configuration has, by their Hugging Face names, and in which shapes.

use super::{Config, Family};

/// A tensor's name and shape.
type Named = (String, Vec<usize>);

impl Config {
    /// Every tensor, in the order in which a forward pass comes to them. A tied model has no `lm_head.weight`.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        let rows = |name: &str| (name.to_owned(), vec![self.vocabulary, self.hidden]);
        let first = std::iter::once(rows("model.embed_tokens.weight"));
        let layers = (0..self.layers).flat_map(|index| self.layer_tensors(index));
        let norm = ("model.norm.weight".to_owned(), vec![self.hidden]);
        first.chain(layers).chain([norm]).chain((!self.tied).then(|| rows("lm_head.weight")))
    }

    fn layer_tensors(&self, index: usize) -> Vec<Named> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        // A configuration may say anything; no tensor has a saturated size.
        let (queries, keys) = (self.heads.saturating_mul(self.head_dim), self.kv_heads.saturating_mul(self.head_dim));
        let linears = [
            ("self_attn.q_proj", queries, self.hidden, self.qkv_bias),
            ("self_attn.k_proj", keys, self.hidden, self.qkv_bias),
            ("self_attn.v_proj", keys, self.hidden, self.qkv_bias),
            ("self_attn.o_proj", self.hidden, queries, self.output_bias),
            ("mlp.gate_proj", self.intermediate, self.hidden, self.mlp_bias),
            ("mlp.up_proj", self.intermediate, self.hidden, self.mlp_bias),
            ("mlp.down_proj", self.hidden, self.intermediate, self.mlp_bias),
        ];
        let mut tensors = vec![(name("input_layernorm.weight"), vec![self.hidden])];
        for (linear, out, from, bias) in linears {
            tensors.push((name(&format!("{linear}.weight")), vec![out, from]));
            tensors.extend(bias.then(|| (name(&format!("{linear}.bias")), vec![out])));
        }
        if self.family == Family::Qwen3 {
            let norms = ["self_attn.q_norm.weight", "self_attn.k_norm.weight"];
            tensors.extend(norms.map(|norm| (name(norm), vec![self.head_dim])));
        }
        tensors.push((name("post_attention_layernorm.weight"), vec![self.hidden]));
        tensors
    }
}

/// Whether a file may have this tensor although the configuration has no place for it: a tied model's may repeat the embedding as `lm_head`, and old
/// ones carry the rotary frequencies. transformers reads neither.
pub(crate) fn is_passed_over(name: &str, tied: bool) -> bool {
    tied && name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq")
}
