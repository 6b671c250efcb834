//! Batches as a command line names them: one by one, or those that a run has numbered, by the first and the last.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// How many batches a run may have: as many as samples, each by itself.
const MOST: u32 = 20_000_000;

/// Batches by name. A run's are called `<run>-<number>`, so that a few characters name however many of them there are: `billing-1..5200`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchNames {
    /// A batch by its own name.
    One(String),
    /// The batches of a run that have these numbers.
    Numbered {
        /// The run's name.
        run: String,
        /// The numbers.
        numbers: RangeInclusive<u32>,
    },
}

/// Why a text names no batches.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no batches: batches of a run are named by their first and last number, as billing-1..12")]
pub struct BatchNamesError(String);

impl BatchNames {
    /// The name of each.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let (one, numbered) = match self {
            Self::One(name) => (Some(name.clone()), None),
            Self::Numbered { run, numbers } => (None, Some((run, numbers.clone()))),
        };
        let numbered =
            numbered.into_iter().flat_map(|(run, numbers)| numbers.map(move |number| format!("{run}-{number}")));
        one.into_iter().chain(numbered)
    }
}

impl fmt::Display for BatchNames {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => out.write_str(name),
            Self::Numbered { run, numbers } => write!(out, "{run}-{}..{}", numbers.start(), numbers.end()),
        }
    }
}

impl FromStr for BatchNames {
    type Err = BatchNamesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((first, last)) = text.split_once("..") else { return Ok(Self::One(text.to_owned())) };
        let numbered = || {
            let (run, first) = first.rsplit_once('-')?;
            let numbers = number(first)?..=number(last)?;
            let is_some = !run.is_empty() && !numbers.is_empty() && *numbers.end() <= MOST;
            is_some.then(|| Self::Numbered { run: run.to_owned(), numbers })
        };
        numbered().ok_or_else(|| BatchNamesError(text.to_owned()))
    }
}

/// A number as names have it: without a sign, and without zeros before it.
fn number(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|number: &u32| number.to_string() == digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<String> {
        text.parse::<BatchNames>().unwrap().names().collect()
    }

    #[test]
    fn a_name_is_that_batch_s_and_a_range_those_between_both_ends() {
        assert_eq!(read("billing-7"), ["billing-7"]);
        assert_eq!(read("billing-2-9..11"), ["billing-2-9", "billing-2-10", "billing-2-11"]);
        assert_eq!(read("billing-1..1"), ["billing-1"]);
    }

    #[test]
    fn what_is_no_range_is_refused_and_none_is_too_large_for_memory() {
        for text in [
            "billing-1..",
            "billing..7",
            "-1..7",
            "billing-7..1",
            "billing-01..7",
            "a-1..+7",
            "a-1..2..3",
            "a-0..20000001",
        ] {
            let error = text.parse::<BatchNames>().unwrap_err();
            assert!(error.to_string().contains(&format!("'{text}'")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(run in "[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", first in 0u32..9_000, count in 1u32..9_000) {
            let written = BatchNames::Numbered { run: run.clone(), numbers: first..=first + count - 1 };
            prop_assert!(written.to_string().len() < 64, "{}", written);
            prop_assert_eq!(written.to_string().parse(), Ok(written.clone()));
            let names: Vec<String> = (first..first + count).map(|number| format!("{run}-{number}")).collect();
            prop_assert_eq!(written.names().collect::<Vec<_>>(), names.clone());
            for name in names.into_iter().take(3) {
                prop_assert_eq!(name.parse(), Ok(BatchNames::One(name.clone())));
            }
        }
    }
}
