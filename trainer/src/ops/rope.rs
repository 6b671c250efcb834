//! Rotary position embedding in Hugging Face's layout: value i of a head is rotated with value i + `head_dim / 2`, not with its neighbour.

use candle_core::{D, DType, Device, Result, Tensor};

use super::kernels::{self, Gpu, Kernel};
use super::{fused, wide};

/// How Llama 3 stretches its wavelengths beyond the context that it was first trained with (`rope_type: llama3`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3Scaling {
    /// By how much long wavelengths are stretched.
    pub factor: f64,
    /// Wavelengths longer than the original context divided by this are stretched whole.
    pub low_freq_factor: f64,
    /// Wavelengths shorter than the original context divided by this are left alone; those between are blended.
    pub high_freq_factor: f64,
    /// The original context, in tokens.
    pub original_context: f64,
}

/// The angle that one position adds to each of the `head_dim / 2` pairs: `theta^(−2i / head_dim)`, scaled.
/// In f32, as transformers computes them (`modeling_rope_utils.py`): students were pretrained with exactly these.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "as the reference computes them")]
pub fn inverse_frequencies(theta: f64, head_dim: usize, scaling: Option<&Llama3Scaling>) -> Vec<f32> {
    let plain = (0..head_dim / 2).map(|pair| 1.0 / (theta as f32).powf((2 * pair) as f32 / head_dim as f32));
    plain.map(|frequency| scaling.map_or(frequency, |scaling| scaling.apply(frequency))).collect()
}

impl Llama3Scaling {
    #[allow(clippy::cast_possible_truncation, reason = "as the reference computes them")]
    fn apply(&self, frequency: f32) -> f32 {
        let wavelength = 2.0 * std::f32::consts::PI / frequency;
        let (factor, low, high) = (self.factor as f32, self.low_freq_factor as f32, self.high_freq_factor as f32);
        let context = self.original_context as f32;
        if wavelength > context / low {
            frequency / factor
        } else if wavelength < context / high {
            frequency
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    }
}

/// Cosine and sine of every token's angles, (T, 1, `head_dim` / 2) each.
#[derive(Debug, Clone)]
pub struct RopeTable {
    cos: Tensor,
    sin: Tensor,
}

impl RopeTable {
    /// The table for tokens at `positions`. Angles are f32 as in transformers; `dtype` is that of the queries and keys to be rotated, widened.
    #[allow(clippy::cast_precision_loss, reason = "positions beyond 2^24 are beyond any context")]
    pub fn new(inverse_frequencies: &[f32], positions: &[u32], dtype: DType, device: &Device) -> Result<Self> {
        let angles: Vec<f32> =
            positions.iter().flat_map(|at| inverse_frequencies.iter().map(move |each| *at as f32 * each)).collect();
        let shape = (positions.len(), 1, inverse_frequencies.len());
        let table = |of: fn(f32) -> f32| {
            let values = angles.iter().map(|angle| of(*angle)).collect();
            Tensor::from_vec(values, shape, device)?.to_dtype(wide(dtype))
        };
        Ok(Self { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }
}

/// Rotates `x` (T, heads, `head_dim`) by each token's angles.
pub fn rope_fwd(x: &Tensor, table: &RopeTable) -> Result<Tensor> {
    if fused::serves(&[x, &table.cos]) {
        return fused::rope::rotate(x, &table.cos, &table.sin, false);
    }
    if kernels::serves(Kernel::Rope, &[x, &table.cos]) {
        return kernels::rope::rotate(&Gpu, x, &table.cos, &table.sin, false);
    }
    rotate(x, &table.cos, &table.sin)
}

/// From the gradient of [`rope_fwd`]'s result, that of `x`: turned back by the same angles.
pub fn rope_bwd(gy: &Tensor, table: &RopeTable) -> Result<Tensor> {
    if fused::serves(&[gy, &table.cos]) {
        return fused::rope::rotate(gy, &table.cos, &table.sin, true);
    }
    if kernels::serves(Kernel::Rope, &[gy, &table.cos]) {
        return kernels::rope::rotate(&Gpu, gy, &table.cos, &table.sin, true);
    }
    rotate(gy, &table.cos, &table.sin.neg()?)
}

fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let wide = x.to_dtype(cos.dtype())?;
    let (first, second) = (wide.narrow(D::Minus1, 0, half)?, wide.narrow(D::Minus1, half, half)?);
    let turned_first = (first.broadcast_mul(cos)? - second.broadcast_mul(sin)?)?;
    let turned_second = (second.broadcast_mul(cos)? + first.broadcast_mul(sin)?)?;
    Tensor::cat(&[turned_first, turned_second], D::Minus1)?.to_dtype(x.dtype())
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradients, distance, noise, values};
    use super::*;

    fn table(positions: &[u32], dtype: DType) -> RopeTable {
        RopeTable::new(&inverse_frequencies(100.0, 6, None), positions, dtype, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_gradient_is_right() {
        let at = |x: &Tensor| table(&[0, 1, 2, 7], x.dtype());
        let forward = |inputs: &[Tensor]| rope_fwd(&inputs[0], &at(&inputs[0]));
        let backward = |_: &[Tensor], gy: &Tensor| Ok(vec![rope_bwd(gy, &at(gy))?]);
        assert_gradients(forward, backward, &[noise(&[4, 2, 6], 1)]);
    }

    #[test]
    fn a_value_is_rotated_with_the_one_half_a_head_away() {
        let x = Tensor::new(&[[[1f64, 0.0, 0.0, 0.0]]], &Device::Cpu).unwrap();
        let table = RopeTable::new(&[0.5, 0.25], &[3], DType::F64, &Device::Cpu).unwrap();
        let y = values(&rope_fwd(&x, &table).unwrap());
        let expected = [f64::from(1.5f32.cos()), 0.0, f64::from(1.5f32.sin()), 0.0];
        assert_eq!(y, expected);
    }

    #[test]
    fn scores_depend_on_the_distance_of_two_positions_alone() {
        let (q, k) = (noise(&[1, 1, 6], 2), noise(&[1, 1, 6], 3));
        let score = |at: u32, other: u32| {
            let q = rope_fwd(&q, &table(&[at], DType::F64)).unwrap();
            let k = rope_fwd(&k, &table(&[other], DType::F64)).unwrap();
            (q * k).unwrap().sum_all().unwrap()
        };
        assert!(distance(&score(9, 4), &score(105, 100)) < 1e-5);
        assert!(distance(&score(9, 4), &score(10, 4)) > 1e-2);
    }

    #[test]
    fn frequencies_are_stretched_by_band_as_in_llama_3() {
        let scaling =
            Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
        let plain = inverse_frequencies(500_000.0, 128, None);
        let scaled = inverse_frequencies(500_000.0, 128, Some(&scaling));
        let ratio: Vec<f32> = plain.iter().zip(&scaled).map(|(plain, scaled)| plain / scaled).collect();
        assert!(ratio[..29].iter().all(|ratio| (ratio - 1.0).abs() < 1e-9), "short wavelengths are left alone");
        assert!(ratio[35..].iter().all(|ratio| (*ratio - 8.0).abs() < 1e-5), "long ones are stretched whole");
        assert!(ratio[29..35].windows(2).all(|pair| pair[0] < pair[1]), "those between are blended");
    }
}
