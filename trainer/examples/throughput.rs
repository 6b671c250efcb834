//! Tokens a second of full training in f32 on this machine's CPU: a Qwen3 of 5.25M parameters, four lines of 512 tokens a step. `throughput.py` beside it
//! does the same with `PyTorch`; run both one after the other to compare them.
//!
//!     RAYON_NUM_THREADS=2 cargo run --release -p sera-trainer --example throughput

use std::collections::HashMap;
use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use sera_trainer::engine::{Engine, Line, Method, Settings};
use sera_trainer::model::{Config, Model};
use sera_trainer::ranks::Alone;
use serde_json::json;

const LINES: u32 = 4;
const LENGTH: u32 = 512;
const VOCABULARY: u32 = 4096;
const STEPS: u32 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut engine = Engine::new(model()?, settings(), Box::new(Alone))?;
    let lines: Vec<_> = (0..LINES).map(line).collect();
    // The first step warms caches and the allocator up.
    let first = engine.step(&lines, 1, 1e-4)?;
    let mut seconds = Vec::new();
    let mut last = first.loss;
    for step in 2..=STEPS {
        let begin = Instant::now();
        last = engine.step(&lines, step, 1e-4)?.loss;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let tokens = f64::from(LINES * LENGTH);
    let rate = |seconds: f64| tokens / seconds;
    let (fastest, median) = (rate(seconds[0]), rate(seconds[seconds.len() / 2]));
    println!(
        "tokens/s: {median:.0} median, {fastest:.0} fastest of {} steps; loss {:.4} to {last:.4}",
        STEPS - 1,
        first.loss
    );
    Ok(())
}

fn settings() -> Settings {
    Settings::of(Method::Full)
}

fn line(at: u32) -> Line {
    let ids = (0..LENGTH).map(|token| (token * 7919 + at * 104_729 + token * token * 31) % VOCABULARY).collect();
    Line { id: format!("line {at}"), ids, loss: vec![true; LENGTH as usize] }
}

fn model() -> Result<Model, Box<dyn Error>> {
    let config = Config::parse(
        &json!({
            "model_type": "qwen3", "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 64, "intermediate_size": 768, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
            "tie_word_embeddings": false
        })
        .to_string(),
    )?;
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize]| {
        let made = if name.ends_with("norm.weight") {
            Tensor::ones(shape, DType::F32, &Device::Cpu)
        } else {
            Tensor::randn(0f32, 0.02, shape, &Device::Cpu)
        };
        made.map(|tensor| tensors.insert(name, tensor))
    };
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        add(name.to_owned(), &[VOCABULARY as usize, 256])?;
    }
    add("model.norm.weight".to_owned(), &[256])?;
    for layer in 0..4 {
        let parts: [(&str, &[usize]); 11] = [
            ("input_layernorm", &[256]),
            ("post_attention_layernorm", &[256]),
            ("self_attn.q_norm", &[64]),
            ("self_attn.k_norm", &[64]),
            ("self_attn.q_proj", &[256, 256]),
            ("self_attn.k_proj", &[128, 256]),
            ("self_attn.v_proj", &[128, 256]),
            ("self_attn.o_proj", &[256, 256]),
            ("mlp.gate_proj", &[768, 256]),
            ("mlp.up_proj", &[768, 256]),
            ("mlp.down_proj", &[256, 768]),
        ];
        for (part, shape) in parts {
            add(format!("model.layers.{layer}.{part}.weight"), shape)?;
        }
    }
    Ok(Model::from_tensors(config, tensors, true)?)
}
