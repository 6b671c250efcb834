//! A GGUF file (llama.cpp's format) to a Hugging Face model directory: weights dequantised and renamed, rows put back into Hugging Face's order,
//! configuration, tokenizer and chat template rebuilt from the file's metadata. What is not understood is refused by name.

mod config;
mod metadata;
mod names;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device};
use sera_crds::contract::FileDigest;

use super::FilesError;
use super::writer::{WeightsWriter, finish_model};
use crate::model::{Config, ConfigError};

pub use metadata::MetadataError;
pub use tokenizer::TokenizerError;

/// Why a GGUF file cannot be made a model directory.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// What is written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// It is damaged, or none.
    #[error("{} is not a GGUF file that can be read: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What candle says.
        source: candle_core::Error,
    },
    /// A field of its metadata.
    #[error("{}: {source}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// Which, and what is wrong with it.
        source: MetadataError,
    },
    /// Its tokenizer.
    #[error("{}: {source}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenizerError,
    },
    /// The configuration that its metadata comes to.
    #[error("{}: its metadata give a configuration that is not supported: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ConfigError>,
    },
    /// A tensor that is missing.
    #[error("{} has no tensor `{tensor}`: it is damaged, or of a kind that is not supported", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
    },
    /// A tensor of another shape.
    #[error("{}: tensor `{tensor}` is shaped {found:?}, where its metadata ask for {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// Its shape, rows first.
        found: Vec<usize>,
        /// What it should be.
        expected: Vec<usize>,
    },
    /// A tensor that would be lost.
    #[error("{}: tensor `{tensor}` is not known, and could change what the model computes", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
    },
}

/// Writes the model in `file` to `out`, its weights in `dtype` (f32 loses nothing of what the file says), in files of at most `max_shard` bytes.
pub fn import(file: &Path, out: &Path, dtype: DType, max_shard: u64) -> Result<Vec<FileDigest>, GgufError> {
    let damaged = |source| GgufError::Content { path: file.to_owned(), source };
    let mut reader = BufReader::new(File::open(file).map_err(FilesError::read(file))?);
    let content = Content::read(&mut reader).map_err(damaged)?;
    let described = Described::new(&content, file, dtype)?;
    std::fs::create_dir_all(out).map_err(FilesError::write(out))?;
    let mut writer = WeightsWriter::new(out, "model", described.config.tensors(), dtype, max_shard)?;
    for (name, _) in described.config.tensors() {
        let theirs = names::in_gguf(&name);
        let Some(info) = content.tensor_infos.get(&theirs) else { continue };
        let tensor = info.read(&mut reader, content.tensor_data_offset, &Device::Cpu);
        let tensor = tensor.and_then(|tensor| tensor.dequantize(&Device::Cpu)).map_err(damaged)?;
        let tensor = names::in_order(tensor, &name, &described.config).map_err(damaged)?;
        writer.add(&name, &tensor)?;
    }
    Ok(finish_model(out, writer, described.others, &described.config_json)?)
}

/// Everything but the weights.
struct Described {
    config: Config,
    config_json: String,
    /// The tokenizer's and the generation's files, by name.
    others: Vec<(String, Vec<u8>)>,
}

impl Described {
    fn new(content: &Content, file: &Path, dtype: DType) -> Result<Self, GgufError> {
        let path = || file.to_owned();
        let metadata = metadata::Metadata(&content.metadata);
        let tied = !content.tensor_infos.contains_key(names::HEAD);
        let json =
            config::config(&metadata, tied, dtype).map_err(|source| GgufError::Metadata { path: path(), source })?;
        let config_json = format!("{json:#}\n");
        let config = Config::parse(&config_json);
        let config = config.map_err(|source| GgufError::Config { path: path(), source: Box::new(source) })?;
        check_tensors(content, &config, file)?;
        let tokenizer = tokenizer::files(&metadata, config.vocabulary);
        let mut others = tokenizer.map_err(|source| GgufError::Tokenizer { path: path(), source })?;
        others.push(("generation_config.json".to_owned(), format!("{:#}\n", config::generation(&json)).into_bytes()));
        Ok(Self { config, config_json, others })
    }
}

/// Whether the file has the tensors of its configuration, in their shapes, and no other.
fn check_tensors(content: &Content, config: &Config, file: &Path) -> Result<(), GgufError> {
    let path = || file.to_owned();
    let mut known = std::collections::HashSet::new();
    for (name, expected) in config.tensors() {
        let tensor = names::in_gguf(&name);
        match content.tensor_infos.get(&tensor) {
            None => return Err(GgufError::Missing { path: path(), tensor }),
            Some(info) if info.shape.dims() != expected => {
                let found = info.shape.dims().to_vec();
                return Err(GgufError::Shape { path: path(), tensor, found, expected });
            }
            Some(_) => known.insert(tensor),
        };
    }
    match content.tensor_infos.keys().filter(|tensor| !known.contains(*tensor)).min() {
        Some(tensor) => Err(GgufError::Unknown { path: path(), tensor: tensor.clone() }),
        None => Ok(()),
    }
}
