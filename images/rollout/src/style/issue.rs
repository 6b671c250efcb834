//! Which issues show how people of a repository write: theirs, not bots', and in their own words, not a template's.

use std::collections::{HashMap, HashSet};

use sera_crds::contract::{StyleExample, StyleOrigin};

use super::words::{self, FEWEST_WORDS};
use super::{WANTED, example, is_bot};
use crate::github::Issue;

/// A line that this many issues have is their template's. Three people may well write the same greeting; ten with a whole line in common have it
/// from a form.
const TEMPLATE_REPEATS: usize = 10;
/// Or this share of all issues, where there are few: one in four.
const TEMPLATE_SHARE: usize = 4;
/// Below this many, a repeated line is a chance.
const FEWEST_REPEATS: usize = 3;

/// The newest issues that make good examples, at most a hundred, newest first.
pub(super) fn examples(issues: &[Issue]) -> Vec<StyleExample> {
    let template = template_lines(issues);
    issues
        .iter()
        .filter(|issue| !is_by_bot(issue))
        .filter_map(|issue| {
            let body = issue.body.as_deref().unwrap_or_default();
            let own = body.lines().filter(|line| !template.contains(line.trim()));
            let enough = words::count(own) >= FEWEST_WORDS;
            enough.then(|| example(StyleOrigin::Issue, &issue.title, body)).flatten()
        })
        .take(WANTED)
        .collect()
}

fn is_by_bot(issue: &Issue) -> bool {
    issue.user.as_ref().is_some_and(|user| user.kind.as_deref() == Some("Bot") || is_bot(&user.login))
}

/// The lines that so many issues share that nobody wrote them.
fn template_lines(issues: &[Issue]) -> HashSet<&str> {
    let mut repeats: HashMap<&str, usize> = HashMap::new();
    for issue in issues {
        let lines: HashSet<&str> = issue.body.as_deref().unwrap_or_default().lines().map(str::trim).collect();
        for line in lines.into_iter().filter(|line| !line.is_empty() && !line.starts_with("```")) {
            *repeats.entry(line).or_default() += 1;
        }
    }
    let limit = TEMPLATE_REPEATS.min(issues.len().div_ceil(TEMPLATE_SHARE)).max(FEWEST_REPEATS);
    repeats.into_iter().filter(|(_, repeats)| *repeats >= limit).map(|(line, _)| line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "When the invoice has no lines, the total is printed as minus zero and the export refuses the file; \
                        it should print zero and go on with the next invoice.";

    fn issue(number: u64, login: &str, kind: &str, body: &str) -> Issue {
        let value = json!({"number": number, "title": format!("title {number}"), "body": body, "user": {"login": login, "type": kind}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_people_wrote_is_kept_in_order_and_as_it_stands() {
        let issues = [issue(9, "ada", "User", &format!("## Bug\n\n{TEXT}")), issue(7, "grace", "User", TEXT)];
        let kept = examples(&issues);
        assert_eq!(kept[0].body, format!("## Bug\n\n{TEXT}"));
        assert_eq!((kept[0].title.as_deref(), kept[1].title.as_deref()), (Some("title 9"), Some("title 7")));
        assert!(kept.iter().all(|example| example.origin == StyleOrigin::Issue));
    }

    #[test]
    fn bots_one_liners_and_empty_ones_are_left_out() {
        let no_body: Issue =
            serde_json::from_value(json!({"number": 1, "title": "t", "body": null, "user": null})).unwrap();
        let issues = [
            issue(5, "dependabot[bot]", "Bot", TEXT),
            issue(4, "sentry-acme", "Bot", TEXT),
            issue(3, "renovate-bot", "User", TEXT),
            issue(2, "ada", "User", "It does not work, please fix."),
            no_body,
        ];
        assert_eq!(examples(&issues), []);
    }

    #[test]
    fn a_template_without_words_of_ones_own_is_left_out_even_if_it_has_prose() {
        let template = "Please describe the problem in a few sentences so that we can help you as quickly as possible, and do not forget \
                        to say which version you use and on which system it runs.";
        let mut issues: Vec<Issue> =
            (10..16).map(|n| issue(n, "ada", "User", &format!("{template}\n\nv1.{n}"))).collect();
        issues.push(issue(3, "grace", "User", &format!("{template}\n\n{TEXT}")));
        let kept = examples(&issues);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].title.as_deref(), Some("title 3"), "with the template, as it stands there");
    }

    #[test]
    fn no_more_than_a_hundred_are_kept() {
        let issues: Vec<Issue> = (0..130).rev().map(|n| issue(n, "ada", "User", &format!("{n}: {TEXT}"))).collect();
        let kept = examples(&issues);
        assert_eq!((kept.len(), kept[0].title.as_deref()), (WANTED, Some("title 129")));
    }
}
