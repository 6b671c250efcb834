//! What makes a model: safetensors and GGUF as they are read from a file. Whatever it has is a tensor or an error of one line, and no tensor is larger than
//! what the file can say.
#![no_main]

use std::path::Path;

use candle_core::DType;
use libfuzzer_sys::fuzz_target;
use sera_trainer::files::{GgufFile, ModelDir, WeightsFile};

/// A model that is right but for its weights.
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
    "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
    "head_dim": 4, "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true}"#;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
    match kind % 3 {
        0 => weights(folder.path(), bytes),
        1 => gguf(folder.path(), bytes),
        _ => {
            write("config.json", CONFIG.as_bytes());
            write("model.safetensors.index.json", bytes);
            one_line(ModelDir::open(folder.path()).map(drop));
        }
    }
});

fn weights(folder: &Path, bytes: &[u8]) {
    let path = folder.join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let file = match WeightsFile::open(&path) {
        Ok(file) => file,
        refused => return one_line(refused.map(drop)),
    };
    for name in file.names() {
        match file.read(name) {
            Ok(tensor) => assert!(tensor.elem_count() <= bytes.len()),
            refused => one_line(refused.map(drop)),
        }
    }
}

fn gguf(folder: &Path, bytes: &[u8]) {
    let path = folder.join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    match GgufFile::open(&path, DType::F32) {
        Ok(mut file) => {
            one_line(file.read("model.embed_tokens.weight").map(drop));
            one_line(file.companions().map(drop));
        }
        refused => one_line(refused.map(drop)),
    }
}

fn one_line<E: std::fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        let said = error.to_string();
        assert!(!said.is_empty() && !said.contains(['\n', '\r']), "{said:?}");
    }
}
