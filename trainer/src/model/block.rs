//! A transformer block as a pair. The forward keeps nothing, and the backward is given the block's input and computes the rest again (the activation
//! checkpointing), or is given what the forward has kept. Either way it is the border at which weights may come and gradients go.

use candle_core::{DType, Device, Error, Result, Tensor};

use super::Config;
use super::weights::Layer;
use crate::ops::{
    self, Attention, AttentionBy, Linear, LinearGradients, RopeTable, Segments, Weight, added, attention_bwd,
    attention_fwd, inverse_frequencies, linear_bwd, linear_fwd, rms_norm_bwd, rms_norm_fwd, rope_bwd, rope_fwd,
    swiglu_bwd, swiglu_fwd,
};

/// What every block has to know of a batch: its sequences, and their rotations.
#[derive(Debug, Clone)]
pub struct Tokens {
    segments: Segments,
    rope: RopeTable,
    attention: Attention,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rms_eps: f64,
}

/// Gradients of what is trained in a block, wide, by their names within the block (`self_attn.q_proj.weight`; adapters as PEFT names them).
pub type BlockGradients = Vec<(String, Tensor)>;

impl Tokens {
    /// The tokens of `segments` in a model of `config` that computes in `dtype`.
    pub fn new(config: &Config, segments: Segments, dtype: DType, device: &Device) -> Result<Self> {
        let frequencies = inverse_frequencies(config.rope_theta, config.head_dim, config.rope_scaling.as_ref());
        Ok(Self {
            rope: RopeTable::new(&frequencies, &segments.positions(), dtype, device)?,
            segments,
            attention: Attention::of_head(config.head_dim).on(device),
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            rms_eps: config.rms_eps,
        })
    }

    /// The same with attention computed as asked for.
    pub fn attend(mut self, by: AttentionBy, device: &Device) -> Result<Self> {
        self.attention = self.attention.by(by, &self.segments, device)?;
        Ok(self)
    }

    fn split(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        x.reshape((self.segments.tokens(), heads, self.head_dim))
    }
}

/// The block's result for its input `x`, both (T, hidden).
pub fn block_fwd(x: &Tensor, layer: &Layer, tokens: &Tokens) -> Result<Tensor> {
    BlockValues::new(x, layer, tokens)?.output(layer)
}

/// From the block's input `x` and the gradient `gy` of its result, the gradient of `x`, and those of what is trained.
pub fn block_bwd(x: &Tensor, gy: &Tensor, layer: &Layer, tokens: &Tokens) -> Result<(Tensor, BlockGradients)> {
    BlockValues::new(x, layer, tokens)?.backward(x, gy, layer, tokens)
}

/// What lies between a block's input and its result: kept for the backward pass where there is memory for it, or computed again.
#[derive(Debug)]
pub struct BlockValues {
    attended: Attended,
    fed: Fed,
}

impl BlockValues {
    /// Those of the block's input `x`, (T, hidden).
    pub fn new(x: &Tensor, layer: &Layer, tokens: &Tokens) -> Result<Self> {
        let attended = Attended::new(x, layer, tokens)?;
        let fed = Fed::new(&attended.residual, layer, tokens)?;
        Ok(Self { attended, fed })
    }

    /// The block's result, (T, hidden).
    pub fn output(&self, layer: &Layer) -> Result<Tensor> {
        added(linear_fwd(&self.fed.product, &layer.down)?, &self.attended.residual)
    }

    /// As [`block_bwd`].
    pub fn backward(self, x: &Tensor, gy: &Tensor, layer: &Layer, tokens: &Tokens) -> Result<(Tensor, BlockGradients)> {
        let Self { attended, fed } = self;
        let mut named = Named::default();
        let g_residual = fed.backward(&attended.residual, gy, layer, tokens, &mut named)?;
        let gx = attended.backward(x, &g_residual, layer, tokens, &mut named)?;
        Ok((gx, named.0))
    }
}

/// The first half: what lies between the input and `residual`, which is the input with attention added.
#[derive(Debug)]
struct Attended {
    /// The normalised input, (T, hidden).
    normed: Tensor,
    /// Queries and keys before their own normalisation, (T, heads, `head_dim`).
    raw_q: Tensor,
    raw_k: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: ops::Attended,
    residual: Tensor,
}

impl Attended {
    fn new(x: &Tensor, layer: &Layer, tokens: &Tokens) -> Result<Self> {
        let normed = rms_norm_fwd(x, &layer.input_norm.value, tokens.rms_eps)?;
        let raw_q = tokens.split(&linear_fwd(&normed, &layer.q)?, tokens.heads)?;
        let raw_k = tokens.split(&linear_fwd(&normed, &layer.k)?, tokens.kv_heads)?;
        let v = tokens.split(&linear_fwd(&normed, &layer.v)?, tokens.kv_heads)?;
        let placed = |x: &Tensor, norm: Option<&Weight>| match norm {
            Some(norm) => rope_fwd(&rms_norm_fwd(x, &norm.value, tokens.rms_eps)?, &tokens.rope),
            None => rope_fwd(x, &tokens.rope),
        };
        let q = placed(&raw_q, layer.qk_norm.as_ref().map(|norm| &norm.q))?;
        let k = placed(&raw_k, layer.qk_norm.as_ref().map(|norm| &norm.k))?;
        let heads = attention_fwd(&q, &k, &v, &tokens.segments, &tokens.attention)?;
        let residual = added(linear_fwd(&heads.output.flatten_from(1)?, &layer.o)?, x)?;
        Ok(Self { normed, raw_q, raw_k, q, k, v, heads, residual })
    }

    fn backward(self, x: &Tensor, gy: &Tensor, layer: &Layer, tokens: &Tokens, named: &mut Named) -> Result<Tensor> {
        let g_output = named.linear("self_attn.o_proj", linear_bwd(&self.heads.output.flatten_from(1)?, gy, &layer.o)?);
        let g_output = tokens.split(&g_output, tokens.heads)?;
        let (gq, gk, gv) =
            attention_bwd([&self.q, &self.k, &self.v], &self.heads, &g_output, &tokens.segments, &tokens.attention)?;
        let (mut gq, mut gk) = (rope_bwd(&gq, &tokens.rope)?, rope_bwd(&gk, &tokens.rope)?);
        if let Some(norm) = &layer.qk_norm {
            gq = named.norm("self_attn.q_norm", &self.raw_q, &gq, &norm.q, tokens)?;
            gk = named.norm("self_attn.k_norm", &self.raw_k, &gk, &norm.k, tokens)?;
        }
        let mut back = |name: &str, g_part: Tensor, linear: &Linear| {
            Ok::<_, Error>(named.linear(name, linear_bwd(&self.normed, &g_part.flatten_from(1)?, linear)?))
        };
        let mut g_normed = back("self_attn.q_proj", gq, &layer.q)?;
        g_normed = added(g_normed, &back("self_attn.k_proj", gk, &layer.k)?)?;
        g_normed = added(g_normed, &back("self_attn.v_proj", gv, &layer.v)?)?;
        added(named.norm("input_layernorm", x, &g_normed, &layer.input_norm, tokens)?, gy)
    }
}

/// The second half, up to the feed-forward part's last projection.
#[derive(Debug)]
struct Fed {
    /// (T, hidden).
    normed: Tensor,
    /// (T, intermediate), as the two below.
    gate: Tensor,
    up: Tensor,
    product: Tensor,
}

impl Fed {
    fn new(residual: &Tensor, layer: &Layer, tokens: &Tokens) -> Result<Self> {
        let normed = rms_norm_fwd(residual, &layer.post_norm.value, tokens.rms_eps)?;
        let (gate, up) = (linear_fwd(&normed, &layer.gate)?, linear_fwd(&normed, &layer.up)?);
        let product = swiglu_fwd(&gate, &up)?;
        Ok(Self { normed, gate, up, product })
    }

    fn backward(
        self,
        residual: &Tensor,
        gy: &Tensor,
        layer: &Layer,
        tokens: &Tokens,
        named: &mut Named,
    ) -> Result<Tensor> {
        let g_product = named.linear("mlp.down_proj", linear_bwd(&self.product, gy, &layer.down)?);
        let (g_gate, g_up) = swiglu_bwd(&self.gate, &self.up, &g_product)?;
        let by_gate = named.linear("mlp.gate_proj", linear_bwd(&self.normed, &g_gate, &layer.gate)?);
        let by_up = named.linear("mlp.up_proj", linear_bwd(&self.normed, &g_up, &layer.up)?);
        let g_normed = added(by_gate, &by_up)?;
        added(named.norm("post_attention_layernorm", residual, &g_normed, &layer.post_norm, tokens)?, gy)
    }
}

/// Gradients as they come, by name.
#[derive(Default)]
struct Named(BlockGradients);

impl Named {
    /// Files a linear layer's gradients, and hands on its input's.
    fn linear(&mut self, name: &str, (gx, gradients): (Tensor, LinearGradients)) -> Tensor {
        let (a, b) = gradients.lora.unzip();
        let parts =
            [("weight", gradients.weight), ("bias", gradients.bias), ("lora_A.weight", a), ("lora_B.weight", b)];
        self.0.extend(parts.into_iter().filter_map(|(part, gradient)| Some((format!("{name}.{part}"), gradient?))));
        gx
    }

    /// Goes back through a normalisation of `x`, files its weight's gradient, and hands on that of `x`.
    fn norm(&mut self, name: &str, x: &Tensor, gy: &Tensor, weight: &Weight, tokens: &Tokens) -> Result<Tensor> {
        let (gx, gradient) = rms_norm_bwd(x, gy, &weight.value, tokens.rms_eps, weight.trained)?;
        self.0.extend(gradient.map(|gradient| (format!("{name}.weight"), gradient)));
        Ok(gx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{config, model};
    use super::*;
    use crate::ops::Lora;
    use crate::ops::finite_differences::{assert_gradients, distance, noise};

    fn tokens(family: &str, lengths: &[usize], dtype: DType) -> Tokens {
        Tokens::new(&config(family, true), Segments::new(lengths).unwrap(), dtype, &Device::Cpu).unwrap()
    }

    fn cast(layer: &Layer, dtype: DType) -> Layer {
        let mut layer = layer.clone();
        layer.tensors_mut().into_iter().for_each(|(_, tensor, _)| *tensor = tensor.to_dtype(dtype).unwrap());
        layer
    }

    #[test]
    fn the_gradient_of_the_input_is_right_in_every_family() {
        for family in ["qwen3", "qwen2", "llama"] {
            let layer = model(family, true).layers.remove(1);
            let forward =
                |x: &[Tensor]| block_fwd(&x[0], &cast(&layer, x[0].dtype()), &tokens(family, &[4, 2], x[0].dtype()));
            let backward = |x: &[Tensor], gy: &Tensor| {
                let dtype = gy.dtype();
                Ok(vec![block_bwd(&x[0], gy, &cast(&layer, dtype), &tokens(family, &[4, 2], dtype))?.0])
            };
            assert_gradients(forward, backward, &[noise(&[6, 8], 5)]);
        }
    }

    #[test]
    fn the_gradients_of_adapters_are_right_and_the_frozen_rest_has_none() {
        let mut layer = model("qwen3", true).layers.remove(0);
        layer.set_trained(false);
        let adapted = |parts: &[Tensor]| {
            let mut layer = cast(&layer, parts[0].dtype());
            let lora =
                |at: usize| Some(Lora { a: parts[at].clone(), b: parts[at + 1].clone(), scale: 2.0, dropout: None });
            (layer.k.lora, layer.down.lora) = (lora(0), lora(2));
            (layer, tokens("qwen3", &[4, 2], parts[0].dtype()))
        };
        let x = noise(&[6, 8], 6);
        let forward = |parts: &[Tensor]| {
            let (layer, tokens) = adapted(parts);
            block_fwd(&x.to_dtype(parts[0].dtype())?, &layer, &tokens)
        };
        let backward = |parts: &[Tensor], gy: &Tensor| {
            let (layer, tokens) = adapted(parts);
            let gradients = block_bwd(&x.to_dtype(gy.dtype())?, gy, &layer, &tokens)?.1;
            let names: Vec<_> = gradients.iter().map(|(name, _)| name.as_str()).collect();
            let (k, down) = ("self_attn.k_proj", "mlp.down_proj");
            let expected = [down, k].map(|name| ["A", "B"].map(|part| format!("{name}.lora_{part}.weight")));
            assert_eq!(names, expected.as_flattened());
            Ok([2, 3, 0, 1].map(|at: usize| gradients[at].1.clone()).to_vec())
        };
        let shapes: [&[usize]; 4] = [&[2, 8], &[12, 2], &[2, 10], &[8, 2]];
        let parts: Vec<_> = (40..).zip(shapes).map(|(seed, shape)| noise(shape, seed)).collect();
        assert_gradients(forward, backward, &parts);
    }

    #[test]
    fn a_packed_sequence_gives_what_it_gives_alone() {
        let layer = model("llama", true).layers.remove(0);
        let x = noise(&[7, 8], 7);
        let packed = block_fwd(&x, &layer, &tokens("llama", &[4, 3], DType::F64)).unwrap();
        let alone = block_fwd(&x.narrow(0, 4, 3).unwrap(), &layer, &tokens("llama", &[3], DType::F64)).unwrap();
        assert!(distance(&packed.narrow(0, 4, 3).unwrap(), &alone) < 1e-14);
    }
}
