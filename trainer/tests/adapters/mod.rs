//! What comparisons of adapters with PEFT's have in common.

use candle_core::Tensor;
use sera_trainer::engine::{Engine, EngineError};

/// What is trained, a unit after the other.
pub(crate) fn tensors(engine: &mut Engine) -> Vec<(String, Tensor)> {
    let mut tensors = Vec::new();
    let mut take = |name: &str, tensor: Tensor| {
        tensors.push((name.to_owned(), tensor));
        Ok::<_, EngineError>(())
    };
    engine.trained_tensors(&mut take).unwrap();
    tensors
}

/// Puts so many adapters in the place of those that the engine has drawn: the trained tensors of a unit lie one after the other in its state.
pub(crate) fn begin_from<'a>(engine: &mut Engine, count: usize, adapter: impl Fn(&str) -> &'a Tensor) {
    let names: Vec<_> = tensors(engine).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), count);
    let mut state = engine.state().unwrap();
    for unit in &mut state {
        let of_unit = names.iter().filter(|name| name.starts_with(&format!("{}.", unit.unit)));
        let flat = of_unit.flat_map(|name| adapter(name).flatten_all().unwrap().to_vec1::<f32>().unwrap());
        unit.weights = flat.collect();
    }
    engine.restore(&state).unwrap();
}
