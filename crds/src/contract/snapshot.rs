//! `snapshot/manifest.json`: what the snapshot stage commits last, and what every later stage reads first.

use serde::{Deserialize, Serialize};

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
}

impl SnapshotManifest {
    /// Every file beside the manifest, in the order in which they are stored.
    pub fn files(&self) -> Vec<&SnapshotFile> {
        vec![&self.bundle]
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
}

/// One commit of the source and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshottedCommit {
    /// The source's object id.
    pub original: String,
    /// The parentless commit in the bundle that has the same tree: nothing of the past or the future can leak from it.
    pub commit: String,
    /// The tree of both.
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

    #[test]
    fn a_manifest_is_camel_case_json_without_a_time_of_its_own() {
        let manifest = SnapshotManifest {
            version: 1,
            source: SnapshotSource {
                url: "https://git.example/a.git".into(),
                revision: "main".into(),
                commits: 2,
                lookback_days: 365,
            },
            commits: vec![SnapshottedCommit {
                original: "11".into(),
                commit: "22".into(),
                tree: "33".into(),
                reference: "refs/snapshots/0".into(),
                committed_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            }],
            bundle: SnapshotFile { path: "repository.bundle".into(), bytes: 9, sha256: "44".into() },
        };
        assert_eq!(
            serde_json::to_value(&manifest).unwrap(),
            serde_json::json!({
                "version": 1,
                "source": {"url": "https://git.example/a.git", "revision": "main", "commits": 2, "lookbackDays": 365},
                "commits": [{"original": "11", "commit": "22", "tree": "33", "reference": "refs/snapshots/0", "committedAt": "2026-01-02T03:04:05Z"}],
                "bundle": {"path": "repository.bundle", "bytes": 9, "sha256": "44"},
            })
        );
    }
}
