//! Values to compute with, and how far two results are from each other.

use std::cmp::Ordering;

use candle_core::{DType, Device, Tensor};

/// Whether a kernel does what it should, or where it does not.
pub(crate) type Verdict = Result<(), String>;

/// Values without pattern in about −1..1, another set for each seed (splitmix64).
pub(crate) fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x2545_f491_4f6c_dd1d);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap()) / f64::from(u32::MAX) * 2.0 - 1.0
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The same times `by`, in f32 or bf16: a tensor of its own, or one that begins at an odd place within another.
pub(crate) fn drawn(shape: &[usize], seed: u64, by: f64, dtype: DType, within: bool) -> Tensor {
    let values = (noise(shape, seed) * by).unwrap().to_dtype(dtype).unwrap();
    if !within {
        return values;
    }
    let flat = values.flatten_all().unwrap();
    let around = Tensor::cat(&[&flat.narrow(0, 0, 1).unwrap(), &flat, &flat], 0).unwrap();
    around.narrow(0, 1, flat.elem_count()).unwrap().reshape(shape).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Whether all values are the same numbers, or no numbers in the same places.
pub(crate) fn same(what: &str, found: &Tensor, expected: &Tensor) -> Verdict {
    let unlike = |(a, b): &(f64, f64)| a.partial_cmp(b) != Some(Ordering::Equal) && !(a.is_nan() && b.is_nan());
    of_one_kind(what, found, expected)?;
    match values(found).into_iter().zip(values(expected)).enumerate().find(|(_, pair)| unlike(pair)) {
        Some((at, (a, b))) => Err(format!("{what}: value {at} is {a:e} and not {b:e}")),
        None => Ok(()),
    }
}

/// Whether values are as close as f32 lets them be whatever the order of sums: `expected` is f64, or bf16 with the same roundings.
pub(crate) fn close(what: &str, found: &Tensor, expected: &Tensor) -> Verdict {
    let (found_values, expected_values) = (values(found), values(expected));
    let largest = expected_values.iter().fold(0f64, |most, value| most.max(value.abs()));
    // Of bf16 a last bit, but of few values: a sum that is rounded just beside a tie.
    let (of_each, few) =
        if found.dtype() == DType::BF16 { (2f64.powi(-7), expected_values.len() / 50 + 1) } else { (0.0, 0) };
    let mut others = 0;
    for (at, (a, b)) in found_values.iter().zip(&expected_values).enumerate() {
        let is_near = (a - b).abs() <= 2e-6 * largest;
        others += usize::from(!is_near);
        if !(is_near || (a - b).abs() <= of_each * b.abs() && others <= few) {
            return Err(format!("{what}: value {at} is {a:e} and not {b:e}, beside {largest:e}; {others} are another"));
        }
    }
    if found.dims() == expected.dims() { Ok(()) } else { Err(format!("{what}: {:?}", found.dims())) }
}

fn of_one_kind(what: &str, found: &Tensor, expected: &Tensor) -> Verdict {
    let kind = |tensor: &Tensor| (tensor.dtype(), tensor.dims().to_vec());
    let (found, expected) = (kind(found), kind(expected));
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?} and not {expected:?}")) }
}
