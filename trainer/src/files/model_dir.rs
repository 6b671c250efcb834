//! A Hugging Face model directory, opened: `config.json` understood, every tensor found and of the right shape, and nothing of the weights read yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sera_crds::contract::FileDigest;

use super::index::{self, WeightMap};
use super::weights_file::WeightsFile;
use super::{FilesError, companions};
use crate::model::{Config, Model, Named, Unread, WeightsError, is_passed_over};

pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// An opened model directory. Its files stay open: a model that is replaced meanwhile is still read as it was.
#[derive(Debug)]
pub struct ModelDir {
    folder: PathBuf,
    config_json: String,
    config: Config,
    shards: Vec<WeightsFile>,
    /// The model's tensors, in the order in which a forward pass comes to them.
    names: Vec<String>,
    /// In which of `shards` each of them is.
    places: HashMap<String, usize>,
    dtype: DType,
    /// Whether the shards were found through an index.
    indexed: bool,
}

impl ModelDir {
    /// Opens a directory: reads its configuration, and the headers of its weights, and checks that these are the configuration's.
    pub fn open(folder: &Path) -> Result<Self, FilesError> {
        let path = folder.join(CONFIG);
        let config_json = std::fs::read_to_string(&path).map_err(FilesError::read(&path))?;
        let config = Config::parse(&config_json);
        let config = config.map_err(|source| FilesError::Config { path, source: Box::new(source) })?;
        let (shards, indexed) = open_shards(folder)?;
        let mut places = HashMap::new();
        for (at, shard) in shards.iter().enumerate() {
            for name in shard.names() {
                if let Some(first) = places.insert(name.to_owned(), at) {
                    let first = file_name(shards[first].path());
                    let (tensor, second) = (name.to_owned(), shard.path().to_owned());
                    return Err(FilesError::Duplicate { tensor, first, second });
                }
            }
        }
        let (folder, names, dtype) = (folder.to_owned(), Vec::new(), DType::F32);
        let mut opened = Self { folder, config_json, config, shards, names, places, dtype, indexed };
        opened.names = opened.find_tensors()?;
        opened.dtype = opened.shard(&opened.names[0])?.dtype(&opened.names[0])?;
        Ok(opened)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The text of `config.json`.
    pub fn config_json(&self) -> &str {
        &self.config_json
    }

    /// The type that the weights are stored in: the embedding's, where they differ.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The model's tensors, in the order in which a forward pass comes to them. What transformers passes over is not among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The files with weights.
    pub fn shards(&self) -> &[WeightsFile] {
        &self.shards
    }

    /// One tensor, in its stored type, on the CPU.
    pub fn read(&self, name: &str) -> Result<Tensor, FilesError> {
        self.shard(name)?.read(name)
    }

    /// One tensor in another type, on a device.
    pub fn read_as(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, FilesError> {
        let converted = self.read(name)?.to_dtype(dtype).and_then(|tensor| tensor.to_device(device));
        converted.map_err(FilesError::tensor(name))
    }

    /// The whole model, all of it trained or all of it frozen. Tensors are converted one at a time: beside the model there is never more than one.
    pub fn model(&self, dtype: DType, device: &Device, trained: bool) -> Result<Model, FilesError> {
        Unread::new(self.config.clone(), Stored { of: self, dtype, device: device.clone() }, trained).whole()
    }

    /// The model in its stored type, to be read a unit at a time.
    pub fn unread(&self, device: &Device) -> Unread<Stored<'_>> {
        Unread::new(self.config.clone(), Stored { of: self, dtype: self.dtype, device: device.clone() }, false)
    }

    /// Name, size and sha256 of every file of the model that is there to be read, in the order of their names.
    pub fn digests(&self) -> Result<Vec<FileDigest>, FilesError> {
        let mut digests = self.shards.iter().map(WeightsFile::digest).collect::<Result<Vec<_>, _>>()?;
        let index = self.indexed.then_some(INDEX);
        let small = [CONFIG].into_iter().chain(index).map(str::to_owned).chain(companions::of(&self.folder)?);
        for name in small {
            digests.push(companions::digest(&self.folder, &name)?);
        }
        digests.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(digests)
    }

    fn shard(&self, name: &str) -> Result<&WeightsFile, FilesError> {
        let place = self.places.get(name).map(|at| &self.shards[*at]);
        place.ok_or_else(|| FilesError::NoTensor { path: self.folder.clone(), tensor: name.to_owned() })
    }

    fn foreign(&self, source: WeightsError) -> FilesError {
        FilesError::Weights { folder: self.folder.clone(), source }
    }

    /// The names of the configuration's tensors, once headers alone have shown that these are there, and nothing else is.
    fn find_tensors(&self) -> Result<Vec<String>, FilesError> {
        let mut names = Vec::new();
        for (name, expected) in self.config.tensors() {
            let Some(info) = self.places.get(&name).and_then(|at| self.shards[*at].info(&name)) else {
                return Err(self.foreign(WeightsError::Missing(name)));
            };
            if info.shape != expected {
                return Err(self.foreign(WeightsError::Shape { name, found: info.shape.clone(), expected }));
            }
            self.shard(&name)?.dtype(&name)?;
            names.push(name);
        }
        let known: HashSet<_> = names.iter().collect();
        let foreign = |name: &&String| !known.contains(name) && !is_passed_over(name, self.config.tied);
        match self.places.keys().filter(foreign).min() {
            Some(name) => Err(self.foreign(WeightsError::Unknown(name.clone()))),
            None => Ok(names),
        }
    }
}

/// The tensors of a directory, each read when it is asked for.
#[derive(Debug)]
pub struct Stored<'a> {
    of: &'a ModelDir,
    dtype: DType,
    device: Device,
}

impl Named for Stored<'_> {
    type Error = FilesError;

    fn take(&mut self, name: &str) -> Result<Option<Tensor>, FilesError> {
        self.of.read_as(name, self.dtype, &self.device).map(Some)
    }

    fn refused(&self, source: WeightsError) -> FilesError {
        self.of.foreign(source)
    }
}

/// Opens the files with weights, and says whether an index named them. As in transformers, one whole file goes before an index.
fn open_shards(folder: &Path) -> Result<(Vec<WeightsFile>, bool), FilesError> {
    let whole = folder.join(WEIGHTS);
    match WeightsFile::open(&whole) {
        Err(FilesError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {}
        opened => return Ok((vec![opened?], false)),
    }
    let path = folder.join(INDEX);
    let json = match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(FilesError::NoWeights { folder: folder.to_owned() });
        }
        json => json.map_err(FilesError::read(&path))?,
    };
    let map = index::parse(&json).map_err(|source| FilesError::Index { path, source })?;
    Ok((open_indexed(folder, &map)?, true))
}

fn open_indexed(folder: &Path, map: &WeightMap) -> Result<Vec<WeightsFile>, FilesError> {
    let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        by_file.entry(file).or_default().push(tensor);
    }
    let open = |(file, tensors): (&str, Vec<&str>)| {
        let path = folder.join(file);
        if !path.try_exists().map_err(FilesError::read(&path))? {
            return Err(FilesError::MissingShard { path, tensor: tensors[0].to_owned() });
        }
        let shard = WeightsFile::open(&path)?;
        match tensors.into_iter().find(|tensor| shard.info(tensor).is_none()) {
            Some(tensor) => Err(FilesError::NotInShard { path, tensor: tensor.to_owned() }),
            None => Ok(shard),
        }
    };
    by_file.into_iter().map(open).collect()
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, save};
    use super::*;

    /// What is said of a model after `change`.
    fn refusal(fixture: &Fixture, change: impl FnOnce(&Path)) -> String {
        change(fixture.path());
        ModelDir::open(fixture.path()).unwrap_err().to_string()
    }

    #[test]
    fn a_model_is_read_tensor_by_tensor_as_it_was_stored() {
        for (family, tied) in [("qwen3", true), ("qwen2", false), ("llama", true)] {
            let fixture = Fixture::new(family, tied);
            for dir in [fixture.whole(), fixture.sharded()] {
                assert_eq!(dir.dtype(), DType::F32);
                assert_eq!(dir.names().count(), fixture.tensors.len());
                for name in dir.names() {
                    let expected = fixture.tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    assert_eq!(dir.read(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
                }
                let model = dir.model(DType::BF16, &Device::Cpu, false).unwrap();
                assert_eq!(model.embedding.value.dtype(), DType::BF16);
                assert_eq!(model.lm_head.is_none(), tied);
            }
        }
    }

    #[test]
    fn a_truncated_shard_is_refused_by_name() {
        let fixture = Fixture::new("qwen3", true);
        fixture.sharded();
        let said = refusal(&fixture, |folder| {
            let shard = folder.join("model-00002-of-00002.safetensors");
            let bytes = std::fs::read(&shard).unwrap();
            std::fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
        });
        assert!(said.contains("model-00002-of-00002.safetensors: it has") && said.contains("cut off"), "{said}");
    }

    #[test]
    fn a_missing_shard_is_refused_by_name_with_a_tensor_that_it_should_have() {
        let fixture = Fixture::new("qwen3", true);
        fixture.sharded();
        let said = refusal(&fixture, |folder| {
            std::fs::remove_file(folder.join("model-00001-of-00002.safetensors")).unwrap();
        });
        assert!(said.contains("model-00001-of-00002.safetensors is missing"), "{said}");
        assert!(said.contains("`model.embed_tokens.weight`"), "{said}");
    }

    #[test]
    fn an_index_that_does_not_say_where_tensors_are_is_refused() {
        let fixture = Fixture::new("qwen3", true);
        fixture.sharded();
        let point = |to: &str| {
            refusal(&fixture, |folder| {
                let mut index: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(folder.join(INDEX)).unwrap()).unwrap();
                index["weight_map"]["model.norm.weight"] = to.into();
                std::fs::write(folder.join(INDEX), index.to_string()).unwrap();
            })
        };
        assert!(point("model-00001-of-00002.safetensors").contains("`model.norm.weight` is not in"));
        assert!(point("../other.safetensors").contains("\"../other.safetensors\", which is not the name of a file"));
    }

    #[test]
    fn a_tensor_in_two_shards_is_refused_by_name() {
        let fixture = Fixture::new("qwen3", true);
        fixture.sharded();
        let said = refusal(&fixture, |folder| {
            let both = fixture.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
            save(&folder.join("model-00002-of-00002.safetensors"), &both);
        });
        assert!(said.contains("is in model-00001-of-00002.safetensors and in"), "{said}");
    }

    #[test]
    fn tensors_that_are_not_the_configuration_s_are_refused_before_any_is_read() {
        let said = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
            let fixture = Fixture::new("qwen3", true);
            fixture.whole();
            let mut tensors = fixture.tensors.clone();
            change(&mut tensors);
            refusal(&fixture, |folder| save(&folder.join(WEIGHTS), &tensors))
        };
        let other = |shape: usize, dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        let norm = "model.norm.weight".to_owned();
        let missing = said(&|tensors| drop(tensors.remove(&norm)));
        assert!(missing.contains("`model.norm.weight` is missing"), "{missing}");
        let shape = said(&|tensors| drop(tensors.insert(norm.clone(), other(7, DType::F32))));
        assert!(shape.contains("`model.norm.weight` is shaped [7]"), "{shape}");
        let dtype = said(&|tensors| drop(tensors.insert(norm.clone(), other(8, DType::F64))));
        assert!(dtype.contains("model.safetensors: tensor `model.norm.weight` is F64; convert"), "{dtype}");
        let foreign = said(&|tensors| drop(tensors.insert("model.layers.9.x".to_owned(), other(1, DType::F32))));
        assert!(foreign.contains("`model.layers.9.x` has no place"), "{foreign}");
    }

    #[test]
    fn what_transformers_passes_over_is_passed_over() {
        let fixture = Fixture::new("llama", true);
        fixture.whole();
        let mut tensors = fixture.tensors.clone();
        tensors.insert("lm_head.weight".to_owned(), tensors["model.embed_tokens.weight"].clone());
        let frequencies = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
        tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), frequencies);
        save(&fixture.path().join(WEIGHTS), &tensors);
        let dir = ModelDir::open(fixture.path()).unwrap();
        assert!(dir.names().all(|name| name != "lm_head.weight" && !name.contains("rotary")));
        assert!(dir.model(DType::F32, &Device::Cpu, true).unwrap().lm_head.is_none());
    }

    #[test]
    fn a_directory_without_weights_or_with_a_configuration_of_something_else_is_refused_by_name() {
        let fixture = Fixture::new("qwen3", true);
        fixture.whole();
        let config =
            refusal(&fixture, |folder| std::fs::write(folder.join(CONFIG), r#"{"model_type": "gemma3"}"#).unwrap());
        assert!(config.contains("config.json: `model_type` gemma3 is not supported"), "{config}");
        let fixture = Fixture::new("qwen3", true);
        fixture.whole();
        let weights = refusal(&fixture, |folder| std::fs::remove_file(folder.join(WEIGHTS)).unwrap());
        assert!(weights.contains("neither model.safetensors nor"), "{weights}");
    }

    #[test]
    fn every_file_that_is_read_has_its_digest() {
        let fixture = Fixture::new("qwen3", true);
        let names = |dir: &ModelDir| dir.digests().unwrap().into_iter().map(|each| each.name).collect::<Vec<_>>();
        std::fs::write(fixture.path().join("tokenizer.json"), "{}").unwrap();
        assert_eq!(names(&fixture.whole()), [CONFIG, WEIGHTS, "tokenizer.json"]);
        std::fs::create_dir(fixture.path().join("additional_chat_templates")).unwrap();
        let template = "additional_chat_templates/tool_use.jinja";
        std::fs::write(fixture.path().join(template), "{{ tools }}").unwrap();
        assert_eq!(names(&fixture.whole()), [template, CONFIG, WEIGHTS, "tokenizer.json"]);
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(names(&fixture.sharded()), [template, CONFIG, shards[0], shards[1], INDEX, "tokenizer.json"]);
    }
}
