//! How counts add up: what a verification found as totals of a batch, batches as totals of a run, and what tokens cost.

use std::collections::BTreeMap;

use sera_crds::{
    contract::{TokenPrice, Usage, VerificationCounts},
    run::GenerationTotals,
    values::{Ratio, Usd},
};

/// How many reasons of rejection a status lists; the API's own bound.
const MOST_REASONS: usize = 16;
/// The largest count that the API takes.
const MOST: u64 = (1 << 53) - 1;

/// Whether `samples` samples may come to this: what a pod says of itself is checked before it is believed.
pub(super) fn are_possible(counts: &VerificationCounts, samples: u64) -> bool {
    let VerificationCounts { attempted, accepted_first, accepted_second, .. } = counts;
    let measured = counts.recalls().measured;
    *attempted <= samples && [*accepted_first, *accepted_second, measured].iter().all(|count| count <= attempted)
}

/// What a verification counted, as totals. What was spent is spent: a new verdict on old samples costs nothing, and a new price changes nothing.
pub(super) fn counted(
    counts: &VerificationCounts,
    price: Option<&TokenPrice>,
    before: &GenerationTotals,
) -> GenerationTotals {
    let Usage { prompt_tokens, cached_tokens, completion_tokens, .. } = counts.usage;
    let tokens = prompt_tokens.saturating_add(completion_tokens);
    let is_spent_already = before.tokens >= tokens && before.cost.is_some();
    GenerationTotals {
        attempted: within(counts.attempted).max(before.attempted),
        tokens: within(tokens).max(before.tokens),
        cached_tokens: within(cached_tokens).max(before.cached_tokens),
        output_tokens: within(completion_tokens).max(before.output_tokens),
        cost: if is_spent_already { before.cost.clone() } else { price.map(|price| cost(counts.usage, price)) },
        ..judged(counts)
    }
}

/// The part of the totals that a policy decides.
fn judged(counts: &VerificationCounts) -> GenerationTotals {
    let (first, second) = (within(counts.accepted_first), within(counts.accepted_second));
    let measured = counts.recalls().measured;
    GenerationTotals {
        accepted: within(first + second),
        accepted_first: first,
        accepted_second: second,
        rejected: counts.rejected.iter().take(MOST_REASONS).map(|(why, count)| (why.clone(), within(*count))).collect(),
        recall_histogram: counts.recall_histogram.iter().copied().map(within).collect(),
        recall: Ratio::of(counts.recall_millionths, measured.saturating_mul(1_000_000)),
        ..GenerationTotals::default()
    }
}

/// Totals with the part of them that a policy decides counted anew.
pub(super) fn judged_anew(totals: &GenerationTotals, counts: &VerificationCounts) -> GenerationTotals {
    GenerationTotals {
        attempted: totals.attempted,
        tokens: totals.tokens,
        cached_tokens: totals.cached_tokens,
        output_tokens: totals.output_tokens,
        cost: totals.cost.clone(),
        ..judged(counts)
    }
}

/// The totals of two together.
pub(super) fn sum(one: &GenerationTotals, other: &GenerationTotals) -> GenerationTotals {
    let add = |one: u64, other: u64| within(one.saturating_add(other));
    let mut rejected: BTreeMap<String, u64> = one.rejected.clone();
    for (why, count) in &other.rejected {
        if rejected.contains_key(why) || rejected.len() < MOST_REASONS {
            let known = rejected.entry(why.clone()).or_default();
            *known = add(*known, *count);
        }
    }
    let bins = one.recall_histogram.len().max(other.recall_histogram.len());
    let bin = |totals: &GenerationTotals, at: usize| totals.recall_histogram.get(at).copied().unwrap_or_default();
    GenerationTotals {
        attempted: add(one.attempted, other.attempted),
        accepted: add(one.accepted, other.accepted),
        accepted_first: add(one.accepted_first, other.accepted_first),
        accepted_second: add(one.accepted_second, other.accepted_second),
        rejected,
        recall_histogram: (0..bins).map(|at| add(bin(one, at), bin(other, at))).collect(),
        recall: mean_recall(one, other),
        tokens: add(one.tokens, other.tokens),
        cached_tokens: add(one.cached_tokens, other.cached_tokens),
        output_tokens: add(one.output_tokens, other.output_tokens),
        cost: match (&one.cost, &other.cost) {
            (Some(one), Some(other)) => Some(one.plus(other)),
            (one, other) => one.clone().or_else(|| other.clone()),
        },
    }
}

/// The mean of two means, each by the number of samples that it stands for.
fn mean_recall(one: &GenerationTotals, other: &GenerationTotals) -> Option<Ratio> {
    let measured = |totals: &GenerationTotals| totals.recall_histogram.iter().copied().fold(0, u64::saturating_add);
    let sum = |totals: &GenerationTotals| {
        totals.recall.as_ref().map_or(0, |mean| mean.part_of(measured(totals).saturating_mul(1_000_000)))
    };
    let all = measured(one).saturating_add(measured(other));
    Ratio::of(sum(one).saturating_add(sum(other)), all.saturating_mul(1_000_000))
}

/// What tokens cost. Tokens that are cached are among those that are read, and have a price of their own.
pub(super) fn cost(usage: Usage, price: &TokenPrice) -> Usd {
    let fresh = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    [
        (fresh, &price.input_per_million),
        (usage.cached_tokens, &price.cached_input_per_million),
        (usage.completion_tokens, &price.output_per_million),
    ]
    .into_iter()
    .fold(Usd::rounded(0.into()), |sum, (tokens, price)| sum.plus(&price.of_millionths(tokens)))
}

/// The count, or the largest one that the API takes.
pub(super) fn within(count: u64) -> u64 {
    count.min(MOST)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_more_samples_than_there_are_would_have_made_is_not_believed() {
        let counts =
            VerificationCounts { attempted: 8, accepted_first: 8, accepted_second: 3, ..VerificationCounts::default() };
        assert!(are_possible(&counts, 8) && !are_possible(&counts, 7));
        let forged = VerificationCounts { recall_histogram: [u64::MAX; 10], ..counts.clone() };
        assert!(!are_possible(&forged, 8));
        assert!(!are_possible(&VerificationCounts { accepted_first: 9, ..counts }, 8));
    }

    use super::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    fn price() -> TokenPrice {
        TokenPrice {
            input_per_million: usd("0.60"),
            cached_input_per_million: usd("0.11"),
            output_per_million: usd("2.20"),
        }
    }

    /// What the paper says of one accepted trajectory: 749 K cached, 24 K new and 7.7 K written tokens.
    fn counts(attempted: u64, first: u64, second: u64) -> VerificationCounts {
        VerificationCounts {
            attempted,
            accepted_first: first,
            accepted_second: second,
            rejected: BTreeMap::from([("BelowThreshold".into(), attempted - second)]),
            recall_histogram: [0, 0, 0, 0, 0, 0, 0, 0, attempted - second, second],
            recall_millionths: (attempted - second) * 850_000 + second * 950_000,
            usage: Usage { calls: 35, prompt_tokens: 773_000, cached_tokens: 749_000, completion_tokens: 7_700 },
            ..VerificationCounts::default()
        }
    }

    #[test]
    fn cached_tokens_cost_their_own_price_and_are_not_paid_twice() {
        let totals = counted(&counts(4, 3, 1), Some(&price()), &GenerationTotals::default());
        // 24,000 × 0.60 + 749,000 × 0.11 + 7,700 × 2.20, a million.
        assert_eq!(totals.cost, Some(usd("0.11373")));
        assert_eq!((totals.tokens, totals.cached_tokens, totals.output_tokens), (780_700, 749_000, 7_700));
        assert_eq!(counted(&counts(4, 3, 1), None, &GenerationTotals::default()).cost, None);
    }

    #[test]
    fn another_verdict_changes_what_is_accepted_and_nothing_that_was_spent() {
        let before = counted(&counts(4, 3, 1), Some(&price()), &GenerationTotals::default());
        let dearer = TokenPrice { output_per_million: usd("99"), ..price() };
        let after = counted(&counts(4, 3, 3), Some(&dearer), &before);
        assert_eq!((after.accepted_second, after.cost.clone(), after.tokens), (3, before.cost.clone(), before.tokens));
        assert_eq!(judged_anew(&before, &counts(4, 3, 3)), after);
    }

    #[test]
    fn totals_add_up_and_the_mean_is_by_samples() {
        let empty = GenerationTotals::default();
        let one = counted(&counts(4, 3, 1), Some(&price()), &empty);
        let other = counted(&counts(12, 2, 9), Some(&price()), &empty);
        let both = sum(&one, &other);
        assert_eq!((both.attempted, both.accepted, both.accepted_first, both.accepted_second), (16, 15, 5, 10));
        assert_eq!(both.rejected["BelowThreshold"], 6);
        assert_eq!(both.recall_histogram[8..], [6, 10]);
        assert_eq!(both.recall.clone().unwrap().as_str(), "0.9125");
        assert_eq!(both.cost, Some(usd("0.22746")));
        assert_eq!(sum(&empty, &one), one, "nothing is a beginning");
    }
}
