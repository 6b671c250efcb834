//! Adapters over 60 steps of `AdamW`, against what PEFT and torch make of the same adapters beside the same model on the same two lines. The fixtures, and
//! how to make them again, are in `golden/make.py`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod adapters;
mod device;

use std::collections::HashMap;
use std::path::Path;

use adapters::{begin_from, tensors};
use candle_core::{DType, Device, Tensor};
use device::device;
use sera_trainer::engine::{Engine, Line, Method, Residence, Settings};
use sera_trainer::model::{Config, LoraSettings, Model};
use sera_trainer::optim::{Decline, Schedule};
use sera_trainer::ranks::Alone;

type Tensors = HashMap<String, Tensor>;

fn read(name: &str) -> Tensors {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    candle_core::safetensors::load(folder.join(name), &Device::Cpu).unwrap()
}

/// The tensors under a name, in f32.
fn under(tensors: &Tensors, prefix: &str) -> Tensors {
    let named = tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    named.map(|(name, tensor)| (name.to_owned(), tensor.to_dtype(DType::F32).unwrap())).collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The two sequences of the fixture, each a line.
fn lines(golden: &Tensors) -> Vec<Line> {
    let numbers = |name: &str| golden[name].to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    let (ids, mask) = (numbers("ids"), numbers("mask"));
    let mut begin = 0;
    let mut lines = Vec::new();
    for (at, length) in numbers("lengths").into_iter().enumerate() {
        let range = begin..begin + length as usize;
        begin = range.end;
        let loss = mask[range.clone()].iter().map(|mask| *mask == 1).collect();
        lines.push(Line { id: format!("line {at}"), ids: ids[range].to_vec(), loss });
    }
    lines
}

fn engine(golden: &Tensors, residence: Residence) -> Engine {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen3-tied.json");
    let config = Config::parse(&std::fs::read_to_string(config).unwrap()).unwrap();
    let weights =
        under(golden, "weight/").into_iter().map(|(name, tensor)| (name, tensor.to_device(device()).unwrap()));
    let model = Model::from_tensors(config, weights.collect(), true).unwrap();
    let lora = LoraSettings { rank: 4, alpha: 8, dropout: 0.0, target_modules: Vec::new(), seed: 0 };
    let settings = Settings { residence, ..Settings::of(Method::Lora(lora)) };
    Engine::new(model, settings, Box::new(Alone)).unwrap()
}

#[test]
fn sixty_steps_of_adapters_lead_to_where_they_lead_peft() {
    for residence in [Residence::Host, Residence::Device] {
        sixty_steps(residence);
    }
}

fn sixty_steps(residence: Residence) {
    let (golden, lora) = (read("qwen3-tied.safetensors"), read("lora.safetensors"));
    let (before, after) = (under(&lora, "before/"), under(&lora, "after/"));
    let (mut engine, lines) = (engine(&golden, residence), lines(&golden));
    begin_from(&mut engine, before.len(), |name| &before[name]);
    let schedule = Schedule { peak: 1e-3, warm_up: 6, steps: 60, decline: Decline::Cosine };
    let expected = values(&lora["losses"]).into_iter().zip(values(&lora["norms"]));
    for (step, (loss, norm)) in (1..).zip(expected) {
        let report = engine.step(&lines, step, schedule.rate(step)).unwrap();
        assert!((report.loss - loss).abs() < 1e-5, "the loss of step {step} is {}, not {loss}", report.loss);
        let found = report.gradient_norm;
        assert!((found - norm).abs() < 1e-4 * norm, "the norm of step {step} is {found}, not {norm}");
    }
    let (mut gap, mut displacement) = (0.0, 0.0);
    for (name, found) in tensors(&mut engine) {
        let square = |a: &Tensor, b: &Tensor| values(&(a - b).unwrap()).iter().map(|x| x.powi(2)).sum::<f64>();
        gap += square(&found, &after[&name]);
        displacement += square(&before[&name], &after[&name]);
    }
    let ratio = (gap / displacement).sqrt();
    println!("after 60 steps: gap / displacement {ratio:.1e}, displacement {:.2e}", displacement.sqrt());
    assert!(displacement > 0.0 && ratio < 1e-3, "{ratio:e}");
}
