//! What one process may spend at its teacher, counted as it is spent: in tokens, in dollars where a price is known, and in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rust_decimal::Decimal;
use sera_crds::contract::{BudgetSlice, TokenPrice, Usage};
use sera_crds::values::Usd;

/// Prices are given for this many tokens.
const PRICED_TOKENS: u64 = 1_000_000;
/// Dollars are told to this many decimal places.
const PLACES: u32 = 6;

/// A budget and what is gone of it. It is looked at before each call, so that what is passed is at most one answer of each rollout under way.
#[derive(Debug)]
pub(crate) struct Budget {
    slice: BudgetSlice,
    spent: Mutex<Usage>,
}

impl Budget {
    pub(crate) fn new(slice: BudgetSlice) -> Self {
        Self { slice, spent: Mutex::default() }
    }

    /// Counts what a call took, or what an earlier process has spent.
    pub(crate) fn spend(&self, usage: Usage) {
        *self.lock() += usage;
    }

    /// Everything that was spent.
    pub(crate) fn spent(&self) -> Usage {
        *self.lock()
    }

    /// What that cost; none where no price is known.
    pub(crate) fn cost(&self) -> Option<Usd> {
        let cost = cost(self.spent(), self.slice.price.as_ref()?).round_dp(PLACES).normalize();
        cost.to_string().parse().ok()
    }

    /// Whether a limit is reached.
    pub(crate) fn is_spent(&self) -> bool {
        let spent = self.spent();
        let tokens = spent.prompt_tokens.saturating_add(spent.completion_tokens);
        let too_many = self.slice.max_tokens.is_some_and(|most| tokens >= most);
        let too_dear = match (&self.slice.max_cost, &self.slice.price) {
            (Some(most), Some(price)) => cost(spent, price) >= most.value(),
            _ => false,
        };
        let too_late = self.slice.until.is_some_and(|until| Timestamp::now() >= until);
        too_many || too_dear || too_late
    }

    /// Whether a limit is kept by what the teacher counts, and it has counted nothing yet.
    fn lacks_counts(&self) -> bool {
        let spent = *self.lock();
        let is_limited = self.slice.max_tokens.is_some() || self.slice.max_cost.is_some();
        is_limited && spent.prompt_tokens == 0 && spent.completion_tokens == 0
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was spent on one sample, and whether at a rehearsal.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    usage: Mutex<Usage>,
    rehearsal: AtomicBool,
}

impl Tally {
    /// All of it so far.
    pub(crate) fn total(&self) -> Usage {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a call took.
    pub(crate) fn add(&self, usage: Usage) {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) += usage;
    }

    /// Whether a rehearsal took any of it.
    pub(crate) fn is_a_rehearsals(&self) -> bool {
        self.rehearsal.load(Ordering::Relaxed)
    }

    /// Says whether the one that it is spent at is a rehearsal; once said, it stays so.
    pub(crate) fn mark(&self, rehearsal: bool) {
        self.rehearsal.fetch_or(rehearsal, Ordering::Relaxed);
    }
}

/// What the calls for one sample are paid from: the process's budget, and written on the sample's own tally.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purse<'a> {
    pub(crate) budget: &'a Budget,
    pub(crate) tally: &'a Tally,
}

impl Purse<'_> {
    /// Counts what a call took.
    pub(crate) fn spend(&self, usage: Usage) {
        self.budget.spend(usage);
        self.tally.add(usage);
    }

    /// Whether nothing is left of the budget.
    pub(crate) fn is_spent(&self) -> bool {
        self.budget.is_spent()
    }

    /// Whether a limit of it is kept by what the teacher counts, and it has counted nothing yet.
    pub(crate) fn lacks_counts(&self) -> bool {
        self.budget.lacks_counts()
    }
}

/// What tokens cost in dollars; those that the prefix cache held have a price of their own.
fn cost(usage: Usage, price: &TokenPrice) -> Decimal {
    let fresh = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let parts = [
        (fresh, &price.input_per_million),
        (usage.cached_tokens, &price.cached_input_per_million),
        (usage.completion_tokens, &price.output_per_million),
    ];
    parts.into_iter().map(|(tokens, price)| Decimal::from(tokens) * price.value()).sum::<Decimal>()
        / Decimal::from(PRICED_TOKENS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(max_cost: Option<&str>, max_tokens: Option<u64>) -> Budget {
        let price = TokenPrice {
            input_per_million: "0.60".parse().unwrap(),
            cached_input_per_million: "0.11".parse().unwrap(),
            output_per_million: "2.20".parse().unwrap(),
        };
        Budget::new(BudgetSlice {
            max_cost: max_cost.map(|cost| cost.parse().unwrap()),
            max_tokens,
            price: Some(price),
            until: None,
        })
    }

    fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
        Usage { calls: 1, prompt_tokens: prompt, cached_tokens: cached, completion_tokens: completion }
    }

    #[test]
    fn a_trajectory_of_the_papers_size_costs_what_its_prices_say() {
        let budget = budget(None, None);
        budget.spend(usage(773_000, 749_000, 7_700));
        // 24,000 × 0.60 + 749,000 × 0.11 + 7,700 × 2.20 for a million each.
        assert_eq!(budget.cost().unwrap().as_str(), "0.11373");
        assert!(!budget.is_spent());
    }

    #[test]
    fn a_limit_is_reached_at_the_very_token_and_cent() {
        let tokens = budget(None, Some(110));
        tokens.spend(usage(100, 90, 9));
        assert!(!tokens.is_spent());
        tokens.spend(usage(1, 0, 0));
        assert!(tokens.is_spent());

        let cost = budget(Some("0.6"), None);
        cost.spend(usage(999_999, 0, 0));
        assert!(!cost.is_spent());
        cost.spend(usage(1, 0, 0));
        assert!(cost.is_spent());
    }

    #[test]
    fn without_a_price_only_tokens_count() {
        let budget = Budget::new(BudgetSlice { max_cost: Some("0.01".parse().unwrap()), ..BudgetSlice::default() });
        budget.spend(usage(1 << 40, 0, 0));
        assert!(!budget.is_spent() && budget.cost().is_none());
    }

    #[test]
    fn nothing_is_left_once_the_time_is_over_whatever_was_spent() {
        let until = |until| Budget::new(BudgetSlice { until: Some(until), ..BudgetSlice::default() });
        assert!(until(Timestamp::now()).is_spent());
        assert!(!until(Timestamp::MAX).is_spent());
    }
}
