//! Files whose lines say nothing about whether a change was found again: written by a tool, or left over from trying things out. By path alone; what
//! a repository's attributes say is the snapshot's business.

use serde::Serialize;

/// Why the lines of a file are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Exclusion {
    /// A package manager pinned versions in it: any change of a dependency rewrites hundreds of its lines.
    LockFile,
    /// A program made it from other files: its lines follow from theirs, and would be counted twice.
    Generated,
    /// It was added by this patch to try something out, and was forgotten: it is no part of the change.
    LeftOver,
}

/// Lock files by name, in lower case: of the package managers of the languages that the indexer knows, and of Nix, Helm and Bazel.
const LOCK_FILES: &[&str] = &[
    "bun.lock",
    "bun.lockb",
    "cargo.lock",
    "chart.lock",
    "composer.lock",
    "conan.lock",
    "deno.lock",
    "flake.lock",
    "gemfile.lock",
    "go.sum",
    "go.work.sum",
    "gradle.lockfile",
    "mix.lock",
    "module.bazel.lock",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "package.resolved",
    "packages.lock.json",
    "pdm.lock",
    "pipfile.lock",
    "pixi.lock",
    "pnpm-lock.yaml",
    "podfile.lock",
    "poetry.lock",
    "pubspec.lock",
    "uv.lock",
    "yarn.lock",
];

/// How the names of generated files end, in lower case: minified files and their maps, protobuf's and gRPC's, designers', recorded snapshots.
const GENERATED_ENDINGS: &[&str] = &[
    ".designer.cs",
    ".egg-info",
    ".g.cs",
    ".g.dart",
    ".generated.cs",
    ".min.css",
    ".min.js",
    ".css.map",
    ".js.map",
    ".pb.cc",
    ".pb.go",
    ".pb.gw.go",
    ".pb.h",
    ".pyc",
    ".snap",
    "_grpc.pb.go",
    "_pb2.py",
    "_pb2.pyi",
    "_pb2_grpc.py",
];

/// Folders, in lower case, in which everything is generated or somebody else's.
const GENERATED_FOLDERS: &[&str] =
    &["__pycache__", "__snapshots__", "node_modules", ".pytest_cache", ".mypy_cache", ".tox"];

/// How the names of files begin that agents make to reproduce a problem, in lower case, wherever they lie.
const REPRODUCTIONS: &[&str] = &["repro"];

/// And those that tell so only at the top of a repository; further down they may be its own tests.
const SCRATCH_AT_THE_TOP: &[&str] =
    &["check_", "debug", "demo_", "scratch", "temp_", "test_", "tmp", "try_", "verify_"];

/// How the names of copies end that editors and `patch` leave behind.
const BACKUPS: &[&str] = &[".bak", ".orig", ".rej", ".swp", "~"];

/// What scripts, and what they print, end in, in lower case: the names above say nothing about a document.
const SCRIPTS: &[&str] = &[
    "c", "cc", "cpp", "cs", "go", "java", "js", "kt", "mjs", "php", "pl", "py", "rb", "rs", "scala", "sh", "swift",
    "ts", "txt", "log",
];

/// Whether the lines of a file are not counted, and why. `added`: whether the patch itself makes the file.
pub(super) fn exclusion(path: &[u8], added: bool) -> Option<Exclusion> {
    let path = path.to_ascii_lowercase();
    let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path.as_slice()),
    };
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning.as_bytes()));
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending.as_bytes()));
    let generated_folder = |part: &[u8]| GENERATED_FOLDERS.iter().any(|known| part == known.as_bytes());

    if LOCK_FILES.iter().any(|known| name == known.as_bytes()) {
        Some(Exclusion::LockFile)
    } else if ends(GENERATED_ENDINGS) || folder.split(|byte| *byte == b'/').any(generated_folder) {
        Some(Exclusion::Generated)
    } else if added
        && (ends(BACKUPS)
            || is_script(name) && (begins(REPRODUCTIONS) || folder.is_empty() && begins(SCRATCH_AT_THE_TOP)))
    {
        Some(Exclusion::LeftOver)
    } else {
        None
    }
}

fn is_script(name: &[u8]) -> bool {
    let extension = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    extension.len() < name.len() && SCRIPTS.iter().any(|known| extension == known.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_known_by_its_path() {
        for (path, added, expected) in [
            ("Cargo.lock", false, Some(Exclusion::LockFile)),
            ("web/package-lock.json", false, Some(Exclusion::LockFile)),
            ("src/lock.rs", false, None),
            ("api/v1/types.pb.go", false, Some(Exclusion::Generated)),
            ("web/node_modules/a/index.js", false, Some(Exclusion::Generated)),
            ("src/map.js", false, None),
            ("reproduce_issue.py", true, Some(Exclusion::LeftOver)),
            ("pkg/repro.go", true, Some(Exclusion::LeftOver)),
            ("reproduce_issue.py", false, None),
            ("test_fix.py", true, Some(Exclusion::LeftOver)),
            ("tests/test_fix.py", true, None),
            ("src/model.py.orig", true, Some(Exclusion::LeftOver)),
            ("docs/reproducing.md", true, None),
            ("repro", true, None),
        ] {
            assert_eq!(exclusion(path.as_bytes(), added), expected, "{path}, added: {added}");
        }
    }

    #[test]
    fn the_tables_are_in_lower_case_as_they_are_compared() {
        let tables =
            [LOCK_FILES, GENERATED_ENDINGS, GENERATED_FOLDERS, REPRODUCTIONS, SCRATCH_AT_THE_TOP, BACKUPS, SCRIPTS];
        for entry in tables.concat() {
            assert_eq!(entry, entry.to_ascii_lowercase());
        }
    }
}
