//! The forward pass on real weights, against the logits of Hugging Face transformers. `golden/smollm2.py` fetches and imports SmolLM2-135M-Instruct
//! and leaves the logits; `SMOLLM2` names its folder.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::cast_precision_loss
)]

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sera_trainer::data::{Dataset, Limits, Renderer};
use sera_trainer::engine::Line;
use sera_trainer::files::ModelDir;
use sera_trainer::inference::{Kept, Reader, Weights};
use sera_trainer::model::{Batch, hidden_states};
use sera_trainer::ops::Segments;

/// What f64 may be off by: both sides take angles, sines and cosines in f32, each with its own last bit, and logits go up to 47.
const EXACT: f64 = 1e-5;

/// What f32 may be off by, for the part of transformers' own error that it may be.
const FACTOR: f64 = 1.5;

/// What the loss may grow by with weights of fewer bits than f32's.
const GROWS: f64 = 0.01;

fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("SMOLLM2").expect("SMOLLM2 names the folder of golden/smollm2.py"))
}

fn weights(dir: &ModelDir, kept: Kept) -> Weights {
    Weights::load::<candle_core::Error>(dir.config(), kept, |name| Ok(dir.read(name).unwrap())).unwrap()
}

fn greatest_gap(a: &Tensor, b: &Tensor) -> f64 {
    let [a, b] = [a, b].map(|tensor| tensor.to_dtype(DType::F64).unwrap());
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
#[ignore = "needs 540 MB of weights: tests/golden/smollm2.py makes them"]
fn logits_are_those_of_transformers() {
    let folder = folder();
    let dir = ModelDir::open(&folder.join("imported")).unwrap();
    let golden = candle_core::safetensors::load(folder.join("logits.safetensors"), &Device::Cpu).unwrap();
    let ids: Vec<u32> = golden["ids"].to_dtype(DType::U32).unwrap().to_vec1().unwrap();
    let logits = |dtype| {
        let model = dir.model(dtype, &Device::Cpu, false).unwrap();
        let (mask, segments) = (vec![true; ids.len()], Segments::new(&[ids.len()]).unwrap());
        let batch = Batch::new(&model.config, &ids, &mask, segments, dtype, &Device::Cpu).unwrap();
        let head = model.head().value.t().unwrap();
        hidden_states(&model, &batch).unwrap().matmul(&head).unwrap()
    };
    let (theirs, exact) = (&golden["logits"], &golden["exact"]);
    let last = exact.get(ids.len() - 1).unwrap();
    let own = greatest_gap(theirs, exact);
    let (wide, narrow) = (logits(DType::F64), logits(DType::F32));
    let inferred = |kept| {
        let logits = Reader::new(weights(&dir, kept), ids.len()).read(&ids).unwrap();
        Tensor::new(logits, &Device::Cpu).unwrap()
    };
    let (narrow_last, rounded_last) = (inferred(Kept::F32), inferred(Kept::Q8));
    let gap = greatest_gap(&wide, exact);
    let narrow_gaps = [greatest_gap(&narrow, exact), greatest_gap(&narrow_last, &last)];
    println!("{} tokens, logits up to {:.1}", ids.len(), greatest_gap(exact, &exact.zeros_like().unwrap()));
    println!("f64 against transformers' f64: off by {gap:.1e}");
    println!("f32 against transformers' f32: {:.1e}", greatest_gap(&narrow, theirs));
    println!(
        "f32 against transformers' f64: training {:.1e}, inference {:.1e}; transformers' own f32 {own:.1e}",
        narrow_gaps[0], narrow_gaps[1]
    );
    println!("8 bits against transformers' f64: {:.1e}", greatest_gap(&rounded_last, &last));
    assert!(gap < EXACT);
    assert!(narrow_gaps.into_iter().all(|gap| gap < FACTOR * own));
}

/// What a model thinks of the trained tokens of some lines: the sum of −ln p, and which token it would have said instead of each.
fn opinion(dir: &ModelDir, kept: Kept, lines: &[Line]) -> (f64, Vec<usize>) {
    let (mut loss, mut said) = (0.0, Vec::new());
    for line in lines {
        let mut reader = Reader::new(weights(dir, kept), line.ids.len());
        for at in 1..line.ids.len() {
            let logits = reader.read(&line.ids[at - 1..at]).unwrap();
            if line.loss[at] {
                let most = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
                let scaled = logits.iter().map(|logit| f64::from(logit - logits[most]).exp()).sum::<f64>();
                loss += scaled.ln() - f64::from(logits[line.ids[at] as usize] - logits[most]);
                said.push(most);
            }
        }
    }
    (loss, said)
}

#[test]
#[ignore = "needs 540 MB of weights: tests/golden/smollm2.py makes them"]
fn fewer_bits_a_weight_cost_little_of_what_is_known_about_conversations() {
    let imported = folder().join("imported");
    let dir = ModelDir::open(&imported).unwrap();
    let conversations = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/eight.jsonl");
    let limits = Limits { context: 4096, vocabulary: dir.config().vocabulary };
    let lines = Dataset::read(&conversations, &Renderer::load(&imported).unwrap(), limits, None).unwrap().lines;
    let (wide, said) = opinion(&dir, Kept::F32, &lines);
    println!("f32: a loss of {:.4} a token, of {} trained tokens", wide / said.len() as f64, said.len());
    for kept in [Kept::Bf16, Kept::Q8] {
        let (narrow, then) = opinion(&dir, kept, &lines);
        let same = said.iter().zip(&then).filter(|(said, then)| said == then).count();
        println!("{kept:?}: {:.4}; the most likely token is the same at {same}", narrow / said.len() as f64);
        assert!((narrow / wide - 1.0).abs() <= GROWS, "{kept:?}: {narrow} instead of {wide}");
    }
}
