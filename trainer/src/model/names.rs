//! Which tensors a configuration has, by their Hugging Face names, and in which shapes.

use super::{Config, Family};

impl Config {
    /// The name and shape of every tensor, in the order in which a forward pass comes to them. A tied model has no `lm_head.weight`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let vocabulary = vec![self.vocabulary, self.hidden];
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vocabulary.clone())];
        (0..self.layers).for_each(|index| self.layer_tensors(index, &mut tensors));
        tensors.push(("model.norm.weight".to_owned(), vec![self.hidden]));
        if !self.tied {
            tensors.push(("lm_head.weight".to_owned(), vocabulary));
        }
        tensors
    }

    fn layer_tensors(&self, index: usize, tensors: &mut Vec<(String, Vec<usize>)>) {
        let mut add = |part: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{index}.{part}"), shape.to_vec()));
        };
        let mut linear = |name: &str, out: usize, from: usize, bias: bool| {
            add(&format!("{name}.weight"), &[out, from]);
            if bias {
                add(&format!("{name}.bias"), &[out]);
            }
        };
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        linear("self_attn.q_proj", queries, self.hidden, self.qkv_bias);
        linear("self_attn.k_proj", keys, self.hidden, self.qkv_bias);
        linear("self_attn.v_proj", keys, self.hidden, self.qkv_bias);
        linear("self_attn.o_proj", self.hidden, queries, self.output_bias);
        linear("mlp.gate_proj", self.intermediate, self.hidden, self.mlp_bias);
        linear("mlp.up_proj", self.intermediate, self.hidden, self.mlp_bias);
        linear("mlp.down_proj", self.hidden, self.intermediate, self.mlp_bias);
        add("input_layernorm.weight", &[self.hidden]);
        if self.family == Family::Qwen3 {
            add("self_attn.q_norm.weight", &[self.head_dim]);
            add("self_attn.k_norm.weight", &[self.head_dim]);
        }
        add("post_attention_layernorm.weight", &[self.hidden]);
    }
}

/// Whether a file may have this tensor although the configuration has no place for it: a tied model's may repeat the embedding as `lm_head`, and old
/// ones carry the rotary frequencies. transformers reads neither.
pub(crate) fn is_passed_over(name: &str, tied: bool) -> bool {
    tied && name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq")
}
