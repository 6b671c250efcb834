//! The engine on its own and over ranks, which are threads here: that dividing a model among ranks changes nothing but memory, that a training goes on
//! from its state to the bit, and what is refused or skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod ahead;
mod group;
mod model;
mod residence;
mod sharding;
mod state;
mod steps;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use group::on_ranks;
use model::{dealt, model};
use sera_crds::values::Sharding;
use sera_trainer::engine::{Engine, EngineError, Line, Settings, StepReport};
use sera_trainer::model::Model;
use sera_trainer::ranks::Alone;

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
