//! Adapters beside a model's linear layers (`LoRA`, arXiv 2106.09685), begun as PEFT begins them.

use candle_core::{DType, Device, Error, Tensor};

use super::Layer;
use crate::draw;
use crate::ops::Lora;

/// Adapters that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LoraError {
    /// A target that no linear layer of a block is named.
    #[error("`targetModules` names `{name}`, which no linear layer of this model ends with; there are {there}")]
    Target {
        /// What was asked for.
        name: String,
        /// The names that exist.
        there: String,
    },
    /// A rank of zero.
    #[error("the rank of the adapters is 0; ask for at least 1")]
    Rank,
    /// A share of inputs that leaves nothing, or is none.
    #[error("a dropout of {0} is not a share from 0 to below 1")]
    Dropout(f64),
    /// The tensors could not be made.
    #[error("the adapters do not fit on the device: {0}")]
    Tensor(#[from] Error),
}

/// What adapters a model gets.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSettings {
    /// Their rank.
    pub rank: u32,
    /// Their product is multiplied by this over the rank.
    pub alpha: u32,
    /// The share of their inputs that is dropped in training.
    pub dropout: f64,
    /// Which linear layers get one, by the last part of their names (`q_proj`); empty: all but the output projection.
    pub target_modules: Vec<String>,
    /// What A is drawn from.
    pub seed: u64,
}

impl LoraSettings {
    /// Refuses what no adapter can be made of, given a block of the model.
    pub fn check(&self, mut block: Layer) -> Result<(), LoraError> {
        if self.rank == 0 {
            return Err(LoraError::Rank);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(LoraError::Dropout(self.dropout));
        }
        let there = block.apart().1.map(|(name, _)| last_part(name));
        match self.target_modules.iter().find(|name| !there.contains(&name.as_str())) {
            Some(name) => Err(LoraError::Target { name: name.clone(), there: there.join(", ") }),
            None => Ok(()),
        }
    }

    /// Puts f32 adapters beside the targets of block `index`, whose weights are frozen from then on. A is uniform in ±1/√in (Kaiming with a = √5, as
    /// PEFT has it), drawn for each layer by its name; B is zero, so that the model computes what it did.
    pub fn adapt(&self, layer: &mut Layer, index: usize) -> Result<(), LoraError> {
        layer.set_trained(false);
        for (name, linear) in layer.apart().1 {
            if self.target_modules.is_empty() || self.target_modules.iter().any(|target| target == last_part(name)) {
                let (out, from) = linear.weight.value.dims2()?;
                let device = linear.weight.value.device();
                let a = self.drawn(&format!("model.layers.{index}.{name}.lora_A.weight"), from, device)?;
                let b = Tensor::zeros((out, self.rank as usize), DType::F32, device)?;
                let scale = f64::from(self.alpha) / f64::from(self.rank);
                linear.lora = Some(Lora { a, b, scale, dropout: None });
            }
        }
        Ok(())
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "drawn in f64, kept in f32")]
    fn drawn(&self, name: &str, from: usize, device: &Device) -> Result<Tensor, Error> {
        let rank = self.rank as usize;
        let bound = 1.0 / (from as f64).sqrt();
        let numbers = draw::numbers(draw::key("lora", self.seed, &[name]), rank * from);
        let values = numbers.map(|number| ((f64::from(number) / 2f64.powi(31) - 1.0) * bound) as f32);
        Tensor::from_vec(values.collect::<Vec<f32>>(), (rank, from), device)
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::testing::model;
    use super::*;
    use crate::ops::finite_differences::values;

    fn settings(targets: &[&str]) -> LoraSettings {
        let target_modules = targets.iter().map(|&name| name.to_owned()).collect();
        LoraSettings { rank: 3, alpha: 6, dropout: 0.0, target_modules, seed: 5 }
    }

    fn adapted(settings: &LoraSettings) -> Layer {
        let mut layer = model("qwen3", true).layers.remove(1);
        settings.adapt(&mut layer, 1).unwrap();
        layer
    }

    #[test]
    fn every_linear_layer_gets_an_adapter_unless_some_are_named() {
        let with = |layer: &mut Layer| {
            let adapted = layer.apart().1.into_iter().filter(|(_, linear)| linear.lora.is_some());
            adapted.map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(with(&mut adapted(&settings(&[]))).len(), 7);
        assert_eq!(with(&mut adapted(&settings(&["q_proj", "down_proj"]))), ["self_attn.q_proj", "mlp.down_proj"]);
    }

    #[test]
    fn only_adapters_are_trained() {
        let mut layer = adapted(&settings(&[]));
        assert!(layer.tensors_mut().iter().all(|(name, _, trained)| name.contains("lora_") == *trained));
    }

    #[test]
    fn a_is_uniform_within_its_bound_and_b_is_zero() {
        let layer = adapted(&LoraSettings { rank: 500, ..settings(&[]) });
        let lora = layer.down.lora.as_ref().unwrap();
        let (a, bound) = (values(&lora.a), 1.0 / 10f64.sqrt());
        assert_eq!(lora.a.dims(), [500, 10]);
        assert!(a.iter().all(|value| value.abs() <= bound));
        let mean_square = a.iter().map(|value| value * value).sum::<f64>() / 5000.0;
        assert!((mean_square / (bound * bound / 3.0) - 1.0).abs() < 0.05, "{mean_square}");
        assert!((a.iter().sum::<f64>() / 5000.0).abs() < 0.01);
        assert!(values(&lora.b).iter().all(|value| *value == 0.0) && lora.b.dims() == [8, 500]);
        assert!((lora.scale - 6.0 / 500.0).abs() < 1e-15);
    }

    #[test]
    fn each_layer_and_each_seed_draws_other_values() {
        let of = |settings: &LoraSettings| values(&adapted(settings).q.lora.unwrap().a);
        let first = of(&settings(&[]));
        assert_eq!(first, of(&settings(&["q_proj"])), "whatever else is adapted");
        assert_ne!(first, of(&LoraSettings { seed: 6, ..settings(&[]) }));
        assert_ne!(first, values(&adapted(&settings(&[])).k.lora.unwrap().a));
    }

    #[test]
    fn a_target_that_matches_nothing_is_refused_with_the_names_that_exist() {
        let check = |settings: LoraSettings| settings.check(model("qwen3", true).layers.remove(0));
        let error = check(settings(&["q_proj", "query"])).unwrap_err().to_string();
        assert!(error.contains("`query`") && error.contains("q_proj, k_proj, v_proj, o_proj, gate_proj"), "{error}");
        assert!(matches!(check(LoraSettings { rank: 0, ..settings(&[]) }), Err(LoraError::Rank)));
        assert!(matches!(check(LoraSettings { dropout: 1.0, ..settings(&[]) }), Err(LoraError::Dropout(_))));
        assert!(check(settings(&["up_proj"])).is_ok());
    }
}
