//! A small GGUF file with a byte-level tokenizer, imported: against the tensors that went into it, and with each thing wrong that can be.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::{GgufError, import, names};
use crate::files::ModelDir;
use crate::generate::greedy;
use crate::inference::{Kept, Source};
use crate::model::testing::config;
use crate::model::{Config, Family};
use crate::ops::finite_differences::{distance, noise};

/// The architecture's sizes are those of `model::testing`, but for a vocabulary of 16.
fn metadata(architecture: &str) -> HashMap<String, Value> {
    let mut fields = HashMap::from([
        ("general.architecture".to_owned(), Value::String(architecture.to_owned())),
        (format!("{architecture}.attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
        (format!("{architecture}.rope.freq_base"), Value::F32(100.0)),
    ]);
    let sizes = [
        ("block_count", 2),
        ("context_length", 64),
        ("embedding_length", 8),
        ("feed_forward_length", 10),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 6),
        ("rope.dimension_count", 6),
    ];
    fields.extend(sizes.map(|(name, size)| (format!("{architecture}.{name}"), Value::U32(size))));
    let texts = |texts: &[&str]| Value::Array(texts.iter().map(|text| Value::String((*text).to_owned())).collect());
    let tokens = ["<|end|>", "<|start|>", "a", "b", "c", "ab", "Ġ", "Ġab", "1", "2", "d", "e", "f", "g", "h", "<tool>"];
    let kinds = (0..16)
        .map(|id| {
            Value::I32(match id {
                0 | 1 => 3,
                15 => 4,
                _ => 1,
            })
        })
        .collect();
    let tokenizer = [
        ("model", Value::String("gpt2".to_owned())),
        ("pre", Value::String("smollm".to_owned())),
        ("tokens", texts(&tokens)),
        ("token_type", Value::Array(kinds)),
        ("merges", texts(&["a b", "Ġ ab"])),
        ("bos_token_id", Value::U32(1)),
        ("eos_token_id", Value::U32(0)),
    ];
    fields.extend(tokenizer.map(|(name, value)| (format!("tokenizer.ggml.{name}"), value)));
    let template = "{% for message in messages %}<|start|>{{ message.content }}<|end|>{% endfor %}";
    fields.insert("tokenizer.chat_template".to_owned(), Value::String(template.to_owned()));
    fields
}

/// The tensors of a model by their Hugging Face names, in f32.
fn tensors(architecture: &str) -> HashMap<String, Tensor> {
    let mut config = config(architecture, true);
    (config.vocabulary, config.qkv_bias, config.output_bias, config.mlp_bias) =
        (16, architecture == "qwen2", false, false);
    let tensor =
        |(seed, (name, shape)): (u64, (String, Vec<usize>))| (name, noise(&shape, seed).to_dtype(DType::F32).unwrap());
    (1..).zip(config.tensors()).map(tensor).collect()
}

/// Row `row` of a head of `width`, where llama.cpp keeps it: the pairs that are rotated together side by side.
fn kept_at(row: usize, width: usize) -> usize {
    let within = row % width;
    let half = width / 2;
    row - within + within % half * 2 + within / half
}

/// The file that llama.cpp's converter would make: queries and keys of `llama` with their rows in its order.
fn save(path: &Path, metadata: &HashMap<String, Value>, tensors: &HashMap<String, Tensor>, permuted: bool) {
    let permute = |name: &str, tensor: &Tensor| {
        if !permuted || !(name.contains("q_proj") || name.contains("k_proj")) {
            return tensor.clone();
        }
        let mut order = vec![0u32; tensor.dims()[0]];
        (0..order.len()).for_each(|row| order[kept_at(row, 6)] = u32::try_from(row).unwrap());
        tensor.index_select(&Tensor::new(order, &Device::Cpu).unwrap(), 0).unwrap()
    };
    let quantized: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| {
            (names::in_gguf(name), QTensor::quantize(&permute(name, tensor), GgmlDType::F32).unwrap())
        })
        .collect();
    let metadata: Vec<_> = metadata.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let tensors: Vec<_> = quantized.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&mut std::fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// What comes of a file.
fn imported(
    metadata: &HashMap<String, Value>,
    tensors: &HashMap<String, Tensor>,
) -> Result<tempfile::TempDir, GgufError> {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("model.gguf"), folder.path().join("out"));
    let permuted = matches!(metadata.get("general.architecture"), Some(Value::String(name)) if name == "llama");
    save(&file, metadata, tensors, permuted);
    import(&file, &out, DType::F32, u64::MAX).map(|_| folder)
}

#[test]
fn every_tensor_is_the_one_that_the_file_was_made_from() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let tensors = tensors(architecture);
        let folder = imported(&metadata(architecture), &tensors).unwrap();
        let dir = ModelDir::open(&folder.path().join("out")).unwrap();
        assert_eq!(dir.names().count(), tensors.len());
        for (name, tensor) in &tensors {
            assert!(distance(&dir.read(name).unwrap(), tensor) < f64::MIN_POSITIVE, "{architecture}: {name}");
        }
    }
}

#[test]
fn a_file_answers_as_the_directory_that_it_is_imported_to() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let folder = imported(&metadata(architecture), &tensors(architecture)).unwrap();
        let answer = |path: &Path| {
            let source = Source::open(path).unwrap();
            let prompt = source.chat().encode("ab cab 12").unwrap();
            assert_eq!((source.generation().ends.clone(), source.generation().context), (vec![0], Some(64)));
            let (weights, _) = source.load(Kept::F32).unwrap();
            greedy(weights, &prompt, &[], 20).unwrap()
        };
        let expected = answer(&folder.path().join("out"));
        assert_eq!(answer(&folder.path().join("model.gguf")), expected, "{architecture}");
        assert_eq!(answer(folder.path()), expected, "a folder with one file stands for it");
        std::fs::copy(folder.path().join("out/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
        let without_template = Source::open(folder.path()).unwrap_err().to_string();
        assert!(without_template.contains("no chat template"), "the files beside it go first: {without_template}");
        std::fs::copy(folder.path().join("model.gguf"), folder.path().join("another.gguf")).unwrap();
        assert!(Source::open(folder.path()).unwrap_err().to_string().contains("it has 2"));
    }
}

#[test]
fn an_answer_ends_with_every_token_that_ends_a_text_a_turn_or_a_message_and_with_the_one_that_the_template_writes() {
    for (more, in_files, ends) in [
        (&[][..], json!(0), vec![0]),
        (&[("eot", 0)], json!(0), vec![0]),
        (&[("eos", 14), ("eot", 13), ("eom", 12)], json!([14, 13, 12]), vec![14, 13, 12, 0]),
    ] {
        let mut metadata = metadata("llama");
        metadata.extend(more.iter().map(|(role, id)| (format!("tokenizer.ggml.{role}_token_id"), Value::U32(*id))));
        let folder = imported(&metadata, &tensors("llama")).unwrap();
        for name in ["config.json", "generation_config.json"] {
            let file = std::fs::read(folder.path().join("out").join(name)).unwrap();
            let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
            assert_eq!((&file["bos_token_id"], &file["eos_token_id"]), (&json!(1), &in_files), "{name}");
        }
        for path in [folder.path().join("model.gguf"), folder.path().join("out")] {
            assert_eq!(Source::open(&path).unwrap().generation().ends, ends, "{}", path.display());
        }
    }
}

#[test]
fn the_configuration_is_the_file_s() {
    let folder = imported(&metadata("llama"), &tensors("llama")).unwrap();
    let config = ModelDir::open(&folder.path().join("out")).unwrap().config().clone();
    let expected = Config {
        family: Family::Llama,
        vocabulary: 16,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        rms_eps: 1e-5,
        rope_scaling: None,
        ..super::super::super::model::testing::config("llama", true)
    };
    assert_eq!(config, expected);
}

#[test]
fn the_tokenizer_cuts_digits_and_knows_special_tokens() {
    let folder = imported(&metadata("llama"), &tensors("llama")).unwrap();
    let chat = sera_chat::Chat::load(&folder.path().join("out")).unwrap();
    assert_eq!(chat.encode("ab 12<tool>cab<|end|>").unwrap(), [5, 6, 8, 9, 15, 4, 5, 0]);
    assert_eq!(chat.encode("ab ab").unwrap(), [5, 7]);
    assert_eq!(chat.special_token_in("x<|start|>"), Some("<|start|>"));
    assert_eq!(chat.special_token_in("<tool>"), None);
    let conversation = sera_chat::Conversation::new(&[serde_json::json!({"role": "user", "content": "ab"})]);
    assert_eq!(chat.render(&conversation, false).unwrap(), "<|start|>ab<|end|>");
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let refused = [
        ("general.architecture", Some(Value::String("gemma3".to_owned()))),
        ("llama.expert_count", Some(Value::U32(8))),
        ("llama.rope.scaling.factor", Some(Value::F32(4.0))),
        ("llama.rope.dimension_count", Some(Value::U32(4))),
        ("llama.block_count", None),
        ("llama.attention.layer_norm_rms_epsilon", Some(Value::U32(1))),
        ("tokenizer.ggml.model", Some(Value::String("llama".to_owned()))),
        ("tokenizer.ggml.pre", Some(Value::String("tekken".to_owned()))),
        ("tokenizer.ggml.add_bos_token", Some(Value::Bool(true))),
        ("tokenizer.ggml.tokens", Some(Value::U32(3))),
        ("tokenizer.ggml.merges", Some(Value::Array(vec![Value::String("a g".to_owned())]))),
        ("tokenizer.ggml.token_type", Some(Value::Array(vec![Value::I32(1)]))),
        ("tokenizer.ggml", Some(Value::Bool(true))),
    ];
    for (field, value) in refused {
        let mut metadata = metadata("llama");
        match value {
            _ if field == "tokenizer.ggml" => {
                drop(metadata.insert("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(99)));
            }
            Some(value) => drop(metadata.insert(field.to_owned(), value)),
            None => drop(metadata.remove(field)),
        }
        let error = imported(&metadata, &tensors("llama")).unwrap_err().to_string();
        assert!(error.contains(&format!("`{field}")) && error.contains("model.gguf"), "{field}: {error}");
    }
}

#[test]
fn a_tensor_that_is_missing_misshapen_or_unknown_is_refused_by_its_name_in_the_file() {
    let refusal = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        let mut tensors = tensors("llama");
        change(&mut tensors);
        imported(&metadata("llama"), &tensors).unwrap_err().to_string()
    };
    let name = "model.layers.1.mlp.up_proj.weight".to_owned();
    let other = |size: usize| Tensor::zeros((size, size), DType::F32, &Device::Cpu).unwrap();
    assert!(refusal(&|tensors| drop(tensors.remove(&name))).contains("no tensor `blk.1.ffn_up.weight`"));
    let shape = refusal(&|tensors| drop(tensors.insert(name.clone(), other(6))));
    assert!(shape.contains("`blk.1.ffn_up.weight` is shaped [6, 6], where its metadata ask for [10, 8]"), "{shape}");
    let unknown = refusal(&|tensors| drop(tensors.insert("model.layers.0.rope_freqs.weight".to_owned(), other(2))));
    assert!(unknown.contains("`blk.0.rope_freqs.weight` is not known"), "{unknown}");
    let broken = refusal(&|tensors| drop(tensors.insert("model.layers.0.two\nlines.weight".to_owned(), other(2))));
    assert!(broken.contains(r"`blk.0.two\nlines.weight` is not known"), "{broken}");
}

#[test]
fn a_file_that_is_no_gguf_or_was_cut_off_leaves_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("model.gguf"), folder.path().join("out"));
    let refusal = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let error = import(&file, &out, DType::F32, u64::MAX).unwrap_err();
        assert!(!out.join("config.json").exists());
        error.to_string()
    };
    assert!(refusal(b"PK\x03\x04").contains("model.gguf is not a GGUF file"));
    save(&file, &metadata("llama"), &tensors("llama"), true);
    let whole = std::fs::read(&file).unwrap();
    for length in [20, 400, whole.len() - 40] {
        assert!(refusal(&whole[..length]).contains("model.gguf"), "{length} bytes");
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_file_is_refused_or_makes_a_model_that_can_be_read(
        changes in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 1..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (file, out) = (folder.path().join("model.gguf"), folder.path().join("out"));
        save(&file, &metadata("llama"), &tensors("llama"), true);
        let mut bytes = std::fs::read(&file).unwrap();
        // Only the part before the tensors: a changed weight is a weight.
        let described = bytes.len() - tensors("llama").values().map(Tensor::elem_count).sum::<usize>() * 4;
        for (at, byte) in changes {
            bytes[at.index(described)] = byte;
        }
        std::fs::write(&file, bytes).unwrap();
        match import(&file, &out, DType::F32, u64::MAX) {
            Ok(_) => proptest::prop_assert!(ModelDir::open(&out).is_ok()),
            Err(refusal) => proptest::prop_assert!(!refusal.to_string().contains(char::is_control), "{refusal}"),
        }
    }
}
