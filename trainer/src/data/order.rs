//! Which lines each step sees, and which of them each rank works on. A pure function of the seed, the step and the lines' lengths: a checkpoint's
//! step is all that has to be known to go on.

/// The order of a whole training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    lines: usize,
    global_batch: usize,
    epochs: u32,
    seed: u64,
}

/// An order that cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrderError {
    /// One of the numbers is zero.
    #[error("{0} is 0: nothing would be trained")]
    Nothing(&'static str),
    /// More steps than are counted.
    #[error("{epochs} epochs of {lines} lines are more steps than can be counted: lower `epochs`")]
    TooMany {
        /// How often every line is to be seen.
        epochs: u32,
        /// How many lines there are.
        lines: usize,
    },
}

impl Order {
    /// The order of `epochs` passes over `lines` lines, `global_batch` of them a step.
    pub fn new(lines: usize, global_batch: u32, epochs: u32, seed: u64) -> Result<Self, OrderError> {
        let global_batch = usize::try_from(global_batch).unwrap_or(usize::MAX);
        for (name, value) in
            [("the number of lines", lines), ("`globalBatch`", global_batch), ("`epochs`", epochs as usize)]
        {
            if value == 0 {
                return Err(OrderError::Nothing(name));
            }
        }
        let a_pass = u32::try_from(lines.div_ceil(global_batch)).ok();
        let steps = a_pass.and_then(|a_pass| a_pass.checked_mul(epochs));
        steps.map(|_| Self { lines, global_batch, epochs, seed }).ok_or(OrderError::TooMany { epochs, lines })
    }

    /// How many steps there are in all: those of a pass, its last and shorter batch included, times the passes.
    pub fn steps(&self) -> u32 {
        u32::try_from(self.a_pass()).unwrap_or(u32::MAX).saturating_mul(self.epochs)
    }

    /// The lines of step `step`, counted from 1, in order: the same whatever the number of ranks. None after the last step.
    pub fn batch(&self, step: u32) -> Vec<usize> {
        if step == 0 || step > self.steps() {
            return Vec::new();
        }
        let done = (step - 1) as usize;
        let (epoch, batch) = (done / self.a_pass(), done % self.a_pass());
        let order = shuffled(self.lines, self.seed, epoch as u64);
        let begin = batch * self.global_batch;
        order[begin..self.lines.min(begin.saturating_add(self.global_batch))].to_vec()
    }

    fn a_pass(&self) -> usize {
        self.lines.div_ceil(self.global_batch)
    }
}

/// Which of a batch's lines rank `rank` works on. The longest line goes to the rank that has the least, and so on down, so that none waits long for
/// the others; `length` says how many tokens a line has.
pub fn share(batch: &[usize], length: impl Fn(usize) -> usize, rank: usize, world: usize) -> Vec<usize> {
    let mut longest_first: Vec<usize> = (0..batch.len()).collect();
    longest_first.sort_by_key(|position| (std::cmp::Reverse(length(batch[*position])), *position));
    let mut loads = vec![0usize; world.max(1)];
    let mut mine = Vec::new();
    for position in longest_first {
        let lightest = (0..loads.len()).min_by_key(|rank| (loads[*rank], *rank)).unwrap_or_default();
        loads[lightest] += length(batch[position]);
        if lightest == rank {
            mine.push(position);
        }
    }
    mine.sort_unstable();
    mine.into_iter().map(|position| batch[position]).collect()
}

/// The numbers below `count` in an order that `seed` and `epoch` decide (Fisher and Yates).
fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    // Two seeds that differ by little, or two epochs of one, have nothing in common after a round each.
    let mut random = SplitMix(SplitMix(seed).next() ^ SplitMix(epoch).next().rotate_left(32));
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, random.below(last as u64 + 1));
    }
    order
}

/// `SplitMix64` (Steele, Lea and Flood, 2014): ours, so that no library's next release puts another order under an old checkpoint.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`: the upper half of a product, which favours none by more than `limit` in 2⁶⁴.
    fn below(&mut self, limit: u64) -> usize {
        let product = u128::from(self.next()) * u128::from(limit);
        usize::try_from(product >> 64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(lines: usize, global_batch: u32, epochs: u32) -> Order {
        Order::new(lines, global_batch, epochs, 42).unwrap()
    }

    #[test]
    fn every_epoch_sees_every_line_once_and_the_last_batch_is_kept_though_it_is_short() {
        let order = order(10, 4, 3);
        assert_eq!(order.steps(), 9);
        let mut orders = Vec::new();
        for epoch in 0..3 {
            let batches: Vec<Vec<usize>> = (1..=3).map(|batch| order.batch(epoch * 3 + batch)).collect();
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
            orders.push(batches.concat());
        }
        for seen in &orders {
            let mut sorted = seen.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert!(orders[0] != orders[1] && orders[1] != orders[2], "each epoch has its own order");
        assert_eq!((order.batch(0), order.batch(10)), (vec![], vec![]));
    }

    #[test]
    fn the_order_is_part_of_a_checkpoint_and_never_changes() {
        assert_eq!(shuffled(10, 42, 0), [2, 7, 1, 8, 4, 9, 3, 5, 6, 0]);
        assert_ne!(shuffled(10, 42, 0), shuffled(10, 43, 0));
        assert_ne!(shuffled(10, 0, 1), shuffled(10, 1, 0), "a seed and an epoch are not the same");
        // The generator's published first values from the seed 1234567.
        let mut random = SplitMix(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn nothing_to_train_and_too_much_are_refused() {
        assert_eq!(Order::new(0, 4, 3, 0), Err(OrderError::Nothing("the number of lines")));
        assert_eq!(Order::new(1, 0, 3, 0), Err(OrderError::Nothing("`globalBatch`")));
        assert_eq!(Order::new(1, 4, 0, 0), Err(OrderError::Nothing("`epochs`")));
        assert!(matches!(Order::new(70_000, 1, 70_000, 0), Err(OrderError::TooMany { .. })));
    }

    #[test]
    fn a_long_line_has_a_rank_to_itself() {
        let lengths = [10, 1000, 20, 30];
        let shares: Vec<Vec<usize>> = (0..2).map(|rank| share(&[0, 1, 2, 3], |line| lengths[line], rank, 2)).collect();
        assert_eq!(shares, [vec![1], vec![0, 2, 3]]);
    }

    proptest! {
        #[test]
        fn the_ranks_together_have_the_batch_and_none_has_much_more_than_its_part(
            lengths in prop::collection::vec(1usize..500, 1..40), world in 1usize..6
        ) {
            let batch: Vec<usize> = (0..lengths.len()).rev().collect();
            let shares: Vec<Vec<usize>> = (0..world).map(|rank| share(&batch, |line| lengths[line], rank, world)).collect();
            let mut all = shares.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            let loads = shares.iter().map(|share| share.iter().map(|line| lengths[*line]).sum::<usize>());
            let longest = lengths.iter().max().unwrap();
            prop_assert!(loads.max().unwrap() <= lengths.iter().sum::<usize>() / world + longest);
        }
    }
}
