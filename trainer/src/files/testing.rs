//! For tests: small model directories, with every tensor different, in one file and in two.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::{Map, Value, json};

use super::ModelDir;
use super::model_dir::{CONFIG, INDEX, WEIGHTS};
use crate::model::testing::{config, config_json, tensors};

/// A directory for a model of `model::testing`'s sizes, and its tensors in f32. It begins with `config.json` alone.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    pub(crate) tensors: HashMap<String, Tensor>,
}

impl Fixture {
    pub(crate) fn new(family: &str, tied: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CONFIG), config_json(family, tied).to_string()).unwrap();
        let narrow = |(name, tensor): (String, Tensor)| (name, tensor.to_dtype(DType::F32).unwrap());
        Self { folder, tensors: tensors(&config(family, tied)).into_iter().map(narrow).collect() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The model, with its weights in one file.
    pub(crate) fn whole(&self) -> ModelDir {
        save(&self.path().join(WEIGHTS), &self.tensors);
        ModelDir::open(self.path()).unwrap()
    }

    /// The model, with the tensors of layer 1 and after it in a second file.
    pub(crate) fn sharded(&self) -> ModelDir {
        let _ = std::fs::remove_file(self.path().join(WEIGHTS));
        let second = |name: &str| name.contains(".1.") || name == "model.norm.weight";
        let mut map = Map::new();
        for (file, wanted) in [("model-00001-of-00002.safetensors", false), ("model-00002-of-00002.safetensors", true)]
        {
            let part = self.tensors.clone().into_iter().filter(|(name, _)| second(name) == wanted).collect();
            save(&self.path().join(file), &part);
            map.extend(part.into_keys().map(|name| (name, file.into())));
        }
        let index = json!({"metadata": {"total_size": 1}, "weight_map": Value::Object(map)});
        std::fs::write(self.path().join(INDEX), index.to_string()).unwrap();
        ModelDir::open(self.path()).unwrap()
    }
}

/// Writes a safetensors file.
pub(crate) fn save(path: &Path, tensors: &HashMap<String, Tensor>) {
    candle_core::safetensors::save(tensors, path).unwrap();
}
