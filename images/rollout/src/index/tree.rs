//! The files of a commit as git lists them, and what the commit's `.gitattributes` say of them. Only git reads either: nothing is checked out.

use std::collections::HashMap;

use super::eligible::Attributes;
use crate::git::{Git, GitError, Run};

/// The index that attributes are read from, in git's home.
const ATTRIBUTES_INDEX: &str = "attributes.index";
/// What is asked of every file; GitHub's linguist defines them.
const ASKED: [&str; 3] = ["linguist-generated", "linguist-vendored", "linguist-documentation"];

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    /// Its object id.
    pub(super) blob: String,
    /// Its size in bytes.
    pub(super) bytes: u64,
}

/// The files of a commit, sorted by path.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    /// How many files have names that are not UTF-8.
    pub(super) unnamed: u64,
}

/// Lists the files of a tree; links and submodules are none.
pub(super) async fn list(git: &Git, repository: &str, tree: &str) -> Result<Listing, GitError> {
    let repository = format!("--git-dir={repository}");
    let arguments = [repository.as_str(), "ls-tree", "-r", "-z", "-l", tree];
    let mut listing = Listing::default();
    let mut record = Vec::new();
    git.run(Run { arguments: &arguments, ..Run::default() }, |bytes| {
        for &byte in bytes {
            if byte == 0 {
                listing.take(&record);
                record.clear();
            } else {
                record.push(byte);
            }
        }
        Ok(())
    })
    .await?;
    listing.entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(listing)
}

impl Listing {
    /// Takes `100644 blob <id>    <size>\t<path>`.
    fn take(&mut self, record: &[u8]) {
        let Some(tab) = record.iter().position(|byte| *byte == b'\t') else { return };
        let (described, path) = (String::from_utf8_lossy(&record[..tab]), &record[tab + 1..]);
        let fields: Vec<&str> = described.split_whitespace().collect();
        let [mode, "blob", blob, size] = fields[..] else { return };
        if mode == "120000" {
            return;
        }
        match std::str::from_utf8(path) {
            Ok(path) => self.entries.push(Entry {
                path: path.to_owned(),
                blob: blob.to_owned(),
                bytes: size.parse().unwrap_or(u64::MAX),
            }),
            Err(_) => self.unnamed += 1,
        }
    }

    fn has_attributes(&self) -> bool {
        self.entries.iter().any(|entry| entry.path.rsplit('/').next() == Some(".gitattributes"))
    }
}

/// What the tree's `.gitattributes` say of these files; of those that are not in the answer they say nothing. git's own index is filled for it
/// (`check-attr --source` would spare that, from git 2.40 on).
pub(super) async fn attributes(
    git: &Git,
    repository: &str,
    tree: &str,
    listing: &Listing,
    paths: &[&str],
) -> Result<HashMap<String, Attributes>, GitError> {
    if !listing.has_attributes() || paths.is_empty() {
        return Ok(HashMap::new());
    }
    let repository = format!("--git-dir={repository}");
    let environment = [("GIT_INDEX_FILE", ATTRIBUTES_INDEX)];
    let arguments = [repository.as_str(), "read-tree", tree];
    git.output(Run { arguments: &arguments, environment: &environment, ..Run::default() }).await?;

    let input: String = paths.iter().flat_map(|path| [*path, "\0"]).collect();
    let arguments = [&[repository.as_str(), "check-attr", "--cached", "--stdin", "-z"], &ASKED[..]].concat();
    let run = Run { arguments: &arguments, environment: &environment, input: &input, ..Run::default() };
    Ok(said(&git.output(run).await?))
}

/// Reads `path NUL attribute NUL value NUL`, over and over.
fn said(output: &str) -> HashMap<String, Attributes> {
    let mut said: HashMap<String, Attributes> = HashMap::new();
    let mut fields = output.split('\0');
    while let (Some(path), Some(attribute), Some(value)) = (fields.next(), fields.next(), fields.next()) {
        let value = match value {
            "set" | "true" => true,
            "unset" | "false" => false,
            _ => continue,
        };
        let attributes = said.entry(path.to_owned()).or_default();
        match attribute {
            "linguist-generated" => attributes.generated = Some(value),
            "linguist-vendored" => attributes.vendored = Some(value),
            _ => attributes.documentation = Some(value),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_names_are_listed() {
        let mut listing = Listing::default();
        for record in [
            &b"100644 blob 11      12\tsrc/a b.py"[..],
            b"100755 blob 22       1\trun.py",
            b"120000 blob 33       4\tlink.py",
            b"160000 commit 44       -\tmodule",
            b"100644 blob 55       9\tcaf\xe9.py",
        ] {
            listing.take(record);
        }
        let paths: Vec<(&str, u64)> = listing.entries.iter().map(|entry| (entry.path.as_str(), entry.bytes)).collect();
        assert_eq!((paths, listing.unnamed), (vec![("src/a b.py", 12), ("run.py", 1)], 1));
    }

    #[test]
    fn attributes_are_set_unset_or_not_said() {
        let said = said(
            "a\0linguist-generated\0set\0a\0linguist-vendored\0unspecified\0b\0linguist-vendored\0false\0b\0linguist-documentation\0true\0",
        );
        assert_eq!(said["a"], Attributes { generated: Some(true), ..Attributes::default() });
        let b = Attributes { vendored: Some(false), documentation: Some(true), ..Attributes::default() };
        assert_eq!(said["b"], b);
    }
}
