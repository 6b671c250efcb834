//! Numbers as bytes, little endian, and back. Which of them go where is the schedule's.

use std::ops::Range;

/// What is done with numbers that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// They are added to this rank's.
    Add,
    /// They take the place of this rank's.
    Put,
}

/// What a collective is about.
pub(super) trait Payload {
    /// How many bytes an element has.
    const WIDTH: usize;

    /// How many elements there are.
    fn total(&self) -> usize;

    /// Appends these elements' bytes.
    fn stage(&self, range: Range<usize>, bytes: &mut Vec<u8>);

    /// Takes in the bytes of these elements.
    fn take(&mut self, range: Range<usize>, how: Take, bytes: &[u8]);
}

impl Payload for &mut [f32] {
    const WIDTH: usize = size_of::<f32>();

    fn total(&self) -> usize {
        self.len()
    }

    fn stage(&self, range: Range<usize>, bytes: &mut Vec<u8>) {
        let from = bytes.len();
        bytes.resize(from + range.len() * Self::WIDTH, 0);
        let (slots, _) = bytes[from..].as_chunks_mut();
        slots.iter_mut().zip(&self[range]).for_each(|(slot, value)| *slot = value.to_le_bytes());
    }

    fn take(&mut self, range: Range<usize>, how: Take, bytes: &[u8]) {
        let came = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let pairs = self[range].iter_mut().zip(came);
        match how {
            Take::Add => pairs.for_each(|(value, came)| *value += came),
            Take::Put => pairs.for_each(|(value, came)| *value = came),
        }
    }
}

impl Payload for &mut [f64] {
    const WIDTH: usize = size_of::<f64>();

    fn total(&self) -> usize {
        self.len()
    }

    fn stage(&self, range: Range<usize>, bytes: &mut Vec<u8>) {
        self[range].iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    }

    fn take(&mut self, range: Range<usize>, how: Take, bytes: &[u8]) {
        let came = bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
        let pairs = self[range].iter_mut().zip(came);
        match how {
            Take::Add => pairs.for_each(|(value, came)| *value += came),
            Take::Put => pairs.for_each(|(value, came)| *value = came),
        }
    }
}

/// Bytes that are handed out: where they come from another rank, memory is taken as they come, whatever length was announced.
#[derive(Debug)]
pub(super) struct Bytes<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) total: usize,
}

impl Payload for Bytes<'_> {
    const WIDTH: usize = 1;

    fn total(&self) -> usize {
        self.total
    }

    fn stage(&self, range: Range<usize>, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.bytes[range]);
    }

    fn take(&mut self, range: Range<usize>, _: Take, bytes: &[u8]) {
        self.bytes.truncate(range.start);
        self.bytes.extend_from_slice(bytes);
    }
}
