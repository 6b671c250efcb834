//! The forward pass on real weights, against the logits of Hugging Face transformers. `golden/smollm2.py` fetches and imports SmolLM2-135M-Instruct
//! and leaves the logits; `SMOLLM2` names its folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use sera_trainer::files::ModelDir;
use sera_trainer::model::{Batch, Decoder, hidden_states};
use sera_trainer::ops::Segments;

/// What fp32 may be off by, on logits of up to about 30.
const TOLERANCE: f32 = 1e-4;

fn greatest_gap(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
#[ignore = "needs 540 MB of weights: tests/golden/smollm2.py makes them"]
fn logits_are_those_of_transformers() {
    let folder = PathBuf::from(std::env::var_os("SMOLLM2").expect("SMOLLM2 names the folder of golden/smollm2.py"));
    let model = ModelDir::open(&folder.join("imported")).unwrap().model(DType::F32, &Device::Cpu, false).unwrap();
    let golden = candle_core::safetensors::load(folder.join("logits.safetensors"), &Device::Cpu).unwrap();
    let ids: Vec<u32> = golden["ids"].to_dtype(DType::U32).unwrap().to_vec1().unwrap();
    let (mask, segments) = (vec![true; ids.len()], Segments::new(&[ids.len()]).unwrap());
    let batch = Batch::new(&model.config, &ids, &mask, segments, DType::F32, &Device::Cpu).unwrap();
    let head = model.head().value.t().unwrap();
    let logits = hidden_states(&model, &batch).unwrap().matmul(&head).unwrap();
    let gap = greatest_gap(&logits, &golden["logits"]);
    let last = Decoder::new(&model).read(&ids).unwrap().unwrap();
    let decoded = greatest_gap(&last, &golden["logits"].get(ids.len() - 1).unwrap());
    println!("{} tokens: logits off by at most {gap:.1e}, decoded ones by {decoded:.1e}", ids.len());
    assert!(gap < TOLERANCE && decoded < TOLERANCE);
}
