//! A model to a directory, its weights as they come. The directory becomes a model only at the very end, when its `config.json` appears.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use sera_crds::contract::FileDigest;
use serde_json::{Map, Value};

use super::FilesError;
use super::beside::{self, remove, remove_all};
use super::companions;
use super::generation::{self, GENERATION};
use super::model_dir::{CONFIG, INDEX, ModelDir, WEIGHTS};
use super::weights_writer::WeightsWriter;

/// Writes what became of a model: its configuration and tokenizer as they are, its weights as they come.
#[derive(Debug)]
pub struct ModelWriter {
    weights: WeightsWriter,
    /// Where the files are that go along.
    base: PathBuf,
    /// Their names there.
    companions: Vec<String>,
    /// What `generation_config.json` says instead of what it says there.
    generation: Option<Vec<u8>>,
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
        let config_json = with_dtype(base.config_json(), dtype);
        let (base, companions) = (base.folder().to_owned(), companions::of(base.folder())?);
        Ok(Self { weights, base, companions, generation: None, config_json })
    }

    /// Has the model say that answers end with this token too: it has been taught to end its turns so, and a base model's files often know nothing of it.
    pub fn ended_by(mut self, end: Option<u32>) -> Result<Self, FilesError> {
        let Some(end) = end else { return Ok(self) };
        self.generation = generation::with_end(&self.base, |name| std::fs::read(self.base.join(name)), end)?;
        Ok(self)
    }

    /// Writes a tensor, in the type of the others; each comes once, in any order.
    pub fn add(&mut self, name: &str, tensor: &Tensor) -> Result<(), FilesError> {
        self.weights.add(name, tensor)
    }

    /// Puts everything in its place. The digests are in the order of the files' names.
    pub fn finish(self) -> Result<Vec<FileDigest>, FilesError> {
        let folder = self.weights.folder().to_owned();
        let mut small = Vec::new();
        let is_changed = |name: &String| name == GENERATION && self.generation.is_some();
        for name in self.companions.into_iter().filter(|name| !is_changed(name)) {
            let path = self.base.join(&name);
            let content = std::fs::read(&path).map_err(FilesError::read(&path))?;
            small.push((name, content));
        }
        small.extend(self.generation.map(|content| (GENERATION.to_owned(), content)));
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

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use serde_json::json;

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
    fn what_ends_an_answer_is_said_beside_what_the_base_says_and_nothing_is_touched_that_says_so_already() {
        let (fixture, out) = (Fixture::new("qwen3", true), tempfile::tempdir().unwrap());
        let base = fixture.whole();
        let ended_by = |end: Option<u32>| {
            let mut writer = ModelWriter::new(out.path(), &base, DType::F32, u64::MAX).unwrap().ended_by(end).unwrap();
            base.names().for_each(|name| writer.add(name, &base.read(name).unwrap()).unwrap());
            let digests = writer.finish().unwrap();
            assert_eq!(ModelDir::open(out.path()).unwrap().digests().unwrap(), digests);
            std::fs::read_to_string(out.path().join(GENERATION)).ok()
        };
        assert_eq!(ended_by(None), None);
        assert_eq!(ended_by(Some(5)).unwrap(), "{\n  \"eos_token_id\": [\n    5\n  ]\n}\n");
        let said = "{\"eos_token_id\": 3}";
        std::fs::write(fixture.path().join(GENERATION), said).unwrap();
        assert_eq!((ended_by(None).as_deref(), ended_by(Some(3)).as_deref()), (Some(said), Some(said)));
        let both: Value = serde_json::from_str(&ended_by(Some(5)).unwrap()).unwrap();
        assert_eq!(both, json!({"eos_token_id": [3, 5]}));
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
