//! Which commits of a history are taken: the newest, and others spread evenly over the time before it.

/// A commit as the history lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Its object id.
    pub(crate) id: String,
    /// The tree's object id.
    pub(crate) tree: String,
    /// When it was made: the committer's clock, in seconds since 1970.
    pub(crate) committed: i64,
}

/// Chooses `count` commits of a first-parent `history` (newest first), or all that there are, within `lookback_days` before the newest. They are
/// spread evenly over the time from the newest to the oldest that is left, each being the one nearest to its point in time. Newest first.
///
/// Clocks differ: a commit dated after the newest counts as made with it, and what lies before an old-looking commit is still looked at.
pub(crate) fn select(history: Vec<Commit>, count: usize, lookback_days: u32) -> Vec<Commit> {
    let Some(newest) = history.first().map(|commit| commit.committed) else { return Vec::new() };
    let oldest_allowed = newest.saturating_sub(i64::from(lookback_days) * 86_400);
    let mut window: Vec<Commit> = history.into_iter().filter(|commit| commit.committed >= oldest_allowed).collect();
    if window.len() <= count {
        return window;
    }
    let ages: Vec<i64> = window.iter().map(|commit| newest.saturating_sub(commit.committed).max(0)).collect();
    let mut chosen = spread(&ages, count).into_iter().peekable();
    let mut position = 0;
    window.retain(|_| {
        let keep = chosen.next_if_eq(&position).is_some();
        position += 1;
        keep
    });
    window
}

/// The positions of `count` ages, ascending and distinct, the first among them, each nearest to its share of the greatest age. `count` is less
/// than the number of ages.
fn spread(ages: &[i64], count: usize) -> Vec<usize> {
    let extent = ages.iter().copied().max().unwrap_or_default();
    let mut chosen = vec![0];
    for nth in 1..count {
        let target = i128::from(extent) * to_i128(nth) / to_i128(count - 1);
        let first = chosen.last().map_or(0, |last| last + 1);
        // Enough have to be left for those that come after.
        let last = ages.len() - (count - nth);
        let nearest = (first..=last).min_by_key(|&position| (i128::from(ages[position]) - target).abs());
        chosen.extend(nearest);
    }
    chosen
}

fn to_i128(number: usize) -> i128 {
    i128::try_from(number).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const NOW: i64 = 1_750_000_000;

    /// A history of commits that are so many days old.
    fn history(days: &[i64]) -> Vec<Commit> {
        let commit = |(n, days): (usize, &i64)| Commit {
            id: format!("c{n}"),
            tree: format!("t{n}"),
            committed: NOW - days * DAY,
        };
        days.iter().enumerate().map(commit).collect()
    }

    fn chosen_days(days: &[i64], count: usize, lookback_days: u32) -> Vec<i64> {
        select(history(days), count, lookback_days).iter().map(|commit| (NOW - commit.committed) / DAY).collect()
    }

    #[test]
    fn commits_are_spread_evenly_over_the_window() {
        let daily: Vec<i64> = (0..1000).collect();
        assert_eq!(chosen_days(&daily, 5, 364), [0, 91, 182, 273, 364]);
        assert_eq!(chosen_days(&daily, 2, 30), [0, 30]);
    }

    #[test]
    fn a_history_shorter_than_the_window_is_spread_over_what_it_has() {
        let daily: Vec<i64> = (0..=40).collect();
        assert_eq!(chosen_days(&daily, 5, 365), [0, 10, 20, 30, 40]);
    }

    #[test]
    fn crowded_commits_are_never_taken_twice_and_the_number_is_kept() {
        assert_eq!(chosen_days(&[0, 0, 0, 0, 1, 300], 5, 365), [0, 0, 0, 1, 300]);
        assert_eq!(chosen_days(&[0, 364, 365, 365, 365, 365], 4, 365), [0, 364, 365, 365]);
    }

    #[test]
    fn the_newest_is_always_taken_and_fewer_come_where_fewer_are() {
        assert_eq!(chosen_days(&[0, 1, 2], 1, 365), [0]);
        assert_eq!(chosen_days(&[0, 1, 2], 5, 365), [0, 1, 2]);
        assert_eq!(chosen_days(&[0, 10, 400], 5, 365), [0, 10]);
        assert_eq!(chosen_days(&[0, 1], 5, 0), [0]);
        assert!(select(Vec::new(), 3, 365).is_empty());
    }

    #[test]
    fn clocks_that_go_wrong_neither_hide_commits_nor_break_the_order() {
        // One commit claims to be from the future, one from long ago.
        let days = [0, -5, 10, 9000, 20, 30];
        assert_eq!(chosen_days(&days, 10, 365), [0, -5, 10, 20, 30]);
        let ids: Vec<String> = select(history(&days), 3, 365).into_iter().map(|commit| commit.id).collect();
        assert_eq!(ids, ["c0", "c2", "c5"]);
    }
}
