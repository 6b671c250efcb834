//! Dropout whose mask is drawn from a key a line: the same in the forward, in its recomputation, on every rank, after a restart, and in whatever
//! company a line is.

use candle_core::{Result, Tensor, bail};

use crate::draw::{self, Key};

/// What is dropped of one input: a share of its values, the rest of which are scaled up so that the mean stays.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// Which share is dropped, from 0 to below 1.
    share: f64,
    /// What each line's part is drawn from, and how many tokens it has.
    lines: Vec<(Key, usize)>,
}

impl Dropout {
    /// Drops a `share` of what `module` sees in optimizer step `step` of each of the `lines` of a sequence, which have so many tokens: another part for
    /// each of them, and for each `seed`.
    pub fn new(share: f64, seed: u64, step: u32, lines: &[(&str, usize)], module: &str) -> Self {
        let step = step.to_string();
        let key = |line: &str| draw::key("dropout", seed, &[&step, line, module]);
        Self { share, lines: lines.iter().map(|(line, tokens)| (key(line), *tokens)).collect() }
    }

    /// What `x` (T, in), of the lines' tokens one after the other, is multiplied with: 0, or 1 / (1 − share); shaped and typed as `x`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2³² fits")]
    pub fn mask(&self, x: &Tensor) -> Result<Tensor> {
        let below = (self.share * 2f64.powi(32)) as u32;
        let kept = (1.0 / (1.0 - self.share)) as f32;
        let (tokens, width) = x.dims2()?;
        let known: usize = self.lines.iter().map(|(_, tokens)| tokens).sum();
        if known != tokens {
            bail!("dropout is for lines of {known} tokens, and is given {tokens}");
        }
        let numbers = self.lines.iter().flat_map(|(key, tokens)| draw::numbers(*key, tokens * width));
        let mask = numbers.map(|number| if number < below { 0.0 } else { kept });
        Tensor::from_vec(mask.collect::<Vec<f32>>(), x.shape(), x.device())?.to_dtype(x.dtype())
    }
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::values;
    use super::*;
    use candle_core::{DType, Device};

    fn mask(dropout: &Dropout) -> Vec<f64> {
        values(&dropout.mask(&Tensor::zeros((200, 100), DType::F32, &Device::Cpu).unwrap()).unwrap())
    }

    #[test]
    fn the_share_is_dropped_and_the_mean_stays() {
        for share in [0.0, 0.05, 0.5] {
            let mask = mask(&Dropout::new(share, 1, 1, &[("line", 200)], "module"));
            let dropped = f64::from(u32::try_from(mask.iter().filter(|value| **value == 0.0).count()).unwrap()) / 2e4;
            assert!((dropped - share).abs() < 0.01, "{dropped} of {share}");
            assert!((mask.iter().sum::<f64>() / 2e4 - 1.0).abs() < 0.02);
        }
    }

    #[test]
    fn seed_step_line_and_module_each_draw_another_mask_and_the_same_draw_the_same() {
        let first = mask(&Dropout::new(0.5, 1, 2, &[("line", 200)], "module"));
        assert_eq!(first, mask(&Dropout::new(0.5, 1, 2, &[("line", 200)], "module")));
        for (seed, step, line, module) in
            [(9, 2, "line", "module"), (1, 9, "line", "module"), (1, 2, "other", "module"), (1, 2, "line", "other")]
        {
            assert_ne!(first, mask(&Dropout::new(0.5, seed, step, &[(line, 200)], module)));
        }
    }

    #[test]
    fn a_line_loses_the_same_values_alone_and_beside_another() {
        let alone = |line, tokens| Dropout::new(0.5, 1, 2, &[(line, tokens)], "module");
        let of = |dropout: &Dropout, tokens| {
            values(&dropout.mask(&Tensor::zeros((tokens, 10), DType::F32, &Device::Cpu).unwrap()).unwrap())
        };
        let together = of(&Dropout::new(0.5, 1, 2, &[("one", 3), ("other", 5)], "module"), 8);
        assert_eq!(together, [of(&alone("one", 3), 3), of(&alone("other", 5), 5)].concat());
        let more = Tensor::zeros((9, 10), DType::F32, &Device::Cpu).unwrap();
        assert!(alone("one", 3).mask(&more).unwrap_err().to_string().contains("3 tokens, and is given 9"));
    }
}
