//! Hugging Face model directories and PEFT adapters, in and out: what is read is checked before it is believed, what is written appears whole or not
//! at all, and no model lies in memory twice. No arithmetic, and no training checkpoints.

mod adapter;
mod beside;
mod companions;
mod convert;
#[cfg(test)]
mod damaged;
mod generation;
mod gguf;
mod header;
mod index;
mod inspect;
mod model_dir;
#[cfg(test)]
pub(crate) mod testing;
mod weights_file;
mod weights_writer;
mod writer;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sera_crds::contract::ExitCode;

use crate::model::{ConfigError, WeightsError};

pub use adapter::{Adapter, AdapterError};
pub use convert::{export, merge};
pub use generation::{Generation, generation};
pub use gguf::{GgufError, GgufFile, MetadataError, TokenizerError, import};
pub use header::HeaderError;
pub use index::IndexError;
pub use inspect::{Inventory, TensorLine};
pub use model_dir::ModelDir;
pub use weights_file::WeightsFile;
pub use writer::ModelWriter;

/// Why files of a model cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file is missing, or may not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A directory without weights.
    #[error(
        "{} has neither model.safetensors nor model.safetensors.index.json; convert the weights to safetensors",
        folder.display()
    )]
    NoWeights {
        /// The directory.
        folder: PathBuf,
    },
    /// `config.json`.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ConfigError>,
    },
    /// `generation_config.json`, or what `config.json` says of generation.
    #[error("{}: `{field}` is not {expected}", path.display())]
    Generation {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A file that is not JSON.
    #[error("{} is not a JSON object: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A safetensors file that is damaged, or is none.
    #[error("{}: {source}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// `model.safetensors.index.json`.
    #[error("{}: {source}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IndexError,
    },
    /// The index names a file that is not there.
    #[error("{} is missing, and model.safetensors.index.json has tensor `{tensor}` in it; fetch the model again", path.display())]
    MissingShard {
        /// The file.
        path: PathBuf,
        /// A tensor that should be in it.
        tensor: String,
    },
    /// The index says that a tensor is in a file where it is not.
    #[error("tensor `{tensor}` is not in {}, where model.safetensors.index.json has it; fetch the model again", path.display())]
    NotInShard {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor is in two files.
    #[error("tensor `{tensor}` is in {first} and in {} too; keep one of them", second.display())]
    Duplicate {
        /// The tensor.
        tensor: String,
        /// The name of one file.
        first: String,
        /// The other.
        second: PathBuf,
    },
    /// A tensor of a type that is not computed with.
    #[error("{}: tensor `{tensor}` is {dtype}; convert the weights to one of F32, BF16, F16", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: safetensors::Dtype,
    },
    /// Tensors that are not those of the configuration.
    #[error("{}: {source}", folder.display())]
    Weights {
        /// The directory.
        folder: PathBuf,
        /// What does not fit.
        source: WeightsError,
    },
    /// A tensor that is asked for is not there.
    #[error("{} has no tensor `{tensor}`", path.display())]
    NoTensor {
        /// The directory or file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// Weights of a type that is not written.
    #[error("weights are written as one of f32, bf16, f16, not as {0:?}")]
    WrittenType(candle_core::DType),
    /// The directory that is read would be written over.
    #[error("{} is the model that is read; name another directory to write to", folder.display())]
    OntoItself {
        /// The directory.
        folder: PathBuf,
    },
    /// A tensor is handed over that the model does not have, or a second time, or in another shape.
    #[error("tensor `{tensor}` of shape {shape:?} is not one that is still to be written to {}", folder.display())]
    NotAwaited {
        /// The directory.
        folder: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A model is finished before all of its tensors were handed over.
    #[error("{} was finished without tensor `{tensor}`", folder.display())]
    Unfinished {
        /// The directory.
        folder: PathBuf,
        /// The first that lacks.
        tensor: String,
    },
    /// A tensor cannot be made or converted.
    #[error("tensor `{tensor}` cannot be converted: {}", said(source))]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What candle says.
        source: candle_core::Error,
    },
}

/// What candle says of a file, in one line: the file's names are in it as they are, and a backtrace where one was asked for.
fn said(error: &candle_core::Error) -> String {
    if let candle_core::Error::WithBacktrace { inner, .. } = error {
        return said(inner);
    }
    let escaped = |part: char| if part.is_control() { part.escape_debug().to_string() } else { part.to_string() };
    error.to_string().chars().map(escaped).collect()
}

impl FilesError {
    /// Whose turn it is.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => match source.kind() {
                ErrorKind::NotFound
                | ErrorKind::PermissionDenied
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::InvalidFilename
                | ErrorKind::ReadOnlyFilesystem => ExitCode::Configuration,
                _ => ExitCode::Unavailable,
            },
            Self::NotAwaited { .. } | Self::Unfinished { .. } | Self::Tensor { .. } | Self::NoTensor { .. } => {
                ExitCode::Internal
            }
            _ => ExitCode::Configuration,
        }
    }

    fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Read { path: path.to_owned(), source }
    }

    fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Write { path: path.to_owned(), source }
    }

    fn tensor(name: &str) -> impl FnOnce(candle_core::Error) -> Self + '_ {
        |source| Self::Tensor { tensor: name.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_worth_another_try_and_a_missing_file_is_not() {
        let code = |kind: ErrorKind| FilesError::write(Path::new("a"))(kind.into()).exit_code();
        assert_eq!(
            (code(ErrorKind::StorageFull), code(ErrorKind::QuotaExceeded)),
            (ExitCode::Unavailable, ExitCode::Unavailable)
        );
        assert_eq!(
            (code(ErrorKind::NotFound), code(ErrorKind::PermissionDenied)),
            (ExitCode::Configuration, ExitCode::Configuration)
        );
    }
}
