//! A model's weights as inference keeps them: matrices that are multiplied with the same input are one, norms and biases are f32.

use candle_core::{DType, Error, Tensor};

use super::matrix::{Kept, Matrix};
use crate::model::{Config, Family};

/// A block's weights.
#[derive(Debug)]
pub(super) struct LayerWeights {
    pub(super) input_norm: Vec<f32>,
    /// Queries, keys and values, one below the other.
    pub(super) qkv: Matrix,
    pub(super) qkv_bias: Option<Vec<f32>>,
    /// Of queries and of keys.
    pub(super) qk_norm: Option<(Vec<f32>, Vec<f32>)>,
    pub(super) output: Matrix,
    pub(super) output_bias: Option<Vec<f32>>,
    pub(super) post_norm: Vec<f32>,
    /// Gate and up, one below the other.
    pub(super) gate_up: Matrix,
    pub(super) gate_up_bias: Option<Vec<f32>>,
    pub(super) down: Matrix,
    pub(super) down_bias: Option<Vec<f32>>,
}

/// A whole model's, for inference on processors. It computes in f32 whatever the weights are kept in.
#[derive(Debug)]
pub struct Weights {
    pub(super) config: Config,
    pub(super) embedding: Matrix,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) norm: Vec<f32>,
    /// Where it is not the embedding.
    pub(super) head: Option<Matrix>,
}

impl Weights {
    /// The weights of a model of `config`, from its tensors by their Hugging Face names, as `read` gives them. No more than one of them is there
    /// twice at a time.
    pub fn load<E: From<Error>>(
        config: &Config,
        kept: Kept,
        mut read: impl FnMut(&str) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let embedding = Matrix::new(&[read("model.embed_tokens.weight")?], kept)?;
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            layers.push(layer(config, kept, |part| read(&format!("model.layers.{index}.{part}")))?);
        }
        let norm = values(&read("model.norm.weight")?)?;
        let head = if config.tied { None } else { Some(Matrix::new(&[read("lm_head.weight")?], kept)?) };
        Ok(Self { config: config.clone(), embedding, layers, norm, head })
    }

    /// The bytes that the matrices take.
    pub fn bytes(&self) -> u64 {
        let layers = self.layers.iter().flat_map(|layer| [&layer.qkv, &layer.output, &layer.gate_up, &layer.down]);
        layers.chain([&self.embedding]).chain(&self.head).map(Matrix::bytes).sum()
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

fn layer<E: From<Error>>(
    config: &Config,
    kept: Kept,
    mut read: impl FnMut(&str) -> Result<Tensor, E>,
) -> Result<LayerWeights, E> {
    const QKV: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
    const GATE_UP: [&str; 2] = ["mlp.gate_proj", "mlp.up_proj"];
    let mut matrix = |parts: &[&str]| -> Result<Matrix, E> {
        let parts = parts.iter().map(|part| read(&format!("{part}.weight"))).collect::<Result<Vec<_>, E>>()?;
        Ok(Matrix::new(&parts, kept)?)
    };
    let (qkv, output) = (matrix(&QKV)?, matrix(&["self_attn.o_proj"])?);
    let (gate_up, down) = (matrix(&GATE_UP)?, matrix(&["mlp.down_proj"])?);
    let mut bias = |there: bool, parts: &[&str]| -> Result<Option<Vec<f32>>, E> {
        if !there {
            return Ok(None);
        }
        let parts = parts.iter().map(|part| Ok(values(&read(&format!("{part}.bias"))?)?));
        Ok(Some(parts.collect::<Result<Vec<_>, E>>()?.concat()))
    };
    let qkv_bias = bias(config.qkv_bias, &QKV)?;
    let output_bias = bias(config.output_bias, &["self_attn.o_proj"])?;
    let (gate_up_bias, down_bias) = (bias(config.mlp_bias, &GATE_UP)?, bias(config.mlp_bias, &["mlp.down_proj"])?);
    let mut norm = |name: &str| -> Result<Vec<f32>, E> { Ok(values(&read(&format!("{name}.weight"))?)?) };
    let qk_norm = match config.family {
        Family::Qwen3 => Some((norm("self_attn.q_norm")?, norm("self_attn.k_norm")?)),
        Family::Qwen2 | Family::Llama => None,
    };
    let (input_norm, post_norm) = (norm("input_layernorm")?, norm("post_attention_layernorm")?);
    Ok(LayerWeights {
        input_norm,
        qkv,
        qkv_bias,
        qk_norm,
        output,
        output_bias,
        post_norm,
        gate_up,
        gate_up_bias,
        down,
        down_bias,
    })
}

fn values(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}
