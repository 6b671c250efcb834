//! What is in a model's directory or in a safetensors file, told from headers alone.

use std::path::Path;

use serde::Serialize;

use super::weights_file::WeightsFile;
use super::{FilesError, ModelDir};

/// A file with weights, or all of a model's.
#[derive(Debug, Serialize)]
pub struct Inventory {
    /// Every tensor, in the order of the model, or of the file's bytes.
    pub tensors: Vec<TensorLine>,
    /// How many values they have together.
    pub parameters: u64,
    /// How many bytes they take together.
    pub bytes: u64,
}

/// A tensor.
#[derive(Debug, Serialize)]
pub struct TensorLine {
    /// Its name.
    pub name: String,
    /// Its type as the format names it.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How many bytes it takes.
    pub bytes: u64,
    /// The name of the file that it is in.
    pub file: String,
}

impl Inventory {
    /// Of a model's directory, or of a safetensors file.
    pub fn of(path: &Path) -> Result<Self, FilesError> {
        if path.is_dir() {
            Ok(Self::of_model(&ModelDir::open(path)?))
        } else {
            Ok(Self::of_file(&WeightsFile::open(path)?))
        }
    }

    /// Of an opened model.
    pub fn of_model(model: &ModelDir) -> Self {
        let line = |name: &str| model.shards().iter().find_map(|shard| TensorLine::new(shard, name));
        Self::new(model.names().filter_map(line).collect())
    }

    /// Of an opened file.
    pub fn of_file(file: &WeightsFile) -> Self {
        Self::new(file.names().filter_map(|name| TensorLine::new(file, name)).collect())
    }

    fn new(tensors: Vec<TensorLine>) -> Self {
        let parameters = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum();
        let bytes = tensors.iter().map(|tensor| tensor.bytes).sum();
        Self { tensors, parameters, bytes }
    }
}

impl TensorLine {
    fn new(file: &WeightsFile, name: &str) -> Option<Self> {
        let info = file.info(name)?;
        let (from, to) = info.data_offsets;
        Some(Self {
            name: name.to_owned(),
            dtype: info.dtype.to_string(),
            shape: info.shape.clone(),
            bytes: (to - from) as u64,
            file: super::model_dir::file_name(file.path()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn every_tensor_is_counted_once_wherever_it_lies() {
        let fixture = Fixture::new("qwen3", false);
        let parameters: usize = fixture.tensors.values().map(candle_core::Tensor::elem_count).sum();
        fixture.sharded();
        let inventory = Inventory::of(fixture.path()).unwrap();
        assert_eq!((inventory.parameters, inventory.bytes), (parameters as u64, 4 * parameters as u64));
        assert_eq!(inventory.tensors[0].name, "model.embed_tokens.weight");
        let shard = Inventory::of(&fixture.path().join("model-00002-of-00002.safetensors")).unwrap();
        let here = |tensor: &&TensorLine| tensor.file == "model-00002-of-00002.safetensors";
        assert_eq!(shard.tensors.len(), inventory.tensors.iter().filter(here).count());
    }
}
