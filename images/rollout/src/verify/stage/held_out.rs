//! Whether a patch touches a function that was set aside for evaluation before anything was generated. When in doubt it does: one trajectory less is
//! cheaper than an evaluation that means nothing.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};

use sera_crds::contract::IndexedFunction;

use crate::failure::{Cause, Explain};
use crate::store::{Store, StoreError};
use crate::verify::files::{ChangedLine, FileChange, files};

/// The functions of every snapshot.
const FUNCTIONS: &str = "snapshot/functions.jsonl.zst";
/// What says that there must be such a file.
const MANIFEST: &str = "snapshot/manifest.json";

/// Why nobody knows what was set aside.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeldOutError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index is gone.
    #[error("{FUNCTIONS} is missing in the store, although there is a snapshot: take the snapshot again")]
    Missing,
    /// The index is damaged.
    #[error("{FUNCTIONS} in the store is damaged ({0}): take the snapshot again")]
    Damaged(#[source] std::io::Error),
}

impl Explain for HeldOutError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Missing | Self::Damaged(_) => Cause::conflict("SnapshotDamaged"),
        }
    }
}

/// The functions that were set aside, by file.
#[derive(Debug, Default)]
pub(super) struct HeldOut {
    /// The first and last lines of functions, by snapshot and file.
    spans: HashMap<(u32, Vec<u8>), Vec<(u32, u32)>>,
    /// Files that have such functions at any snapshot.
    files: HashSet<Vec<u8>>,
}

impl HeldOut {
    /// What the snapshot's index says. Where there is no snapshot, nothing was set aside.
    pub(super) async fn read(store: &Store) -> Result<Self, HeldOutError> {
        let Some(packed) = store.read_data(FUNCTIONS).await? else {
            if store.size(MANIFEST).await?.is_some() {
                return Err(HeldOutError::Missing);
            }
            tracing::warn!("the store has no snapshot: no function counts as set aside for evaluation");
            return Ok(Self::default());
        };
        let mut held_out = Self::default();
        for line in BufReader::new(zstd::Decoder::new(&packed[..]).map_err(HeldOutError::Damaged)?).split(b'\n') {
            let function = serde_json::from_slice(&line.map_err(HeldOutError::Damaged)?);
            held_out.add(function.map_err(|error| HeldOutError::Damaged(error.into()))?);
        }
        Ok(held_out)
    }

    /// Takes note of a function of the index.
    pub(super) fn add(&mut self, function: IndexedFunction) {
        if function.held_out {
            let file = function.file.into_bytes();
            self.files.insert(file.clone());
            self.spans.entry((function.snapshot, file)).or_default().push(function.lines);
        }
    }

    /// Whether a patch of that snapshot touches one.
    pub(super) fn is_touched(&self, snapshot: u32, patch: &[u8]) -> bool {
        !self.files.is_empty() && files(patch).iter().any(|file| self.is_touched_in(snapshot, file))
    }

    fn is_touched_in(&self, snapshot: u32, file: &FileChange<'_>) -> bool {
        let is_theirs = self.files.contains(file.path.as_ref());
        if file.problem.is_some() {
            // Nobody can say where its lines are, or even in which file.
            return is_theirs || file.path.is_empty();
        }
        // A file that another snapshot has is written anew.
        if file.added {
            return is_theirs;
        }
        let Some(spans) = self.spans.get(&(snapshot, file.path.to_vec())) else { return false };
        file.lines.iter().any(|line| spans.iter().any(|span| touches(line, *span)))
    }
}

/// Whether a line is in a function, or is added right before or after it.
fn touches(line: &ChangedLine<'_>, (first, last): (u32, u32)) -> bool {
    let (first, last) = (first as usize, last as usize);
    let from = if line.sign == b'+' { first.saturating_sub(1) } else { first };
    (from..=last).contains(&line.at)
}

#[cfg(test)]
mod tests {
    use sera_crds::contract::FunctionKind;
    use sera_crds::values::Language;

    use super::*;

    fn function(snapshot: u32, file: &str, lines: (u32, u32), held_out: bool) -> IndexedFunction {
        IndexedFunction {
            snapshot,
            file: file.into(),
            name: "f".into(),
            kind: FunctionKind::Function,
            language: Language::Python,
            lines,
            calls: Vec::new(),
            callers: Vec::new(),
            held_out,
        }
    }

    fn held_out() -> HeldOut {
        let mut held_out = HeldOut::default();
        held_out.add(function(0, "a.py", (10, 12), true));
        held_out.add(function(1, "a.py", (20, 22), true));
        held_out.add(function(0, "b.py", (10, 12), false));
        held_out
    }

    /// A patch that removes one line, or adds one after it.
    fn patch(file: &str, sign: char, at: u32) -> String {
        let range = if sign == '-' { format!("-{at} +{},0", at - 1) } else { format!("-{at},0 +{}", at + 1) };
        format!("diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n@@ {range} @@\n{sign}x\n")
    }

    #[test]
    fn lines_in_a_span_at_the_patch_s_own_snapshot_touch_it() {
        let held_out = held_out();
        for (sign, at, expected) in [
            ('-', 9, false),
            ('-', 10, true),
            ('-', 12, true),
            ('-', 13, false),
            ('+', 8, false),
            ('+', 9, true),
            ('+', 11, true),
            ('+', 12, true),
            ('+', 13, false),
        ] {
            assert_eq!(held_out.is_touched(0, patch("a.py", sign, at).as_bytes()), expected, "{sign}{at}");
        }
        assert!(!held_out.is_touched(1, patch("a.py", '-', 11).as_bytes()));
        assert!(held_out.is_touched(1, patch("a.py", '-', 21).as_bytes()));
        assert!(!held_out.is_touched(0, patch("b.py", '-', 11).as_bytes()), "that one is not set aside");
    }

    #[test]
    fn of_ten_seeded_patches_ten_are_found_whatever_else_they_do() {
        let held_out = held_out();
        for n in 0..10 {
            let touching = patch("a.py", if n % 2 == 0 { '-' } else { '+' }, 10 + n % 3);
            let all = format!("{}{touching}{}", patch("b.py", '-', 1 + n), patch("c.py", '+', 1 + n));
            assert!(held_out.is_touched(0, all.as_bytes()), "{all}");
        }
    }

    #[test]
    fn what_cannot_be_told_counts_as_touched() {
        let held_out = held_out();
        let broken = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,9 +1,9 @@\n-x\n";
        assert!(held_out.is_touched(0, broken.as_bytes()) && held_out.is_touched(7, broken.as_bytes()));
        assert!(!held_out.is_touched(0, broken.replace("a.py", "b.py").as_bytes()));
        assert!(held_out.is_touched(0, b"+x\n"), "no file is named");
        let anew = "diff --git a/a.py b/a.py\nnew file mode 100644\n--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+x\n";
        assert!(held_out.is_touched(5, anew.as_bytes()));
        assert!(!HeldOut::default().is_touched(0, broken.as_bytes()));
    }
}
