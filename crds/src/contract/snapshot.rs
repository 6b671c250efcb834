//! `snapshot/manifest.json`: what the snapshot stage commits last, and what every later stage reads first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{IndexCounts, StyleOrigin};
use crate::values::{Glob, Language, Ratio};

/// The manifest of a snapshot. It carries no time of its own making: the same source gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotManifest {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// What was asked for.
    pub source: SnapshotSource,
    /// The commits that were taken, newest first; at least one.
    pub commits: Vec<SnapshottedCommit>,
    /// The git bundle that holds them: `repository.bundle`.
    pub bundle: SnapshotFile,
    /// Their functions: `functions.jsonl.zst`, one [`IndexedFunction`](super::IndexedFunction) a line.
    pub functions: SnapshotFile,
    /// What that file has of each commit, in the order of `commits`.
    pub index: Vec<IndexCounts>,
    /// Style examples for synthetic pull requests: `style.jsonl.zst`, a [`StyleExample`](super::StyleExample) a line.
    pub style: SnapshotFile,
    /// How many of them are of each origin.
    pub style_origins: BTreeMap<StyleOrigin, u32>,
}

impl SnapshotManifest {
    /// Every file beside the manifest, in the order in which they are stored.
    pub fn files(&self) -> Vec<&SnapshotFile> {
        vec![&self.bundle, &self.functions, &self.style]
    }
}

/// What a snapshot was asked to take; a second run that asks for something else is refused, not mixed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotSource {
    /// The repository's URL, without credentials.
    pub url: String,
    /// The branch, tag or commit as it was given; `HEAD` is the remote's default branch.
    pub revision: String,
    /// How many commits were asked for (there may be fewer in the window).
    pub commits: u32,
    /// The window that they are spread over, in days before the newest.
    pub lookback_days: u32,
    /// Whether the content of submodules stands in place of their names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub submodules: bool,
    /// Which functions were wanted.
    pub selection: FunctionSelection,
}

/// Which functions of a repository are indexed, and which of them are set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionSelection {
    /// Globs of the files that are wanted; none: all that are not left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Glob>,
    /// Globs of files that are left out even so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Glob>,
    /// The languages that are wanted; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<Language>,
    /// The share of functions that is set aside for evaluation, whole files together.
    pub held_out_fraction: Ratio,
    /// What decides which files those are.
    pub held_out_seed: u64,
}

/// One commit of the source and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshottedCommit {
    /// The source's object id.
    pub original: String,
    /// The parentless commit in the bundle that has the same tree: nothing of the past or the future can leak from it.
    pub commit: String,
    /// The tree: that of both, or where submodules were asked for, the source's with their content in it.
    pub tree: String,
    /// The reference in the bundle: `refs/snapshots/0` is the newest.
    pub reference: String,
    /// When the source's commit was made (committer's time, RFC 3339, UTC).
    pub committed_at: jiff::Timestamp,
}

/// A file beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotFile {
    /// Its name beside the manifest.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its sha256, in lower-case hexadecimal.
    pub sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::SkipReason;

    #[test]
    fn a_manifest_is_camel_case_json_without_a_time_of_its_own() {
        let manifest = SnapshotManifest {
            version: 1,
            source: SnapshotSource {
                url: "https://git.example/a.git".into(),
                revision: "main".into(),
                commits: 2,
                lookback_days: 365,
                selection: FunctionSelection {
                    include: vec!["src/**".parse().unwrap()],
                    exclude: Vec::new(),
                    languages: vec![Language::Go],
                    held_out_fraction: "0.05".parse().unwrap(),
                    held_out_seed: 42,
                },
                submodules: false,
            },
            commits: vec![SnapshottedCommit {
                original: "11".into(),
                commit: "22".into(),
                tree: "33".into(),
                reference: "refs/snapshots/0".into(),
                committed_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            }],
            bundle: SnapshotFile { path: "repository.bundle".into(), bytes: 9, sha256: "44".into() },
            functions: SnapshotFile { path: "functions.jsonl.zst".into(), bytes: 8, sha256: "55".into() },
            index: vec![IndexCounts {
                files: 2,
                functions: [(Language::Go, 7)].into(),
                held_out: 1,
                skipped: [(SkipReason::Test, 3)].into(),
            }],
            style: SnapshotFile { path: "style.jsonl.zst".into(), bytes: 7, sha256: "55".into() },
            style_origins: BTreeMap::from([(StyleOrigin::BuiltIn, 6)]),
        };
        assert_eq!(
            serde_json::to_value(&manifest).unwrap(),
            serde_json::json!({
                "version": 1,
                "source": {"url": "https://git.example/a.git", "revision": "main", "commits": 2, "lookbackDays": 365,
                    "selection": {"include": ["src/**"], "languages": ["Go"], "heldOutFraction": "0.05", "heldOutSeed": 42}},
                "commits": [{"original": "11", "commit": "22", "tree": "33", "reference": "refs/snapshots/0", "committedAt": "2026-01-02T03:04:05Z"}],
                "bundle": {"path": "repository.bundle", "bytes": 9, "sha256": "44"},
                "functions": {"path": "functions.jsonl.zst", "bytes": 8, "sha256": "55"},
                "index": [{"files": 2, "functions": {"Go": 7}, "heldOut": 1, "skipped": {"Test": 3}}],
                "style": {"path": "style.jsonl.zst", "bytes": 7, "sha256": "55"},
                "styleOrigins": {"BuiltIn": 6},
            })
        );
    }
}
