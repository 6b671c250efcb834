//! Whether a patch touches a function that was set aside for evaluation; what becomes of one that does is decided elsewhere.

mod changes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sera_crds::contract::{FunctionRef, IndexedFunction};

use self::changes::{Change, changes};

/// Two functions with the same text are twins if it has at least this many lines: shorter ones are alike by accident.
const MIN_TWIN_LINES: u32 = 3;

/// The functions that were set aside, at every commit: those that are marked, and those that are the same by file and name, by text, or by a file's
/// name where the file has moved.
pub(crate) struct HeldOut {
    spans: HashMap<(u32, Arc<str>), Vec<Span>>,
}

struct Span {
    name: Arc<str>,
    lines: (u32, u32),
}

/// What is known of a function while the spans are found.
struct Known {
    snapshot: u32,
    file: Arc<str>,
    name: Arc<str>,
    lines: (u32, u32),
    digest: u64,
    held_out: bool,
}

impl HeldOut {
    /// The functions that were set aside among all of an index.
    pub(crate) fn of(functions: impl IntoIterator<Item = IndexedFunction>) -> Self {
        let mut names: HashSet<Arc<str>> = HashSet::new();
        let mut shared = |text: String| -> Arc<str> {
            let text: Arc<str> = text.into();
            if let Some(known) = names.get(&text) {
                return known.clone();
            }
            names.insert(text.clone());
            text
        };
        let known: Vec<Known> = functions
            .into_iter()
            .map(|function| Known {
                snapshot: function.snapshot,
                file: shared(function.file),
                name: shared(function.name),
                lines: function.lines,
                digest: u64::from_str_radix(&function.digest, 16).unwrap_or_default(),
                held_out: function.held_out,
            })
            .collect();
        let marks = Marks::of(&known);
        let mut spans: HashMap<_, Vec<Span>> = HashMap::new();
        for function in known.iter().filter(|function| marks.cover(function)) {
            let span = Span { name: function.name.clone(), lines: function.lines };
            spans.entry((function.snapshot, function.file.clone())).or_default().push(span);
        }
        Self { spans }
    }

    /// The first function set aside that a patch of that snapshot touches.
    pub(crate) fn touched(&self, snapshot: u32, patch: &str) -> Option<FunctionRef> {
        changes(patch).find_map(|change| {
            let key = (snapshot, Arc::from(change.file.as_str()));
            let (_, file) = &key;
            let span = self.spans.get(&key)?.iter().find(|span| change.place.is_in(span.lines))?;
            Some(FunctionRef { snapshot, file: file.to_string(), name: span.name.to_string(), lines: span.lines })
        })
    }
}

/// Whether a patch changes something at a place where another patch of the same snapshot changes something.
pub(crate) fn is_near(wanted: &str, patch: &str) -> bool {
    let wanted: Vec<Change> = changes(wanted).collect();
    changes(patch)
        .any(|change| wanted.iter().any(|wanted| wanted.file == change.file && wanted.place.is_near(&change.place)))
}

/// What makes a function one that was set aside.
#[derive(Default)]
struct Marks<'a> {
    /// By file and name.
    named: HashSet<(&'a str, &'a str)>,
    /// By name and text.
    texts: HashSet<(&'a str, u64)>,
    /// By the file's name without its folders, and the function's: the snapshots and paths of those that were set aside.
    moved: HashMap<(&'a str, &'a str), Vec<(u32, &'a str)>>,
    /// The files of each snapshot.
    files: HashSet<(u32, &'a str)>,
}

impl<'a> Marks<'a> {
    fn of(functions: &'a [Known]) -> Self {
        let mut marks = Self::default();
        for function in functions {
            marks.files.insert((function.snapshot, &function.file));
            if function.held_out {
                marks.named.insert((&function.file, &function.name));
                marks.texts.insert((&function.name, function.digest));
                let places = marks.moved.entry((base_name(&function.file), &function.name)).or_default();
                places.push((function.snapshot, &function.file));
            }
        }
        marks
    }

    fn cover(&self, function: &Known) -> bool {
        let Known { snapshot, file, name, lines: (first, last), digest, held_out } = function;
        let is_twin = || last.saturating_sub(*first) + 1 >= MIN_TWIN_LINES && self.texts.contains(&(name, *digest));
        *held_out || self.named.contains(&(&**file, &**name)) || is_twin() || self.has_moved(*snapshot, file, name)
    }

    /// Whether a file of the same name that was set aside in another snapshot may be this one: neither snapshot has both.
    fn has_moved(&self, snapshot: u32, file: &str, name: &str) -> bool {
        let places = self.moved.get(&(base_name(file), name));
        places
            .into_iter()
            .flatten()
            .any(|(other, path)| !self.files.contains(&(snapshot, *path)) && !self.files.contains(&(*other, file)))
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sera_crds::contract::FunctionKind;
    use sera_crds::values::Language;

    use super::*;
    use crate::testing::damaged;

    fn function(
        snapshot: u32,
        file: &str,
        name: &str,
        lines: (u32, u32),
        digest: u64,
        held_out: bool,
    ) -> IndexedFunction {
        IndexedFunction {
            snapshot,
            file: file.to_owned(),
            name: name.to_owned(),
            kind: FunctionKind::Function,
            language: Language::Python,
            lines,
            digest: format!("{digest:016x}"),
            calls: Vec::new(),
            callers: Vec::new(),
            held_out,
        }
    }

    /// Three snapshots: `kept.py` is set aside; in the oldest it lies elsewhere, and its lines are shifted.
    fn held_out() -> HeldOut {
        HeldOut::of([
            function(0, "src/kept.py", "open", (10, 20), 1, true),
            function(0, "src/kept.py", "Session.close", (30, 40), 2, true),
            function(0, "src/other.py", "open", (10, 20), 3, false),
            function(1, "src/kept.py", "open", (110, 121), 4, true),
            function(1, "src/other.py", "open", (10, 20), 3, false),
            function(2, "lib/old/kept.py", "Session.close", (3, 13), 5, false),
            function(2, "lib/old/kept.py", "more", (20, 30), 6, false),
            function(2, "lib/copied.py", "open", (50, 60), 1, false),
            function(2, "lib/copied.py", "free", (70, 80), 7, false),
        ])
    }

    fn patch(file: &str, hunk: &str) -> String {
        format!("diff --git a/{file} b/{file}\nindex 1..2 100644\n--- a/{file}\n+++ b/{file}\n{hunk}")
    }

    #[test]
    fn ten_patches_that_touch_what_was_set_aside_are_found() {
        let held_out = held_out();
        let change = "-    old\n+    new\n";
        for (snapshot, patch, name) in [
            (0, patch("src/kept.py", &format!("@@ -15 +15 @@ def open\n{change}")), "open"),
            (0, patch("src/kept.py", &format!("@@ -8,3 +8,3 @@\n a\n b\n{change}")), "open"),
            (0, patch("src/kept.py", &format!("@@ -18,3 +18,3 @@\n a\n b\n{change}")), "open"),
            (0, patch("src/kept.py", &format!("@@ -1 +1 @@\n-x\n+y\n@@ -35 +35 @@\n{change}")), "Session.close"),
            (0, patch("src/kept.py", "@@ -11,0 +12 @@\n+    added\n"), "open"),
            (0, patch("src/kept.py", "@@ -20,0 +21 @@\n+    added at the end\n"), "open"),
            (1, patch("src/kept.py", &format!("@@ -121 +121 @@\n{change}")), "open"),
            (2, patch("lib/old/kept.py", &format!("@@ -13 +13 @@\n{change}")), "Session.close"),
            (2, patch("lib/copied.py", &format!("@@ -60 +60 @@\n{change}")), "open"),
            (
                0,
                format!(
                    "{}diff --git a/src/kept.py b/src/gone.py\nsimilarity index 100%\nrename from src/kept.py\nrename to src/gone.py\n",
                    patch("src/other.py", &format!("@@ -1 +1 @@\n{change}"))
                ),
                "open",
            ),
        ] {
            let touched = held_out.touched(snapshot, &patch);
            assert_eq!(touched.map(|function| function.name).as_deref(), Some(name), "{patch}");
        }
    }

    #[test]
    fn ten_patches_that_do_not_are_left_alone() {
        let held_out = held_out();
        let change = "-    old\n+    new\n";
        for (snapshot, patch) in [
            (0, patch("src/other.py", &format!("@@ -15 +15 @@\n{change}"))),
            (0, patch("src/kept.py", &format!("@@ -9 +9 @@\n{change}"))),
            (0, patch("src/kept.py", &format!("@@ -21 +21 @@\n{change}"))),
            (0, patch("src/kept.py", "@@ -20,0 +21 @@\n+added = 1\n")),
            (0, patch("src/kept.py", "@@ -9,0 +10 @@\n+    before it\n")),
            (0, patch("src/kept.py", &format!("@@ -22,3 +22,3 @@\n a\n b\n c\n@@ -25 +25 @@\n{change}"))),
            (1, patch("src/kept.py", &format!("@@ -15 +15 @@\n{change}"))),
            (2, patch("lib/old/kept.py", &format!("@@ -25 +25 @@\n{change}"))),
            (2, patch("lib/copied.py", &format!("@@ -75 +75 @@\n{change}"))),
            (0, String::new()),
        ] {
            assert_eq!(held_out.touched(snapshot, &patch), None, "{patch}");
        }
    }

    #[test]
    fn lines_that_look_like_headers_are_lines() {
        let held_out = held_out();
        let tricky = patch(
            "src/other.py",
            "@@ -1,2 +1,3 @@\n--- a/src/kept.py\n+++ b/src/kept.py\n+@@ -15 +15 @@\n x\n@@ -15 +16 @@\n-a\n+b\n",
        );
        assert_eq!(held_out.touched(0, &tricky), None);
    }

    #[test]
    fn a_patch_that_does_not_tell_a_files_lines_touches_all_of_them() {
        let held_out = held_out();
        let touched = |names: &str| {
            let patch = format!("diff --git a/x b/x\nindex 1..2 100644\nBinary files {names} differ\n");
            held_out.touched(0, &patch).map(|function| function.name)
        };
        for names in ["a/src/kept.py and b/src/kept.py", "a/src/kept.py and /dev/null"] {
            assert_eq!(touched(names).as_deref(), Some("open"), "{names}");
        }
        for names in ["a/src/other.py and b/src/other.py", "/dev/null and b/src/kept.py"] {
            assert_eq!(touched(names), None, "{names}");
        }
        let within = patch("src/other.py", "@@ -1 +1,2 @@\n Binary files a/src/kept.py and b/src/kept.py differ\n+x\n");
        assert_eq!(held_out.touched(0, &within), None, "a line that looks like it is a line");
    }

    const PATCH: &str = "diff --git a/src/kept.py b/src/kept.py\nrename from src/old.py\nBinary files a/x and b/x differ\n--- \"a/src/k\\303\\251pt.py\"\n+++ b/x\n@@ -9,3 +9,4 @@ class\n x\n-y\n+z\n+\n y\n";

    #[test]
    fn a_hunk_at_the_end_of_all_numbers_is_read() {
        for range in ["4294967295,2", "4294967295,0", "4294967295"] {
            let hunk = format!("@@ -{range} +4294967295,4294967295 @@\n-a\n b\n+c\n");
            assert_eq!(held_out().touched(0, &patch("src/kept.py", &hunk)), None);
        }
    }

    proptest! {
        #[test]
        fn no_patch_makes_the_reader_panic(patch in damaged(PATCH.as_bytes())) {
            let _ = held_out().touched(0, &String::from_utf8_lossy(&patch));
        }
    }
}
