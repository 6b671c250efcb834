//! Random numbers that a seed repeats to the bit on every machine: a `ChaCha` stream for each purpose and name. candle's own cannot be seeded on CPUs.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// What a stream begins from.
pub(crate) type Key = [u8; 32];

/// The key of a purpose, a seed and names: another one if any of them differs.
pub(crate) fn key(purpose: &str, seed: u64, names: &[&str]) -> Key {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    for part in [purpose].iter().chain(names) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// The first `count` numbers of a stream.
pub(crate) fn numbers(key: Key, count: usize) -> impl Iterator<Item = u32> {
    let mut stream = ChaCha8Rng::from_seed(key);
    (0..count).map(move |_| stream.next_u32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_itself_and_no_other() {
        let of = |key| numbers(key, 4).collect::<Vec<_>>();
        let first = of(key("a", 1, &["bc", "d"]));
        assert_eq!(first, of(key("a", 1, &["bc", "d"])));
        for other in [key("a", 2, &["bc", "d"]), key("a", 1, &["b", "cd"]), key("ab", 1, &["c", "d"])] {
            assert_ne!(first, of(other));
        }
    }

    #[test]
    fn the_numbers_are_the_same_on_every_machine() {
        assert_eq!(
            numbers([0; 32], 2).collect::<Vec<_>>(),
            [0x2fef_003e, 0xd640_5f89],
            "ChaCha8's first words for a key of zeros"
        );
    }
}
