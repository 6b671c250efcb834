//! What `golden/parity.py` draws, drawn again to the bit: a stream of `ChaCha` numbers for each name, as the trainer has its own.

use std::f32::consts::SQRT_2;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use crate::golden::{CASES, Golden};
use crate::sums::values;

/// The first numbers of a name's stream.
pub(crate) fn words(what: &str, count: usize) -> Vec<u32> {
    let mut stream = ChaCha8Rng::from_seed(Sha256::digest(what).into());
    (0..count).map(|_| stream.next_u32()).collect()
}

/// The values of a tensor: norms around one, the others around zero.
pub(crate) fn draw(base: &str, name: &str, count: usize) -> Vec<f32> {
    let (around, spread) = if name.ends_with("norm.weight") {
        (1.0, 0.3)
    } else if name.contains(".lora_A.") {
        (0.0, 0.04)
    } else if name.contains(".lora_B.") {
        (0.0, 0.02)
    } else {
        (0.0, 0.08)
    };
    noise(&format!("{base}/{name}"), count).into_iter().map(|value| around + spread * value).collect()
}

/// Nearly normal: six numbers of 16 bits added up, less their mean, over their spread. Nothing is rounded before the last product.
fn noise(what: &str, count: usize) -> Vec<f32> {
    let halves = |word: &u32| {
        let [a, b, c, d] = word.to_le_bytes();
        f32::from(u16::from_le_bytes([a, b])) + f32::from(u16::from_le_bytes([c, d]))
    };
    let value = |three: &[u32; 3]| (three.iter().map(halves).sum::<f32>() - 196_605.0) * (SQRT_2 / 65_536.0);
    words(what, 3 * count).as_chunks::<3>().0.iter().map(value).collect()
}

#[test]
fn weights_are_those_that_python_drew() {
    for case in CASES {
        let golden = Golden::read(case);
        let mut hash = Sha256::new();
        for tensor in golden.drawn.values() {
            let bytes = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            hash.update(bytes.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>());
        }
        assert_eq!(hex::encode(hash.finalize()), golden.digest, "{case}");
    }
}

#[test]
fn drawn_values_are_off_one_and_zero_and_spread_as_they_should_be() {
    let golden = Golden::read("qwen3-tied");
    for (name, around, spread) in [("model.embed_tokens.weight", 0.0, 0.08), ("model.norm.weight", 1.0, 0.3)] {
        let drawn = values(&golden.drawn[name]);
        let mean = |of: &dyn Fn(f64) -> f64| drawn.iter().map(|value| of(*value)).sum::<f64>() / drawn.len() as f64;
        let (found, deviation) = (mean(&|value| value), mean(&|value| (value - around).powi(2)).sqrt());
        assert!((found - around).abs() < 0.2 * spread, "{name}: {found}");
        assert!((deviation / spread - 1.0).abs() < 0.1, "{name}: {deviation}");
    }
}
