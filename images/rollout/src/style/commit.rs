//! Which commit messages show how people of a repository write: subject and body, without bots, merges, reverts and trailers.

use sera_crds::contract::{StyleExample, StyleOrigin};

use super::words::says_enough;
use super::{WANTED, example, is_bot};
use crate::git::{Git, GitError};

/// Commits that are looked at, as git takes it: where fewer than a hundred of two thousand have a message worth showing, so are those before.
const LOOKED_AT: &str = "--max-count=2000";
/// Who wrote it, under which address, its subject, its body; and between commits a NUL too, which no message can have.
const FORMAT: &str = "--format=%an%x00%ae%x00%s%x00%b";

/// A commit's message and its author.
struct Message<'a> {
    author: &'a str,
    address: &'a str,
    subject: &'a str,
    body: &'a str,
}

/// The newest messages that make good examples, at most a hundred, newest first.
pub(super) async fn messages(git: &Git, repository: &str, newest: &str) -> Result<Vec<StyleExample>, GitError> {
    let repository = format!("--git-dir={repository}");
    let arguments = [repository.as_str(), "log", "-z", "--no-merges", LOOKED_AT, FORMAT, newest, "--"];
    let listing = git.print(&arguments).await?;
    let fields: Vec<&str> = listing.split('\0').collect();
    let messages = fields.chunks_exact(4).map(|fields| Message {
        author: fields[0],
        address: fields[1],
        subject: fields[2],
        body: fields[3],
    });
    Ok(messages.filter_map(|message| as_example(&message)).take(WANTED).collect())
}

fn as_example(message: &Message<'_>) -> Option<StyleExample> {
    let by_bot =
        is_bot(message.author) || message.address.contains("[bot]") || is_bot(message.address.split('@').next()?);
    let made_by_git =
        ["Merge ", "Revert ", "fixup! ", "squash! "].iter().any(|start| message.subject.starts_with(start));
    if by_bot || made_by_git {
        return None;
    }
    let body = without_trailers(message.body);
    says_enough(body).then(|| example(StyleOrigin::CommitMessage, message.subject, body)).flatten()
}

/// A message's body without the trailers at its end: `Signed-off-by: …`, `Change-Id: …`, `(cherry picked from commit …)`.
fn without_trailers(body: &str) -> &str {
    let mut rest = body.trim_end();
    loop {
        let (before, last) = rest.rsplit_once('\n').unwrap_or(("", rest));
        if !is_trailer(last) {
            return rest;
        }
        rest = before.trim_end();
        if rest.is_empty() {
            return rest;
        }
    }
}

/// A word with dashes, a colon and a value, or what `git cherry-pick -x` adds.
fn is_trailer(line: &str) -> bool {
    let line = line.trim();
    let named = line.split_once(": ").is_some_and(|(key, value)| {
        let dashed =
            key.contains('-') || ["Closes", "Fixes", "Refs", "Cc", "Bug", "Link", "Issue", "See"].contains(&key);
        dashed && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !value.trim().is_empty()
    });
    named || (line.starts_with("(cherry picked from commit ") && line.ends_with(')'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "The cache kept the old rate when a currency was renamed,\nso that invoices of that day were wrong.\n\nLook the rate up by its code, \
                        which never changes, and drop what was cached under the name.";

    fn taken(author: &str, address: &str, subject: &str, body: &str) -> Option<StyleExample> {
        as_example(&Message { author, address, subject, body })
    }

    #[test]
    fn subject_and_body_are_kept_without_trailers() {
        let body = format!(
            "{BODY}\n\nFixes: #12\nSigned-off-by: Ada <ada@acme.example>\nCo-authored-by: Grace <g@acme.example>\n"
        );
        let kept = taken("Ada", "ada@acme.example", "Look rates up by code", &body).unwrap();
        assert_eq!((kept.title.as_deref(), kept.body.as_str()), (Some("Look rates up by code"), BODY));
        assert_eq!(kept.origin, StyleOrigin::CommitMessage);
        assert_eq!(without_trailers("Signed-off-by: Ada <a@b>\n"), "");
        assert_eq!(without_trailers("Note: this stays\n\n(cherry picked from commit 1f2e)"), "Note: this stays");
    }

    #[test]
    fn bots_merges_reverts_and_short_ones_are_left_out() {
        assert!(taken("Ada", "ada@acme.example", "Bump version", "").is_none());
        assert!(taken("Ada", "ada@acme.example", "Fix", "A typo in the name of a field.").is_none());
        assert!(
            taken("dependabot[bot]", "49699333+dependabot[bot]@users.noreply.github.com", "Bump x", BODY).is_none()
        );
        assert!(taken("Acme", "release-bot@acme.example", "Release", BODY).is_none());
        assert!(taken("Ada", "ada@acme.example", "Merge pull request #7", BODY).is_none());
        assert!(taken("Ada", "ada@acme.example", "Revert \"Look rates up by code\"", BODY).is_none());
    }
}
