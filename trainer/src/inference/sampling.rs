//! How the next token is chosen from logits: the most likely one, or one that is drawn. What is drawn follows from the seed and the logits alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::draw;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the most likely token always.
    pub temperature: f64,
    /// Only the most likely tokens that have this share of the probability together are drawn from; 1 draws from all.
    pub top_p: f64,
    /// What is drawn from.
    pub seed: u64,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, seed: 0 };
}

/// Chooses the tokens of one answer.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    stream: ChaCha8Rng,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling) -> Self {
        Self { sampling, stream: ChaCha8Rng::from_seed(draw::key("answer", sampling.seed, &[])) }
    }

    /// The next token; none where the logits have a value that is no number.
    pub(super) fn choose(&mut self, logits: &[f32]) -> Option<u32> {
        let greatest = most_likely(logits)?;
        if self.sampling.temperature <= 0.0 {
            return Some(greatest);
        }
        // 53 bits, as many as an f64 tells apart between 0 and 1.
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let drawn = (self.stream.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let shares = shares(logits, logits[greatest as usize], self.sampling.temperature);
        if self.sampling.top_p >= 1.0 {
            return pick((0..).zip(shares.iter().copied()), shares.iter().sum(), drawn);
        }
        let (nucleus, total) = nucleus(&shares, self.sampling.top_p);
        pick(nucleus.into_iter(), total, drawn)
    }
}

/// The place of the greatest value, the first of equals as in torch; none where there is a value that is no number.
pub(crate) fn most_likely(logits: &[f32]) -> Option<u32> {
    if logits.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let first_greatest = |best: (u32, f32), next: (u32, f32)| if next.1 > best.1 { next } else { best };
    (0..).zip(logits.iter().copied()).reduce(first_greatest).map(|(place, _)| place)
}

/// Probabilities of all tokens.
fn shares(logits: &[f32], greatest: f32, temperature: f64) -> Vec<f64> {
    let weight = |value: &f32| (f64::from(value - greatest) / temperature).exp();
    let mut shares: Vec<f64> = logits.iter().map(weight).collect();
    let total: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= total);
    shares
}

/// The fewest tokens that have `top_p` of the probability together, the most likely first, and how much they have.
fn nucleus(shares: &[f64], top_p: f64) -> (Vec<(u32, f64)>, f64) {
    // What is below this has less than 1 − top_p together, whatever there is of it: it need not be sorted.
    #[allow(clippy::cast_precision_loss, reason = "a vocabulary has fewer than 2^53 tokens")]
    let least = (1.0 - top_p) / shares.len() as f64;
    let mut likely: Vec<(u32, f64)> = (0..).zip(shares.iter().copied()).filter(|(_, share)| *share >= least).collect();
    likely.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut total = 0.0;
    let enough = likely.iter().position(|(_, share)| {
        total += share;
        total >= top_p
    });
    likely.truncate(enough.map_or(likely.len(), |at| at + 1));
    (likely, total)
}

/// The token at which the shares so far pass `drawn` (0 to 1) of their `total`.
fn pick(shares: impl Iterator<Item = (u32, f64)>, total: f64, drawn: f64) -> Option<u32> {
    let mut left = drawn * total;
    let mut last = None;
    for (token, share) in shares {
        if share > 0.0 {
            last = Some(token);
            left -= share;
        }
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, -2.0, 3.0, 2.0];

    fn drawn(sampling: Sampling, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling);
        (0..count).map(|_| sampler.choose(&LOGITS).unwrap()).collect()
    }

    #[test]
    fn without_temperature_it_is_the_first_of_the_most_likely() {
        assert_eq!(drawn(Sampling::GREEDY, 3), [1, 1, 1]);
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely_and_the_same_for_the_same_seed() {
        let sampling = Sampling { temperature: 1.0, top_p: 1.0, seed: 7 };
        let tokens = drawn(sampling, 20_000);
        assert_eq!(tokens, drawn(sampling, 20_000));
        assert_ne!(tokens, drawn(Sampling { seed: 8, ..sampling }, 20_000));
        let total: f64 = LOGITS.iter().map(|value| f64::from(*value).exp()).sum();
        for (token, logit) in (0..).zip(LOGITS) {
            let count = u32::try_from(tokens.iter().filter(|drawn| **drawn == token).count()).unwrap();
            let share = f64::from(count) / 20_000.0;
            assert!((share - f64::from(logit).exp() / total).abs() < 0.01, "token {token}: {share}");
        }
    }

    #[test]
    fn the_nucleus_is_the_fewest_tokens_with_their_share() {
        let shares = [0.1, 0.5, 0.05, 0.3, 0.05];
        let of = |top_p: f64| nucleus(&shares, top_p).0.into_iter().map(|(token, _)| token).collect::<Vec<_>>();
        assert_eq!((of(0.4), of(0.6), of(0.85)), (vec![1], vec![1, 3], vec![1, 3, 0]));
        assert_eq!(of(0.0), [1], "one is left always");
        assert_eq!(drawn(Sampling { temperature: 2.0, top_p: 0.1, seed: 1 }, 50), [1; 50]);
    }

    #[test]
    fn a_low_temperature_comes_to_the_most_likely_and_damaged_logits_to_nothing() {
        let tokens = drawn(Sampling { temperature: 0.01, top_p: 1.0, seed: 3 }, 200);
        assert!(tokens.iter().all(|token| [1, 3].contains(token)));
        assert_eq!(Sampler::new(Sampling::GREEDY).choose(&[1.0, f32::NAN]), None);
    }
}
