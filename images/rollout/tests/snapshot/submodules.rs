//! Submodules: a name where nobody asks for more, and their content where somebody does.

use std::path::Path;

use sera_git_server::{GitServer, GitServerConfig};

use crate::support::{Finished, Place, git, git_as_ada};

/// A repository with one file and, where they are given, submodules by path and address. Returns its newest commit.
fn made(place: &Place, name: &str, submodules: &[(&str, &str, &str)]) -> String {
    let work = place.path(&format!("work-{name}"));
    std::fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "--quiet", "-b", "main"]);
    std::fs::write(work.join(format!("{name}.rs")), format!("fn {name}() {{}}\n")).unwrap();
    git(&work, &["add", "."]);
    let mut modules = String::new();
    for (path, address, commit) in submodules {
        git(&work, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
        if !address.is_empty() {
            modules.extend(["[submodule \"the ", path, "\"]\n\tpath = ", path, "\n\turl = ", address, "\n"]);
        }
    }
    if !modules.is_empty() {
        std::fs::write(work.join(".gitmodules"), modules).unwrap();
        git(&work, &["add", ".gitmodules"]);
    }
    git_as_ada(&work, &["commit", "--quiet", "-m", name]);
    let bare = place.path(&format!("repositories/acme/{name}.git"));
    git(&place.path(""), &["clone", "--quiet", "--bare", work.to_str().unwrap(), bare.to_str().unwrap()]);
    git(&work, &["rev-parse", "HEAD"])
}

/// `app` has `lib` in it, that has `deep` in it; and a link that `.gitmodules` does not name.
fn nested(place: &Place) {
    let deep = made(place, "deep", &[]);
    let lib = made(place, "lib", &[("third party/deep", "../deep.git", &deep)]);
    made(place, "app", &[("vendor/lib", "../lib.git", &lib), ("stale", "", &"1".repeat(40))]);
}

fn tree_of(place: &Place, finished: &Finished, clone: &str) -> Vec<String> {
    git(&place.path(""), &["clone", "--quiet", "--bare", finished.bundle().to_str().unwrap(), clone]);
    let clone = place.path(clone);
    git(&clone, &["fsck", "--strict", "--no-dangling"]);
    let listing = git(&clone, &["ls-tree", "-r", "HEAD"]);
    listing
        .lines()
        .map(|line| line.replacen('\t', " ", 1))
        .map(|line| line.split(' ').step_by(3).map(String::from).collect::<Vec<_>>().join(" "))
        .collect()
}

fn paths(clone: &Path) -> Vec<String> {
    git(clone, &["ls-tree", "-r", "--name-only", "HEAD"]).lines().map(str::to_owned).collect()
}

#[test]
fn their_content_stands_in_place_of_their_names_at_any_depth_where_it_is_asked_for() {
    let place = Place::new();
    nested(&place);
    let server = GitServer::start(GitServerConfig::new(place.path("repositories"))).unwrap();
    let folder = place.path("repositories/acme/app.git");
    let mut bundles = Vec::new();
    for (n, url) in [folder.to_str().unwrap(), &server.url("acme/app.git")].into_iter().enumerate() {
        let whole = place.snapshot(url, &format!("whole-{n}")).switch("--submodules").run();
        whole.result();
        tree_of(&place, &whole, &format!("whole-{n}.git"));
        assert_eq!(
            paths(&place.path(&format!("whole-{n}.git"))),
            [
                ".gitmodules",
                "app.rs",
                "stale",
                "vendor/lib/.gitmodules",
                "vendor/lib/lib.rs",
                "vendor/lib/third party/deep/deep.rs"
            ]
        );
        bundles.push(whole.bundle_bytes());
        assert!(whole.manifest().source.submodules);

        let names = place.snapshot(url, &format!("names-{n}")).run();
        names.result();
        tree_of(&place, &names, &format!("names-{n}.git"));
        assert_eq!(paths(&place.path(&format!("names-{n}.git"))), [".gitmodules", "app.rs", "stale", "vendor/lib"]);
    }
    assert_eq!(bundles[0], bundles[1], "whichever way they came");
    let other = place.snapshot(folder.to_str().unwrap(), "names-0").switch("--submodules").run();
    assert_eq!((other.code, other.failure().reason.as_str()), (Some(12), "SnapshotOfAnotherSource"));
}

#[test]
fn what_cannot_be_taken_is_named_with_what_to_do_and_leaves_nothing() {
    let place = Place::new();
    let lib = made(&place, "lib", &[]);
    made(&place, "elsewhere", &[("dep", "https://git.invalid/dep.git", &lib)]);
    made(&place, "missing", &[("dep", "../no-such.git", &lib)]);
    made(&place, "lost", &[("dep", "../lib.git", &"2".repeat(40))]);
    made(&place, "odd", &[("dep", "ext::sh -c id", &lib)]);
    for (name, reason, words) in [
        ("elsewhere", "SubmodulesUnusable", "without submodules it stays a name"),
        ("odd", "SubmodulesUnusable", "has an address that cannot be used"),
        ("missing", "NotARepository", "the submodule at dep cannot be taken"),
        ("lost", "GitFailed", "the submodule at dep cannot be taken"),
    ] {
        let url = place.path(&format!("repositories/acme/{name}.git"));
        let run = place.snapshot(url.to_str().unwrap(), name).switch("--submodules").run();
        let failure = run.failure();
        assert_eq!(failure.reason, reason, "{name}: {}", run.stderr);
        assert!(failure.message.contains(words), "{}", failure.message);
        assert!(!place.path(name).join("snapshot").exists(), "{name} left something");
        // The same repository is taken as ever by who does not ask for them.
        place.snapshot(url.to_str().unwrap(), &format!("{name}-names")).run().result();
    }
}
