//! The output projection and the cross-entropy of what it predicts, in one pass over the trained tokens alone, a chunk at a time: logits of all
//! tokens × vocabulary never exist.

use candle_core::{D, DType, Result, Tensor};

use super::kernels::{self, Gpu, Kernel};
use super::{cast, fused, pieces, wide};

/// How many logits are held at once on processors: 64 MiB of f32 a buffer, 110 tokens of Qwen3's vocabulary, which is enough for a product to be worth its
/// set-up.
const LOGITS: usize = 1 << 24;
/// How many on a GPU, which reads the whole weight for each chunk: half a GiB of f32 a buffer, 883 tokens of Qwen3's vocabulary, a product of which takes
/// some three times as long as reading the weight, by what an H100's data sheet has of both.
const LOGITS_OF_A_GPU: usize = 1 << 27;

/// How many logits are held at once.
pub(crate) const fn logits_at_once(on_cpu: bool) -> usize {
    if on_cpu { LOGITS } else { LOGITS_OF_A_GPU }
}

/// How many rows of the weight's gradient are summed at once: what is added is computed beside the gradient, so it should be small next to it.
const ROWS: usize = 1 << 13;

/// Which token each position has to predict, and over how many logits at once that is judged.
#[derive(Debug, Clone)]
pub struct HeadLoss {
    /// Trained positions, ascending.
    positions: Vec<u32>,
    /// What each of them predicts.
    targets: Vec<u32>,
    /// Over how many logits at once; none: what suits the device.
    logits: Option<usize>,
    /// The weight of z-loss.
    z: f64,
}

/// The summed loss, and its gradients.
#[derive(Debug)]
pub struct HeadGradients {
    /// Σ −log p(target) over trained tokens, with their z-loss, not multiplied with anything.
    pub loss: f64,
    /// By the hidden states, (T, n), in their type: zero where nothing is trained.
    pub hidden: Tensor,
    /// By the weight, (vocabulary, n), wide, unless it is frozen.
    pub weight: Option<Tensor>,
}

impl HeadLoss {
    /// Position t has to predict `targets[t]`; none where it carries no loss.
    #[allow(clippy::cast_possible_truncation, reason = "a batch has fewer than 2^32 tokens")]
    pub fn new(targets: &[Option<u32>]) -> Self {
        let trained = targets.iter().enumerate().filter_map(|(at, target)| target.map(|target| (at as u32, target)));
        let (positions, targets) = trained.unzip();
        Self { positions, targets, logits: None, z: 0.0 }
    }

    /// Adds z-loss with this weight.
    #[must_use]
    pub fn penalise(self, z: f64) -> Self {
        Self { z, ..self }
    }

    /// How many tokens carry loss.
    pub fn trained(&self) -> usize {
        self.targets.len()
    }

    /// The chunks of trained tokens: positions and targets.
    fn chunks(&self, weight: &Tensor) -> Result<impl Iterator<Item = (&[u32], &[u32])>> {
        let logits = self.logits.unwrap_or(logits_at_once(weight.device().is_cpu()));
        let rows = (logits / weight.dim(0)?.max(1)).max(1);
        Ok(self.positions.chunks(rows).zip(self.targets.chunks(rows)))
    }
}

/// The losses of all chunks. What is summed where it was computed is asked for once, at the end: to ask a GPU is to wait for it.
#[derive(Debug, Default)]
struct Total {
    known: f64,
    asked_for: Option<Tensor>,
}

impl Total {
    /// Adds the sum of `losses`, in f64.
    fn add(&mut self, losses: &Tensor) -> Result<()> {
        let sum = losses.to_dtype(DType::F64)?.sum_all()?;
        self.asked_for = Some(match self.asked_for.take() {
            Some(total) => (total + sum)?,
            None => sum,
        });
        Ok(())
    }

    fn sum(self) -> Result<f64> {
        Ok(self.known + self.asked_for.map_or(Ok(0.0), |total| total.to_scalar())?)
    }
}

/// Σ −log softmax(h Wᵀ)[target] + z · (log Σ exp h Wᵀ)² over the trained rows of `hidden` (T, n), with `weight` (vocabulary, n).
pub fn head_loss_fwd(hidden: &Tensor, weight: &Tensor, of: &HeadLoss) -> Result<f64> {
    let mut loss = Total::default();
    for (positions, targets) in of.chunks(weight)? {
        if fused::serves(&[hidden, weight]) {
            let logits = hidden.index_select(&index(hidden, positions)?, 0)?.matmul(&weight.t()?)?;
            loss.known += fused::head_loss::exponentiate(&logits, targets, of.z)?.1;
        } else if kernels::serves(Kernel::CrossEntropy, &[hidden, weight]) {
            let logits = hidden.index_select(&index(hidden, positions)?, 0)?.matmul(&weight.t()?)?;
            loss.add(&kernels::cross_entropy::forward(&Gpu, &logits, &index(hidden, targets)?, of.z)?)?;
        } else {
            loss.add(&Chunk::new(hidden, weight, positions, targets, of.z)?.losses)?;
        }
    }
    loss.sum()
}

/// The loss and, times `scale` (one over the trained tokens of the global batch, say), its gradients; the forward is part of it.
pub fn head_loss_bwd(
    hidden: &Tensor,
    weight: &Tensor,
    of: &HeadLoss,
    scale: f64,
    trained: bool,
) -> Result<HeadGradients> {
    let sums = |like: &Tensor| Tensor::zeros(like.shape(), wide(like.dtype()), like.device());
    let (g_hidden, g_weight) = (hidden.zeros_like()?, trained.then(|| sums(weight)).transpose()?);
    let mut loss = Total::default();
    let mut rows = Vec::new();
    for (positions, targets) in of.chunks(weight)? {
        let (hidden, g_logits) = if fused::serves(&[hidden, weight]) {
            let hidden = hidden.index_select(&index(hidden, positions)?, 0)?;
            let logits = hidden.matmul(&weight.t()?)?;
            let (shares, chunk_loss) = fused::head_loss::exponentiate(&logits, targets, of.z)?;
            fused::head_loss::gradient(&logits, &shares, targets, scale)?;
            loss.known += chunk_loss;
            (hidden, logits)
        } else if kernels::serves(Kernel::CrossEntropy, &[hidden, weight]) {
            let hidden = hidden.index_select(&index(hidden, positions)?, 0)?;
            let logits = hidden.matmul(&weight.t()?)?;
            let losses = kernels::cross_entropy::backward(&Gpu, &logits, &index(&hidden, targets)?, of.z, scale)?;
            loss.add(&losses)?;
            (hidden, logits)
        } else {
            let chunk = Chunk::new(hidden, weight, positions, targets, of.z)?;
            let g_logits = chunk.gradient(scale)?.to_dtype(hidden.dtype())?;
            loss.add(&chunk.losses)?;
            (chunk.hidden, g_logits)
        };
        rows.push(g_logits.matmul(weight)?);
        if let Some(total) = &g_weight {
            add_outer(total, &g_logits, &hidden)?;
        }
    }
    let hidden = match rows.as_slice() {
        [] => g_hidden,
        rows => g_hidden.index_add(&index(hidden, &of.positions)?, &Tensor::cat(rows, 0)?, 0)?,
    };
    Ok(HeadGradients { loss: loss.sum()?, hidden, weight: g_weight })
}

/// Some trained tokens: their hidden states, and exp(logit − largest logit) with its sum.
struct Chunk {
    hidden: Tensor,
    targets: Tensor,
    exponentials: Tensor,
    /// One over the sum of each row, and what z-loss adds to it: what makes its exponentials the gradient.
    shares: Tensor,
    losses: Tensor,
}

impl Chunk {
    fn new(hidden: &Tensor, weight: &Tensor, positions: &[u32], targets: &[u32], z: f64) -> Result<Self> {
        let targets = index(hidden, targets)?.unsqueeze(1)?;
        let hidden = hidden.index_select(&index(hidden, positions)?, 0)?;
        // Assigned, not bound again: a buffer is let go as soon as the next one is there.
        let mut exponentials = hidden.matmul(&weight.t()?)?;
        exponentials = exponentials.to_dtype(wide(hidden.dtype()))?;
        let largest = exponentials.max_keepdim(D::Minus1)?;
        exponentials = exponentials.broadcast_sub(&largest)?;
        let predicted = exponentials.gather(&targets, 1)?;
        exponentials = exponentials.exp()?;
        let sums = exponentials.sum_keepdim(D::Minus1)?;
        let (mut losses, mut shares) = ((sums.log()? - predicted)?, sums.recip()?);
        if z > 0.0 {
            let log = (sums.log()? + largest)?;
            losses = (losses + (log.sqr()? * z)?)?;
            shares = (shares * log.affine(2.0 * z, 1.0)?)?;
        }
        Ok(Self { hidden, targets, exponentials, shares, losses })
    }

    /// `scale · (softmax · (1 + 2 z log Σ exp) − one at the target)`, by the logits, wide.
    fn gradient(&self, scale: f64) -> Result<Tensor> {
        let gradient = self.exponentials.broadcast_mul(&(&self.shares * scale)?)?;
        let minus = (self.targets.ones_like()?.to_dtype(gradient.dtype())? * -scale)?;
        gradient.scatter_add_set(&self.targets, &minus, 1)?;
        Ok(gradient)
    }
}

/// Adds `gyᵀ x` to `total` (vocabulary, n) in place, some rows at a time.
fn add_outer(total: &Tensor, gy: &Tensor, x: &Tensor) -> Result<()> {
    let vocabulary = total.dim(0)?;
    for (begin, rows) in pieces(vocabulary, ROWS) {
        let mut columns = gy.narrow(1, begin, rows)?;
        if !gy.device().is_cpu() {
            // cuBLAS is given no columns with others between them.
            columns = columns.contiguous()?;
        }
        let part = cast(&columns.t()?.matmul(x)?, total.dtype())?;
        if fused::serves(&[total, &part]) {
            fused::add(&total.narrow(0, begin, rows)?, &part)?;
            continue;
        }
        total.slice_set(&(total.narrow(0, begin, rows)? + part)?, 0, begin)?;
    }
    Ok(())
}

/// `values` as a tensor where `like` lives.
fn index(like: &Tensor, values: &[u32]) -> Result<Tensor> {
    Tensor::from_slice(values, values.len(), like.device())
}

#[cfg(test)]
mod tests {
    use super::super::finite_differences::{assert_gradients, distance, noise, values};
    use super::*;

    const TARGETS: [Option<u32>; 6] = [Some(3), None, Some(0), Some(6), None, Some(3)];

    fn chunked(targets: &[Option<u32>], logits: usize) -> HeadLoss {
        HeadLoss { logits: Some(logits), ..HeadLoss::new(targets) }
    }

    #[test]
    fn the_gradients_of_hidden_states_and_weight_are_right() {
        for (logits, z) in [(1, 0.0), (21, 0.0), (1000, 0.0), (21, 0.3)] {
            let of = chunked(&TARGETS, logits).penalise(z);
            let forward = |inputs: &[Tensor]| {
                Tensor::new(&[head_loss_fwd(&inputs[0], &inputs[1], &of)?], inputs[0].device())?
                    .to_dtype(inputs[0].dtype())
            };
            let backward = |inputs: &[Tensor], gy: &Tensor| {
                let scale = values(gy)[0];
                let gradients = head_loss_bwd(&inputs[0], &inputs[1], &of, scale, true)?;
                Ok(vec![gradients.hidden, gradients.weight.unwrap()])
            };
            assert_gradients(forward, backward, &[noise(&[6, 4], 1), (noise(&[7, 4], 2) * 3.0).unwrap()]);
        }
    }

    #[test]
    fn the_loss_is_that_of_the_definition_and_of_both_passes() {
        let (hidden, weight) = (noise(&[6, 4], 3), noise(&[7, 4], 4));
        let logits: Vec<Vec<f64>> = hidden.matmul(&weight.t().unwrap()).unwrap().to_vec2().unwrap();
        let expected: f64 = logits
            .iter()
            .zip(TARGETS)
            .filter_map(|(row, target)| Some((row, target? as usize)))
            .map(|(row, target)| row.iter().map(|logit| logit.exp()).sum::<f64>().ln() - row[target])
            .sum();
        let of = chunked(&TARGETS, 14);
        assert_eq!(of.trained(), 4);
        assert!((head_loss_fwd(&hidden, &weight, &of).unwrap() - expected).abs() < 1e-13);
        assert!((head_loss_bwd(&hidden, &weight, &of, 9.0, false).unwrap().loss - expected).abs() < 1e-13);
    }

    #[test]
    fn z_loss_is_the_square_of_the_logarithm_of_the_summed_exponentials_of_trained_tokens() {
        let (hidden, weight) = (noise(&[6, 4], 3), noise(&[7, 4], 4));
        let logits: Vec<Vec<f64>> = hidden.matmul(&weight.t().unwrap()).unwrap().to_vec2().unwrap();
        let trained = logits.iter().zip(TARGETS).filter(|(_, target)| target.is_some());
        let log = |row: &[f64]| row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        let expected: f64 = trained.map(|(row, _)| 0.2 * log(row).powi(2)).sum();
        let of = |z| head_loss_fwd(&hidden, &weight, &chunked(&TARGETS, 14).penalise(z)).unwrap();
        assert!((of(0.2) - of(0.0) - expected).abs() < 1e-13 && expected > 0.1);
    }

    #[test]
    fn tokens_without_loss_and_a_frozen_weight_get_no_gradient() {
        let (hidden, weight) = (noise(&[6, 4], 5), noise(&[7, 4], 6));
        let gradients = head_loss_bwd(&hidden, &weight, &HeadLoss::new(&TARGETS), 1.0, false).unwrap();
        assert!(gradients.weight.is_none());
        for (at, target) in TARGETS.iter().enumerate() {
            let row = values(&gradients.hidden.narrow(0, at, 1).unwrap());
            assert_eq!(row.iter().all(|value| *value == 0.0), target.is_none(), "position {at}");
        }
    }

    #[test]
    fn a_batch_without_loss_gives_zero_and_not_nan() {
        let gradients =
            head_loss_bwd(&noise(&[2, 4], 7), &noise(&[7, 4], 8), &HeadLoss::new(&[None; 2]), 1.0, true).unwrap();
        assert_eq!(gradients.loss.to_bits(), 0f64.to_bits());
        assert!(values(&gradients.hidden).iter().chain(&values(&gradients.weight.unwrap())).all(|value| *value == 0.0));
    }

    #[test]
    fn more_rows_than_are_summed_at_once_are_all_summed() {
        let (gy, x) = (noise(&[2, ROWS + 3], 9), noise(&[2, 2], 10));
        let total = Tensor::ones((ROWS + 3, 2), DType::F64, x.device()).unwrap();
        add_outer(&total, &gy, &x).unwrap();
        assert!(distance(&total, &(gy.t().unwrap().matmul(&x).unwrap() + 1.0).unwrap()) < 1e-14);
    }
}
