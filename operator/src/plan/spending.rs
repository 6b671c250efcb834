//! What the next batch of a run may spend: its part of what the budget has left, fixed before it is made, so that all batches together never exceed
//! the budget whatever each of them does; and when the time for spending is over.

use jiff::{SignedDuration, Timestamp};
use sera_crds::{
    contract::BudgetSlice,
    values::{Stage, Usd},
};

use super::record::{Generation, Record, Slice};

/// What a batch may spend, and for how many samples that is enough by the mean of those before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Allowance {
    pub slice: Slice,
    pub samples: Option<u64>,
}

/// The allowance of the next batch, of which `parallel` may be under way; none where what is left is not enough for a sample.
pub(super) fn next(budget: &BudgetSlice, generation: &Generation, parallel: u32) -> Option<Allowance> {
    let under_way = u32::try_from(generation.batches.len()).unwrap_or(u32::MAX);
    let parts = parallel.saturating_sub(under_way).max(1);
    let spent = &generation.folded.totals;
    let attempted = spent.attempted.saturating_sub(generation.folded.adopted.into());
    let reserved = |slice: &Slice| slice.max_tokens.unwrap_or_default();
    let tokens = budget.max_tokens.map(|most| {
        let reserved = generation.batches.iter().map(|batch| reserved(&batch.slice)).fold(0, u64::saturating_add);
        most.saturating_sub(spent.tokens).saturating_sub(reserved) / u64::from(parts)
    });
    let cost = budget.max_cost.as_ref().map(|most| {
        let reserved = generation.batches.iter().filter_map(|batch| batch.slice.max_cost.as_ref());
        let left = spent.cost.iter().chain(reserved).fold(most.clone(), |left, taken| left.minus(taken));
        left.divided(parts)
    });
    let samples = [
        tokens.map(|tokens| affordable(tokens, spent.tokens, attempted)),
        cost.as_ref()
            .map(|cost| affordable(cost.millionths(), spent.cost.as_ref().map_or(0, Usd::millionths), attempted)),
    ];
    let samples = samples.into_iter().flatten().min();
    (samples != Some(0)).then_some(Allowance { slice: Slice { max_cost: cost, max_tokens: tokens }, samples })
}

/// When the time of a stage that may take so long is over; none before it began, while its object is suspended, and where there is no such limit.
pub fn last_moment(record: &Record, stage: Stage, longest: Option<SignedDuration>) -> Option<Timestamp> {
    let began = record.times.get(&stage)?.began;
    let paused = record.generation.as_ref().map(|generation| generation.paused).unwrap_or_default();
    let longest = longest.filter(|_| paused.since.is_none())?;
    let paused = SignedDuration::from_secs(i64::try_from(paused.seconds).unwrap_or(i64::MAX));
    Some(began.saturating_add(longest.saturating_add(paused)).unwrap_or(Timestamp::MAX))
}

/// For how many samples an amount is enough, where `attempted` of them took `spent`; unknown before the first, which may try.
fn affordable(amount: u64, spent: u64, attempted: u64) -> u64 {
    match (amount, spent.checked_div(attempted).filter(|mean| *mean > 0)) {
        (0, _) => 0,
        (_, None) => u64::MAX,
        (amount, Some(mean)) => amount / mean,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sera_crds::run::GenerationTotals;

    use super::*;
    use crate::plan::record::Batch;

    fn tokens(most: u64) -> BudgetSlice {
        BudgetSlice { max_tokens: Some(most), ..BudgetSlice::default() }
    }

    fn batch(number: u32, slice: Slice) -> Batch {
        Batch { number, from: 0, count: 1, uid: None, slice }
    }

    #[test]
    fn without_a_budget_nothing_is_limited() {
        let allowance = next(&BudgetSlice::default(), &Generation::default(), 2).unwrap();
        assert_eq!(allowance, Allowance { slice: Slice::default(), samples: None });
    }

    #[test]
    fn what_is_left_is_divided_among_the_batches_that_may_still_begin() {
        let mut generation = Generation::default();
        let first = next(&tokens(900), &generation, 3).unwrap().slice;
        assert_eq!(first.max_tokens, Some(300));
        generation.batches.push(batch(1, first));
        assert_eq!(next(&tokens(900), &generation, 3).unwrap().slice.max_tokens, Some(300));
    }

    #[test]
    fn a_batch_is_no_larger_than_its_slice_lets_it_be_and_none_begins_below_one_sample() {
        let mut generation = Generation::default();
        generation.folded.totals = GenerationTotals { attempted: 10, tokens: 1_000, ..GenerationTotals::default() };
        assert_eq!(next(&tokens(1_350), &generation, 1).unwrap().samples, Some(3));
        assert_eq!(next(&tokens(1_099), &generation, 1), None);
        assert_eq!(next(&tokens(1_000), &generation, 1), None);
    }

    #[test]
    fn money_is_divided_like_tokens() {
        let usd = |text: &str| text.parse::<Usd>().unwrap();
        let budget = BudgetSlice { max_cost: Some(usd("10")), ..BudgetSlice::default() };
        let mut generation = Generation::default();
        generation.folded.totals =
            GenerationTotals { attempted: 4, cost: Some(usd("4")), ..GenerationTotals::default() };
        let allowance = next(&budget, &generation, 2).unwrap();
        assert_eq!((allowance.slice.max_cost, allowance.samples), (Some(usd("3")), Some(3)));
    }

    proptest! {
        #[test]
        fn whatever_batches_spend_of_their_slices_the_budget_holds(
            most in 1_u64..100_000, parallel in 1_u32..8, spends in proptest::collection::vec(0_u64..=100, 1..200),
        ) {
            let mut generation = Generation::default();
            for (number, percent) in (1_u32..).zip(spends) {
                while generation.batches.len() < parallel as usize {
                    let Some(allowance) = next(&tokens(most), &generation, parallel) else { break };
                    generation.batches.push(batch(number, allowance.slice));
                }
                if generation.batches.is_empty() {
                    break;
                }
                let done = generation.batches.remove(0);
                generation.folded.totals.tokens += done.slice.max_tokens.unwrap() * percent / 100;
                generation.folded.totals.attempted += 1;
                prop_assert!(generation.folded.totals.tokens <= most);
            }
        }
    }
}
