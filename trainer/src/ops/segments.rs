//! Where the sequences of a packed batch begin and end: attention never looks across such a border, and positions restart there.

use std::ops::Range;

/// Lengths that make no batch.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SegmentsError {
    /// Nothing to compute.
    #[error("a batch needs at least one sequence")]
    NoSequence,
    /// A sequence without tokens.
    #[error("sequence {index} of the batch is empty; leave it out")]
    Empty {
        /// Its place in the batch, from 0.
        index: usize,
    },
    /// Positions are counted in 32 bits.
    #[error("sequence {index} of the batch has {length} tokens, more than 32 bits can count")]
    TooLong {
        /// Its place in the batch, from 0.
        index: usize,
        /// Its length.
        length: usize,
    },
}

/// The sequences of a packed batch, one after the other without padding (what `FlashAttention` calls `cu_seqlens`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Where each begins, and where the last ends.
    bounds: Vec<usize>,
}

impl Segments {
    /// Sequences of these lengths, in this order.
    pub fn new(lengths: &[usize]) -> Result<Self, SegmentsError> {
        if lengths.is_empty() {
            return Err(SegmentsError::NoSequence);
        }
        let mut bounds = vec![0];
        let mut end = 0;
        for (index, &length) in lengths.iter().enumerate() {
            match length {
                0 => return Err(SegmentsError::Empty { index }),
                _ if u32::try_from(length).is_err() => return Err(SegmentsError::TooLong { index, length }),
                _ => end += length,
            }
            bounds.push(end);
        }
        Ok(Self { bounds })
    }

    /// How many tokens the batch has.
    pub fn tokens(&self) -> usize {
        self.bounds.last().copied().unwrap_or_default()
    }

    /// The tokens of each sequence.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.bounds.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The position of each token in its own sequence, from 0.
    pub fn positions(&self) -> Vec<u32> {
        self.ranges().flat_map(|range| (0..).take(range.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_restart_with_every_sequence() {
        let segments = Segments::new(&[3, 1, 2]).unwrap();
        assert_eq!(segments.tokens(), 6);
        assert_eq!(segments.positions(), [0, 1, 2, 0, 0, 1]);
        assert_eq!(segments.ranges().collect::<Vec<_>>(), [0..3, 3..4, 4..6]);
    }

    #[test]
    fn an_empty_sequence_and_an_empty_batch_are_refused() {
        assert_eq!(Segments::new(&[]), Err(SegmentsError::NoSequence));
        assert_eq!(Segments::new(&[4, 0]), Err(SegmentsError::Empty { index: 1 }));
    }
}
