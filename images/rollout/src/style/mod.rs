//! Style examples for synthetic pull requests: the repository's newest issues (`issue`), messages of its commits (`commit`), or the built-in ones
//! (`built_in`), and the file that they are kept in (`file`). Which of them a snapshot has is decided there.

mod built_in;
mod commit;
mod file;
mod issue;
mod words;

use sera_crds::contract::{StyleExample, StyleOrigin};
use tokio::time::Instant;

use crate::git::{Git, GitError};
use crate::github::{GitHub, Repository};

pub(crate) use file::{FILE, origins, read, write};

/// The most examples that are kept: the algorithm takes the hundred newest issues (SERA, `reference/sera.md`).
const WANTED: usize = 100;
/// A source with fewer is passed over: each sample is shown one at random, and with one or two all pull requests would come out alike.
const FEWEST: usize = 3;
/// The longest example, in bytes of title and text: longer ones are logs and dumps, and the prompt that shows one holds a whole trajectory too.
const LONGEST: usize = 16 << 10;

/// Whether a source gives enough to choose from.
pub(crate) fn is_enough(examples: &[StyleExample]) -> bool {
    examples.len() >= FEWEST
}

/// Up to a hundred issues of a repository, as far as they could be listed by `deadline`.
pub(crate) async fn from_issues(github: &GitHub, repository: &Repository, deadline: Instant) -> Vec<StyleExample> {
    let enough = |issues: &[_]| issue::examples(issues).len() >= WANTED;
    let listing = github.newest_issues(repository, enough, deadline).await;
    if let Some(problem) = listing.problem {
        tracing::warn!(%repository, issues = listing.issues.len(), "not all issues could be listed: {problem}");
    }
    issue::examples(&listing.issues)
}

/// Up to a hundred messages of the commits that lead to `newest`, which are in a repository below git's home.
pub(crate) async fn from_messages(git: &Git, repository: &str, newest: &str) -> Result<Vec<StyleExample>, GitError> {
    commit::messages(git, repository, newest).await
}

/// The built-in examples.
pub(crate) fn built_in() -> Vec<StyleExample> {
    built_in::examples()
}

/// An example, unless it is too long.
fn example(origin: StyleOrigin, title: &str, body: &str) -> Option<StyleExample> {
    let body = body.replace("\r\n", "\n");
    let (title, body) = (title.trim(), body.trim());
    let title = (!title.is_empty()).then(|| title.to_owned());
    let bytes = title.as_ref().map_or(0, String::len) + body.len();
    (bytes <= LONGEST).then(|| StyleExample { origin, title, body: body.to_owned() })
}

/// Whether an account is a program's, as far as its name tells. GitHub marks its Apps with `[bot]`; the others are what bots call themselves.
fn is_bot(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let spelt_so = ["[bot]", "-bot", "_bot", " bot"].iter().any(|end| name.ends_with(end));
    spelt_so || ["bot", "dependabot", "renovate", "github-actions", "greenkeeper", "pyup-bot"].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_examples_are_enough() {
        assert!(is_enough(&built_in()) && built_in().iter().all(|example| example.origin == StyleOrigin::BuiltIn));
    }

    #[test]
    fn what_is_too_long_is_left_out_and_line_ends_are_made_one() {
        let long = "x".repeat(LONGEST);
        assert!(example(StyleOrigin::Issue, "", &long).is_some() && example(StyleOrigin::Issue, "t", &long).is_none());
        let tidy = example(StyleOrigin::Issue, " t ", "a\r\nb\r\n").unwrap();
        assert_eq!((tidy.title.as_deref(), tidy.body.as_str()), (Some("t"), "a\nb"));
    }

    #[test]
    fn bots_are_told_by_their_names_and_people_are_not() {
        for bot in ["dependabot[bot]", "renovate-bot", "Renovate", "acme_bot", "github-actions", "Release Bot"] {
            assert!(is_bot(bot), "{bot}");
        }
        for person in ["talbot", "abbott", "robothead", "ada"] {
            assert!(!is_bot(person), "{person}");
        }
    }
}
