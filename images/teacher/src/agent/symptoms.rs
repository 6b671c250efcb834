//! How each kind of change would be noticed by a user: sentences for issues, and how such a sentence is understood again.

use crate::change::{KINDS, Kind};

/// What a user sees of a kind.
pub(super) struct Symptom {
    /// A few words that every sentence of this kind has, and no other: by them it is understood.
    pub(super) words: &'static str,
    /// The headline, with `{}` for the place.
    pub(super) title: &'static str,
    /// What is seen, in different wordings.
    pub(super) seen: [&'static str; 3],
    /// What had been expected.
    pub(super) expected: &'static str,
    /// How to see it.
    pub(super) steps: &'static str,
}

pub(super) const fn of(kind: Kind) -> Symptom {
    match kind {
        Kind::Guard => Symptom {
            words: "missing value",
            title: "Obscure failure in {} for a missing value",
            seen: [
                "When {} is given a missing value, nothing complains at first, and the failure comes much later in a place that has nothing to do with it.",
                "A missing value that is handed to {} goes through silently and only blows up somewhere else.",
                "With a missing value {} carries on as if it were there, so that the cause is hard to trace.",
            ],
            expected: "I would expect to be told at once, and in plain words, which input was not there.",
            steps: "Call it once as usual and once with the first input left out.",
        },
        Kind::Boundary => Symptom {
            words: "right at the limit",
            title: "{} is off by one right at the limit",
            seen: [
                "For a value right at the limit {} takes the wrong branch; one step below or above it behaves.",
                "{} does the right thing almost everywhere, but not right at the limit.",
                "A value right at the limit is treated by {} as if it were on the other side of it.",
            ],
            expected: "I would expect the limit itself to belong to the side that the documentation suggests.",
            steps: "Try one value just below, the exact one, and one just above; the middle one is odd.",
        },
        Kind::Default => Symptom {
            words: "preset",
            title: "The preset used by {} does not fit",
            seen: [
                "The preset that {} works with is not what one would expect; with the usual inputs the outcome is slightly off.",
                "{} seems to use a preset that does not fit: if nothing is configured, the outcome differs from what others do.",
                "Out of the box the preset in {} gives surprising results.",
            ],
            expected: "I would expect it to work sensibly without any configuration.",
            steps: "Use it with nothing configured and compare the outcome with what you would work out by hand.",
        },
        Kind::Message => Symptom {
            words: "where it came from",
            title: "What {} reports cannot be traced",
            seen: [
                "When something goes wrong in {}, the report that one gets does not say where it came from.",
                "{} reports a problem, but from the wording one cannot tell where it came from.",
                "Our logs show the complaint of {} without a hint of where it came from.",
            ],
            expected: "I would expect the report to name its origin, so that one can find it among others.",
            steps: "Provoke the failure and read what is printed.",
        },
        Kind::Order => Symptom {
            words: "order of the checks",
            title: "Unfortunate order of the checks in {}",
            seen: [
                "The order of the checks in {} seems wrong: the one that decides most cases comes last.",
                "{} does more work than needed before it decides, which looks like an unlucky order of the checks.",
                "Because of the order of the checks, {} looks at one thing before it is known that this makes sense.",
            ],
            expected: "I would expect the deciding condition to be looked at first.",
            steps: "Step through it with an input for which only one of the two conditions holds.",
        },
        Kind::Note => Symptom {
            words: "not written down",
            title: "Nobody says what {} expects",
            seen: [
                "What callers of {} have to take care of is not written down anywhere.",
                "It is not written down what {} expects of those who use it.",
                "I had to guess how {} wants to be used, as that is not written down.",
            ],
            expected: "I would expect a remark next to it that says so.",
            steps: "Read the code as somebody who sees it for the first time.",
        },
    }
}

/// The kinds that a text speaks of.
pub(super) fn kinds_in(text: &str) -> Vec<Kind> {
    let text = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    KINDS.into_iter().filter(|kind| text.contains(of(*kind).words)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_is_understood_as_its_own_kind_and_no_other() {
        for kind in KINDS {
            let symptom = of(kind);
            for sentence in symptom.seen {
                assert_eq!(kinds_in(&sentence.replace("{}", "`f`")), [kind], "{sentence}");
                assert!(sentence.contains("{}"));
            }
            for other in [symptom.expected, symptom.steps] {
                assert!(kinds_in(other).is_empty(), "{other}");
            }
        }
    }

    #[test]
    fn nothing_speaks_of_tests_or_of_solutions() {
        for kind in KINDS {
            let symptom = of(kind);
            let all = [
                symptom.seen.join(" "),
                symptom.title.to_owned(),
                symptom.expected.to_owned(),
                symptom.steps.to_owned(),
            ]
            .join(" ");
            assert!(!all.to_lowercase().contains("test") && !all.contains("==") && !all.contains(" diff "), "{all}");
        }
    }
}
