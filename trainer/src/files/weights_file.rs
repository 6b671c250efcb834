//! One safetensors file, open: its tensors are read one at a time, from where the header says that they lie.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use sera_crds::contract::FileDigest;

use super::header::{self, Header, HeaderError};
use super::{FilesError, beside};

/// An open file whose header was checked.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    file: File,
    /// Where the tensors' bytes begin.
    begin: u64,
    /// The tensors' names, in the order of their bytes.
    names: Vec<String>,
    tensors: HashMap<String, TensorInfo>,
}

impl WeightsFile {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, FilesError> {
        let file = File::open(path).map_err(FilesError::read(path))?;
        let length = file.metadata().map_err(FilesError::read(path))?.len();
        let Header { begin, tensors } = read_header(&file, length, path)?;
        let names = tensors.iter().map(|(name, _)| name.clone()).collect();
        Ok(Self { path: path.to_owned(), file, begin, names, tensors: tensors.into_iter().collect() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in the order of their bytes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Type, shape and place of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The type of a tensor, if it is one that is computed with.
    pub fn dtype(&self, name: &str) -> Result<DType, FilesError> {
        let dtype = self.known(name)?.dtype;
        computed(dtype).ok_or_else(|| FilesError::Type { path: self.path.clone(), tensor: name.to_owned(), dtype })
    }

    /// A tensor, in its stored type, on the CPU.
    pub fn read(&self, name: &str) -> Result<Tensor, FilesError> {
        let (dtype, info) = (self.dtype(name)?, self.known(name)?);
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        self.file.read_exact_at(&mut bytes, self.begin + from as u64).map_err(FilesError::read(&self.path))?;
        Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu).map_err(FilesError::tensor(name))
    }

    /// Its name, size and sha256.
    pub fn digest(&self) -> Result<FileDigest, FilesError> {
        beside::digest(&self.file, &self.path)
    }

    fn known(&self, name: &str) -> Result<&TensorInfo, FilesError> {
        self.info(name).ok_or_else(|| FilesError::NoTensor { path: self.path.clone(), tensor: name.to_owned() })
    }
}

fn read_header(file: &File, length: u64, path: &Path) -> Result<Header, FilesError> {
    let refused = |source| FilesError::Header { path: path.to_owned(), source };
    let mut first = [0; 8];
    if length < first.len() as u64 {
        return Err(refused(HeaderError::Truncated { expected: first.len() as u64, found: length }));
    }
    file.read_exact_at(&mut first, 0).map_err(FilesError::read(path))?;
    let bytes = header::header_length(first, length).map_err(refused)?;
    let mut json = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut json, first.len() as u64).map_err(FilesError::read(path))?;
    header::parse(&json, length).map_err(refused)
}

/// candle's name for a type that is computed with.
fn computed(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F16 => Some(DType::F16),
        _ => None,
    }
}
