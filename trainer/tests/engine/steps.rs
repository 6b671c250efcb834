//! What a step does with its lines, what it refuses, and what it skips.

use candle_core::{DType, Tensor};
use sera_trainer::engine::{Engine, EngineError, Line, Method, Normalise, Residence, Settings, Turn, UnitState};
use sera_trainer::model::Keep;
use sera_trainer::ranks::Alone;

use super::group::on_ranks;
use super::model::{dealt, line, lora, model, settings, short, uneven};
use super::{RATE, SHARDINGS, alone, square_gap, steps, tensors};

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
        for residence in [Residence::Host, Residence::Device] {
            let settings = Settings { sharding, residence, ..settings(Method::Full) };
            let reports = on_ranks(2, |member| {
                let mut engine = Engine::new(broken.clone(), settings.clone(), Box::new(member)).unwrap();
                let before = engine.state().unwrap();
                let report = steps(&mut engine, &lines, 1, 1).remove(0);
                let bits = |state: Vec<UnitState>| {
                    let all = state.into_iter().flat_map(|unit| [unit.weights, unit.mean, unit.square]);
                    all.flatten().map(f32::to_bits).collect::<Vec<_>>()
                };
                assert!(bits(engine.state().unwrap()) == bits(before), "weights and moments are untouched");
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
}

#[test]
fn a_step_after_one_that_was_left_out_is_what_it_would_have_been_without_that() {
    let [mut with, mut without] = [(), ()].map(|()| alone(settings(Method::Full)));
    let left_out = with.step_as(Turn { step: 1, taken: 1, rate: RATE, limit: 0.0 }, &short()).unwrap();
    assert!(left_out.skipped.is_some());
    let after = with.step_as(Turn { step: 2, taken: 1, rate: RATE, limit: f64::INFINITY }, &short()).unwrap();
    assert_eq!(after, without.step(&short(), 1, RATE).unwrap());
    assert!(with.state().unwrap() == without.state().unwrap(), "moments are corrected by the steps that were taken");
}

#[test]
fn a_step_whose_loss_is_above_the_limit_is_left_out_on_every_rank_and_names_its_lines() {
    let turn = |limit| Turn { step: 1, taken: 1, rate: RATE, limit };
    for sharding in SHARDINGS {
        let settings = Settings { sharding, ..settings(Method::Full) };
        let reports = on_ranks(2, |member| {
            let mut engine = Engine::new(model("qwen3", true), settings.clone(), Box::new(member)).unwrap();
            let before = engine.state().unwrap();
            let mine = dealt(&short(), engine.ranks().rank(), 2);
            let left_out = engine.step_as(turn(1.0), &mine).unwrap();
            assert!(engine.state().unwrap() == before, "weights and moments are untouched");
            let taken = engine.step_as(turn(left_out.loss), &mine).unwrap();
            assert!(taken.skipped.is_none() && engine.state().unwrap() != before, "at the limit it is taken");
            left_out
        });
        assert!(reports[0] == reports[1], "{reports:?}");
        let reason = reports[0].skipped.as_deref().unwrap();
        assert!(reason.contains("at most 1.0000 is taken"), "{reason}");
        assert!(short().iter().all(|line| reason.contains(&format!("`{}`", line.id))), "{reason}");
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
        engine.state().unwrap().into_iter().flat_map(|unit| unit.mean).map(f64::from).collect::<Vec<_>>()
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
        let reports: Vec<_> = (1..=20).map(|step| engine.step(&short(), step, 1e-5).unwrap().loss).collect();
        (reports, square_gap(&start, &tensors(&mut engine)).sqrt())
    };
    let ((wide, far), (half, near)) = (moved(DType::F32), moved(DType::BF16));
    println!("displacement {near:.4e} in bf16, {far:.4e} in f32");
    assert!((near / far - 1.0).abs() < 0.05);
    // What is computed with is rounded from weights that began as numbers of bf16: its loss falls later, as one after the other rounds elsewhere.
    assert!((wide[0] - half[0]).abs() < 5e-3 && half[19] < half[0], "{wide:?} {half:?}");
}

#[test]
fn what_waits_for_the_backward_pass_and_where_changes_nothing() {
    for method in [Method::Full, lora(0.1)] {
        let of = |blocks, offload| {
            let mut engine = alone(Settings { keep: Keep { blocks, offload }, ..settings(method.clone()) });
            (steps(&mut engine, &short(), 1, 2), tensors(&mut engine))
        };
        let usual = of(0, false);
        for (blocks, offload) in [(0, true), (1, true), (2, false), (9, false)] {
            assert!(of(blocks, offload) == usual, "{blocks} blocks are kept");
        }
    }
}

#[test]
fn a_step_that_fails_half_way_leaves_nothing_behind() {
    for sharding in SHARDINGS {
        let settings = Settings { sharding, ..settings(Method::Full) };
        let (mut engine, mut undisturbed) = (alone(settings.clone()), alone(settings));
        let mut foreign = line("foreign", 5, 4);
        foreign.ids[2] = 61;
        engine.step(&[line("fine", 7, 5), foreign], 1, RATE).unwrap_err();
        assert!(steps(&mut engine, &short(), 1, 2) == steps(&mut undisturbed, &short(), 1, 2));
        assert!(engine.state().unwrap() == undisturbed.state().unwrap());
    }
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
