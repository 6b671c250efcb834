//! A sample from end to end: first rollout, self-review, issue, second rollout, and how much of the first patch the second has.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::agent::{Dialect, Rollout, request, rollout};
use super::repository::Repository;
use super::teacher::Teacher;

/// How the prompts are worded.
pub(crate) struct Wording {
    pub(crate) system: &'static str,
    /// `{root}`, `{file}` and `{function}` are put in.
    pub(crate) first: &'static str,
    pub(crate) review: &'static str,
    /// `{example}` is put in.
    pub(crate) issue: &'static str,
    /// The tag that `issue` asks for.
    pub(crate) tag: &'static str,
    /// `{root}` and `{issue}` are put in.
    pub(crate) second: &'static str,
}

pub(crate) const EXAMPLE: &str = "Since the last release the importer stops in the middle of large files. I have a file with some 40,000 rows, and only the first half of them arrives; there is no message, neither on the screen nor in the log.\n\nWhat I did: I ran the importer with its usual settings on the file, waited until it was done, and counted the rows. I expected all of them to be there, or at least to be told that some are not.\n\nIt works with smaller files.";

pub(crate) const PLAIN: Wording = Wording {
    system: "You work on a repository in {root} with the tools that you are offered.",
    first: "Users of the repository in {root} report that something is odd around `{function}` in {root}/{file}. Find the cause, and fix it there, or in what it calls.",
    review: "Look at what you have done. Is it a valid fix of what was described? Answer with one word: yes or no.",
    issue: "Now write the text of an issue that a user would have filed. This is an example of the style:\n<example>\n{example}\n</example>\nSay nothing of the solution. Write it between <output> and </output>.",
    tag: "output",
    second: "The repository in {root} has an open issue:\n\n<issue>\n{issue}\n</issue>\n\nResolve it by changing the source code.",
};

pub(crate) struct Sample {
    pub(crate) first: Rollout,
    pub(crate) review: Value,
    pub(crate) issue: String,
    pub(crate) second: Rollout,
    pub(crate) recall: f64,
}

/// Runs a sample about one function.
pub(crate) fn run(
    teacher: &Teacher,
    repository: &Repository,
    wording: &Wording,
    (file, function): (&str, &str),
    dialect: Dialect,
) -> Sample {
    let root = repository.path().display().to_string();
    let worded = |text: &str| text.replace("{root}", &root).replace("{file}", file).replace("{function}", function);
    let system = worded(wording.system);
    let first = rollout(teacher, repository, &system, &worded(wording.first), dialect);
    let review = asked(teacher, &first, wording.review, dialect);
    let answer = asked(teacher, &first, &wording.issue.replace("{example}", EXAMPLE), dialect)["content"]
        .as_str()
        .unwrap()
        .to_owned();
    let issue = between(&answer, wording.tag);
    let second = rollout(teacher, repository, &system, &worded(wording.second).replace("{issue}", &issue), dialect);
    let recall = recall(&first.patch, &second.patch);
    Sample { first, review, issue, second, recall }
}

/// What the teacher says to a question after a rollout.
pub(crate) fn asked(teacher: &Teacher, rollout: &Rollout, question: &str, dialect: Dialect) -> Value {
    let mut messages = rollout.messages.clone();
    // The last call was not carried out: a question takes its place.
    messages.pop();
    messages.push(json!({"role": "user", "content": question}));
    teacher.complete(&request(&messages, dialect)).message()
}

fn between(text: &str, tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let from = text.find(&open).unwrap_or_else(|| panic!("no {open} in {text}")) + open.len();
    text[from..text.find(&close).unwrap()].trim().to_owned()
}

/// The changed lines of a patch, each with how often it occurs.
pub(crate) fn changed(patch: &str) -> BTreeMap<&str, usize> {
    let mut changed = BTreeMap::new();
    let lines = patch
        .lines()
        .filter(|line| line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---"));
    for line in lines.filter(|line| !line[1..].trim().is_empty()) {
        *changed.entry(line).or_default() += 1;
    }
    changed
}

/// The share of the first patch's changed lines that the second has as well.
fn recall(first: &str, second: &str) -> f64 {
    let (first, second) = (changed(first), changed(second));
    let shared: usize =
        first.iter().map(|(line, count)| second.get(line).copied().unwrap_or_default().min(*count)).sum();
    let all: usize = first.values().sum();
    f64::from(u32::try_from(shared).unwrap()) / f64::from(u32::try_from(all).unwrap().max(1))
}
