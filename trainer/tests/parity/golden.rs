//! What `golden/parity.py` has written of a model, and the model, drawn again.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Error, Tensor};
use rayon::prelude::*;
use sera_trainer::engine::{Line, Method};
use sera_trainer::model::{Batch, Config, LoraSettings, Model, loss_and_gradients};
use sera_trainer::ops::{Lora, Segments};
use serde_json::Value;

use crate::device::device;
use crate::drawn::{draw, words};
use crate::sums::{Gaps, values};

/// Those that end with `-lora` are the case that they begin with, with adapters.
pub(crate) const CASES: [&str; 7] =
    ["qwen3-tied", "qwen3-untied", "qwen2", "llama3", "llama-bias", "qwen3-tied-lora", "qwen2-lora"];

/// Of adapters.
const RANK: u32 = 8;

/// By name, and in the order of names, as the fixtures' tables are.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

pub(crate) struct Golden {
    pub(crate) adapted: bool,
    pub(crate) config: Value,
    /// The sha256 of all weights as Python drew them.
    pub(crate) digest: String,
    /// All weights as they were drawn, adapters too.
    pub(crate) drawn: Tensors,
    pub(crate) alpha: u32,
    /// The lengths of the sequences whose gradients are compared, and along which steps are taken: the first of all.
    pub(crate) first: Vec<usize>,
    /// The lengths of all sequences.
    pub(crate) all: Vec<usize>,
    pub(crate) ids: Vec<u32>,
    pub(crate) mask: Vec<bool>,
    results: HashMap<String, Tensor>,
}

impl Golden {
    pub(crate) fn read(case: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let told: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("parity.json")).unwrap()).unwrap();
        let results = candle_core::safetensors::load(folder.join("parity.safetensors"), &Device::Cpu).unwrap();
        let own =
            |(name, tensor): (String, Tensor)| Some((name.strip_prefix(case)?.strip_prefix('/')?.to_owned(), tensor));
        let (config, digest) = (told[case]["config"].clone(), told[case]["weights"].as_str().unwrap().to_owned());
        let (base, first) = (case.strip_suffix("-lora"), vec![40usize, 24]);
        let (adapted, all) = (base.is_some(), first.repeat(8));
        let of_tokens = |what: &str| words(&format!("{case}/{what}"), all.iter().sum()).into_iter();
        let parsed = Config::parse(&config.to_string()).unwrap();
        let vocabulary = u32::try_from(parsed.vocabulary).unwrap();
        Self {
            drawn: weights(base.unwrap_or(case), &parsed, adapted),
            ids: of_tokens("ids").map(|word| word % vocabulary).collect(),
            mask: of_tokens("mask").map(|word| word % 5 < 3).collect(),
            results: results.into_iter().filter_map(own).collect(),
            alpha: 2 * RANK,
            adapted,
            config,
            digest,
            first,
            all,
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config::parse(&self.config.to_string()).unwrap()
    }

    pub(crate) fn result(&self, name: &str) -> &Tensor {
        &self.results[name]
    }

    pub(crate) fn method(&self) -> Method {
        if !self.adapted {
            return Method::Full;
        }
        Method::Lora(LoraSettings { rank: RANK, alpha: self.alpha, dropout: 0.0, target_modules: Vec::new(), seed: 0 })
    }

    /// All weights in f32: as bf16 can hold them, or, fresh, as they were drawn, with adapters that change nothing yet, as PEFT begins.
    pub(crate) fn weights(&self, fresh: bool) -> Tensors {
        let weight = |(name, drawn): (&String, &Tensor)| {
            let value = match (fresh, name.contains(".lora_B.")) {
                (false, _) => drawn.to_dtype(DType::BF16).and_then(|rounded| rounded.to_dtype(DType::F32)),
                (true, true) => drawn.zeros_like(),
                (true, false) => Ok(drawn.clone()),
            };
            (name.clone(), value.unwrap())
        };
        self.drawn.iter().map(weight).collect()
    }

    /// With weights that bf16 can hold; where there are adapters, they alone are trained.
    pub(crate) fn model(&self, dtype: DType) -> Model {
        let cast = |(name, weight): (String, Tensor)| (name, weight.to_dtype(dtype).unwrap());
        let (mut adapters, weights) = divided(self.weights(false).into_iter().map(cast).collect());
        let mut model = Model::from_tensors(self.config(), weights.into_iter().collect(), !self.adapted).unwrap();
        let scale = f64::from(self.alpha) / f64::from(RANK);
        for (index, layer) in model.layers.iter_mut().enumerate() {
            for (name, linear) in layer.apart().1 {
                let mut take = |part: &str| adapters.remove(&format!("model.layers.{index}.{name}.lora_{part}.weight"));
                linear.lora = take("A").zip(take("B")).map(|(a, b)| Lora { a, b, scale, dropout: None });
            }
        }
        assert!(adapters.is_empty());
        model
    }

    /// The first sequences, of these lengths.
    pub(crate) fn batch(&self, lengths: &[usize], dtype: DType) -> Batch {
        let (tokens, segments) = (lengths.iter().sum::<usize>(), Segments::new(lengths).unwrap());
        Batch::new(&self.config(), &self.ids[..tokens], &self.mask[..tokens], segments, dtype, device()).unwrap()
    }

    /// The sequences along which steps are taken.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut begin = 0usize;
        let line = |length: &usize| {
            let range = begin..begin + length;
            begin = range.end;
            Line { id: begin.to_string(), ids: self.ids[range.clone()].to_vec(), loss: self.mask[range].to_vec() }
        };
        self.first.iter().map(line).collect()
    }

    /// The mean loss of the first sequences, and its gradients, computed in `dtype`.
    pub(crate) fn gradients(&self, dtype: DType) -> (f64, Tensors) {
        let batch = self.batch(&self.first, dtype);
        let trained = batch.trained() as f64;
        let mut gradients = Tensors::new();
        let loss = loss_and_gradients(&self.model(dtype), &batch, 1.0 / trained, |name, gradient| {
            gradients.insert(name, gradient);
            Ok::<_, Error>(())
        });
        (loss.unwrap() / trained, gradients)
    }

    /// How far loss and gradients are from transformers' in f32.
    pub(crate) fn gaps(&self) -> (f64, Gaps) {
        let (loss, gradients) = self.gradients(DType::F32);
        ((loss - values(self.result("loss"))[0]).abs(), Gaps::of(&gradients, self.result("gradients")))
    }
}

/// Adapters, and what they are beside.
pub(crate) fn divided(weights: Tensors) -> (Tensors, Tensors) {
    weights.into_iter().partition(|(name, _)| name.contains(".lora_"))
}

fn weights(base: &str, config: &Config, adapted: bool) -> Tensors {
    let mut shapes: Vec<(String, Vec<usize>)> = config.tensors().collect();
    if adapted {
        let adapters = |(name, shape): &(String, Vec<usize>)| {
            let module = name.strip_suffix(".weight").filter(|module| module.ends_with("_proj"))?;
            let (a, b) = (vec![RANK as usize, shape[1]], vec![shape[0], RANK as usize]);
            Some([(format!("{module}.lora_A.weight"), a), (format!("{module}.lora_B.weight"), b)])
        };
        let beside: Vec<_> = shapes.iter().filter_map(adapters).flatten().collect();
        shapes.extend(beside);
    }
    let drawn = |(name, shape): (String, Vec<usize>)| {
        let values = draw(base, &name, shape.iter().product());
        (name, Tensor::from_vec(values, shape, device()).unwrap())
    };
    shapes.into_par_iter().map(drawn).collect()
}
