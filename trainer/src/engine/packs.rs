//! Which lines share a sequence, and what the sequence is made of. They do not see each other, and positions begin anew in each.

use super::Line;

/// The lines of one sequence, in order; never empty, and something is to be learnt in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pack<'a>(Vec<&'a Line>);

/// The sequences of those lines in which something is to be learnt, of at most `longest` tokens each; where that is none, or a line alone is longer, a
/// line has one to itself. The longest lines are placed first, each where there is room first, which leaves little unused.
pub(super) fn of(lines: &[Line], longest: Option<usize>) -> Vec<Pack<'_>> {
    let learnt = lines.iter().filter(|line| line.trained() > 0);
    let Some(longest) = longest else { return learnt.map(|line| Pack(vec![line])).collect() };
    let mut by_length: Vec<&Line> = learnt.collect();
    by_length.sort_by_key(|line| std::cmp::Reverse(line.ids.len()));
    let mut packs: Vec<(usize, Pack<'_>)> = Vec::new();
    for line in by_length {
        let length = line.ids.len();
        match packs.iter_mut().find(|(used, _)| used.saturating_add(length) <= longest) {
            Some((used, Pack(lines))) => {
                *used += length;
                lines.push(line);
            }
            None => packs.push((length, Pack(vec![line]))),
        }
    }
    packs.into_iter().map(|(_, pack)| pack).collect()
}

impl<'a> Pack<'a> {
    /// Its lines' ids, and how many tokens each has.
    pub(super) fn lines(&self) -> Vec<(&'a str, usize)> {
        self.0.iter().map(|line| (line.id.as_str(), line.ids.len())).collect()
    }

    /// How many tokens each line has.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.0.iter().map(|line| line.ids.len()).collect()
    }

    /// How many tokens are predicted.
    pub(super) fn trained(&self) -> usize {
        self.0.iter().map(|line| line.trained()).sum()
    }

    /// All tokens.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.0.iter().flat_map(|line| &line.ids).copied().collect()
    }

    /// Whether each of them is to be learnt.
    pub(super) fn loss(&self) -> Vec<bool> {
        self.0.iter().flat_map(|line| &line.loss).copied().collect()
    }

    /// What its lines are called, for messages.
    pub(super) fn names(&self) -> String {
        self.0.iter().map(|line| format!("`{}`", line.id)).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(number: usize, length: usize) -> Line {
        Line { id: number.to_string(), ids: vec![1; length], loss: vec![true; length] }
    }

    #[test]
    fn short_lines_fill_what_long_ones_leave() {
        let lines: Vec<Line> = [3, 9, 4, 2, 12].into_iter().enumerate().map(|(at, length)| line(at, length)).collect();
        let names = |longest| of(&lines, longest).iter().map(Pack::names).collect::<Vec<_>>();
        assert_eq!(names(Some(11)), ["`4`", "`1`, `3`", "`2`, `0`"], "the longest has a sequence to itself");
        assert_eq!(names(None), ["`0`", "`1`", "`2`", "`3`", "`4`"]);
    }

    proptest! {
        #[test]
        fn every_line_is_in_one_sequence_and_none_is_too_long_that_could_be_shorter(
            lengths in prop::collection::vec(2usize..60, 1..40), longest in 2usize..100
        ) {
            let lines: Vec<Line> = lengths.iter().enumerate().map(|(at, length)| line(at, *length)).collect();
            let packs = of(&lines, Some(longest));
            let mut ids: Vec<usize> =
                packs.iter().flat_map(Pack::lines).map(|(id, _)| id.parse().unwrap()).collect();
            ids.sort_unstable();
            prop_assert_eq!(ids, (0..lengths.len()).collect::<Vec<_>>());
            for pack in &packs {
                prop_assert!(pack.ids().len() <= longest || pack.lengths().len() == 1);
            }
            let halves = packs.iter().filter(|pack| pack.ids().len() * 2 <= longest).count();
            prop_assert!(halves <= 1, "two sequences would have fitted into one");
        }
    }
}
