//! What a rank holds of a model while it takes its part of it: `ZeRO-3` (arXiv 1910.02054) divides models that no rank could hold. One test, so that it
//! has this process's memory to itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use candle_core::Device;
use sera_crds::values::Sharding;
use sera_trainer::engine::{Engine, EngineError, Method, Settings};
use sera_trainer::files::{FilesError, ModelDir};
use sera_trainer::model::{Config, LoraSettings};
use sera_trainer::ranks::{Collective, RankError};

/// Sixteen blocks of 16.8 MB each, and 2.1 MB each before and after them.
const CONFIG: &str = r#"{
    "model_type": "qwen3", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 8, "num_key_value_heads": 8,
    "head_dim": 64, "vocab_size": 1024, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false, "max_position_embeddings": 128,
    "hidden_act": "silu", "attention_bias": false
}"#;

/// The second of eight ranks, which has no others: nothing is exchanged while a model is taken.
struct Second;

impl Collective for Second {
    fn rank(&self) -> usize {
        1
    }

    fn world(&self) -> usize {
        8
    }

    fn all_reduce(&mut self, _: &mut [f32]) -> Result<(), RankError> {
        unreachable!("nothing is exchanged")
    }

    fn all_reduce_f64(&mut self, _: &mut [f64]) -> Result<(), RankError> {
        unreachable!("nothing is exchanged")
    }

    fn reduce_scatter(&mut self, _: &mut [f32], _: &[usize]) -> Result<(), RankError> {
        unreachable!("nothing is exchanged")
    }

    fn all_gather(&mut self, _: &mut [f32], _: &[usize]) -> Result<(), RankError> {
        unreachable!("nothing is exchanged")
    }

    fn broadcast(&mut self, _: usize, _: &mut Vec<u8>) -> Result<(), RankError> {
        unreachable!("nothing is exchanged")
    }

    fn barrier(&mut self) -> Result<(), RankError> {
        unreachable!("nothing is exchanged")
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// A model of zeros, which take no room before they are read. Returns how many bytes they are.
fn write_model(folder: &Path) -> u64 {
    std::fs::write(folder.join("config.json"), CONFIG).unwrap();
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in Config::parse(CONFIG).unwrap().tensors() {
        let begin = end;
        end += 4 * shape.iter().product::<usize>() as u64;
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name, entry);
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
    end
}

/// A field of this process's status, in bytes.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_rank_that_keeps_an_eighth_of_a_model_never_holds_half_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let whole = write_model(folder.path());
    let model = ModelDir::open(folder.path()).unwrap();
    let lora = LoraSettings { rank: 8, alpha: 16, dropout: 0.0, target_modules: Vec::new(), seed: 1 };
    let settings = Settings { sharding: Sharding::Zero3, ..Settings::of(Method::Lora(lora)) };
    let before = memory("VmRSS:");
    let unread = model.unread(&Device::Cpu);
    let engine = Engine::of::<_, Failure>(unread, settings, &Device::Cpu, Box::new(Second)).unwrap();
    let peak = memory("VmHWM:") - before;
    let kept = engine.held().weights as u64;
    assert!(kept > whole / 9 && kept < whole / 7, "{kept} of {whole} are kept");
    assert!(peak < whole / 2, "{peak} of {whole} were there at once");
}
