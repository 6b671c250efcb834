//! That dividing a model among ranks changes nothing but memory, and that lines which share a sequence learn what they learn alone.

use std::collections::BTreeMap;

use sera_crds::values::Sharding;
use sera_trainer::engine::{Engine, Method, Settings};
use sera_trainer::model::Model;
use sera_trainer::ranks::Alone;

use super::group::on_ranks;
use super::model::{lora, model, settings, short, uneven};
use super::{SHARDINGS, alone, square_gap, steps, tensors, trained};

/// The norm that half of a training's steps stay below, so that clipping is active in some steps and not in others.
fn median_norm(model: &Model, settings: &Settings) -> f64 {
    let settings = Settings { clip_norm: f64::INFINITY, ..settings.clone() };
    let mut norms: Vec<_> =
        trained(model, &settings, 1, &uneven()).0.iter().map(|report| report.gradient_norm).collect();
    norms.sort_by(f64::total_cmp);
    norms[norms.len() / 2]
}

/// Asserts that these worlds and ways of sharding, and lines that share sequences of so many tokens, do what one rank does that takes all lines one by
/// one. Gradients are summed over lines before or after ranks;
/// beyond that no bit depends on what is divided.
fn assert_the_same(model: &Model, settings: Settings, cases: &[(usize, Sharding)], packing: Option<usize>) {
    let lines = uneven();
    let settings = Settings { clip_norm: median_norm(model, &settings), ..settings };
    let start = tensors(&mut Engine::new(model.clone(), settings.clone(), Box::new(Alone)).unwrap());
    let (expected, end) = trained(model, &settings, 1, &lines);
    let displacement = square_gap(&start, &end);
    let clipped = expected.iter().filter(|report| report.clipped).count();
    assert!((1..20).contains(&clipped) && displacement > 1e-4, "{clipped} clipped, {displacement}");
    let mut seen = BTreeMap::new();
    for &(world, sharding) in cases {
        let settings = Settings { sharding, packing, ..settings.clone() };
        let (reports, tensors) = trained(model, &settings, world, &lines);
        for (report, expected) in reports.iter().zip(&expected) {
            let case = format!("{world} × {sharding:?}: {report:?} is not {expected:?}");
            assert!((report.loss - expected.loss).abs() <= 1e-6, "{case}");
            assert!((report.gradient_norm - expected.gradient_norm).abs() <= 1e-5 * expected.gradient_norm, "{case}");
            assert_eq!((report.trained, report.tokens, &report.skipped), (441, 472, &None), "{case}");
        }
        let ratio = (square_gap(&tensors, &end) / displacement).sqrt();
        println!("{world} × {sharding:?}: gap / displacement {ratio:.1e}, {clipped} of 20 steps clipped");
        assert!(ratio <= 1e-4, "{world} × {sharding:?}: {ratio:e}");
        let ranks_last = matches!(sharding, Sharding::None | Sharding::Zero1);
        let alike = seen.entry((world, ranks_last)).or_insert_with(|| tensors.clone());
        assert!(*alike == tensors, "{world} × {sharding:?} is another way to the same bits");
    }
}

/// One, two and four ranks, each way of sharding.
fn everywhere() -> Vec<(usize, Sharding)> {
    [1, 2, 4].into_iter().flat_map(|world| SHARDINGS.map(|sharding| (world, sharding))).collect()
}

#[test]
fn full_training_is_the_same_however_it_is_divided() {
    assert_the_same(&model("qwen3", true), settings(Method::Full), &everywhere(), None);
}

#[test]
fn adapters_with_dropout_are_the_same_however_they_are_divided() {
    assert_the_same(&model("qwen2", false), settings(lora(0.1)), &everywhere(), None);
}

#[test]
fn a_model_with_biases_and_a_head_of_its_own_is_the_same_however_it_is_divided() {
    let cases = [(2, Sharding::Zero1), (2, Sharding::Zero3)];
    assert_the_same(&model("qwen2", false), settings(Method::Full), &cases, None);
}

/// One rank has all three lines in one sequence; of two, one has two of them.
const TOGETHER: Option<usize> = Some(470);

#[test]
fn lines_that_share_a_sequence_learn_what_they_learn_alone() {
    let cases = [(1, Sharding::None), (2, Sharding::Zero3)];
    assert_the_same(&model("qwen3", true), settings(Method::Full), &cases, TOGETHER);
    assert_the_same(&model("qwen2", false), settings(lora(0.1)), &cases, TOGETHER);
}

/// With N ranks of a model of Ψ values, of which the largest unit has u: the table of `ZeRO` (arXiv 1910.02054), with f32 weights.
#[test]
fn what_a_rank_holds_falls_as_zero_says() {
    let whole: usize = tensors(&mut alone(settings(Method::Full))).values().map(Vec::len).sum();
    // The embedding and a layer of the small model, and the last normalisation.
    let (embedding, norm) = (61 * 33, 33);
    let layer = (whole - embedding - norm) / 2;
    let largest = layer.max(embedding + norm);
    let held = |method: Method, sharding, ahead| {
        let settings = Settings { sharding, ahead, ..settings(method) };
        let held = on_ranks(4, |member| {
            let mut engine = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
            steps(&mut engine, &short(), 1, 2);
            engine.held()
        });
        println!("{sharding:?}: {:?}", held[0]);
        held[0]
    };
    let of = |method, sharding| held(method, sharding, false);
    let near = |found: usize, values: usize| {
        // A rank's parts of four units are rounded up a value each.
        assert!(found >= 4 * values && found <= 4 * (values + 4 * 3), "{found} bytes, {values} values");
    };
    let [none, one, two, three] = SHARDINGS.map(|sharding| of(Method::Full, sharding));
    near(none.weights, whole);
    near(none.gradients, whole);
    near(none.optimizer, 3 * whole);
    near(one.weights, whole);
    near(one.gradients, whole);
    near(one.optimizer, 3 * whole / 4);
    near(two.weights, whole);
    assert!(two.gradients <= 4 * (whole / 4 + layer.max(embedding) + 4), "{two:?}");
    near(two.optimizer, 3 * whole / 4);
    near(three.weights, largest);
    // A unit, and the next one as it comes: a layer after a layer or after the embedding.
    near(held(Method::Full, Sharding::Zero3, true).weights, layer + layer.max(embedding));
    assert_eq!((three.gradients, three.optimizer), (two.gradients, two.optimizer));
    let [kept, divided] = [Sharding::None, Sharding::Zero3].map(|sharding| of(lora(0.0), sharding));
    assert!(kept.weights > 4 * whole && divided.weights < kept.weights * 3 / 4, "the frozen weights are divided too");
}
