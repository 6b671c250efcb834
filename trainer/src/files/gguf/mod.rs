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
use candle_core::{DType, Device, Tensor};
use sera_crds::contract::FileDigest;

use super::weights_writer::WeightsWriter;
use super::writer::finish_model;
use super::{FilesError, said};
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
    #[error("{} is not a GGUF file that can be read: {}", path.display(), said(source))]
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
    #[error("{}: tensor `{}` is not known, and could change what the model computes", path.display(), tensor.escape_debug())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
    },
}

/// Writes the model in `file` to `out`, its weights in `dtype` (f32 loses nothing of what the file says), in files of at most `max_shard` bytes.
pub fn import(file: &Path, out: &Path, dtype: DType, max_shard: u64) -> Result<Vec<FileDigest>, GgufError> {
    let mut opened = GgufFile::open(file, dtype)?;
    let companions = opened.companions()?;
    std::fs::create_dir_all(out).map_err(FilesError::write(out))?;
    let mut writer = WeightsWriter::new(out, "model", opened.config.tensors(), dtype, max_shard)?;
    for (name, _) in opened.config.clone().tensors() {
        writer.add(&name, &opened.read(&name)?)?;
    }
    Ok(finish_model(out, writer, companions, &opened.config_json)?)
}

/// An opened file: its metadata understood, every tensor found and of the right shape, and nothing of the weights read yet.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    reader: BufReader<File>,
    content: Content,
    config: Config,
    config_json: String,
}

impl GgufFile {
    /// Opens a file. `dtype` is what its configuration says of the weights' type.
    pub fn open(path: &Path, dtype: DType) -> Result<Self, GgufError> {
        let damaged = |source| GgufError::Content { path: path.to_owned(), source };
        let mut reader = BufReader::new(File::open(path).map_err(FilesError::read(path))?);
        let content = Content::read(&mut reader).map_err(damaged)?;
        let tied = !content.tensor_infos.contains_key(names::HEAD);
        let json = config::config(&metadata::Metadata(&content.metadata), tied, dtype);
        let json = json.map_err(|source| GgufError::Metadata { path: path.to_owned(), source })?;
        let config_json = format!("{json:#}\n");
        let config = Config::parse(&config_json);
        let config = config.map_err(|source| GgufError::Config { path: path.to_owned(), source: Box::new(source) })?;
        check_tensors(&content, &config, path)?;
        Ok(Self { path: path.to_owned(), reader, content, config, config_json })
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The text of its `config.json`.
    pub fn config_json(&self) -> &str {
        &self.config_json
    }

    /// A tensor by its Hugging Face name, dequantised to f32, its rows in Hugging Face's order.
    pub fn read(&mut self, name: &str) -> Result<Tensor, GgufError> {
        let Self { path, reader, content, config, .. } = self;
        let damaged = |source| GgufError::Content { path: path.clone(), source };
        let tensor = names::in_gguf(name);
        let Some(info) = content.tensor_infos.get(&tensor) else {
            return Err(GgufError::Missing { path: path.clone(), tensor });
        };
        let tensor = info.read(reader, content.tensor_data_offset, &Device::Cpu);
        let tensor = tensor.and_then(|tensor| tensor.dequantize(&Device::Cpu)).map_err(damaged)?;
        names::in_order(tensor, name, config).map_err(damaged)
    }

    /// The tokenizer's and the generation's files, by name.
    pub fn companions(&self) -> Result<Vec<(String, Vec<u8>)>, GgufError> {
        let path = || self.path.clone();
        let metadata = metadata::Metadata(&self.content.metadata);
        let files = tokenizer::files(&metadata, self.config.vocabulary);
        let mut files = files.map_err(|source| GgufError::Tokenizer { path: path(), source })?;
        let generation =
            config::generation(&metadata).map_err(|source| GgufError::Metadata { path: path(), source })?;
        files.push(("generation_config.json".to_owned(), format!("{generation:#}\n").into_bytes()));
        Ok(files)
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
