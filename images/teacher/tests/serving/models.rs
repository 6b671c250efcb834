//! Models that are written for a test. One *recites*: which token follows which is set, so that a test knows what it says. One has random weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sera_trainer::model::Config;
use serde_json::{Value, json};

/// Tokenizer and template; 407 tokens.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../trainer/chat/tests/tiny");

/// A line break: the last token before an answer.
const BREAK: u32 = 198;
const IM_END: u32 = 402;
const THINK: u32 = 403;
const THOUGHT: u32 = 404;
const CALL: u32 = 405;
const CALLED: u32 = 406;

/// Texts that reciting models know as one token each, from number 407.
const PHRASES: [&str; 3] =
    ["\nI look.\n", "\n\nLet me see.\n", "\n{\"name\": \"look\", \"arguments\": {\"path\": \"ä.py\", \"line\": 3}}\n"];
const LOOKING: u32 = 407;
const SAYING: u32 = 408;
const LOOK: u32 = 409;

/// How many tokens a context may have.
pub(crate) const CONTEXT: usize = 65_536;

/// A folder with a model.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// A model that thinks, says something, calls a tool and ends.
    pub(crate) fn caller() -> Self {
        let tokens = [BREAK, THINK, LOOKING, THOUGHT, SAYING, CALL, LOOK, CALLED, IM_END];
        let next: HashMap<u32, u32> = tokens.iter().copied().zip(tokens.iter().skip(1).copied()).collect();
        Self::reciting(|token| next.get(&token).copied().unwrap_or(IM_END))
    }

    /// A model that says the letters from a to z, and on and on.
    pub(crate) fn talker() -> Self {
        // Letters are tokens of the byte-level alphabet, which begins with `!`.
        let letter = |letter: char| u32::from(letter) - u32::from('!');
        Self::reciting(|token| if (letter('a')..letter('z')).contains(&token) { token + 1 } else { letter('a') })
    }

    /// A model whose embedding is the token, whose layers add nothing, and whose head is what comes next.
    fn reciting(next: impl Fn(u32) -> u32) -> Self {
        let vocabulary = LOOKING as usize + PHRASES.len();
        let config = config(vocabulary, vocabulary);
        let folder = Self::new(&config);
        let mut square = vec![0_f32; vocabulary * vocabulary];
        let mut following = square.clone();
        for token in 0..u32::try_from(vocabulary).unwrap() {
            square[token as usize * vocabulary + token as usize] = 1.0;
            following[next(token) as usize * vocabulary + token as usize] = 1.0;
        }
        folder.write_weights(&config, |name, shape| match name {
            "model.embed_tokens.weight" => square.clone(),
            "lm_head.weight" => following.clone(),
            name => vec![if name.ends_with("norm.weight") { 1.0 } else { 0.0 }; shape.iter().product()],
        });
        folder
    }

    /// A model of random weights: the same each time, norms around one, the others around zero.
    pub(crate) fn random() -> Self {
        let config = config(LOOKING as usize + PHRASES.len(), 16);
        let folder = Self::new(&config);
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 65_536.0 - 0.5
        };
        folder.write_weights(&config, |name, shape| {
            let around = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            (0..shape.iter().product()).map(|_| around + noise()).collect()
        });
        folder
    }

    /// Changes one of its JSON files.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let path = self.path().join(name);
        let mut file = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut file);
        std::fs::write(path, file.to_string()).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("student")
    }

    fn new(config: &Value) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path()).unwrap();
        for name in ["tokenizer_config.json", "chat_template.jinja"] {
            std::fs::copy(Path::new(TINY).join(name), folder.path().join(name)).unwrap();
        }
        let tokenizer = std::fs::read(Path::new(TINY).join("tokenizer.json")).unwrap();
        let mut tokenizer: Value = serde_json::from_slice(&tokenizer).unwrap();
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        for (id, phrase) in (LOOKING..).zip(PHRASES) {
            let mut token = added.last().unwrap().clone();
            token["id"] = id.into();
            token["content"] = phrase.into();
            added.push(token);
        }
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        folder
    }

    fn write_weights(&self, config: &Value, mut values: impl FnMut(&str, &[usize]) -> Vec<f32>) {
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let tensor = Tensor::from_vec(values(&name, &shape), shape, &Device::Cpu).unwrap();
            (name, tensor.to_dtype(DType::F32).unwrap())
        };
        let tensors: HashMap<_, _> = Config::parse(&config.to_string()).unwrap().tensors().map(tensor).collect();
        candle_core::safetensors::save(&tensors, self.path().join("model.safetensors")).unwrap();
    }
}

fn config(vocabulary: usize, hidden: usize) -> Value {
    json!({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 6, "intermediate_size": 24, "vocab_size": vocabulary, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "torch_dtype": "float32", "max_position_embeddings": CONTEXT, "eos_token_id": IM_END})
}
