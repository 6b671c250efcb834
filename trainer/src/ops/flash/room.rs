//! What `FlashAttention`'s backward needs of a GPU's memory beside its results, counted as the library counts it.

/// The most rows of queries that a block has: sequences lie that far apart in what blocks add to.
const APART: u64 = 128;

/// How many f32 there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Σ gy · y of each query.
    pub sums: u64,
    /// The parts of the queries' gradient: blocks add to as many copies of it as it takes for an order that is always the same.
    pub parts: u64,
}

impl Room {
    /// Of `tokens` in so many `sequences`, with `heads` of `size` values, on a GPU of so many multiprocessors.
    pub fn of(tokens: u64, sequences: u64, heads: u64, size: u64, multiprocessors: u64) -> Self {
        let copies = multiprocessors.div_ceil((sequences * heads).max(1));
        let sums = heads * (tokens + APART * sequences);
        Self { sums, parts: copies * sums * size.next_multiple_of(32) }
    }

    /// The most that a batch of so many tokens can need, in at most so many sequences.
    pub fn most(tokens: u64, sequences: u64, heads: u64, size: u64, multiprocessors: u64) -> Self {
        let rooms = (1..=sequences.max(1)).map(|count| Self::of(tokens, count, heads, size, multiprocessors));
        rooms.fold(Self { sums: 0, parts: 0 }, |most, room| Self {
            sums: most.sums.max(room.sums),
            parts: most.parts.max(room.parts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_counted_as_the_library_counts_it() {
        // The batch of parameters_test.cpp: 132 multiprocessors over 3 × 16 blocks are three copies.
        assert_eq!(Room::of(460, 3, 16, 96, 132), Room { sums: 844 * 16, parts: 3 * 844 * 16 * 96 });
        assert_eq!(Room::of(32_768, 1, 32, 128, 132), Room { sums: 32_896 * 32, parts: 5 * 32_896 * 32 * 128 });
    }

    #[test]
    fn more_sequences_are_more_rows_and_fewer_copies() {
        let [one, two, many] = [1, 2, 200].map(|sequences| Room::of(4096, sequences, 16, 64, 132));
        assert!(two.parts < one.parts && many.parts > two.parts && many.sums > one.sums);
        let most = Room::most(4096, 200, 16, 64, 132);
        assert_eq!((most.sums, most.parts), (many.sums, one.parts.max(many.parts)));
    }
}
