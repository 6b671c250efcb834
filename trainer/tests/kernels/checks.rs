//! What each kernel is held against: the composed operations, in f64 where the kernel computes in f32, and in bf16 with the same roundings.

use candle_core::{DType, Device, Tensor};
use sera_trainer::ops::kernels::{self, Runner};
use sera_trainer::ops::{
    HeadLoss, RopeTable, head_loss_bwd, head_loss_fwd, inverse_frequencies, rms_norm_bwd, rms_norm_fwd, rope_bwd,
    rope_fwd, swiglu_bwd, swiglu_fwd,
};
use sera_trainer::optim::{AdamW, TensorShard};

use crate::compared::{Verdict, close, drawn, same};

/// Large beside the squares of small values.
const EPS: f64 = 1e-3;

/// Runs a kernel, and compares.
pub(crate) type Check = fn(&dyn Runner) -> Verdict;

/// What is compared with, by the type that a kernel is given.
fn reference(dtype: DType) -> DType {
    if dtype == DType::F32 { DType::F64 } else { dtype }
}

/// The type that sums are in.
fn wide(dtype: DType) -> DType {
    if dtype == DType::BF16 { DType::F32 } else { dtype }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn told(error: candle_core::Error) -> String {
    error.to_string()
}

/// One row and many, narrow and wide, whole packs and odd widths, values beside which eps is large and values beside which it is nothing.
pub(crate) fn rms_norm(on: &dyn Runner) -> Verdict {
    let shapes: [&[usize]; 8] =
        [&[1, 1], &[3, 33], &[70, 2, 128], &[1, 512], &[5, 513], &[3, 1031], &[2, 4096], &[600, 6]];
    for (shape, (by, within)) in shapes.into_iter().zip([(0.02, true), (3.0, false), (1e4, true)].into_iter().cycle()) {
        for dtype in [DType::F32, DType::BF16] {
            rms_norm_of(on, shape, dtype, by, within)?;
        }
    }
    Ok(())
}

fn rms_norm_of(on: &dyn Runner, shape: &[usize], dtype: DType, by: f64, within: bool) -> Verdict {
    let [x, gy] = [1, 2].map(|seed| drawn(shape, seed, by, dtype, within));
    let weight = drawn(&shape[shape.len() - 1..], 3, 1.5, dtype, within);
    let [x_of, gy_of, weight_of] = [&x, &gy, &weight].map(|of| of.to_dtype(reference(dtype)).unwrap());
    let what = format!("{shape:?} {dtype:?} {by}");
    let y = kernels::rms_norm::forward(on, &x, &weight, EPS).map_err(told)?;
    close(&format!("y of {what}"), &y, &rms_norm_fwd(&x_of, &weight_of, EPS).unwrap())?;
    let (gx, g_weight) = kernels::rms_norm::backward(on, &x, &gy, &weight, EPS, true).map_err(told)?;
    let expected = rms_norm_bwd(&x_of, &gy_of, &weight_of, EPS, true).unwrap();
    close(&format!("gx of {what}"), &gx, &expected.0)?;
    close(&format!("g_weight of {what}"), &g_weight.unwrap(), &expected.1.unwrap())?;
    let (frozen, none) = kernels::rms_norm::backward(on, &x, &gy, &weight, EPS, false).map_err(told)?;
    assert!(none.is_none());
    same(&format!("gx of {what}, frozen"), &frozen, &gx)
}

/// Heads of whole packs and of odd halves, forward and back, and back to where it was; a tensor whose values lie in another order.
pub(crate) fn rope(on: &dyn Runner) -> Verdict {
    for (tokens, heads, width, within) in
        [(1, 1, 2, false), (7, 3, 6, true), (5, 2, 8, true), (9, 4, 128, false), (33, 1, 10, false)]
    {
        let frequencies = inverse_frequencies(1e4, width, None);
        let places: Vec<u16> = (0..tokens).map(|at| at * 977).collect();
        let positions: Vec<u32> = places.iter().copied().map(u32::from).collect();
        let shape = [usize::from(tokens), heads, width];
        let angles: Vec<f32> =
            places.iter().flat_map(|at| frequencies.iter().map(move |each| f32::from(*at) * each)).collect();
        let table = |of: fn(f32) -> f32| {
            let values = angles.iter().map(|angle| of(*angle)).collect();
            Tensor::from_vec(values, (shape[0], 1, width / 2), &Device::Cpu).unwrap()
        };
        let (cos, sin) = (table(f32::cos), table(f32::sin));
        for dtype in [DType::F32, DType::BF16] {
            let x = drawn(&shape, 4, 2.0, dtype, within);
            let expected = RopeTable::new(&frequencies, &positions, reference(dtype), &Device::Cpu).unwrap();
            let (x_of, what) = (x.to_dtype(reference(dtype)).unwrap(), format!("{shape:?} {dtype:?}"));
            let y = kernels::rope::rotate(on, &x, &cos, &sin, false).map_err(told)?;
            let back = kernels::rope::rotate(on, &x, &cos, &sin, true).map_err(told)?;
            let compare = if dtype == DType::BF16 { same } else { close };
            compare(&format!("y of {what}"), &y, &rope_fwd(&x_of, &expected).unwrap())?;
            compare(&format!("gx of {what}"), &back, &rope_bwd(&x_of, &expected).unwrap())?;
            let turned = x.transpose(0, 1).unwrap().contiguous().unwrap().transpose(0, 1).unwrap();
            same("of another order", &kernels::rope::rotate(on, &turned, &cos, &sin, false).map_err(told)?, &y)?;
        }
    }
    Ok(())
}

/// Less than a pack and many, aligned and not, gates far beyond where e^x is a number.
pub(crate) fn swiglu(on: &dyn Runner) -> Verdict {
    for (count, by, within) in
        [(1, 1.0, false), (3, 4.0, true), (4100, 4.0, false), (1027, 1e4, true), (5000, 90.0, true)]
    {
        for dtype in [DType::F32, DType::BF16] {
            let [gate, up, gy] = [5, 6, 7].map(|seed| drawn(&[count], seed, by, dtype, within));
            let [gate_of, up_of, gy_of] = [&gate, &up, &gy].map(|of| of.to_dtype(reference(dtype)).unwrap());
            let what = format!("{count} {dtype:?} {by}");
            // In bf16 as on GPUs: silu is rounded once.
            let silu = gate.to_dtype(wide(dtype)).unwrap().silu().unwrap().to_dtype(reference(dtype)).unwrap();
            let expected =
                if dtype == DType::BF16 { (silu * &up).unwrap() } else { swiglu_fwd(&gate_of, &up_of).unwrap() };
            close(&format!("y of {what}"), &kernels::swiglu::forward(on, &gate, &up).map_err(told)?, &expected)?;
            let (g_gate, g_up) = kernels::swiglu::backward(on, &gate, &up, &gy).map_err(told)?;
            let expected = swiglu_bwd(&gate_of, &up_of, &gy_of).unwrap();
            close(&format!("g_gate of {what}"), &g_gate, &expected.0)?;
            close(&format!("g_up of {what}"), &g_up, &expected.1)?;
        }
    }
    Ok(())
}

/// The loss over trained tokens among others, with every gradient, and rows of logits that are extreme.
pub(crate) fn cross_entropy(on: &dyn Runner) -> Verdict {
    for (tokens, vocabulary, z, scale) in
        [(1, 1, 0.0, 1.0), (6, 7, 0.3, 0.25), (9, 90, 0.0, 0.0), (5, 1031, 0.02, 0.125), (3, 4100, 0.0, 1.0)]
    {
        for dtype in [DType::F32, DType::BF16] {
            head_loss_of(on, tokens, vocabulary, z, scale, dtype)?;
        }
    }
    for dtype in [DType::F32, DType::BF16] {
        extreme(on, dtype)?;
    }
    outside(on)
}

/// A chunk as `head_loss` makes it, with every third token masked.
fn head_loss_of(on: &dyn Runner, tokens: u32, vocabulary: u32, z: f64, scale: f64, dtype: DType) -> Verdict {
    let targets: Vec<_> = (0..tokens).map(|at| (at % 3 != 1).then_some(at * 31 % vocabulary)).collect();
    let of = HeadLoss::new(&targets).penalise(z);
    let (positions, aims): (Vec<u32>, Vec<u32>) =
        (0..).zip(&targets).filter_map(|(at, target)| target.map(|target| (at, target))).unzip();
    let [positions, aims] = [positions, aims].map(|ids| Tensor::new(ids, &Device::Cpu).unwrap());
    let hidden = drawn(&[tokens as usize, 24], 8, 1.0, dtype, false);
    let weight = drawn(&[vocabulary as usize, 24], 9, 2.0, dtype, false);
    let [hidden_of, weight_of] = [&hidden, &weight].map(|of| of.to_dtype(reference(dtype)).unwrap());
    let expected = head_loss_bwd(&hidden_of, &weight_of, &of, scale, true).unwrap();
    let what = format!("{tokens} of {vocabulary}, {dtype:?}, z {z}, times {scale}");

    let trained = hidden.index_select(&positions, 0).unwrap();
    let logits = trained.matmul(&weight.t().unwrap()).unwrap();
    let losses = kernels::cross_entropy::forward(on, &logits, &aims, z).map_err(told)?;
    let again = kernels::cross_entropy::backward(on, &logits, &aims, z, scale).map_err(told)?;
    same(&format!("losses of {what}"), &again, &losses)?;
    let loss = losses.to_dtype(DType::F64).unwrap().sum_all().unwrap();
    let both = [expected.loss, head_loss_fwd(&hidden_of, &weight_of, &of).unwrap()];
    for expected in both {
        close(&format!("loss of {what}"), &loss, &Tensor::new(expected, &Device::Cpu).unwrap())?;
    }
    let by_hidden = logits.matmul(&weight).unwrap();
    let by_hidden = hidden.zeros_like().unwrap().index_add(&positions, &by_hidden, 0).unwrap();
    close(&format!("hidden of {what}"), &by_hidden, &expected.hidden)?;
    let by_weight = logits.t().unwrap().matmul(&trained).unwrap();
    let by_weight = by_weight.to_dtype(wide(dtype)).unwrap();
    close(&format!("weight of {what}"), &by_weight, &expected.weight.unwrap())
}

/// Logits of ±10,000, the largest at the target and elsewhere, and those of one value.
fn extreme(on: &dyn Runner, dtype: DType) -> Verdict {
    let (rows, vocabulary) = (4, 1500);
    let targets = [3u32, 1499, 700, 0];
    let mut values = vec![0f32; rows * vocabulary];
    for (row, values) in values.chunks_mut(vocabulary).enumerate() {
        match row {
            0 => values.iter_mut().enumerate().for_each(|(at, value)| *value = if at == 3 { 1e4 } else { -1e4 }),
            1 => values.iter_mut().enumerate().for_each(|(at, value)| *value = if at % 700 == 5 { 1e4 } else { -1e4 }),
            2 => values.fill(-1e4),
            _ => values.iter_mut().zip([0.0, 4.0, 1.5].into_iter().cycle()).for_each(|(value, each)| *value = each),
        }
    }
    let logits = Tensor::from_vec(values, (rows, vocabulary), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    let aims = Tensor::new(&targets, &Device::Cpu).unwrap();
    let wide = logits.to_dtype(DType::F64).unwrap();
    let log = wide.log_sum_exp(1).unwrap();
    let predicted = wide.gather(&aims.unsqueeze(1).unwrap(), 1).unwrap().squeeze(1).unwrap();
    let softmax = wide.broadcast_sub(&log.unsqueeze(1).unwrap()).unwrap().exp().unwrap();
    let ones = Tensor::ones((rows, 1), DType::F64, &Device::Cpu).unwrap();
    let one_hot = wide.zeros_like().unwrap().scatter_add(&aims.unsqueeze(1).unwrap(), &ones, 1).unwrap();
    let expected = ((softmax - one_hot).unwrap() * 0.5).unwrap();
    let losses = kernels::cross_entropy::backward(on, &logits, &aims, 0.0, 0.5).map_err(told)?;
    close(&format!("extreme losses, {dtype:?}"), &losses, &(log - predicted).unwrap())?;
    let expected = if dtype == DType::BF16 { expected.to_dtype(DType::BF16).unwrap() } else { expected };
    close(&format!("extreme gradients, {dtype:?}"), &logits, &expected)
}

/// A target that is no token makes the loss no number, and reads nothing outside.
fn outside(on: &dyn Runner) -> Verdict {
    let logits = drawn(&[2, 5], 10, 1.0, DType::F32, false);
    let losses = kernels::cross_entropy::forward(on, &logits, &Tensor::new(&[4u32, 5], &Device::Cpu).unwrap(), 0.0);
    let losses = losses.map_err(told)?.to_vec1::<f32>().unwrap();
    if losses[0].is_finite() && losses[1].is_nan() { Ok(()) } else { Err(format!("outside: {losses:?}")) }
}

/// Twenty steps at changing rates, clipped and not, of weights that decay and that do not, along gradients that begin anywhere: to the same bits.
pub(crate) fn adamw(on: &dyn Runner) -> Verdict {
    let how = AdamW { weight_decay: 0.1, ..AdamW::default() };
    for (count, decays, within) in [(1, true, false), (1030, false, true), (4099, true, false)] {
        let start = drawn(&[count], 11, 0.5, DType::F32, false);
        let shard = || {
            let zeros = || Tensor::zeros(count, DType::F32, &Device::Cpu).unwrap();
            TensorShard::with_moments(start.copy().unwrap(), zeros(), zeros(), decays)
        };
        let (mut composed, mut by_kernel) = (shard(), shard());
        for step in 1..=20 {
            // Now and then gradients that are nothing: eps is what is left below.
            let by = if step % 7 == 1 { 1e-9 } else { 0.1 };
            let gradient = drawn(&[count], 100 + u64::from(step), by, DType::F32, within);
            let (rate, factor) = (1e-3 / f64::from(step), if step % 2 == 0 { 0.25 } else { 1.0 });
            composed.step(&how, &gradient, step, rate, factor).unwrap();
            by_kernel.step_on(on, &how, &gradient, step, rate, factor).map_err(told)?;
            same(&format!("weights after {step}"), by_kernel.weights(), composed.weights())?;
            same(&format!("mean after {step}"), by_kernel.mean(), composed.mean())?;
            same(&format!("square after {step}"), by_kernel.square(), composed.square())?;
        }
        assert!(same("", composed.weights(), &start).is_err(), "twenty steps move nothing");
    }
    Ok(())
}

/// Every value of bf16 there and back, and f32 between two of them: nearer to one, to the other, and to neither; the largest, the smallest and none.
pub(crate) fn casts(on: &dyn Runner) -> Verdict {
    let halves: Vec<f32> = (0..=u16::MAX).map(|bits| f32::from_bits(u32::from(bits) << 16)).collect();
    let halves = Tensor::new(halves, &Device::Cpu).unwrap();
    let narrow = halves.to_dtype(DType::BF16).unwrap();
    same("bf16 widened", &kernels::casts::cast(on, &narrow).map_err(told)?, &halves)?;
    let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let bits = (0..=u16::MAX).step_by(7).flat_map(|upper| lower.map(|lower| u32::from(upper) << 16 | lower));
    let wide = Tensor::new(bits.map(f32::from_bits).collect::<Vec<f32>>(), &Device::Cpu).unwrap();
    for wide in [wide, drawn(&[3], 12, 1.0, DType::F32, true), drawn(&[77, 13], 13, 1e3, DType::F32, true)] {
        let expected = wide.to_dtype(DType::BF16).unwrap();
        same("f32 rounded", &kernels::casts::cast(on, &wide).map_err(told)?, &expected)?;
    }
    Ok(())
}
