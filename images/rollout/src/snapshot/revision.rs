//! Which commit a revision means, by what the server lists; and what its owner may have meant where it means none.

use crate::failure::{Cause, Explain, Field};

/// Names that a message offers instead of a wrong one.
const OFFERED: usize = 5;
/// The fewest digits that are taken for a shortened commit id; git itself shows seven at least.
const SHORTEST_ID: usize = 7;

/// What has to be fetched for a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A reference by its whole name: `HEAD`, `refs/heads/main`.
    Reference(String),
    /// A commit by its whole id.
    Commit(String),
    /// A commit by the beginning of its id: only who has the history knows the rest.
    Shortened(String),
}

/// Why a revision cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RevisionError {
    /// The repository has no commit at all.
    #[error("{url} is empty: push a commit to it first")]
    EmptyRepository {
        /// The repository.
        url: String,
    },
    /// The default branch has no commit, but others have.
    #[error("the default branch of {url} has no commit: name another revision ({hint})")]
    NoDefault {
        /// The repository.
        url: String,
        /// What there is.
        hint: String,
    },
    /// Nothing has that name.
    #[error("{url} has no branch, tag or commit '{revision}' ({hint})")]
    NotFound {
        /// The repository.
        url: String,
        /// The revision.
        revision: String,
        /// What it may have meant, or what there is.
        hint: String,
    },
    /// The name is a file's or a folder's.
    #[error(
        "'{revision}' of {url} is no commit: a tag can name a file or folder as well; name a commit, or a branch or tag of one"
    )]
    NoCommit {
        /// The repository.
        url: String,
        /// The revision.
        revision: String,
    },
    /// Several commits begin so.
    #[error("several commits of {url} begin with '{revision}': write more of the commit's id")]
    Ambiguous {
        /// The repository.
        url: String,
        /// The revision.
        revision: String,
    },
}

impl Explain for RevisionError {
    fn explain(&self) -> Cause {
        match self {
            Self::EmptyRepository { .. } => Cause::configuration("RepositoryEmpty", Field::Url),
            Self::NoDefault { .. } | Self::NotFound { .. } => Cause::configuration("RevisionNotFound", Field::Revision),
            Self::NoCommit { .. } => Cause::configuration("RevisionNotACommit", Field::Revision),
            Self::Ambiguous { .. } => Cause::configuration("RevisionAmbiguous", Field::Revision),
        }
    }
}

/// What a server lists.
#[derive(Debug)]
pub(crate) struct References {
    url: String,
    names: Vec<String>,
    /// Digits of an object id: 40, or 64 where the repository uses sha256.
    id_digits: usize,
}

impl References {
    /// Reads the output of `git ls-remote`; `url` is for messages.
    pub(crate) fn parse(url: &str, listing: &str) -> Result<Self, RevisionError> {
        let lines: Vec<(&str, &str)> = listing.lines().filter_map(|line| line.split_once('\t')).collect();
        let id_digits =
            lines.first().map(|(id, _)| id.len()).ok_or(RevisionError::EmptyRepository { url: url.to_owned() })?;
        let names = lines.into_iter().map(|(_, name)| name.to_owned()).collect();
        Ok(Self { url: url.to_owned(), names, id_digits })
    }

    /// The name that git gives to the repository's hash function.
    pub(crate) fn object_format(&self) -> &'static str {
        if self.id_digits == 64 { "sha256" } else { "sha1" }
    }

    /// What `revision` means: a whole reference name first, then a branch, a tag, a commit.
    pub(crate) fn find(&self, revision: &str) -> Result<Target, RevisionError> {
        let candidates = [revision.to_owned(), format!("refs/heads/{revision}"), format!("refs/tags/{revision}")];
        let whole_name = |name: &String| name == "HEAD" || name.starts_with("refs/");
        if let Some(name) = candidates.into_iter().filter(whole_name).find(|name| self.names.contains(name)) {
            return Ok(Target::Reference(name));
        }
        if revision == "HEAD" {
            return Err(RevisionError::NoDefault { url: self.url.clone(), hint: self.hint(revision) });
        }
        let is_id = revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        match revision.len() {
            digits if is_id && digits == self.id_digits => Ok(Target::Commit(revision.to_ascii_lowercase())),
            digits if is_id && (SHORTEST_ID..self.id_digits).contains(&digits) => {
                Ok(Target::Shortened(revision.to_ascii_lowercase()))
            }
            _ => Err(self.not_found(revision)),
        }
    }

    /// The error for a revision that nothing is called by.
    pub(crate) fn not_found(&self, revision: &str) -> RevisionError {
        RevisionError::NotFound { url: self.url.clone(), revision: revision.to_owned(), hint: self.hint(revision) }
    }

    /// Names like `revision`, or else the branches that there are.
    fn hint(&self, revision: &str) -> String {
        let short = |kind: &'static str| self.names.iter().filter_map(move |name| name.strip_prefix(kind));
        let (branches, tags): (Vec<&str>, Vec<&str>) =
            (short("refs/heads/").collect(), short("refs/tags/").filter(|tag| !tag.ends_with("^{}")).collect());
        let mut near: Vec<(usize, &str)> = branches
            .iter()
            .chain(&tags)
            .filter_map(|name| likeness(name, revision).map(|distance| (distance, *name)))
            .collect();
        near.sort_unstable();
        near.dedup();
        if !near.is_empty() {
            let names: Vec<String> = near.iter().take(OFFERED).map(|(_, name)| format!("'{name}'")).collect();
            return format!("did you mean {}?", names.join(" or "));
        }
        if branches.is_empty() {
            return "it has no branches".to_owned();
        }
        let names: Vec<String> = branches.iter().take(OFFERED).map(|name| format!("'{name}'")).collect();
        let more = branches.len().saturating_sub(OFFERED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("its branches are {}{more}", names.join(", "))
    }
}

/// How far a name is from what was written, where it is near: a slip of the fingers, another case, or a prefix forgotten.
fn likeness(name: &str, written: &str) -> Option<usize> {
    let (name, written) = (name.to_lowercase(), written.to_lowercase());
    let written =
        written.trim_start_matches("refs/heads/").trim_start_matches("refs/tags/").trim_start_matches("origin/");
    let distance = strsim::damerau_levenshtein(&name, written);
    let slip = distance <= 1 + written.chars().count() / 4;
    let forgotten = written.len() >= 3 && (name.ends_with(&format!("/{written}")) || name == format!("v{written}"));
    (slip || forgotten).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789012345678901234567890123456789";

    fn references(names: &[&str]) -> References {
        let listing = crate::git::lines(names.iter().map(|name| format!("{ID}\t{name}")));
        References::parse("https://h/a", &listing).unwrap()
    }

    fn target(revision: &str) -> Result<Target, RevisionError> {
        references(&[
            "HEAD",
            "refs/heads/main",
            "refs/heads/both",
            "refs/tags/both",
            "refs/tags/v1.0",
            "refs/tags/v1.0^{}",
            "refs/pull/7/head",
        ])
        .find(revision)
    }

    #[test]
    fn a_whole_name_goes_before_a_branch_and_a_branch_before_a_tag_and_a_commit() {
        let reference = |name: &str| Ok(Target::Reference(name.to_owned()));
        assert_eq!(target("HEAD"), reference("HEAD"));
        assert_eq!(target("main"), reference("refs/heads/main"));
        assert_eq!(target("both"), reference("refs/heads/both"));
        assert_eq!(target("v1.0"), reference("refs/tags/v1.0"));
        assert_eq!(target("refs/pull/7/head"), reference("refs/pull/7/head"));
        assert_eq!(target(&ID.to_uppercase()), Ok(Target::Commit(ID.to_owned())));
        assert_eq!(target("DEADBEEF"), Ok(Target::Shortened("deadbeef".to_owned())));
    }

    #[test]
    fn a_wrong_name_is_answered_with_near_ones_or_with_the_branches() {
        let hint = |revision: &str| target(revision).unwrap_err().to_string();
        assert!(hint("mian").contains("did you mean 'main'?"), "{}", hint("mian"));
        assert!(hint("origin/main").contains("'main'"));
        assert!(hint("1.0").contains("'v1.0'"));
        assert!(hint("nothing-like-it").contains("its branches are 'main', 'both'"), "{}", hint("nothing-like-it"));
        assert!(
            target("main~3").is_err()
                && target("abc12").is_err()
                && target("").is_err()
                && target("pull/7/head").is_err()
        );
    }

    #[test]
    fn of_many_branches_a_few_are_named() {
        let names: Vec<String> = (0..12).map(|n| format!("refs/heads/team/branch-{n:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let error = references(&names).find("HEAD").unwrap_err();
        assert!(
            matches!(error, RevisionError::NoDefault { .. }) && error.to_string().contains("and 7 more"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_repository_is_called_so() {
        assert!(matches!(References::parse("https://h/a", ""), Err(RevisionError::EmptyRepository { .. })));
    }

    #[test]
    fn the_hash_function_is_told_by_the_length_of_its_ids() {
        assert_eq!(references(&["HEAD"]).object_format(), "sha1");
        let listing = format!("{}\tHEAD\n", "0".repeat(64));
        let references = References::parse("https://h/a", &listing).unwrap();
        assert_eq!(references.object_format(), "sha256");
        assert!(matches!(references.find(ID), Ok(Target::Shortened(_))));
    }
}
