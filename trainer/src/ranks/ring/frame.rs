//! What precedes the numbers on their way around the ring: which collective they belong to, and which part of it. What they are is not said here.

use std::fmt;

/// The length of a header in bytes.
pub(super) const HEADER: usize = 32;
/// The most bytes behind a header: some of them fit a processor's second cache, and a header costs nothing beside them.
pub(super) const MAX_PIECE: usize = 256 * 1024;

/// How a header begins: the ring's frames, first version.
const MAGIC: [u8; 4] = *b"SRF1";

/// What ranks do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    AllReduce,
    AllReduceF64,
    ReduceScatter,
    AllGather,
    Broadcast,
    Barrier,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::AllReduce, Self::AllReduceF64, Self::ReduceScatter, Self::AllGather, Self::Broadcast, Self::Barrier];

    /// Its name, as the trait has it.
    pub(in super::super) const fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all_reduce",
            Self::AllReduceF64 => "all_reduce_f64",
            Self::ReduceScatter => "reduce_scatter",
            Self::AllGather => "all_gather",
            Self::Broadcast => "broadcast",
            Self::Barrier => "barrier",
        }
    }

    fn code(self) -> u8 {
        Self::ALL.iter().zip(0..).find(|(kind, _)| **kind == self).map_or(u8::MAX, |(_, code)| code)
    }
}

/// What the numbers of a frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Sums over the ranks so far.
    Partial,
    /// What all shall have.
    Whole,
    /// How many bytes are to come; the header's total is the rank that they come from.
    Length,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Partial, Self::Whole, Self::Length];

    fn code(self) -> u8 {
        Self::ALL.iter().zip(0..).find(|(stage, _)| **stage == self).map_or(u8::MAX, |(_, code)| code)
    }
}

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) stage: Stage,
    /// How many collectives were begun before this one.
    pub(super) number: u64,
    /// How many bytes the collective is about.
    pub(super) total: u64,
    /// Which piece of them follows.
    pub(super) piece: u32,
    /// How many bytes that is.
    pub(super) length: u32,
}

/// Bytes that are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame that begins with the bytes {0:02x?}")]
    Magic([u8; 4]),
    #[error("a frame of the collective {0}, which there is not")]
    Kind(u8),
    #[error("a frame of the stage {0}, which there is not")]
    Stage(u8),
    #[error("a frame of {0} bytes, where {MAX_PIECE} are the most")]
    Length(u32),
}

impl Frame {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind.code();
        bytes[5] = self.stage.code();
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.total.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.piece.to_le_bytes());
        bytes[28..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; HEADER]) -> Result<Self, FrameError> {
        let magic = part(bytes, 0);
        if magic != MAGIC {
            return Err(FrameError::Magic(magic));
        }
        let kind = Kind::ALL.get(usize::from(bytes[4])).ok_or(FrameError::Kind(bytes[4]))?;
        let stage = Stage::ALL.get(usize::from(bytes[5])).ok_or(FrameError::Stage(bytes[5]))?;
        let length = u32::from_le_bytes(part(bytes, 28));
        if usize::try_from(length).map_or(true, |length| length > MAX_PIECE) {
            return Err(FrameError::Length(length));
        }
        Ok(Self {
            kind: *kind,
            stage: *stage,
            number: u64::from_le_bytes(part(bytes, 8)),
            total: u64::from_le_bytes(part(bytes, 16)),
            piece: u32::from_le_bytes(part(bytes, 24)),
            length,
        })
    }
}

fn part<const N: usize>(bytes: &[u8; HEADER], from: usize) -> [u8; N] {
    std::array::from_fn(|at| bytes[from + at])
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, stage, number, total, piece, length } = self;
        let name = kind.name();
        match stage {
            Stage::Partial => {
                write!(f, "{name} number {number} of {total} bytes (sums of {length} of them, piece {piece})")
            }
            Stage::Whole => write!(f, "{name} number {number} of {total} bytes ({length} of them, piece {piece})"),
            Stage::Length => write!(f, "{name} number {number} from rank {total}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let most = u32::try_from(MAX_PIECE).unwrap();
        (0..6usize, 0..3usize, any::<u64>(), any::<u64>(), any::<u32>(), 0..=most).prop_map(
            |(kind, stage, number, total, piece, length)| Frame {
                kind: Kind::ALL[kind],
                stage: Stage::ALL[stage],
                number,
                total,
                piece,
                length,
            },
        )
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_written(frame in frames()) {
            prop_assert_eq!(Frame::parse(&frame.encode()), Ok(frame));
        }

        #[test]
        fn bytes_that_are_read_are_within_bounds(frame in frames(), at in 0..HEADER, byte in any::<u8>()) {
            let mut bytes = frame.encode();
            bytes[at] = byte;
            if let Ok(read) = Frame::parse(&bytes) {
                prop_assert!(usize::try_from(read.length).unwrap() <= MAX_PIECE);
            }
        }

        #[test]
        fn any_bytes_are_refused_that_do_not_begin_as_a_header(bytes in any::<[u8; HEADER]>()) {
            prop_assume!(bytes[..4] != MAGIC);
            prop_assert!(matches!(Frame::parse(&bytes), Err(FrameError::Magic(_))));
        }
    }

    #[test]
    fn what_a_header_may_not_say_is_named() {
        let frame = Frame { kind: Kind::Barrier, stage: Stage::Whole, number: 0, total: 0, piece: 0, length: 0 };
        let spoilt = |at: usize, byte: u8| {
            let mut bytes = frame.encode();
            bytes[at] = byte;
            Frame::parse(&bytes)
        };
        assert_eq!(spoilt(4, 6), Err(FrameError::Kind(6)));
        assert_eq!(spoilt(5, 3), Err(FrameError::Stage(3)));
        assert_eq!(spoilt(31, 1), Err(FrameError::Length(1 << 24)));
    }
}
