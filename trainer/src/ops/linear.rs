//! A linear map with an optional bias and an optional low-rank adapter beside it. What is frozen costs no gradient.

use candle_core::{Result, Tensor};

use super::{Dropout, added, cast, wide};

/// A tensor of the model, and whether it is trained.
#[derive(Debug, Clone)]
pub struct Weight {
    /// Its values.
    pub value: Tensor,
    /// Whether its gradient is wanted.
    pub trained: bool,
}

/// A low-rank adapter (`LoRA`, arXiv 2106.09685, as PEFT computes it): `scale · (dropout(x) Aᵀ) Bᵀ` is added to the layer's result.
#[derive(Debug, Clone)]
pub struct Lora {
    /// (rank, in).
    pub a: Tensor,
    /// (out, rank).
    pub b: Tensor,
    /// alpha / rank.
    pub scale: f64,
    /// What is dropped of the adapter's input; none outside of training.
    pub dropout: Option<Dropout>,
}

impl Lora {
    /// What of `x` (T, in) the adapter sees, and the mask that made it, if there is one.
    fn input(&self, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let Some(dropout) = &self.dropout else { return Ok((x.clone(), None)) };
        let mask = dropout.mask(x)?;
        Ok(((x * &mask)?, Some(mask)))
    }
}

/// A linear layer in Hugging Face's layout.
#[derive(Debug, Clone)]
pub struct Linear {
    /// (out, in).
    pub weight: Weight,
    /// (out).
    pub bias: Option<Weight>,
    /// Trained whenever there is one.
    pub lora: Option<Lora>,
}

/// Gradients of what is trained in a layer, wide.
#[derive(Debug, Clone, Default)]
pub struct LinearGradients {
    /// (out, in).
    pub weight: Option<Tensor>,
    /// (out).
    pub bias: Option<Tensor>,
    /// Of A (rank, in) and B (out, rank).
    pub lora: Option<(Tensor, Tensor)>,
}

/// `x` (T, in) through the layer: `x Wᵀ + b + scale · (dropout(x) Aᵀ) Bᵀ`, (T, out).
pub fn linear_fwd(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let mut y = x.matmul(&layer.weight.value.t()?)?;
    if let Some(bias) = &layer.bias {
        y = y.broadcast_add(&bias.value)?;
    }
    if let Some(lora) = &layer.lora {
        let (x, _) = lora.input(x)?;
        let inner = (x.matmul(&lora.a.t()?)? * lora.scale)?;
        y = added(y, &inner.matmul(&lora.b.t()?)?)?;
    }
    Ok(y)
}

/// From the gradient `gy` (T, out) of [`linear_fwd`]'s result, that of `x` (T, in), in its type, and those of what is trained.
pub fn linear_bwd(x: &Tensor, gy: &Tensor, layer: &Linear) -> Result<(Tensor, LinearGradients)> {
    let mut gx = gy.matmul(&layer.weight.value)?;
    let mut gradients = LinearGradients::default();
    if layer.weight.trained {
        gradients.weight = Some(outer(gy, x)?);
    }
    if layer.bias.as_ref().is_some_and(|bias| bias.trained) {
        gradients.bias = Some(gy.to_dtype(wide(gy.dtype()))?.sum(0)?);
    }
    if let Some(lora) = &layer.lora {
        let g_inner = (gy.matmul(&lora.b)? * lora.scale)?;
        let (x, mask) = lora.input(x)?;
        let by_adapter = g_inner.matmul(&lora.a)?;
        gx = match mask {
            Some(mask) => added(gx, &(by_adapter * mask)?)?,
            None => added(gx, &by_adapter)?,
        };
        let inner = (x.matmul(&lora.a.t()?)? * lora.scale)?;
        gradients.lora = Some((outer(&g_inner, &x)?, outer(gy, &inner)?));
    }
    Ok((gx, gradients))
}

/// `gyᵀ x`, wide.
fn outer(gy: &Tensor, x: &Tensor) -> Result<Tensor> {
    cast(&gy.t()?.matmul(x)?, wide(x.dtype()))
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradients, distance, noise};
    use super::*;

    fn layer(inputs: &[Tensor]) -> Linear {
        let trained = |value: &Tensor| Weight { value: value.clone(), trained: true };
        Linear {
            weight: trained(&inputs[1]),
            bias: inputs.get(2).map(trained),
            lora: inputs.get(4).map(|b| Lora { a: inputs[3].clone(), b: b.clone(), scale: 2.5, dropout: None }),
        }
    }

    fn backward(inputs: &[Tensor], gy: &Tensor) -> Result<Vec<Tensor>> {
        let (gx, gradients) = linear_bwd(&inputs[0], gy, &layer(inputs))?;
        let (a, b) = gradients.lora.unzip();
        Ok([Some(gx), gradients.weight, gradients.bias, a, b].into_iter().flatten().collect())
    }

    #[test]
    fn the_gradients_are_right_with_and_without_bias_and_adapter() {
        let forward = |inputs: &[Tensor]| linear_fwd(&inputs[0], &layer(inputs));
        let shapes: [&[usize]; 5] = [&[4, 5], &[3, 5], &[3], &[2, 5], &[3, 2]];
        let inputs: Vec<_> = (11..).zip(shapes).map(|(seed, shape)| noise(shape, seed)).collect();
        for count in [2, 3, 5] {
            assert_gradients(forward, backward, &inputs[..count]);
        }
    }

    #[test]
    fn the_gradients_are_right_with_dropout_whose_mask_the_backward_draws_again() {
        let dropping = |inputs: &[Tensor]| {
            let mut layer = layer(inputs);
            layer.lora.as_mut().unwrap().dropout = Some(Dropout::new(0.4, 7, 3, &[("one", 3), ("other", 1)], "module"));
            layer
        };
        let forward = |inputs: &[Tensor]| linear_fwd(&inputs[0], &dropping(inputs));
        let backward = |inputs: &[Tensor], gy: &Tensor| {
            let (gx, gradients) = linear_bwd(&inputs[0], gy, &dropping(inputs))?;
            let (a, b) = gradients.lora.unzip();
            Ok([Some(gx), gradients.weight, gradients.bias, a, b].into_iter().flatten().collect())
        };
        let shapes: [&[usize]; 5] = [&[4, 5], &[3, 5], &[3], &[2, 5], &[3, 2]];
        let inputs: Vec<_> = (41..).zip(shapes).map(|(seed, shape)| noise(shape, seed)).collect();
        assert_gradients(forward, backward, &inputs);
        let without = linear_fwd(&inputs[0], &layer(&inputs)).unwrap();
        assert!(distance(&forward(&inputs).unwrap(), &without) > 1e-3, "something is dropped");
    }

    #[test]
    fn an_adapter_equals_its_product_merged_into_the_weight() {
        let [x, w, a, b] = [&[4, 5], &[3, 5], &[2, 5], &[3, 2]].map(|shape| noise(shape, 21 + shape[0] as u64));
        let frozen = |value: Tensor| Weight { value, trained: false };
        let merged = (&w + (b.matmul(&a).unwrap() * 4.0).unwrap()).unwrap();
        let merged = linear_fwd(&x, &Linear { weight: frozen(merged), bias: None, lora: None }).unwrap();
        let beside = Linear { weight: frozen(w), bias: None, lora: Some(Lora { a, b, scale: 4.0, dropout: None }) };
        assert!(distance(&linear_fwd(&x, &beside).unwrap(), &merged) < 1e-14);
    }

    #[test]
    fn what_is_frozen_gets_no_gradient_and_passes_it_on() {
        let inputs = [noise(&[4, 5], 31), noise(&[3, 5], 32), noise(&[3], 33)];
        let mut frozen = layer(&inputs);
        frozen.weight.trained = false;
        frozen.bias.as_mut().unwrap().trained = false;
        let gy = noise(&[4, 3], 34);
        let (gx, gradients) = linear_bwd(&inputs[0], &gy, &frozen).unwrap();
        assert!(gradients.weight.is_none() && gradients.bias.is_none() && gradients.lora.is_none());
        assert!(distance(&gx, &backward(&inputs, &gy).unwrap()[0]) < 1e-15);
    }
}
