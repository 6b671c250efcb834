//! The units of a model, and where a pass has their weights from and leaves their gradients: whoever shards a model gives and takes them a unit at a
//! time. No arithmetic.

use std::fmt;

use candle_core::{Error, Tensor};

use super::{BlockGradients, Layer};
use crate::ops::{Linear, Weight};

/// What is gathered, reduced and stepped together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `model.embed_tokens`, which is also the output projection of a tied model.
    Embedding,
    /// A block.
    Layer(usize),
    /// `model.norm`, and `lm_head` where it is not the embedding.
    Head,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => write!(f, "model.embed_tokens"),
            Self::Layer(index) => write!(f, "model.layers.{index}"),
            Self::Head => write!(f, "head"),
        }
    }
}

/// What comes after the last block.
#[derive(Debug, Clone)]
pub struct Head {
    /// The last normalisation: (hidden).
    pub norm: Weight,
    /// The output projection: (vocabulary, hidden).
    pub weight: Weight,
    /// Whether that is the embedding.
    pub tied: bool,
}

/// Gives a pass its weights and takes its gradients. Tensors are handles: what is given is let go by the pass before it asks for more.
pub trait Source {
    /// What can go wrong on the way.
    type Error: From<Error>;

    /// `model.embed_tokens`.
    fn embedding(&mut self) -> Result<Weight, Self::Error>;

    /// A block, with its adapters as they are to be computed in this pass.
    fn layer(&mut self, index: usize) -> Result<Layer, Self::Error>;

    /// What comes after the last block.
    fn head(&mut self) -> Result<Head, Self::Error>;

    /// Whether the embedding's gradient is wanted.
    fn trains_embedding(&self) -> bool;

    /// The gradients of what is trained in a unit, wide, by Hugging Face names; none where nothing is.
    fn take(&mut self, unit: Unit, gradients: BlockGradients) -> Result<(), Self::Error>;
}

/// A block's normalisation weights and its linear layers, by their names within it.
pub type Apart<'a> = (Vec<(&'static str, &'a mut Weight)>, [(&'static str, &'a mut Linear); 7]);

impl Layer {
    /// The block's normalisation weights and its linear layers, by their names within it.
    pub fn apart(&mut self) -> Apart<'_> {
        let Self { input_norm, q, k, v, qk_norm, o, post_norm, gate, up, down } = self;
        let mut norms = vec![("input_layernorm", input_norm), ("post_attention_layernorm", post_norm)];
        if let Some(norm) = qk_norm {
            norms.extend([("self_attn.q_norm", &mut norm.q), ("self_attn.k_norm", &mut norm.k)]);
        }
        let linears = [
            ("self_attn.q_proj", q),
            ("self_attn.k_proj", k),
            ("self_attn.v_proj", v),
            ("self_attn.o_proj", o),
            ("mlp.gate_proj", gate),
            ("mlp.up_proj", up),
            ("mlp.down_proj", down),
        ];
        (norms, linears)
    }

    /// Every tensor of the block by its name within it, and whether it is trained, in an order that depends on the configuration alone.
    pub fn tensors_mut(&mut self) -> Vec<(String, &mut Tensor, bool)> {
        let (norms, linears) = self.apart();
        let norm = |(name, weight): (&str, _)| named(name, "weight", weight);
        let mut tensors: Vec<_> = norms.into_iter().map(norm).collect();
        for (name, linear) in linears {
            tensors.push(named(name, "weight", &mut linear.weight));
            tensors.extend(linear.bias.as_mut().map(|bias| named(name, "bias", bias)));
            if let Some(lora) = &mut linear.lora {
                tensors.push((format!("{name}.lora_A.weight"), &mut lora.a, true));
                tensors.push((format!("{name}.lora_B.weight"), &mut lora.b, true));
            }
        }
        tensors
    }

    /// Trains or freezes all weights; adapters are trained always.
    pub fn set_trained(&mut self, trained: bool) {
        let (norms, linears) = self.apart();
        let of_linear = |(_, linear): (_, &'_ mut Linear)| {
            linear.weight.trained = trained;
            linear.bias.iter_mut().for_each(|bias| bias.trained = trained);
        };
        norms.into_iter().for_each(|(_, norm)| norm.trained = trained);
        linears.into_iter().for_each(of_linear);
    }
}

fn named<'a>(module: &str, part: &str, weight: &'a mut Weight) -> (String, &'a mut Tensor, bool) {
    (format!("{module}.{part}"), &mut weight.value, weight.trained)
}
