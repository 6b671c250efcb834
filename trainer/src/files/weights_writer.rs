//! Weights to safetensors, a tensor at a time and in any order: where each will lie is planned beforehand, so that nothing is held or copied.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sera_crds::contract::FileDigest;
use serde_json::{Map, Value, json};

use super::FilesError;
use super::beside::{self, Beside, remove_all};
use super::model_dir::{INDEX, file_name};

/// Where a tensor will lie.
#[derive(Debug)]
struct Place {
    shard: usize,
    shape: Vec<usize>,
    /// From the beginning of the file.
    offset: u64,
    written: bool,
}

/// Safetensors files that are being filled.
#[derive(Debug)]
pub(super) struct WeightsWriter {
    folder: PathBuf,
    dtype: DType,
    shards: Vec<Beside>,
    /// The tensors' names, as they were planned.
    names: Vec<String>,
    places: HashMap<String, Place>,
    /// How many bytes all tensors take.
    total: u64,
}

/// Files whose content is on the disk, and that wait for their names.
pub(super) struct Sealed {
    writer: WeightsWriter,
    digests: Vec<FileDigest>,
}

impl WeightsWriter {
    /// Plans where each of `tensors` goes, in this order, and makes the files with their headers: `stem`.safetensors, or several with numbers.
    pub(super) fn new(
        folder: &Path,
        stem: &str,
        tensors: impl Iterator<Item = (String, Vec<usize>)>,
        dtype: DType,
        max_shard: u64,
    ) -> Result<Self, FilesError> {
        let stored = stored(dtype)?;
        // What a killed try left may be large, and be planned otherwise than this one.
        remove_all(folder, |name| name.starts_with(&format!(".{stem}")) && name.ends_with(".safetensors.partial"))?;
        let bytes = |shape: &[usize]| (shape.iter().product::<usize>() * dtype.size_in_bytes()) as u64;
        let mut plan: Vec<Vec<(String, Vec<usize>)>> = Vec::new();
        let (mut total, mut filled) = (0, 0);
        for tensor in tensors {
            let size = bytes(&tensor.1);
            if plan.is_empty() || filled + size > max_shard && filled > 0 {
                plan.push(Vec::new());
                filled = 0;
            }
            (total, filled) = (total + size, filled + size);
            plan.last_mut().into_iter().for_each(|shard| shard.push(tensor.clone()));
        }
        let (count, mut shards, mut names, mut places) = (plan.len(), Vec::new(), Vec::new(), HashMap::new());
        for (shard, tensors) in plan.into_iter().enumerate() {
            let name = if count == 1 {
                format!("{stem}.safetensors")
            } else {
                format!("{stem}-{:05}-of-{count:05}.safetensors", shard + 1)
            };
            let file = Beside::new(folder, &name)?;
            let header = header(&tensors, stored, bytes);
            let mut offset = header.len() as u64;
            let written = file.file().write_all_at(&header, 0);
            written.map_err(FilesError::write(file.target()))?;
            shards.push(file);
            for (name, shape) in tensors {
                let size = bytes(&shape);
                names.push(name.clone());
                places.insert(name, Place { shard, shape, offset, written: false });
                offset += size;
            }
        }
        Ok(Self { folder: folder.to_owned(), dtype, shards, names, places, total })
    }

    /// Where the files are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a tensor to its place.
    pub(super) fn add(&mut self, name: &str, tensor: &Tensor) -> Result<(), FilesError> {
        let awaited = self.places.get_mut(name).filter(|place| !place.written && place.shape == tensor.dims());
        let Some(place) = awaited else {
            let (folder, tensor, shape) = (self.folder.clone(), name.to_owned(), tensor.dims().to_vec());
            return Err(FilesError::NotAwaited { folder, tensor, shape });
        };
        let mut bytes = Vec::with_capacity(tensor.elem_count() * self.dtype.size_in_bytes());
        let converted = tensor.to_device(&Device::Cpu).and_then(|tensor| tensor.to_dtype(self.dtype));
        converted.and_then(|tensor| tensor.write_bytes(&mut bytes)).map_err(FilesError::tensor(name))?;
        let shard = &self.shards[place.shard];
        shard.file().write_all_at(&bytes, place.offset).map_err(FilesError::write(shard.target()))?;
        place.written = true;
        Ok(())
    }

    /// Makes sure that every tensor came, and that the files are on the disk.
    pub(super) fn seal(self) -> Result<Sealed, FilesError> {
        if let Some(name) = self.names.iter().find(|name| !self.places[*name].written) {
            return Err(FilesError::Unfinished { folder: self.folder.clone(), tensor: name.clone() });
        }
        let digests = self.shards.iter().map(Beside::seal).collect::<Result<_, _>>()?;
        Ok(Sealed { writer: self, digests })
    }

    /// The index of several files.
    fn index(&self) -> String {
        let file = |name: &String| file_name(self.shards[self.places[name].shard].target());
        let map: Map<String, Value> = self.names.iter().map(|name| (name.clone(), file(name).into())).collect();
        format!("{:#}\n", json!({"metadata": {"total_size": self.total}, "weight_map": map}))
    }
}

impl Sealed {
    /// Gives the files their names, and writes the index where there are several.
    pub(super) fn place(self) -> Result<Vec<FileDigest>, FilesError> {
        let Self { writer, mut digests } = self;
        let index = (writer.shards.len() > 1).then(|| writer.index());
        for shard in writer.shards {
            shard.place()?;
        }
        if let Some(index) = index {
            digests.push(beside::write(&writer.folder, INDEX, index.as_bytes())?);
        }
        Ok(digests)
    }
}

/// safetensors' name for a type that is written.
fn stored(dtype: DType) -> Result<&'static str, FilesError> {
    match dtype {
        DType::F32 => Ok("F32"),
        DType::BF16 => Ok("BF16"),
        DType::F16 => Ok("F16"),
        other => Err(FilesError::WrittenType(other)),
    }
}

/// A file's first bytes: the length of the header, and the header, filled with spaces so that tensors begin at a multiple of 8.
fn header(tensors: &[(String, Vec<usize>)], stored: &str, bytes: impl Fn(&[usize]) -> u64) -> Vec<u8> {
    let mut entries = Map::new();
    // transformers refuses a file that does not say which framework's layout it has.
    entries.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offset = 0;
    for (name, shape) in tensors {
        let end = offset + bytes(shape);
        entries.insert(name.clone(), json!({"dtype": stored, "shape": shape, "data_offsets": [offset, end]}));
        offset = end;
    }
    let mut json = Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    header
}
