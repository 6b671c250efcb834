//! The tensors of a model, taken by their Hugging Face names: each has to be there, in its shape, and nothing else may be.

use std::collections::HashMap;
use std::convert::Infallible;

use candle_core::{DType, Tensor};

use super::{Config, is_passed_over};
use crate::ops::{Linear, Weight};

/// Tensors that are not this model's.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// One is not there.
    #[error("tensor `{0}` is missing: these are not the weights of this configuration")]
    Missing(String),
    /// One has another shape.
    #[error("tensor `{name}` is shaped {found:?}, where the configuration asks for {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What it should be.
        expected: Vec<usize>,
    },
    /// One has another type than the others.
    #[error(
        "tensor `{name}` is {found:?}, where `model.embed_tokens.weight` is {expected:?}; convert the weights to one of f32, bf16, f16"
    )]
    Type {
        /// Its name.
        name: String,
        /// Its type.
        found: DType,
        /// The embedding's.
        expected: DType,
    },
    /// One that the configuration has no place for.
    #[error("tensor `{0}` has no place in this configuration")]
    Unknown(String),
}

/// Normalisation of queries and keys, a head at a time: (`head_dim`) each.
#[derive(Debug, Clone)]
pub struct QkNorm {
    /// Of queries.
    pub q: Weight,
    /// Of keys.
    pub k: Weight,
}

/// A block's weights. The fields are named as in Hugging Face's modules, without `_proj`.
#[derive(Debug, Clone)]
pub struct Layer {
    /// `input_layernorm`: (hidden).
    pub input_norm: Weight,
    /// `self_attn.q_proj`: (heads · `head_dim`, hidden).
    pub q: Linear,
    /// `self_attn.k_proj`: (kv heads · `head_dim`, hidden).
    pub k: Linear,
    /// `self_attn.v_proj`: (kv heads · `head_dim`, hidden).
    pub v: Linear,
    /// `self_attn.q_norm` and `self_attn.k_norm`: Qwen3's.
    pub qk_norm: Option<QkNorm>,
    /// `self_attn.o_proj`: (hidden, heads · `head_dim`).
    pub o: Linear,
    /// `post_attention_layernorm`: (hidden).
    pub post_norm: Weight,
    /// `mlp.gate_proj`: (intermediate, hidden).
    pub gate: Linear,
    /// `mlp.up_proj`: (intermediate, hidden).
    pub up: Linear,
    /// `mlp.down_proj`: (hidden, intermediate).
    pub down: Linear,
}

/// A whole model.
#[derive(Debug, Clone)]
pub struct Model {
    /// What it computes.
    pub config: Config,
    /// `model.embed_tokens`: (vocabulary, hidden).
    pub embedding: Weight,
    /// `model.layers`.
    pub layers: Vec<Layer>,
    /// `model.norm`: (hidden).
    pub norm: Weight,
    /// `lm_head`: (vocabulary, hidden), where it is not the embedding.
    pub lm_head: Option<Weight>,
}

impl Model {
    /// A model of `config` from its tensors by name, all of them trained or all frozen.
    pub fn from_tensors(config: Config, tensors: HashMap<String, Tensor>, trained: bool) -> Result<Self, WeightsError> {
        let tied = config.tied;
        let mut unread = Unread::new(config, tensors, trained);
        let model = unread.whole()?;
        let unknown = unread.tensors.into_keys().filter(|name| !is_passed_over(name, tied)).min();
        unknown.map_or(Ok(model), |name| Err(WeightsError::Unknown(name)))
    }

    /// The weight of the output projection, (vocabulary, hidden).
    pub fn head(&self) -> &Weight {
        self.lm_head.as_ref().unwrap_or(&self.embedding)
    }
}

/// Where a model's units are had from, one at a time, so that whoever keeps a part of each never has all of them: the embedding, the layers from 0 on,
/// and what comes after them, each of them once.
pub trait Supply {
    /// Why a unit cannot be had.
    type Error;

    /// What the model computes.
    fn config(&self) -> &Config;

    /// `model.embed_tokens`: (vocabulary, hidden).
    fn embedding(&mut self) -> Result<Weight, Self::Error>;

    /// `model.layers`.
    fn layer(&mut self, index: usize) -> Result<Layer, Self::Error>;

    /// `model.norm`: (hidden), and `lm_head`: (vocabulary, hidden), where it is not the embedding.
    fn tail(&mut self) -> Result<(Weight, Option<Weight>), Self::Error>;
}

/// A whole model; its tensors are handles.
impl Supply for Model {
    type Error = Infallible;

    fn config(&self) -> &Config {
        &self.config
    }

    fn embedding(&mut self) -> Result<Weight, Infallible> {
        Ok(self.embedding.clone())
    }

    fn layer(&mut self, index: usize) -> Result<Layer, Infallible> {
        Ok(self.layers[index].clone())
    }

    fn tail(&mut self) -> Result<(Weight, Option<Weight>), Infallible> {
        Ok((self.norm.clone(), self.lm_head.clone()))
    }
}

/// Tensors by name.
pub trait Named {
    /// Why one cannot be had.
    type Error;

    /// The one of this name, which is asked for once.
    fn take(&mut self, name: &str) -> Result<Option<Tensor>, Self::Error>;

    /// What is said of tensors that are not the model's.
    fn refused(&self, source: WeightsError) -> Self::Error;
}

impl<S: std::hash::BuildHasher> Named for HashMap<String, Tensor, S> {
    type Error = WeightsError;

    fn take(&mut self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        Ok(self.remove(name))
    }

    fn refused(&self, source: WeightsError) -> WeightsError {
        source
    }
}

/// A model whose tensors are taken by name as its units are asked for.
#[derive(Debug)]
pub struct Unread<T> {
    config: Config,
    tensors: T,
    /// The embedding's, which comes first.
    dtype: Option<DType>,
    trained: bool,
}

impl<T: Named> Unread<T> {
    /// The model of `config`, all of it trained or all of it frozen.
    pub fn new(config: Config, tensors: T, trained: bool) -> Self {
        Self { config, tensors, dtype: None, trained }
    }

    /// All of it.
    pub fn whole(&mut self) -> Result<Model, T::Error> {
        let embedding = self.embedding()?;
        let layers = (0..self.config.layers).map(|index| self.layer(index)).collect::<Result<_, _>>()?;
        let (norm, lm_head) = self.tail()?;
        Ok(Model { config: self.config.clone(), embedding, layers, norm, lm_head })
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Weight, T::Error> {
        let Some(value) = self.tensors.take(name)? else {
            return Err(self.tensors.refused(WeightsError::Missing(name.to_owned())));
        };
        if value.dims() != shape {
            let (found, expected) = (value.dims().to_vec(), shape.to_vec());
            return Err(self.tensors.refused(WeightsError::Shape { name: name.to_owned(), found, expected }));
        }
        let expected = *self.dtype.get_or_insert(value.dtype());
        if value.dtype() != expected || !expected.is_float() {
            let (name, found) = (name.to_owned(), value.dtype());
            return Err(self.tensors.refused(WeightsError::Type { name, found, expected }));
        }
        Ok(Weight { value, trained: self.trained })
    }

    fn linear(&mut self, name: &str, (out, from): (usize, usize), bias: bool) -> Result<Linear, T::Error> {
        let weight = self.take(&format!("{name}.weight"), &[out, from])?;
        let bias = bias.then(|| self.take(&format!("{name}.bias"), &[out])).transpose()?;
        Ok(Linear { weight, bias, lora: None })
    }
}

impl<T: Named> Supply for Unread<T> {
    type Error = T::Error;

    fn config(&self) -> &Config {
        &self.config
    }

    fn embedding(&mut self) -> Result<Weight, T::Error> {
        self.take("model.embed_tokens.weight", &[self.config.vocabulary, self.config.hidden])
    }

    fn layer(&mut self, index: usize) -> Result<Layer, T::Error> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let Config { family, hidden, intermediate: inner, head_dim, heads, kv_heads, .. } = self.config;
        let (qkv_bias, output_bias, mlp_bias) = (self.config.qkv_bias, self.config.output_bias, self.config.mlp_bias);
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let qk_norm = match family {
            super::Family::Qwen3 => Some(QkNorm {
                q: self.take(&name("self_attn.q_norm.weight"), &[head_dim])?,
                k: self.take(&name("self_attn.k_norm.weight"), &[head_dim])?,
            }),
            super::Family::Qwen2 | super::Family::Llama => None,
        };
        Ok(Layer {
            input_norm: self.take(&name("input_layernorm.weight"), &[hidden])?,
            q: self.linear(&name("self_attn.q_proj"), (queries, hidden), qkv_bias)?,
            k: self.linear(&name("self_attn.k_proj"), (keys, hidden), qkv_bias)?,
            v: self.linear(&name("self_attn.v_proj"), (keys, hidden), qkv_bias)?,
            qk_norm,
            o: self.linear(&name("self_attn.o_proj"), (hidden, queries), output_bias)?,
            post_norm: self.take(&name("post_attention_layernorm.weight"), &[hidden])?,
            gate: self.linear(&name("mlp.gate_proj"), (inner, hidden), mlp_bias)?,
            up: self.linear(&name("mlp.up_proj"), (inner, hidden), mlp_bias)?,
            down: self.linear(&name("mlp.down_proj"), (hidden, inner), mlp_bias)?,
        })
    }

    fn tail(&mut self) -> Result<(Weight, Option<Weight>), T::Error> {
        let (rows, hidden, tied) = (self.config.vocabulary, self.config.hidden, self.config.tied);
        let norm = self.take("model.norm.weight", &[hidden])?;
        Ok((norm, (!tied).then(|| self.take("lm_head.weight", &[rows, hidden])).transpose()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{config, tensors};
    use super::*;

    fn refusal(change: impl FnOnce(&mut HashMap<String, Tensor>)) -> WeightsError {
        let config = config("qwen3", true);
        let mut tensors = tensors(&config);
        change(&mut tensors);
        Model::from_tensors(config, tensors, true).unwrap_err()
    }

    #[test]
    fn a_missing_a_misshapen_a_mistyped_and_a_foreign_tensor_are_named() {
        let norm = "model.layers.1.self_attn.q_norm.weight";
        let other = |shape: usize, dtype| Tensor::zeros(shape, dtype, &candle_core::Device::Cpu).unwrap();
        let missing = refusal(|tensors| drop(tensors.remove(norm)));
        assert!(matches!(missing, WeightsError::Missing(name) if name == norm));
        let shape = refusal(|tensors| drop(tensors.insert(norm.to_owned(), other(5, DType::F64))));
        assert!(matches!(shape, WeightsError::Shape { found, expected, .. } if found == [5] && expected == [6]));
        let dtype = refusal(|tensors| drop(tensors.insert(norm.to_owned(), other(6, DType::BF16))));
        assert!(matches!(dtype, WeightsError::Type { found: DType::BF16, .. }));
        let foreign = refusal(|tensors| drop(tensors.insert("model.layers.2.x".to_owned(), other(1, DType::F64))));
        assert!(matches!(foreign, WeightsError::Unknown(name) if name == "model.layers.2.x"));
    }

    #[test]
    fn a_tied_model_may_repeat_its_embedding() {
        let config = config("qwen3", true);
        let mut tensors = tensors(&config);
        tensors.insert("lm_head.weight".to_owned(), tensors["model.embed_tokens.weight"].clone());
        assert!(Model::from_tensors(config, tensors, true).unwrap().lm_head.is_none());
    }
}
