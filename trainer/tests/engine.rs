//! The engine on its own and over ranks, which are threads here: that dividing a model among ranks changes nothing but memory, that a training goes on
//! from its state to the bit, and what is refused or skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod support;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use sera_crds::values::Sharding;
use sera_trainer::engine::{
    Engine, EngineError, Line, Method, Normalise, Settings, StateError, StepReport, UnitState, reshard,
};
use sera_trainer::model::Model;
use sera_trainer::ranks::Alone;
use support::group::on_ranks;
use support::model::{dealt, line, lora, model, settings, uneven};

const SHARDINGS: [Sharding; 4] = [Sharding::None, Sharding::Zero1, Sharding::Zero2, Sharding::Zero3];

/// Large enough that 20 steps lead somewhere.
const RATE: f64 = 1e-3;

type Tensors = BTreeMap<String, Vec<f32>>;

fn alone(settings: Settings) -> Engine {
    Engine::new(model("qwen3", true), settings, Box::new(Alone)).unwrap()
}

fn tensors(engine: &mut Engine) -> Tensors {
    let mut tensors = Tensors::new();
    let mut take = |name: &str, tensor: Tensor| {
        assert_eq!(tensor.dtype(), DType::F32);
        tensors.insert(name.to_owned(), tensor.flatten_all()?.to_vec1()?);
        Ok::<_, EngineError>(())
    };
    engine.trained_tensors(&mut take).unwrap();
    tensors
}

/// Steps numbered `from` to `to`, over this rank's share of `lines`.
fn steps(engine: &mut Engine, lines: &[Line], from: u32, to: u32) -> Vec<StepReport> {
    let mine = dealt(lines, engine.ranks().rank(), engine.ranks().world());
    (from..=to).map(|step| engine.step(&mine, step, RATE).unwrap()).collect()
}

/// What a world of ranks reports of 20 steps, the same on each, and the tensors that it ends with.
fn trained(model: &Model, settings: &Settings, world: usize, lines: &[Line]) -> (Vec<StepReport>, Tensors) {
    let mut all = on_ranks(world, |member| {
        let mut engine = Engine::new(model.clone(), settings.clone(), Box::new(member)).unwrap();
        (steps(&mut engine, lines, 1, 20), tensors(&mut engine))
    });
    let first = all.swap_remove(0);
    assert!(all.iter().all(|other| *other == first), "all ranks report the same and end with the same weights");
    first
}

fn square_gap(a: &Tensors, b: &Tensors) -> f64 {
    assert!(a.keys().eq(b.keys()));
    let gap = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>()
    };
    a.values().zip(b.values()).map(gap).sum()
}

/// Asserts that every world and every way of sharding does what one rank does that takes all lines.
fn assert_the_same_everywhere(model: &Model, settings: &Settings, clipped: bool) {
    let lines = uneven();
    let start = tensors(&mut Engine::new(model.clone(), settings.clone(), Box::new(Alone)).unwrap());
    let (expected, end) = trained(model, settings, 1, &lines);
    let displacement = square_gap(&start, &end);
    assert!(expected.iter().any(|report| report.clipped) == clipped && displacement > 1e-4, "{displacement}");
    for (world, sharding) in [1, 2, 4].into_iter().flat_map(|world| SHARDINGS.map(|sharding| (world, sharding))) {
        let settings = Settings { sharding, ..settings.clone() };
        let (reports, tensors) = trained(model, &settings, world, &lines);
        for (report, expected) in reports.iter().zip(&expected) {
            let case = format!("{world} × {sharding:?}: {report:?} is not {expected:?}");
            assert!((report.loss - expected.loss).abs() <= 1e-6, "{case}");
            assert!((report.gradient_norm - expected.gradient_norm).abs() <= 1e-5 * expected.gradient_norm, "{case}");
            assert_eq!((report.trained, report.tokens, &report.skipped), (441, 472, &None), "{case}");
        }
        let ratio = (square_gap(&tensors, &end) / displacement).sqrt();
        println!("{world} × {sharding:?}: gap / displacement {ratio:.1e}");
        assert!(ratio <= 1e-4, "{world} × {sharding:?}: {ratio:e}");
    }
}

#[test]
fn full_training_is_the_same_however_it_is_divided() {
    for (clip_norm, clipped) in [(0.5, true), (f64::INFINITY, false)] {
        let settings = Settings { clip_norm, ..settings(Method::Full) };
        assert_the_same_everywhere(&model("qwen3", true), &settings, clipped);
    }
}

#[test]
fn adapters_with_dropout_are_the_same_however_they_are_divided() {
    for (clip_norm, clipped) in [(0.5, true), (f64::INFINITY, false)] {
        let settings = Settings { clip_norm, ..settings(lora(0.1)) };
        assert_the_same_everywhere(&model("qwen2", false), &settings, clipped);
    }
}

#[test]
fn a_model_with_biases_and_a_head_of_its_own_is_the_same_however_it_is_divided() {
    assert_the_same_everywhere(&model("qwen2", false), &settings(Method::Full), true);
}

/// Gradients are summed over lines before or after ranks; beyond that no bit depends on what is divided.
#[test]
fn what_is_divided_changes_no_bit() {
    for method in [Method::Full, lora(0.1)] {
        let of = |sharding| {
            let settings = Settings { sharding, ..settings(method.clone()) };
            trained(&model("qwen3", true), &settings, 2, &uneven())
        };
        assert!(of(Sharding::None) == of(Sharding::Zero1));
        assert!(of(Sharding::Zero2) == of(Sharding::Zero3));
    }
}
