//! What a conversation asks for: told from what it contains, not from how it is worded.

use super::conversation::Conversation;
use super::mentions::{self, Target};
use super::toolbox::Toolbox;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To change a function that is named together with its file.
    First(Target),
    /// To say whether a fix is valid, by yes or no.
    Review,
    /// To write an issue's text; between these tags, where any are asked for.
    PullRequest(Option<String>),
    /// To do what an issue's text asks for.
    Second,
    /// Something that no rollout asks.
    Other,
}

/// How much of a long question is looked at, at either end: what stands between is what the question is about.
const EDGE: usize = 1500;
/// How far apart "yes" and "no" may stand when they are offered as a choice.
const CHOICE: usize = 120;
/// What may stand between two tags that are mentioned, such as "and".
const BETWEEN: usize = 40;

impl Asked {
    pub(crate) fn of(conversation: &Conversation, toolbox: &Toolbox) -> Self {
        let question = match &conversation.question {
            Some(question) => Some(question),
            None if !toolbox.can_act() => Some(&conversation.prompt),
            None => None,
        };
        if let Some(question) =
            question.map(|question| format!("{}\n{}", closing_rules(conversation, toolbox), edges(question)))
        {
            if offers_yes_or_no(&question) {
                return Self::Review;
            }
            let tag = tag(&question);
            // In the middle of a rollout a remark may speak of issues as well; without tags it asks for none.
            if asks_for_an_issue(&question) && (tag.is_some() || !toolbox.can_act()) {
                return Self::PullRequest(tag);
            }
        }
        if !toolbox.can_act() {
            return Self::Other;
        }
        mentions::target(&conversation.prompt).map_or(Self::Second, Self::First)
    }

    /// What metrics call it.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::First(_) => "first_rollout",
            Self::Review => "review",
            Self::PullRequest(_) => "pull_request",
            Self::Second => "second_rollout",
            Self::Other => "other",
        }
    }
}

/// The system's rules count where they are about the question alone, and not about tools.
fn closing_rules(conversation: &Conversation, toolbox: &Toolbox) -> String {
    if toolbox.can_act() { String::new() } else { edges(&conversation.rules) }
}

fn edges(text: &str) -> String {
    if text.len() <= 2 * EDGE {
        return text.to_owned();
    }
    let head: String = text.chars().take(EDGE).collect();
    let tail: Vec<char> = text.chars().rev().take(EDGE).collect();
    format!("{head}\n{}", tail.into_iter().rev().collect::<String>())
}

fn offers_yes_or_no(text: &str) -> bool {
    let words = words(text);
    let places = |wanted: &str| words.iter().filter(|(_, word)| word == wanted).map(|(at, _)| *at).collect::<Vec<_>>();
    let (yes, no) = (places("yes"), places("no"));
    yes.iter().any(|yes| no.iter().any(|no| yes.abs_diff(*no) <= CHOICE))
}

/// Whether somebody wants an issue written.
fn asks_for_an_issue(text: &str) -> bool {
    let words = words(text);
    let any = |wanted: &[&str]| words.iter().any(|(_, word)| wanted.contains(&word.as_str()));
    any(&["write", "draft", "compose", "describe", "produce", "report", "author", "phrase"])
        && (any(&["issue", "report", "ticket", "bug", "pr"]) || text.to_lowercase().contains("pull request"))
}

fn words(text: &str) -> Vec<(usize, String)> {
    let base = text.as_ptr() as usize;
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - base, word.to_ascii_lowercase()))
        .collect()
}

/// The tags that the answer is to stand between: those that are mentioned rather than used, which is to say that hardly anything stands between them.
pub(crate) fn tag(text: &str) -> Option<String> {
    let mut opens = text.match_indices('<').filter_map(|(at, _)| {
        let name = text[at + 1..].split('>').next()?;
        (!name.is_empty()
            && name.len() < 40
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')))
        .then_some((at, name))
    });
    let mentioned = |(at, name): &(usize, &str)| {
        let after = &text[at + name.len() + 2..];
        let close = after.find(&format!("</{name}>"));
        close.is_some_and(|close| close <= BETWEEN)
            || close.is_none() && after.trim_start_matches(['`', '"', '\'', ' ']).starts_with("tag")
    };
    opens.rfind(mentioned).map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_of_yes_and_no_is_seen_in_any_wording() {
        for text in [
            "Answer YES or NO.",
            "Is it valid? Reply with \"yes\" if so, and with \"no\" otherwise.",
            "<answer>yes|no</answer>",
        ] {
            assert!(offers_yes_or_no(text), "{text}");
        }
        assert!(!offers_yes_or_no("There is no doubt about it."));
        assert!(!offers_yes_or_no(&format!("yes, I saw that.{}There is no end.", " and so on".repeat(20))));
    }

    #[test]
    fn the_tag_for_the_answer_is_told_from_tags_around_material() {
        let text = "<example>\na long text that is the example, which is of no interest here whatsoever\n</example>\nWrite it between <output> and </output>.";
        assert_eq!(tag(text).as_deref(), Some("output"));
        assert_eq!(tag("Put the report into `<issue_text>` tags.").as_deref(), Some("issue_text"));
        assert_eq!(
            tag("<diff>\n-a\n+b, and more of it, and more of it, and more of it, and more\n</diff> write an issue"),
            None
        );
    }

    #[test]
    fn an_issue_is_asked_for_in_any_wording() {
        for text in [
            "Write an issue as a user would.",
            "Please draft a bug report from this.",
            "Compose the text of a pull request that …",
        ] {
            assert!(asks_for_an_issue(text), "{text}");
        }
    }
}
