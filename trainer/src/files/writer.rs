//! Weights to safetensors, a tensor at a time and in any order: where each will lie is planned beforehand, so that nothing is held or copied. The
//! directory becomes a model only at the very end, when its `config.json` appears.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sera_crds::contract::FileDigest;
use serde_json::{Map, Value, json};

use super::FilesError;
use super::beside::{self, Beside};
use super::companions;
use super::model_dir::{CONFIG, INDEX, ModelDir, WEIGHTS, file_name};

/// Writes what became of a model: its configuration and tokenizer as they are, its weights as they come.
#[derive(Debug)]
pub struct ModelWriter {
    weights: WeightsWriter,
    /// Where the files are that go along.
    base: PathBuf,
    /// Their names there.
    companions: Vec<String>,
    config_json: String,
}

impl ModelWriter {
    /// Begins to write a model like `base` to `out`, its weights in `dtype`, in one file or in several of at most `max_shard` bytes (a single tensor
    /// may be longer). A model that is there already is replaced, at the end; until then `out` is not touched but for hidden files.
    pub fn new(out: &Path, base: &ModelDir, dtype: DType, max_shard: u64) -> Result<Self, FilesError> {
        std::fs::create_dir_all(out).map_err(FilesError::write(out))?;
        let real = |folder: &Path| folder.canonicalize().map_err(FilesError::read(folder));
        if real(out)? == real(base.folder())? {
            return Err(FilesError::OntoItself { folder: out.to_owned() });
        }
        let weights = WeightsWriter::new(out, "model", base.config().tensors(), dtype, max_shard)?;
        let config_json = with_dtype(base.config_json(), weights.dtype);
        let (base, companions) = (base.folder().to_owned(), companions::of(base.folder())?);
        Ok(Self { weights, base, companions, config_json })
    }

    /// Writes a tensor, in the type of the others; each comes once, in any order.
    pub fn add(&mut self, name: &str, tensor: &Tensor) -> Result<(), FilesError> {
        self.weights.add(name, tensor)
    }

    /// Puts everything in its place. The digests are in the order of the files' names.
    pub fn finish(self) -> Result<Vec<FileDigest>, FilesError> {
        let folder = self.weights.folder.clone();
        let mut small = Vec::new();
        for name in self.companions {
            let path = self.base.join(&name);
            let content = std::fs::read(&path).map_err(FilesError::read(&path))?;
            small.push((name, content));
        }
        finish_model(&folder, self.weights, small, &self.config_json)
    }
}

/// Puts weights and other files in their places, `config.json` last: a directory without it is no model.
pub(super) fn finish_model(
    folder: &Path,
    weights: WeightsWriter,
    others: Vec<(String, Vec<u8>)>,
    config_json: &str,
) -> Result<Vec<FileDigest>, FilesError> {
    let sealed = weights.seal()?;
    remove_old(folder)?;
    let mut digests = sealed.place()?;
    for (name, content) in others {
        digests.push(companions::write(folder, &name, &content)?);
    }
    beside::sync_folder(folder)?;
    digests.push(beside::write(folder, CONFIG, config_json.as_bytes())?);
    beside::sync_folder(folder)?;
    digests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(digests)
}

/// Takes away what would make one model of two: the configuration first, then weights, index, tokenizer and template.
fn remove_old(folder: &Path) -> Result<(), FilesError> {
    remove(&folder.join(CONFIG))?;
    beside::sync_folder(folder)?;
    let weights = |name: &str| name.starts_with("model-") && name.ends_with(".safetensors");
    remove_all(folder, |name| weights(name) || name == WEIGHTS || name == INDEX || companions::is_file(name))?;
    companions::remove_templates(folder)
}

fn remove_all(folder: &Path, is: impl Fn(&str) -> bool) -> Result<(), FilesError> {
    for entry in std::fs::read_dir(folder).map_err(FilesError::read(folder))? {
        let path = entry.map_err(FilesError::read(folder))?.path();
        if is(&file_name(&path)) {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), FilesError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(FilesError::write(path)),
    }
}

/// A configuration with the type of its weights put right, under the name that it uses.
fn with_dtype(config_json: &str, dtype: DType) -> String {
    let mut config: Map<String, Value> = serde_json::from_str(config_json).unwrap_or_default();
    // transformers 5 writes `dtype`; before, it was `torch_dtype`.
    let field = if config.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
    config.insert(field.to_owned(), name_of(dtype).into());
    format!("{:#}\n", Value::Object(config))
}

/// What transformers calls a type.
pub(super) fn name_of(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    }
}

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

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    fn written(base: &ModelDir, out: &Path, dtype: DType, max_shard: u64) -> Vec<FileDigest> {
        let mut writer = ModelWriter::new(out, base, dtype, max_shard).unwrap();
        let mut names: Vec<_> = base.names().collect();
        names.reverse();
        names.into_iter().for_each(|name| writer.add(name, &base.read(name).unwrap()).unwrap());
        writer.finish().unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn what_was_written_is_read_again_in_one_file_and_in_shards() {
        for (tied, dtype, max_shard) in [
            (true, DType::F32, u64::MAX),
            (false, DType::BF16, u64::MAX),
            (true, DType::F16, 600),
            (false, DType::F32, 1),
        ] {
            let (fixture, out) = (Fixture::new("qwen3", tied), tempfile::tempdir().unwrap());
            let base = fixture.whole();
            let digests = written(&base, out.path(), dtype, max_shard);
            let again = ModelDir::open(out.path()).unwrap();
            assert_eq!((again.dtype(), again.config()), (dtype, base.config()));
            assert_eq!(again.digests().unwrap(), digests);
            assert_eq!(again.shards().len() > 1, max_shard < u64::MAX);
            for name in base.names() {
                let expected = base.read_as(name, dtype, &Device::Cpu).unwrap();
                assert_eq!(values(&again.read(name).unwrap()), values(&expected), "{name}");
            }
            assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), digests.len(), "nothing is left over");
        }
    }

    #[test]
    fn no_shard_is_longer_than_asked_unless_a_single_tensor_is() {
        let (fixture, out) = (Fixture::new("llama", true), tempfile::tempdir().unwrap());
        let base = fixture.whole();
        written(&base, out.path(), DType::F32, 1200);
        let again = ModelDir::open(out.path()).unwrap();
        let bytes = |shard: &super::super::WeightsFile| {
            let sizes: Vec<_> = shard.names().map(|name| shard.info(name).unwrap().data_offsets).collect();
            (sizes.iter().map(|(from, to)| to - from).sum::<usize>(), sizes.len())
        };
        assert!(again.shards().iter().map(bytes).all(|(bytes, count)| bytes <= 1200 || count == 1));
        assert!(again.shards().iter().map(bytes).any(|(_, count)| count > 1));
    }

    #[test]
    fn the_type_is_put_right_and_everything_else_stays() {
        let (fixture, out) = (Fixture::new("qwen3", true), tempfile::tempdir().unwrap());
        let mut config: Value = serde_json::from_slice(&std::fs::read(fixture.path().join(CONFIG)).unwrap()).unwrap();
        config["torch_dtype"] = "float32".into();
        config["eos_token_id"] = json!([1, 2]);
        std::fs::write(fixture.path().join(CONFIG), config.to_string()).unwrap();
        let templates = ["chat_template.jinja", "additional_chat_templates/tool_use.jinja"];
        std::fs::create_dir(fixture.path().join("additional_chat_templates")).unwrap();
        templates.iter().for_each(|name| std::fs::write(fixture.path().join(name), "{{ x }}\n ").unwrap());
        written(&fixture.whole(), out.path(), DType::BF16, u64::MAX);
        config["torch_dtype"] = "bfloat16".into();
        let found: Value = serde_json::from_slice(&std::fs::read(out.path().join(CONFIG)).unwrap()).unwrap();
        assert_eq!(found, config);
        let copied = templates.map(|name| std::fs::read_to_string(out.path().join(name)).unwrap());
        assert_eq!(copied, ["{{ x }}\n "; 2]);
    }

    #[test]
    fn a_model_that_is_replaced_leaves_no_shard_behind() {
        let (fixture, out) = (Fixture::new("qwen3", true), tempfile::tempdir().unwrap());
        let base = fixture.whole();
        written(&base, out.path(), DType::F32, 600);
        let digests = written(&base, out.path(), DType::BF16, u64::MAX);
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), digests.len());
        assert_eq!(ModelDir::open(out.path()).unwrap().dtype(), DType::BF16);
    }

    #[test]
    fn what_a_killed_try_left_does_not_stay() {
        let (fixture, out) = (Fixture::new("qwen3", true), tempfile::tempdir().unwrap());
        let base = fixture.whole();
        for name in
            [".model-00007-of-00009.safetensors.partial", "model-00001-of-00009.safetensors", INDEX, "merges.txt"]
        {
            std::fs::write(out.path().join(name), "half").unwrap();
        }
        let digests = written(&base, out.path(), DType::F32, u64::MAX);
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), digests.len());
        assert_eq!(ModelDir::open(out.path()).unwrap().digests().unwrap(), digests);
    }

    #[test]
    fn an_unfinished_model_is_none_and_the_one_before_it_stays() {
        let (fixture, out) = (Fixture::new("qwen3", true), tempfile::tempdir().unwrap());
        let base = fixture.whole();
        let before = written(&base, out.path(), DType::F32, u64::MAX);
        let mut writer = ModelWriter::new(out.path(), &base, DType::BF16, u64::MAX).unwrap();
        let norm = base.read("model.norm.weight").unwrap();
        writer.add("model.norm.weight", &norm).unwrap();
        let twice = writer.add("model.norm.weight", &norm).unwrap_err();
        assert!(matches!(twice, FilesError::NotAwaited { .. }), "{twice}");
        assert!(
            matches!(writer.finish(), Err(FilesError::Unfinished { tensor, .. }) if tensor.contains("embed_tokens"))
        );
        assert_eq!(ModelDir::open(out.path()).unwrap().digests().unwrap(), before);
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), before.len());
    }

    #[test]
    fn a_model_is_not_written_onto_itself() {
        let fixture = Fixture::new("qwen3", true);
        let base = fixture.whole();
        let around = fixture.path().join(".");
        let refused = ModelWriter::new(&around, &base, DType::F32, u64::MAX);
        assert!(matches!(refused, Err(FilesError::OntoItself { .. })));
    }
}
