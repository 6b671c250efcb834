//! Kernels of ours beside the composed operations on a GPU: how far results are from each other, and how long both take. A kernel is on by default only
//! once its rows are known; no row has been measured yet.

use std::time::Instant;

use candle_core::{DType, Device, Error, Tensor};

use super::BenchError;
use crate::ops::kernels::{Kernel, Kernels, switch};
use crate::ops::{
    HeadLoss, RopeTable, cast, head_loss_bwd, head_loss_fwd, inverse_frequencies, logits_at_once, rms_norm_bwd,
    rms_norm_fwd, rope_bwd, rope_fwd, swiglu_bwd, swiglu_fwd,
};
use crate::optim::{AdamW, TensorShard};

/// How often each is run, of which the median is taken.
const RUNS: usize = 20;

/// The widths of a model's tensors.
#[derive(Debug, Clone, Copy)]
pub struct Shapes {
    /// Of hidden states.
    pub hidden: usize,
    /// Of the feed-forward part.
    pub intermediate: usize,
    /// How many heads of queries.
    pub heads: usize,
    /// Their width.
    pub head_dim: usize,
    /// How many tokens there are to predict.
    pub vocabulary: usize,
    /// How many rows of logits are a chunk of the loss.
    pub rows: usize,
    /// How many values the optimizer steps.
    pub stepped: usize,
}

impl Shapes {
    /// Those of Qwen3-8B; the optimizer steps a third of a layer's values.
    pub const QWEN3_8B: Self = Self {
        hidden: 4096,
        intermediate: 12_288,
        heads: 32,
        head_dim: 128,
        vocabulary: 151_936,
        rows: logits_at_once(false) / 151_936,
        stepped: 1 << 26,
    };
    /// Of how many tokens sequences are.
    pub const LENGTHS: [usize; 3] = [512, 4096, 32_768];
}

/// One operation, both ways.
#[derive(Debug, Clone)]
pub struct Compared {
    /// What it is of, such as `forward, 512 × 4096`.
    pub what: String,
    /// The largest difference of a result, as a part of its largest value.
    pub difference: f64,
    /// Microseconds of the composed operations.
    pub composed: f64,
    /// Microseconds of the kernel.
    pub ours: f64,
    /// Bytes that have to be read and written at least, in units of 10⁹ a second of the kernel.
    pub rate: f64,
}

/// Compares these kernels on sequences of so many tokens, and hands over each row when it is known.
pub fn compare(
    kernels: Kernels,
    shapes: &Shapes,
    lengths: &[usize],
    device: &Device,
    mut row: impl FnMut(Kernel, Compared),
) -> Result<(), BenchError> {
    for kernel in kernels.iter() {
        // What knows no tokens is measured once.
        let lengths = if matches!(kernel, Kernel::Adamw | Kernel::CrossEntropy) { &lengths[..1] } else { lengths };
        for length in lengths {
            for case in Case::of(kernel, shapes, *length, device)? {
                row(kernel, case.compare(kernel, device)?);
            }
        }
    }
    Ok(())
}

/// An operation to be run; some change what they are given, and so begin anew each time they are compared.
struct Case {
    what: String,
    bytes: usize,
    begin: Box<dyn Fn() -> Result<Operation, Error>>,
}

type Operation = Box<dyn FnMut() -> Result<Vec<Tensor>, Error>>;

impl Case {
    fn compare(&self, kernel: Kernel, device: &Device) -> Result<Compared, BenchError> {
        switch(Kernels::NONE, device)?;
        let (expected, composed) = self.run(device)?;
        switch(std::iter::once(kernel).collect(), device)?;
        let measured = self.run(device);
        switch(Kernels::NONE, device)?;
        let (found, ours) = measured?;
        let mut difference = 0f64;
        for (found, expected) in found.iter().zip(&expected) {
            difference = difference.max(distance(found, expected)?);
        }
        let rate = gigabytes(self.bytes) / (ours / 1e6);
        Ok(Compared { what: self.what.clone(), difference, composed, ours, rate })
    }

    /// The results of the last run, and the microseconds of the median one.
    fn run(&self, device: &Device) -> Result<(Vec<Tensor>, f64), Error> {
        let mut operation = (self.begin)()?;
        let (mut results, mut micros) = (operation()?, Vec::new());
        for _ in 0..RUNS {
            drop(results);
            device.synchronize()?;
            let begin = Instant::now();
            results = operation()?;
            device.synchronize()?;
            micros.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        micros.sort_by(f64::total_cmp);
        Ok((results, micros[RUNS / 2]))
    }

    /// An operation that changes nothing of what it is given.
    fn plain(what: String, bytes: usize, operation: impl Fn() -> Result<Vec<Tensor>, Error> + Clone + 'static) -> Self {
        Self { what, bytes, begin: Box::new(move || Ok(Box::new(operation.clone()))) }
    }

    fn of(kernel: Kernel, shapes: &Shapes, tokens: usize, device: &Device) -> Result<Vec<Self>, Error> {
        match kernel {
            Kernel::RmsNorm => {
                let mut cases = Self::rms_norm(&[tokens, shapes.hidden], device)?;
                cases.extend(Self::rms_norm(&[tokens, shapes.heads, shapes.head_dim], device)?);
                Ok(cases)
            }
            Kernel::Rope => Self::rope(&[tokens, shapes.heads, shapes.head_dim], device),
            Kernel::Swiglu => Self::swiglu(&[tokens, shapes.intermediate], device),
            Kernel::CrossEntropy => Self::cross_entropy(shapes.rows, shapes.vocabulary, device),
            Kernel::Adamw => Self::adamw(shapes.stepped, device),
            Kernel::Casts => Self::casts(&[tokens, shapes.hidden], device),
        }
    }

    fn rms_norm(shape: &[usize], device: &Device) -> Result<Vec<Self>, Error> {
        let (x, gy) = (drawn(shape, DType::BF16, device)?, drawn(shape, DType::BF16, device)?);
        let weight = drawn(&shape[shape.len() - 1..], DType::BF16, device)?;
        let bytes = bytes(shape, 2);
        let (forward_x, forward_weight) = (x.clone(), weight.clone());
        Ok(vec![
            Self::plain(named("forward", shape), 2 * bytes, move || {
                Ok(vec![rms_norm_fwd(&forward_x, &forward_weight, 1e-6)?])
            }),
            Self::plain(named("backward", shape), 3 * bytes, move || {
                let (gx, g_weight) = rms_norm_bwd(&x, &gy, &weight, 1e-6, true)?;
                Ok([Some(gx), g_weight].into_iter().flatten().collect())
            }),
        ])
    }

    fn rope(shape: &[usize; 3], device: &Device) -> Result<Vec<Self>, Error> {
        let x = drawn(shape, DType::BF16, device)?;
        let positions: Vec<u32> = (0..).take(shape[0]).collect();
        let table = RopeTable::new(&inverse_frequencies(1e6, shape[2], None), &positions, DType::BF16, device)?;
        let (forward_x, forward_table) = (x.clone(), table.clone());
        let bytes = 2 * bytes(shape, 2);
        Ok(vec![
            Self::plain(named("forward", shape), bytes, move || Ok(vec![rope_fwd(&forward_x, &forward_table)?])),
            Self::plain(named("backward", shape), bytes, move || Ok(vec![rope_bwd(&x, &table)?])),
        ])
    }

    fn swiglu(shape: &[usize], device: &Device) -> Result<Vec<Self>, Error> {
        let [gate, up, gy] = [0; 3].map(|_| drawn(shape, DType::BF16, device));
        let (gate, up, gy) = (gate?, up?, gy?);
        let bytes = bytes(shape, 2);
        let (forward_gate, forward_up) = (gate.clone(), up.clone());
        Ok(vec![
            Self::plain(named("forward", shape), 3 * bytes, move || Ok(vec![swiglu_fwd(&forward_gate, &forward_up)?])),
            Self::plain(named("backward", shape), 5 * bytes, move || {
                let (g_gate, g_up) = swiglu_bwd(&gate, &up, &gy)?;
                Ok(vec![g_gate, g_up])
            }),
        ])
    }

    /// Of a head so narrow that its products are nothing beside the loss.
    fn cross_entropy(rows: usize, vocabulary: usize, device: &Device) -> Result<Vec<Self>, Error> {
        const NARROW: usize = 16;
        let hidden = drawn(&[rows, NARROW], DType::BF16, device)?;
        let weight = drawn(&[vocabulary, NARROW], DType::BF16, device)?;
        let targets: Vec<Option<u32>> = (0..).take(rows).map(|at: u32| Some(at % 97 % wrapped(vocabulary))).collect();
        let of = HeadLoss::new(&targets);
        let shape = [rows, vocabulary];
        let bytes = bytes(&shape, 2);
        let (forward_hidden, forward_weight, forward_of) = (hidden.clone(), weight.clone(), of.clone());
        Ok(vec![
            Self::plain(named("loss, with a product of width 16,", &shape), bytes, move || {
                let loss = head_loss_fwd(&forward_hidden, &forward_weight, &forward_of)?;
                Ok(vec![Tensor::new(loss, forward_hidden.device())?])
            }),
            Self::plain(named("loss and gradient, with two such products,", &shape), 2 * bytes, move || {
                let gradients = head_loss_bwd(&hidden, &weight, &of, 1e-3, false)?;
                Ok(vec![Tensor::new(gradients.loss, hidden.device())?, gradients.hidden])
            }),
        ])
    }

    fn adamw(count: usize, device: &Device) -> Result<Vec<Self>, Error> {
        let (start, gradient) = (drawn(&[count], DType::F32, device)?, drawn(&[count], DType::F32, device)?);
        let begin = move || -> Result<Operation, Error> {
            let mut shard = TensorShard::with_moments(start.copy()?, start.zeros_like()?, start.zeros_like()?, true);
            let (gradient, mut step) = (gradient.clone(), 0);
            Ok(Box::new(move || {
                step += 1;
                shard.step(&AdamW::default(), &gradient, step, 1e-4, 0.5)?;
                Ok(vec![shard.weights().clone(), shard.mean().clone(), shard.square().clone()])
            }))
        };
        Ok(vec![Self { what: named("step", &[count]), bytes: 7 * bytes(&[count], 4), begin: Box::new(begin) }])
    }

    fn casts(shape: &[usize], device: &Device) -> Result<Vec<Self>, Error> {
        let wide = drawn(shape, DType::F32, device)?;
        let narrow = wide.to_dtype(DType::BF16)?;
        let bytes = bytes(shape, 6);
        Ok(vec![
            Self::plain(named("f32 to bf16", shape), bytes, move || Ok(vec![cast(&wide, DType::BF16)?])),
            Self::plain(named("bf16 to f32", shape), bytes, move || Ok(vec![cast(&narrow, DType::F32)?])),
        ])
    }
}

/// Values in −1..1.
fn drawn(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor, Error> {
    Tensor::rand(-1f32, 1f32, shape, device)?.to_dtype(dtype)
}

fn named(what: &str, shape: &[usize]) -> String {
    let widths: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("{what} {}", widths.join(" × "))
}

fn bytes(shape: &[usize], of_value: usize) -> usize {
    shape.iter().product::<usize>() * of_value
}

#[allow(clippy::cast_precision_loss, reason = "a table has three digits")]
fn gigabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e9
}

/// As a vocabulary's tokens are counted.
fn wrapped(vocabulary: usize) -> u32 {
    u32::try_from(vocabulary).unwrap_or(u32::MAX)
}

/// The largest difference, as a part of the largest value that is expected.
fn distance(found: &Tensor, expected: &Tensor) -> Result<f64, Error> {
    let largest = |tensor: &Tensor| tensor.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar::<f64>();
    let (found, expected) = (found.to_dtype(DType::F32)?, expected.to_dtype(DType::F32)?);
    Ok(largest(&(found - &expected)?)? / largest(&expected)?.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    const SMALL: Shapes =
        Shapes { hidden: 24, intermediate: 40, heads: 2, head_dim: 8, vocabulary: 50, rows: 6, stepped: 100 };

    #[test]
    fn every_kernel_has_operations_that_run_again_and_again_to_the_same() {
        for kernel in Kernel::value_variants() {
            let cases = Case::of(*kernel, &SMALL, 5, &Device::Cpu).unwrap();
            assert!(!cases.is_empty());
            for case in cases {
                let (one, micros) = case.run(&Device::Cpu).unwrap();
                let (other, _) = case.run(&Device::Cpu).unwrap();
                assert!(micros > 0.0 && case.bytes > 0 && !one.is_empty(), "{}", case.what);
                for (one, other) in one.iter().zip(&other) {
                    assert!(distance(one, other).unwrap() == 0.0, "{kernel}: {}", case.what);
                }
            }
        }
    }

    #[test]
    fn differences_are_parts_of_the_largest_value() {
        let of = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        assert!((distance(&of(&[1.0, -8.5]), &of(&[1.25, -8.0])).unwrap() - 0.0625).abs() < 1e-12);
    }

    #[test]
    fn processors_have_no_kernels_to_be_compared() {
        let compared = compare(Kernels::all(), &SMALL, &[5], &Device::Cpu, |_, _| {});
        assert!(matches!(compared, Err(BenchError::Kernels(_))));
    }
}
