//! That a training goes on from its state, at the same number of ranks to the bit, and that no other state is taken.

use candle_core::DType;
use sera_trainer::engine::{Engine, EngineError, Method, Settings, StateError, UnitState, reshard};
use sera_trainer::ranks::Collective;

use super::group::on_ranks;
use super::model::{lora, model, settings, short};
use super::{SHARDINGS, Tensors, alone, steps, tensors};

/// The states of all ranks after `steps` steps, and the tensors that they stand for.
fn states(settings: &Settings, world: usize, to: u32) -> (Vec<UnitState>, Tensors) {
    let mut all = on_ranks(world, |member| {
        let mut engine = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
        steps(&mut engine, &short(), 1, to);
        (engine.state().unwrap(), tensors(&mut engine))
    });
    let tensors = std::mem::take(&mut all[0].1);
    (all.into_iter().flat_map(|(state, _)| state).collect(), tensors)
}

#[test]
fn a_training_goes_on_from_its_state_to_the_bit() {
    for (method, compute) in [(Method::Full, DType::F32), (lora(0.1), DType::F32), (Method::Full, DType::BF16)] {
        for sharding in SHARDINGS {
            let settings = Settings { sharding, compute, ..settings(method.clone()) };
            on_ranks(2, |member| {
                let mut first = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
                steps(&mut first, &short(), 1, 3);
                let state = first.state().unwrap();
                let undisturbed = (steps(&mut first, &short(), 4, 8), tensors(&mut first));
                first.restore(&state).unwrap();
                assert!((steps(&mut first, &short(), 4, 8), tensors(&mut first)) == undisturbed);
            });
            on_ranks(2, |member| {
                let mut engine = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
                let fresh = engine.state().unwrap();
                steps(&mut engine, &short(), 1, 2);
                engine.restore(&fresh).unwrap();
                assert!(engine.state().unwrap() == fresh, "moments and weights are those of the state");
            });
        }
    }
}

#[test]
fn the_state_of_four_ranks_is_that_of_two_and_of_four_again() {
    for sharding in SHARDINGS {
        let settings = Settings { sharding, ..settings(Method::Full) };
        let (four, ends) = states(&settings, 4, 2);
        let two = reshard(&four, 2).unwrap();
        let on_two = on_ranks(2, |member| {
            let rank = member.rank();
            let mut engine = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
            engine.restore(&two[rank]).unwrap();
            (engine.state().unwrap(), tensors(&mut engine))
        });
        assert!(on_two.iter().all(|(_, tensors)| *tensors == ends), "two ranks have the weights of four");
        let again = reshard(&on_two.into_iter().flat_map(|(state, _)| state).collect::<Vec<_>>(), 4).unwrap();
        assert!(again == reshard(&four, 4).unwrap());
    }
}

#[test]
fn a_state_of_another_model_is_refused_and_changes_nothing() {
    let mut engine = alone(settings(Method::Full));
    let state = engine.state().unwrap();
    let mut refused = |change: &dyn Fn(&mut Vec<UnitState>)| {
        let mut other = state.clone();
        other.iter_mut().for_each(|unit| unit.weights.fill(9.0));
        change(&mut other);
        let error = engine.restore(&other).unwrap_err();
        assert!(engine.state().unwrap() == state);
        match error {
            EngineError::State(error) => error,
            other => panic!("{other}"),
        }
    };
    assert!(matches!(refused(&|state| drop(state.remove(1))), StateError::Missing(unit) if unit == "model.layers.0"));
    let unknown = refused(&|state| {
        let unit = "model.layers.7".to_owned();
        state.push(UnitState { unit, ..state[1].clone() });
    });
    assert!(matches!(unknown, StateError::Unknown(unit) if unit == "model.layers.7"));
    assert!(matches!(refused(&|state| state.push(state[1].clone())), StateError::Joint { .. }));
    assert!(matches!(refused(&|state| state[1].total += 1), StateError::Size { .. }));
    let elsewhere = refused(&|state| {
        let range = state[1].range.clone();
        state[1].range = range.start + 1..range.end + 1;
    });
    assert!(matches!(elsewhere, StateError::Range { .. }));
    assert!(matches!(refused(&|state| state[1].mean.truncate(1)), StateError::Length { .. }));
}
