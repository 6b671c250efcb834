//! The order in which functions are drawn: any beginning of it has of each file about as large a share as the file has of all functions, and no two
//! neighbours are of one file while there are others.

use std::collections::BTreeMap;

use super::Variant;

/// How often the order is begun anew so that its end and its beginning, which meet where there are several instances, are of two files.
const ATTEMPTS: usize = 3;

/// The places of the functions in the order in which they are drawn.
pub(super) fn order(functions: &[Variant], seed: u64) -> Vec<u32> {
    let mut files: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (place, function) in functions.iter().enumerate() {
        files.entry(&function.file).or_default().push(u32::try_from(place).unwrap_or(u32::MAX));
    }
    let draw = |place: u32, about: &str| {
        functions.get(place as usize).map_or(0, |function| function.draw(seed, about).number())
    };
    let mut placed: Vec<(u128, u32)> = Vec::with_capacity(functions.len());
    for places in files.values_mut() {
        places.sort_by_cached_key(|place| (draw(*place, "function"), *place));
        // The k-th of n goes anywhere within the k-th n-th of the whole.
        let count = places.len() as u128;
        for (nth, place) in places.iter().enumerate() {
            let point = ((nth as u128) << 64) + u128::from(draw(*place, "point"));
            placed.push((point / count, *place));
        }
    }
    placed.sort_unstable();
    let drawn: Vec<u32> = placed.into_iter().map(|(_, place)| place).collect();
    let file = |place: u32| functions.get(place as usize).map(|function| &*function.file);
    let mut ordered = apart(&drawn, None, file);
    for _ in 0..ATTEMPTS {
        match (ordered.first(), ordered.last()) {
            (Some(first), Some(last)) if file(*first) == file(*last) => ordered = apart(&drawn, file(*last), file),
            _ => break,
        }
    }
    ordered
}

/// Moves items of the same group apart, each as little as possible; `before` is the group of what comes before the first.
fn apart<G: PartialEq>(items: &[u32], before: Option<G>, group: impl Fn(u32) -> Option<G>) -> Vec<u32> {
    let mut ordered = Vec::with_capacity(items.len());
    // All of them are of the group of the last that is in order: another would have been taken at once.
    let mut waiting = std::collections::VecDeque::new();
    let mut last = before;
    let mut items = items.iter().copied();
    loop {
        let may_follow = |item: &u32| last.is_none() || group(*item) != last;
        let next = match waiting.front() {
            Some(item) if may_follow(item) => waiting.pop_front(),
            _ => items.next(),
        };
        match next {
            Some(item) if last.is_none() || group(item) != last => {
                last = group(item);
                ordered.push(item);
            }
            Some(item) => waiting.push_back(item),
            None => break,
        }
    }
    ordered.extend(waiting);
    ordered
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn neighbours_are_of_two_groups_while_there_are_others(groups in proptest::collection::vec(0_u32..5, 0..60)) {
            let items: Vec<u32> = (0..u32::try_from(groups.len()).unwrap()).collect();
            let group = |item: u32| Some(groups[item as usize]);
            let ordered = apart(&items, None, group);
            let mut sorted = ordered.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, items);
            for (at, pair) in ordered.windows(2).enumerate() {
                if group(pair[0]) == group(pair[1]) {
                    prop_assert!(ordered[at..].iter().all(|item| group(*item) == group(pair[0])), "{ordered:?}");
                }
            }
        }
    }
}
