//! How many elements two multisets of lines have in common, in time that grows with their number: the published code looks each line up in a list.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// The size of the intersection: each line of `first` is matched by at most one of `second`.
pub(super) fn common<L: Hash + Eq>(first: Vec<L>, second: impl IntoIterator<Item = L>) -> u64 {
    let total = first.len();
    let mut wanted: HashMap<L, u32, RandomState> = HashMap::with_capacity_and_hasher(total, RandomState::default());
    for line in first {
        *wanted.entry(line).or_default() += 1;
    }
    let mut matched = 0;
    for line in second {
        // What is left over of `second` cannot match any more.
        if matched == total {
            break;
        }
        if let Some(left) = wanted.get_mut(&line).filter(|left| **left > 0) {
            *left -= 1;
            matched += 1;
        }
    }
    matched as u64
}

#[cfg(test)]
mod tests {
    use super::common;

    #[test]
    fn each_line_is_matched_once() {
        let lines = |text: &'static str| text.split(' ').map(str::as_bytes).collect::<Vec<_>>();
        for (first, second, expected) in
            [("a a b", "a b b", 2), ("a b c", "c b a", 3), ("a", "b", 0), ("a a a", "a", 1), ("a", "a a a", 1)]
        {
            assert_eq!(common(lines(first), lines(second)), expected, "{first} | {second}");
        }
    }
}
