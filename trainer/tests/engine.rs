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

/// The norm that half of a training's steps stay below, so that clipping is active in some steps and not in others.
fn median_norm(model: &Model, settings: &Settings) -> f64 {
    let settings = Settings { clip_norm: f64::INFINITY, ..settings.clone() };
    let mut norms: Vec<_> =
        trained(model, &settings, 1, &uneven()).0.iter().map(|report| report.gradient_norm).collect();
    norms.sort_by(f64::total_cmp);
    norms[norms.len() / 2]
}

/// Asserts that these worlds and ways of sharding do what one rank does that takes all lines.
fn assert_the_same(model: &Model, settings: Settings, cases: &[(usize, Sharding)]) {
    let lines = uneven();
    let settings = Settings { clip_norm: median_norm(model, &settings), ..settings };
    let start = tensors(&mut Engine::new(model.clone(), settings.clone(), Box::new(Alone)).unwrap());
    let (expected, end) = trained(model, &settings, 1, &lines);
    let displacement = square_gap(&start, &end);
    let clipped = expected.iter().filter(|report| report.clipped).count();
    assert!((1..20).contains(&clipped) && displacement > 1e-4, "{clipped} clipped, {displacement}");
    for &(world, sharding) in cases {
        let settings = Settings { sharding, ..settings.clone() };
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
    }
}

/// One, two and four ranks, each way of sharding.
fn everywhere() -> Vec<(usize, Sharding)> {
    [1, 2, 4].into_iter().flat_map(|world| SHARDINGS.map(|sharding| (world, sharding))).collect()
}

#[test]
fn full_training_is_the_same_however_it_is_divided() {
    assert_the_same(&model("qwen3", true), settings(Method::Full), &everywhere());
}

#[test]
fn adapters_with_dropout_are_the_same_however_they_are_divided() {
    assert_the_same(&model("qwen2", false), settings(lora(0.1)), &everywhere());
}

#[test]
fn a_model_with_biases_and_a_head_of_its_own_is_the_same_however_it_is_divided() {
    let cases = [(2, Sharding::Zero1), (2, Sharding::Zero3)];
    assert_the_same(&model("qwen2", false), settings(Method::Full), &cases);
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

/// The states of all ranks after `steps` steps, and the tensors that they stand for.
fn states(settings: &Settings, world: usize, to: u32) -> (Vec<UnitState>, Tensors) {
    let mut all = on_ranks(world, |member| {
        let mut engine = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
        steps(&mut engine, &uneven(), 1, to);
        (engine.state(), tensors(&mut engine))
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
                steps(&mut first, &uneven(), 1, 3);
                let state = first.state();
                let undisturbed = (steps(&mut first, &uneven(), 4, 8), tensors(&mut first));
                first.restore(state).unwrap();
                assert!((steps(&mut first, &uneven(), 4, 8), tensors(&mut first)) == undisturbed);
            });
            on_ranks(2, |member| {
                let mut engine = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
                let fresh = engine.state();
                steps(&mut engine, &uneven(), 1, 2);
                engine.restore(fresh.clone()).unwrap();
                assert!(engine.state() == fresh, "moments and weights are those of the state");
            });
        }
    }
}

#[test]
fn the_state_of_four_ranks_is_that_of_two_and_of_four_again() {
    for sharding in SHARDINGS {
        let settings = Settings { sharding, ..settings(Method::Full) };
        let (four, ends) = states(&settings, 4, 2);
        let two = reshard(four.clone(), 2).unwrap();
        let on_two = on_ranks(2, |member| {
            let rank = sera_trainer::ranks::Collective::rank(&member);
            let mut engine = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
            engine.restore(two[rank].clone()).unwrap();
            (engine.state(), tensors(&mut engine))
        });
        assert!(on_two.iter().all(|(_, tensors)| *tensors == ends), "two ranks have the weights of four");
        let again = reshard(on_two.into_iter().flat_map(|(state, _)| state).collect(), 4).unwrap();
        assert!(again == reshard(four, 4).unwrap());
    }
}

#[test]
fn a_state_of_another_model_is_refused_and_changes_nothing() {
    let mut engine = alone(settings(Method::Full));
    let state = engine.state();
    let mut refused = |change: &dyn Fn(&mut Vec<UnitState>)| {
        let mut other = state.clone();
        other.iter_mut().for_each(|unit| unit.weights.fill(9.0));
        change(&mut other);
        let error = engine.restore(other).unwrap_err();
        assert!(engine.state() == state);
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
    assert!(matches!(refused(&|state| state[1].range.start += 1), StateError::Range { .. }));
    assert!(matches!(refused(&|state| drop(state[1].mean.pop())), StateError::Length { .. }));
}

#[test]
fn a_global_batch_without_a_token_to_learn_is_refused_with_its_lines_on_every_rank() {
    let lines = [line("left", 4, 0), line("right", 6, 0)];
    let errors = on_ranks(2, |member| {
        let mut engine = Engine::new(model("qwen3", true), settings(Method::Full), Box::new(member)).unwrap();
        let mine = dealt(&lines, engine.ranks().rank(), 2);
        engine.step(&mine, 1, RATE).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.contains("`left`, `right`")), "{errors:?}");
    assert!(matches!(alone(settings(Method::Full)).step(&[], 1, RATE), Err(EngineError::NothingTrained(_))));
}

#[test]
fn a_line_without_a_token_to_learn_adds_nothing() {
    let of = |lines: &[Line]| {
        let mut engine = alone(settings(Method::Full));
        let reports = steps(&mut engine, lines, 1, 3).into_iter().map(|report| (report.loss, report.gradient_norm));
        (reports.collect::<Vec<_>>(), tensors(&mut engine))
    };
    assert!(of(&uneven()) == of(&uneven()[..3]));
}

/// A weight so large that one line's loss is no number, on one rank of two.
#[test]
fn a_step_that_is_not_finite_is_skipped_on_every_rank_and_names_the_line() {
    for sharding in SHARDINGS {
        let mut broken = model("qwen3", true);
        let mut row = vec![0f32; 33];
        row[0] = f32::NAN;
        let rest = broken.embedding.value.narrow(0, 1, 60).unwrap();
        let row = Tensor::from_vec(row, (1, 33), rest.device()).unwrap();
        broken.embedding.value = Tensor::cat(&[row, rest], 0).unwrap();
        // Untied, the broken row is felt by those lines alone that have the token.
        broken.lm_head = Some(model("qwen2", false).lm_head.unwrap());
        let with = |id: &str, token| {
            let mut line = line(id, 12, 8);
            line.ids.iter_mut().for_each(|id| *id = (*id).max(1));
            line.ids[3] = token;
            line
        };
        let lines = [with("fine", 5), with("broken", 0)];
        let settings = Settings { sharding, ..settings(Method::Full) };
        let reports = on_ranks(2, |member| {
            let mut engine = Engine::new(broken.clone(), settings.clone(), Box::new(member)).unwrap();
            let before = engine.state();
            let report = steps(&mut engine, &lines, 1, 1).remove(0);
            let bits = |state: Vec<UnitState>| {
                let all = state.into_iter().flat_map(|unit| [unit.weights, unit.mean, unit.square]);
                all.flatten().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert!(bits(engine.state()) == bits(before), "weights and moments are untouched");
            let mine = dealt(&lines, engine.ranks().rank(), 2);
            let clean: Vec<_> = mine.into_iter().filter(|line| line.id == "fine").collect();
            let next = engine.step(&clean, 2, RATE).unwrap();
            assert!(next.skipped.is_none(), "a skipped step leaves nothing behind: {next:?}");
            report.skipped.unwrap()
        });
        assert!(reports[0] == reports[1], "{reports:?}");
        assert!(reports[0].contains("`broken`") && !reports[0].contains("`fine`"), "{reports:?}");
    }
}

#[test]
fn eight_lines_are_learnt_by_heart() {
    let lines: Vec<_> = (0..8).map(|at| line(&format!("line {at}"), 16, 15)).collect();
    let mut engine = alone(settings(Method::Full));
    let before = engine.evaluate(&lines).unwrap();
    let last = (1..=300).map(|step| engine.step(&lines, step, 5e-3).unwrap().loss).last().unwrap();
    let after = engine.evaluate(&lines).unwrap();
    println!("loss {last:.4} after 300 steps");
    assert!(before.trained == 120 && before.loss_sum / 120.0 > 3.0);
    assert!(last <= 0.05 && after.loss_sum / 120.0 <= 0.05, "{last}");
}

#[test]
fn the_loss_of_lines_is_summed_over_ranks_and_without_dropout() {
    let expected = alone(settings(Method::Full)).evaluate(&uneven()).unwrap();
    assert_eq!(expected.trained, 441);
    for (method, sharding) in [Method::Full, lora(0.5)].into_iter().flat_map(|m| SHARDINGS.map(|s| (m.clone(), s))) {
        let settings = Settings { sharding, ..settings(method) };
        for found in on_ranks(4, |member| {
            let mut engine = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
            let mine = dealt(&uneven(), engine.ranks().rank(), 4);
            engine.evaluate(&mine).unwrap()
        }) {
            assert!(
                found.trained == 441 && (found.loss_sum - expected.loss_sum).abs() < 1e-3,
                "{found:?}, {expected:?}"
            );
        }
    }
}

#[test]
fn mean_of_means_counts_lines_and_not_tokens() {
    let gradient = |normalise, lines: &[Line]| {
        let settings = Settings { normalise, clip_norm: f64::INFINITY, ..settings(Method::Full) };
        let mut engine = alone(settings);
        engine.step(lines, 1, 0.0).unwrap();
        // After one step the mean is a tenth of the gradient.
        engine.state().into_iter().flat_map(|unit| unit.mean).map(f64::from).collect::<Vec<_>>()
    };
    let lines = uneven();
    let each: Vec<_> =
        lines[..3].iter().map(|line| gradient(Normalise::PerToken, std::slice::from_ref(line))).collect();
    let of_lines = gradient(Normalise::MeanOfMeans, &lines);
    let of_tokens = gradient(Normalise::PerToken, &lines);
    let gap = |found: &[f64], weights: [f64; 3]| {
        let expected = |at: usize| (0..3).map(|line| weights[line] * each[line][at]).sum::<f64>();
        let square = |of: &dyn Fn(usize) -> f64| (0..found.len()).map(|at| of(at).powi(2)).sum::<f64>().sqrt();
        square(&|at| found[at] - expected(at)) / square(&expected)
    };
    assert!(gap(&of_lines, [1.0 / 3.0; 3]) < 1e-5);
    assert!(gap(&of_tokens, [1.0 / 441.0, 40.0 / 441.0, 400.0 / 441.0]) < 1e-5);
}

#[test]
fn in_bf16_weights_move_as_far_as_in_f32() {
    let moved = |compute| {
        let mut engine = alone(Settings { compute, ..settings(Method::Full) });
        let start = tensors(&mut engine);
        let reports: Vec<_> = (1..=20).map(|step| engine.step(&uneven(), step, 1e-5).unwrap().loss).collect();
        (reports, square_gap(&start, &tensors(&mut engine)).sqrt())
    };
    let ((wide, far), (half, near)) = (moved(DType::F32), moved(DType::BF16));
    println!("displacement {near:.4e} in bf16, {far:.4e} in f32");
    assert!((near / far - 1.0).abs() < 0.05);
    assert!(wide.iter().zip(&half).all(|(wide, half)| (wide - half).abs() < 2e-2), "{wide:?} {half:?}");
}

#[test]
fn inputs_that_wait_in_the_hosts_memory_change_nothing() {
    let of = |offload| {
        let mut engine = alone(Settings { offload, ..settings(Method::Full) });
        (steps(&mut engine, &uneven(), 1, 2), tensors(&mut engine))
    };
    assert!(of(true) == of(false));
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let new = |settings| Engine::new(model("qwen3", true), settings, Box::new(Alone)).err().unwrap();
    let wide = new(Settings { compute: DType::F64, ..settings(Method::Full) });
    assert!(matches!(wide, EngineError::Compute(DType::F64)));
    let Method::Lora(mut adapters) = lora(0.0) else { panic!() };
    adapters.target_modules = vec!["query".to_owned()];
    assert!(new(settings(Method::Lora(adapters))).to_string().contains("q_proj"));
    let mut foreign = line("foreign", 5, 4);
    foreign.ids[2] = 61;
    let error = alone(settings(Method::Full)).step(&[foreign], 1, RATE).unwrap_err().to_string();
    assert!(error.contains("`foreign`") && error.contains("61"), "{error}");
}
