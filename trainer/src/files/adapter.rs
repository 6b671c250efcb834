//! LoRA adapters as PEFT keeps them: `adapter_config.json` and `adapter_model.safetensors`. What PEFT would compute in another way is refused by
//! name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use sera_crds::contract::FileDigest;
use serde_json::{Map, Value, json};

use super::weights_file::WeightsFile;
use super::weights_writer::WeightsWriter;
use super::{FilesError, beside};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the names of the model that it wraps.
const PREFIX: &str = "base_model.model.";

/// What is wrong with an adapter.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// Its files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// `adapter_config.json` is no JSON object.
    #[error("{} is not the configuration of an adapter: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A field asks for something that is not computed here, or lacks.
    #[error("{}: `{field}` is {value}, where only {only} is supported", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Its name.
        field: String,
        /// What it says.
        value: String,
        /// What can be computed.
        only: &'static str,
    },
    /// A tensor that is no half of a pair.
    #[error("{}: tensor `{tensor}` is not one of a linear layer's lora_A.weight and lora_B.weight", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
    },
    /// A matrix without the other, or two that do not go together.
    #[error(
        "{}: lora_A.weight of `{module}` is {a:?} and lora_B.weight is {b:?}; they should be (rank {rank}, in) and (out, rank {rank})",
        path.display()
    )]
    Pair {
        /// The file.
        path: PathBuf,
        /// The layer.
        module: String,
        /// The shape of A; empty where it is not there.
        a: Vec<usize>,
        /// The shape of B; empty where it is not there.
        b: Vec<usize>,
        /// The rank that the configuration says.
        rank: usize,
    },
    /// An adapter of another model.
    #[error(
        "the adapter has `{module}` as {adapter:?}, and the model as {model:?} (empty: not at all): it was made for another model"
    )]
    OtherModel {
        /// The layer.
        module: String,
        /// (out, in) by the adapter.
        adapter: Vec<usize>,
        /// The shape of the model's weight; empty where it has none.
        model: Vec<usize>,
    },
}

/// A LoRA adapter: `alpha / rank · B A` is added to the weights of some linear layers.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// The matrices' rank.
    pub rank: usize,
    /// What their product is multiplied by, divided by the rank.
    pub alpha: f64,
    /// The layers that have one, by the last part of their names.
    pub target_modules: Vec<String>,
    /// A layer's Hugging Face name (`model.layers.0.self_attn.q_proj`), A (rank, in) and B (out, rank).
    pub tensors: Vec<(String, Tensor, Tensor)>,
}

impl Adapter {
    /// alpha / rank.
    #[allow(clippy::cast_precision_loss, reason = "a rank is small")]
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Reads the directory of an adapter.
    pub fn read(folder: &Path) -> Result<Self, AdapterError> {
        let path = folder.join(CONFIG);
        let json = std::fs::read(&path).map_err(FilesError::read(&path))?;
        let json = serde_json::from_slice(&json).map_err(|source| AdapterError::Json { path: path.clone(), source })?;
        let (rank, alpha, target_modules) = Fields { left: json, path }.read()?;
        let file = WeightsFile::open(&folder.join(WEIGHTS))?;
        let mut modules: BTreeMap<&str, (Option<Tensor>, Option<Tensor>)> = BTreeMap::new();
        for tensor in file.names() {
            let Some((module, is_a)) = half(tensor) else {
                return Err(AdapterError::Foreign { path: file.path().to_owned(), tensor: tensor.to_owned() });
            };
            let (a, b) = modules.entry(module).or_default();
            *(if is_a { a } else { b }) = Some(file.read(tensor)?);
        }
        let mut tensors = Vec::new();
        for (module, halves) in modules {
            match halves {
                (Some(a), Some(b)) if is_pair(&a, &b, rank) => tensors.push((module.to_owned(), a, b)),
                (a, b) => {
                    let shape = |half: Option<Tensor>| half.map(|half| half.dims().to_vec()).unwrap_or_default();
                    let (path, module) = (file.path().to_owned(), module.to_owned());
                    return Err(AdapterError::Pair { path, module, a: shape(a), b: shape(b), rank });
                }
            }
        }
        Ok(Self { rank, alpha, target_modules, tensors })
    }

    /// Writes the adapter as PEFT would, its tensors in the type of the first, for the model that `base` names (a directory, or a name of the hub).
    pub fn write(&self, folder: &Path, base: &str) -> Result<Vec<FileDigest>, FilesError> {
        std::fs::create_dir_all(folder).map_err(FilesError::write(folder))?;
        let dtype = self.tensors.first().map_or(DType::F32, |(_, a, _)| a.dtype());
        let halves = |(module, a, b): &(String, Tensor, Tensor)| {
            [("A", a.clone()), ("B", b.clone())]
                .map(|(half, tensor)| (format!("{PREFIX}{module}.lora_{half}.weight"), tensor))
        };
        let named: Vec<_> = self.tensors.iter().flat_map(halves).collect();
        let shapes = named.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()));
        let mut writer = WeightsWriter::new(folder, "adapter_model", shapes, dtype, u64::MAX)?;
        for (name, tensor) in &named {
            writer.add(name, tensor)?;
        }
        let mut digests = writer.seal()?.place()?;
        let config = format!("{:#}\n", self.config(base));
        digests.insert(0, beside::write(folder, CONFIG, config.as_bytes())?);
        beside::sync_folder(folder)?;
        Ok(digests)
    }

    fn config(&self, base: &str) -> Value {
        json!({
            "base_model_name_or_path": base, "bias": "none", "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
            "lora_alpha": whole(self.alpha), "lora_dropout": 0.0, "modules_to_save": null, "peft_type": "LORA", "r": self.rank,
            "target_modules": self.target_modules, "task_type": "CAUSAL_LM", "use_dora": false, "use_rslora": false
        })
    }
}

/// A number as PEFT writes it: without a fraction where it has none.
#[allow(clippy::cast_possible_truncation, reason = "only what is whole and small is converted")]
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { json!(number as i64) } else { json!(number) }
}

/// The layer of a tensor, and whether it is the A of it.
fn half(tensor: &str) -> Option<(&str, bool)> {
    let name = tensor.strip_prefix(PREFIX)?;
    let is_a = name.strip_suffix(".lora_A.weight").map(|module| (module, true));
    is_a.or_else(|| name.strip_suffix(".lora_B.weight").map(|module| (module, false)))
}

fn is_pair(a: &Tensor, b: &Tensor, rank: usize) -> bool {
    a.rank() == 2 && b.rank() == 2 && a.dims()[0] == rank && b.dims()[1] == rank
}

/// Initial weights that leave the base's alone.
const INITIAL: &str = "true, false, \"gaussian\", \"orthogonal\" or \"eva\"";

/// Fields that say how an adapter was made or is to be loaded, not what it computes.
const HARMLESS: [&str; 19] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "ensure_weight_tying",
    "peft_type",
];

/// The fields that nothing has looked at yet.
struct Fields {
    left: Map<String, Value>,
    path: PathBuf,
}

impl Fields {
    /// Rank, alpha and target modules, once everything else has been found to mean nothing.
    fn read(mut self) -> Result<(usize, f64, Vec<String>), AdapterError> {
        self.only("peft_type", "\"LORA\"", |value| value == "LORA")?;
        let rank = self.take("r", "a whole number above 0", |value| {
            value.as_u64().filter(|rank| *rank > 0).and_then(|rank| usize::try_from(rank).ok())
        })?;
        let alpha = self.take("lora_alpha", "a number", Value::as_f64)?;
        let targets = self.take("target_modules", "a list of names, or a pattern", |value| match value {
            Value::String(pattern) => Some(vec![pattern.clone()]),
            value => serde_json::from_value(value.clone()).ok(),
        })?;
        self.only("bias", "\"none\"", |value| value == "none")?;
        // The others (PiSSA, OLoRA, CorDA, LoftQ) take something off the base's weights.
        self.only("init_lora_weights", INITIAL, |value| {
            value.is_boolean() || ["gaussian", "orthogonal", "eva"].iter().any(|name| value == name)
        })?;
        let means_nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        let meant = self.left.iter().find(|(name, value)| !HARMLESS.contains(&name.as_str()) && !means_nothing(value));
        match meant {
            Some((field, value)) => {
                let (field, value) = (field.clone(), value.to_string());
                Err(AdapterError::Field { path: self.path, field, value, only: "false, null or nothing" })
            }
            None => Ok((rank, alpha, targets)),
        }
    }

    fn take<T>(
        &mut self,
        field: &str,
        only: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, AdapterError> {
        let value = self.left.remove(field).unwrap_or_default();
        let path = &self.path;
        let refused =
            || AdapterError::Field { path: path.clone(), field: field.to_owned(), value: value.to_string(), only };
        read(&value).ok_or_else(refused)
    }

    fn only(&mut self, field: &str, only: &'static str, is: impl Fn(&Value) -> bool) -> Result<(), AdapterError> {
        match self.left.remove(field) {
            Some(value) if !is(&value) => {
                let (path, value) = (self.path.clone(), value.to_string());
                Err(AdapterError::Field { path, field: field.to_owned(), value, only })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::finite_differences::noise;

    fn adapter() -> Adapter {
        let pair = |module: &str, out: usize, from: usize, seed| {
            let tensor = |shape: &[usize], seed| noise(shape, seed).to_dtype(DType::F32).unwrap();
            (module.to_owned(), tensor(&[3, from], seed), tensor(&[out, 3], seed + 1))
        };
        let tensors =
            vec![pair("model.layers.0.mlp.down_proj", 8, 10, 1), pair("model.layers.1.self_attn.q_proj", 24, 8, 3)];
        let target_modules = vec!["down_proj".to_owned(), "q_proj".to_owned()];
        Adapter { rank: 3, alpha: 6.0, target_modules, tensors }
    }

    fn with(field: &str, value: Value) -> Result<Adapter, AdapterError> {
        let folder = tempfile::tempdir().unwrap();
        adapter().write(folder.path(), "base").unwrap();
        let path = folder.path().join(CONFIG);
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[field] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        Adapter::read(folder.path())
    }

    #[test]
    fn an_adapter_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let digests = adapter().write(folder.path(), "base").unwrap();
        assert_eq!(digests.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), [CONFIG, WEIGHTS]);
        let read = Adapter::read(folder.path()).unwrap();
        assert_eq!((read.rank, read.scale(), read.target_modules), (3, 2.0, adapter().target_modules));
        for ((module, a, b), (other, other_a, other_b)) in read.tensors.iter().zip(&adapter().tensors) {
            assert_eq!(module, other);
            for (tensor, other) in [(a, other_a), (b, other_b)] {
                assert_eq!(tensor.to_vec2::<f32>().unwrap(), other.to_vec2::<f32>().unwrap());
            }
        }
    }

    #[test]
    fn what_would_be_computed_in_another_way_is_refused_by_name() {
        let refused = [
            ("use_rslora", json!(true)),
            ("use_dora", json!(true)),
            ("rank_pattern", json!({"q_proj": 8})),
            ("modules_to_save", json!(["lm_head"])),
            ("bias", json!("all")),
            ("peft_type", json!("LOHA")),
            ("init_lora_weights", json!("pissa")),
            ("r", json!(0)),
            ("lora_alpha", json!("much")),
            ("something_new", json!(0.5)),
        ];
        for (field, value) in refused {
            let error = with(field, value).unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{error}");
        }
        assert!(with("rank_pattern", json!({})).is_ok() && with("eva_config", json!({"rho": 2})).is_ok());
    }

    #[test]
    fn a_rank_that_the_matrices_do_not_have_and_a_tensor_of_something_else_are_refused_by_name() {
        assert!(matches!(with("r", json!(4)), Err(AdapterError::Pair { module, .. }) if module.contains("down_proj")));
        let folder = tempfile::tempdir().unwrap();
        let mut lone = adapter();
        lone.tensors[0].0 = "model.embed_tokens.lora_embedding_A".to_owned();
        lone.write(folder.path(), "base").unwrap();
        let name = "base_model.model.x.lora_embedding_A";
        let tensors = std::collections::HashMap::from([(name, lone.tensors[0].1.clone())]);
        candle_core::safetensors::save(&tensors, folder.path().join(WEIGHTS)).unwrap();
        assert!(matches!(Adapter::read(folder.path()), Err(AdapterError::Foreign { tensor, .. }) if tensor == name));
    }
}
