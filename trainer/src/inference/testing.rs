//! What tests of products multiply.

/// Values between -1 and 1, others for each seed.
pub(super) fn values(count: usize, seed: u16) -> Vec<f32> {
    let value = |at: usize| f32::from(u16::try_from(at * 79 % 101).unwrap().wrapping_add(seed * 13) % 101) / 50.0 - 1.0;
    (0..count).map(value).collect()
}
