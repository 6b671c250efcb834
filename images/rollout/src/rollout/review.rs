//! The self-review: the teacher says whether a first rollout is a valid fix of what it was told.

use sera_crds::contract::{RolloutOutcome, Usage};

/// What asking for it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Review {
    /// How the rollout ends by it.
    pub(super) outcome: RolloutOutcome,
    /// Why there was none, where the teacher refused to give one.
    pub(super) problem: Option<String>,
    pub(super) usage: Usage,
}

impl Review {
    /// One that was held, or for which there was nothing left.
    pub(super) fn ended(outcome: RolloutOutcome, usage: Usage) -> Self {
        Self { outcome, problem: None, usage }
    }
}

/// The verdict of an answer (without its thinking): the word on its last line, or its first word.
pub(super) fn verdict(content: &str) -> Option<bool> {
    let mut lines = content.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next()?;
    word(lines.next_back().unwrap_or(first)).or_else(|| word(first))
}

/// `yes` or `no`, whatever adorns it (`**Yes.**`, `Verdict: no`).
fn word(text: &str) -> Option<bool> {
    let words: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    match words.as_slice() {
        [only] | [_, only] if only == "yes" => Some(true),
        [only] | [_, only] if only == "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn a_plain_word_counts_wherever_it_is_expected() {
        for yes in [
            "yes",
            "Yes.",
            "It is small and right.\n\n**YES**\n",
            "Verdict: yes",
            "yes\nThe check was missing, and now it is there.",
        ] {
            assert_eq!(verdict(yes), Some(true), "{yes:?}");
        }
        for no in ["no", "It changes too much.\nNo.", "Answer: **no**"] {
            assert_eq!(verdict(no), Some(false), "{no:?}");
        }
    }

    #[test]
    fn what_is_neither_is_not_guessed() {
        for unclear in [
            "",
            "\n",
            "maybe",
            "yes and no",
            "There is no doubt that it is right.",
            "I would not say no to that change.",
        ] {
            assert_eq!(verdict(unclear), None, "{unclear:?}");
        }
    }
}
