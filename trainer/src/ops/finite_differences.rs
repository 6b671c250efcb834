//! For tests: the gradient that a backward returns, against central finite differences of its forward in f64.

use candle_core::{DType, Device, Result, Tensor};

/// How far a value is moved to either side: the cube root of what f64 resolves, which balances truncation and rounding.
const STEP: f64 = 6e-6;

/// Relative distance that is taken for equal; central differences in f64 are good for about 1e-10.
const TOLERANCE: f64 = 1e-7;

/// Values without pattern in about −1..1, another set for each seed (splitmix64).
pub(crate) fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap()) / f64::from(u32::MAX) * 2.0 - 1.0
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Every value, as f64.
pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// |a − b| / |b| over all values.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let gap: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    let norm: f64 = b.iter().map(|b| b.powi(2)).sum();
    (gap / norm).sqrt()
}

/// The gradient of Σ `weights` · `forward(inputs)` by the input `which`, a value at a time.
fn gradient(
    forward: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    which: usize,
    weights: &Tensor,
) -> Tensor {
    let at = values(&inputs[which]);
    let probe = |index: usize, offset: f64| {
        let mut moved = at.clone();
        moved[index] += offset;
        let mut inputs = inputs.to_vec();
        inputs[which] = Tensor::from_vec(moved, inputs[which].dims(), &Device::Cpu).unwrap();
        let output = forward(&inputs).unwrap();
        (output * weights).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    let slopes = (0..at.len()).map(|index| (probe(index, STEP) - probe(index, -STEP)) / (2.0 * STEP)).collect();
    Tensor::from_vec(slopes, inputs[which].dims(), &Device::Cpu).unwrap()
}

/// Asserts that `backward(inputs, gy)` gives the gradient of `forward` by every input, in f64 against finite differences, and in f32 against f64.
pub(crate) fn assert_gradients(
    forward: impl Fn(&[Tensor]) -> Result<Tensor>,
    backward: impl Fn(&[Tensor], &Tensor) -> Result<Vec<Tensor>>,
    inputs: &[Tensor],
) {
    let output = forward(inputs).unwrap();
    let gy = noise(output.dims(), 977);
    let gradients = backward(inputs, &gy).unwrap();
    assert_eq!(gradients.len(), inputs.len());
    for (which, analytic) in gradients.iter().enumerate() {
        let gap = distance(analytic, &gradient(&forward, inputs, which, &gy));
        assert!(gap < TOLERANCE, "input {which}: {gap:e}");
    }
    let single = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap();
    let inputs: Vec<_> = inputs.iter().map(single).collect();
    assert!(distance(&forward(&inputs).unwrap(), &output) < 1e-5);
    for (which, (f32, f64)) in backward(&inputs, &single(&gy)).unwrap().iter().zip(&gradients).enumerate() {
        assert_eq!(f32.dtype(), DType::F32, "input {which}");
        assert!(distance(f32, f64) < 1e-5, "input {which} in f32: {:e}", distance(f32, f64));
    }
}
