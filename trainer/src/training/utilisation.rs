//! How much of what the GPUs could compute a training uses (MFU): the multiplications and additions that the model needs, whatever is computed twice, over
//! what the GPUs' maker says they do in that time.

use crate::engine::Line;
use crate::model::Config;

/// Dense bf16 in units of 10¹² operations a second, as NVIDIA's data sheets have it (half of what they print for sparse matrices), by words that a
/// device's name contains whole; the first that match count.
const PEAKS: [(&str, f64); 11] = [
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("H200", 989.0),
    ("GH200", 989.0),
    ("A100", 312.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("A10", 125.0),
    ("A10G", 70.0),
];

/// The peak of a device of this name, in operations a second; none for processors, and for devices that are not known here.
pub(super) fn peak(device: &str) -> Option<f64> {
    PEAKS.iter().find(|(name, _)| contains_words(device, name)).map(|(_, peak)| peak * 1e12)
}

/// Whether `text` contains `words` with no letter or digit next to them: an A10G is no A10.
fn contains_words(text: &str, words: &str) -> bool {
    let is_apart = |side: Option<char>| side.is_none_or(|letter| !letter.is_ascii_alphanumeric());
    text.match_indices(words).any(|(at, found)| {
        let (before, after) = (&text[..at], &text[at + found.len()..]);
        is_apart(before.chars().next_back()) && is_apart(after.chars().next())
    })
}

/// What a step over these lines takes, in operations; see [`operations_of_line`].
pub(super) fn operations<'a>(config: &Config, frozen: bool, lines: impl IntoIterator<Item = &'a Line>) -> f64 {
    lines.into_iter().map(|line| operations_of_line(config, frozen, line.ids.len(), line.trained())).sum()
}

/// What a line of so many tokens takes, of which so many are learnt: two operations for each multiplication with an addition. The backward pass takes
/// twice what the forward takes, and once where weights are frozen, since only the gradients of activations are computed. Attention is causal: half of
/// all pairs. Recomputed activations are not counted, nor what adapters, norms and activations take beside products of matrices.
pub(crate) fn operations_of_line(config: &Config, frozen: bool, tokens: usize, trained: usize) -> f64 {
    let queries = config.heads * config.head_dim;
    let block = (2 * config.heads + 2 * config.kv_heads) * config.head_dim * config.hidden
        + 3 * config.hidden * config.intermediate;
    let (weights, head) = (number(config.layers * block), number(config.vocabulary * config.hidden));
    // Scores and their products with values, two operations each, for half of the pairs.
    let pairs = number(2 * config.layers * queries);
    let passes = |learnt: bool| if learnt { 3.0 } else { 2.0 };
    let (tokens, trained) = (number(tokens), number(trained));
    passes(!frozen) * 2.0 * (weights * tokens + head * trained) + passes(true) * pairs * tokens * tokens
}

#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::qwen3_8b;

    fn line(tokens: usize) -> Line {
        Line { id: "x".to_owned(), ids: vec![1; tokens], loss: vec![true; tokens] }
    }

    #[test]
    fn a_peak_is_that_of_a_whole_name_and_processors_have_none() {
        assert_eq!(peak("GPU 3 (NVIDIA H100 80GB HBM3)"), Some(989e12));
        assert_eq!(peak("GPU 0 (NVIDIA H100 PCIe)"), Some(756e12));
        assert_eq!((peak("CPU"), peak("GPU 0 (NVIDIA GeForce GTX 1080)")), (None, None));
        assert_eq!((peak("NVIDIA L40S"), peak("NVIDIA A100-SXM4-80GB")), (Some(362e12), Some(312e12)));
        for (name, expected) in [
            ("GPU 0 (NVIDIA L40)", Some(181e12)),
            ("GPU 0 (NVIDIA L4)", Some(121e12)),
            ("GPU 0 (NVIDIA A10G)", Some(70e12)),
            ("GPU 0 (NVIDIA A10)", Some(125e12)),
            ("GPU 0 (NVIDIA GH200 480GB)", Some(989e12)),
            ("GPU 0 (NVIDIA A1000)", None),
        ] {
            assert_eq!(peak(name), expected, "{name}");
        }
    }

    #[test]
    fn a_long_line_takes_six_operations_a_weight_and_token_and_a_frozen_model_four() {
        let config = qwen3_8b();
        // Qwen3-8B without its embedding, which is looked up.
        let weights = 8_190_735_360.0 - 151_936.0 * 4096.0;
        let short = operations(&config, false, &[line(1000)]);
        let attention = 6.0 * 36.0 * 4096.0 * 1000.0 * 1000.0;
        assert!((short / (6.0 * weights * 1000.0 + attention) - 1.0).abs() < 1e-3, "{short:e}");
        let frozen = operations(&config, true, &[line(1000)]);
        assert!((frozen / (4.0 * weights * 1000.0 + attention) - 1.0).abs() < 1e-3, "{frozen:e}");
        let two = operations(&config, false, &[line(1000), line(1000)]);
        assert!((two / short - 2.0).abs() < 1e-12);
    }
}
