//! What is in a snapshot, and that it is the same every time.

use sera_crds::contract::{SkipReason, StageResult};
use sera_crds::values::Language;

use crate::support::{DAY, Place, Snapshot, file_uri, git, git_as_ada, repository};

#[test]
fn commits_are_spread_over_the_window_and_stand_alone_with_their_trees() {
    let place = Place::new();
    let days: Vec<i64> = (0..=500).rev().step_by(5).collect();
    let source = repository(&place.path("source.git"), &days, 100);
    let finished = place.snapshot(source.to_str().unwrap(), "store").flag("--lookback-days", "400").run();
    let StageResult::Snapshot { manifest, commit, commits, bundle_bytes } = finished.result() else { panic!() };
    let document = finished.manifest();

    assert_eq!((manifest.path.as_str(), commits), ("snapshot/manifest.json", 5));
    assert_eq!(commit, git(&source, &["rev-parse", "main"]));
    assert_eq!(bundle_bytes, finished.bundle_bytes().len() as u64);
    assert_eq!(document.source.url, file_uri(&source));
    let newest = document.commits[0].committed_at.as_second();
    let ages: Vec<i64> =
        document.commits.iter().map(|commit| (newest - commit.committed_at.as_second()) / DAY).collect();
    assert_eq!(ages, [0, 100, 200, 300, 400]);

    git(&place.path(""), &["clone", "--quiet", finished.bundle().to_str().unwrap(), "clone"]);
    let clone = place.path("clone");
    git(&clone, &["fetch", "--quiet", "origin", "refs/snapshots/*:refs/snapshots/*"]);
    git(&clone, &["fsck", "--strict", "--no-dangling"]);
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), document.commits[0].commit);
    assert_eq!(git(&clone, &["rev-list", "--all", "--count"]), "5", "nothing but the snapshots");
    for taken in &document.commits {
        let described = git(&clone, &["log", "-1", "--format=%H|%P|%T|%ct|%B", &taken.reference]);
        let expected = format!("{}||{}|{}|snapshot", taken.commit, taken.tree, taken.committed_at.as_second());
        assert_eq!(described, expected);
        assert_eq!(git(&source, &["rev-parse", &format!("{}^{{tree}}", taken.original)]), taken.tree);
        // Every commit that was taken is on the first-parent line.
        let first_parents = git(&source, &["rev-list", "--first-parent", "main"]);
        assert!(first_parents.contains(&taken.original));
    }
    // An LFS pointer stays one, and a submodule is a name without content.
    assert!(git(&clone, &["show", "HEAD:data/model.bin"]).starts_with("version https://git-lfs"));
    assert!(git(&clone, &["ls-tree", "HEAD", "dep"]).starts_with("160000 commit 1111"));
    assert_eq!(git(&clone, &["ls-tree", "HEAD"]), git(&source, &["ls-tree", "main"]));
}

#[test]
fn nothing_of_the_source_but_trees_and_times_is_in_the_bundle() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[20, 10, 0], 0);
    let finished = place.snapshot(source.to_str().unwrap(), "store").flag("--commits", "2").run();
    finished.result();
    git(&place.path(""), &["clone", "--quiet", "--bare", finished.bundle().to_str().unwrap(), "clone.git"]);
    let clone = place.path("clone.git");
    git(&clone, &["fetch", "--quiet", "origin", "refs/snapshots/*:refs/snapshots/*"]);
    let kinds = git(&clone, &["cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"]);
    let commits: Vec<&str> = kinds.lines().filter_map(|line| line.strip_prefix("commit ")).collect();
    assert_eq!(commits.len(), 2);
    for commit in commits {
        let text = git(&clone, &["cat-file", "commit", commit]);
        assert!(!text.contains("Ada") && !text.contains("change") && !text.contains("parent"), "{text}");
    }
    // The middle commit was not taken, so its version of the file is nowhere.
    let blobs: Vec<&str> = kinds.lines().filter_map(|line| line.strip_prefix("blob ")).collect();
    let middle = git(&source, &["rev-parse", "main^:src/lib.rs"]);
    assert!(
        !blobs.contains(&middle.as_str()) && blobs.contains(&git(&source, &["rev-parse", "main:src/lib.rs"]).as_str())
    );
}

#[test]
fn two_runs_give_the_same_bytes_even_from_clones_that_are_packed_differently() {
    let place = Place::new();
    let days: Vec<i64> = (0..60).rev().collect();
    let source = repository(&place.path("source.git"), &days, 20_000);
    let first = place.snapshot(source.to_str().unwrap(), "first").run();
    let again = place.snapshot(source.to_str().unwrap(), "again").run();
    assert_eq!(first.result(), again.result());
    assert_eq!(first.manifest_bytes(), again.manifest_bytes());
    assert_eq!(first.bundle_bytes(), again.bundle_bytes());
    assert_eq!(first.functions_bytes(), again.functions_bytes());

    for (name, repack) in [
        ("loose.git", &["unpack"][..]),
        ("tight.git", &["repack", "-adF", "--quiet", "--window=250", "--depth=250"]),
        ("plain.git", &["repack", "-adF", "--quiet", "--window=0"]),
    ] {
        git(&place.path(""), &["clone", "--quiet", "--bare", "--no-local", source.to_str().unwrap(), name]);
        let clone = place.path(name);
        if repack == ["unpack"] {
            let packs = place.path("packs");
            std::fs::rename(clone.join("objects/pack"), &packs).unwrap();
            for pack in std::fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().path()) {
                if pack.extension().is_some_and(|extension| extension == "pack") {
                    let command =
                        format!("git unpack-objects -q <'{}'", pack.display().to_string().replace('\'', r"'\''"));
                    assert!(
                        std::process::Command::new("sh")
                            .args(["-c", &command])
                            .current_dir(&clone)
                            .status()
                            .unwrap()
                            .success()
                    );
                }
            }
        } else {
            git(&clone, repack);
        }
        let other = place.snapshot(clone.to_str().unwrap(), name.trim_end_matches(".git")).run();
        other.result();
        assert_eq!(other.bundle_bytes(), first.bundle_bytes(), "{name}");
        assert_eq!(other.manifest().commits, first.manifest().commits);
    }
}

#[test]
fn a_repository_of_sha256_objects_is_taken_as_well() {
    let place = Place::new();
    let work = place.path("work");
    std::fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "--quiet", "--object-format=sha256", "-b", "main"]);
    std::fs::write(work.join("a.txt"), "a").unwrap();
    std::fs::write(work.join("a.go"), "package a\n\nfunc A() {}\n").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one"]);
    let finished = place.snapshot(work.to_str().unwrap(), "store").run();
    finished.result();
    assert_eq!(finished.manifest().commits[0].commit.len(), 64);
    assert_eq!(finished.functions()[0].name, "A");
    git(&place.path(""), &["clone", "--quiet", finished.bundle().to_str().unwrap(), "clone"]);
    assert_eq!(std::fs::read_to_string(place.path("clone/a.txt")).unwrap(), "a");
}

#[test]
fn every_way_to_name_a_commit_leads_to_it() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[30, 20, 10, 0], 0);
    let older = git(&source, &["rev-parse", "main~2"]);
    git(&source, &["tag", "light", "main~2"]);
    git(&source, &["-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "-m", "x", "annotated", "main~2"]);
    git(&source, &["branch", "release/1", "main~2"]);
    git(&source, &["update-ref", "refs/pull/7/head", "main~2"]);
    for (n, revision) in
        ["light", "annotated", "release/1", "refs/pull/7/head", &older, &older[..10]].into_iter().enumerate()
    {
        for commits in ["1", "3"] {
            let finished = place
                .snapshot(source.to_str().unwrap(), &format!("store-{n}-{commits}"))
                .flag("--revision", revision)
                .flag("--commits", commits)
                .run();
            let StageResult::Snapshot { commit, commits: taken, .. } = finished.result() else { panic!() };
            assert_eq!(
                (commit, taken.to_string()),
                (older.clone(), if commits == "1" { "1" } else { "2" }.to_owned()),
                "{revision}"
            );
        }
    }
}

#[test]
fn a_finished_snapshot_is_reported_again_and_not_touched() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[10, 0], 0);
    let url = source.to_str().unwrap().to_owned();
    let first = place.snapshot(&url, "store").run();
    let bytes = (first.manifest_bytes(), first.bundle_bytes());
    // The branch moves on; the snapshot does not. And it needs the source no more.
    std::fs::remove_dir_all(&source).unwrap();
    let again = place.snapshot(&url, "store").run();
    assert_eq!(first.result(), again.result());
    assert_eq!((again.manifest_bytes(), again.bundle_bytes()), bytes);
}

#[test]
fn a_snapshot_of_something_else_is_a_conflict_and_stays() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[10, 0], 0);
    let url = source.to_str().unwrap();
    let first = place.snapshot(url, "store").run();
    let bytes = (first.manifest_bytes(), first.bundle_bytes());
    let flags: [(&str, &str, &str); 8] = [
        ("--revision", "main", "revision: 'HEAD' there, 'main' asked for"),
        ("--commits", "2", "commits: '5' there, '2' asked for"),
        ("--lookback-days", "30", "lookback days: '365' there, '30' asked for"),
        ("--include", "src/**", "include: '' there, 'src/**' asked for"),
        ("--exclude", "lib", "exclude: '' there, 'lib' asked for"),
        ("--languages", "Rust,Go", "languages: '' there, 'Go Rust' asked for"),
        ("--held-out-fraction", "0.1", "held-out fraction: '0.05' there, '0.1' asked for"),
        ("--held-out-seed", "7", "held-out seed: '42' there, '7' asked for"),
    ];
    for (flag, value, difference) in flags {
        let other = place.snapshot(url, "store").flag(flag, value).run();
        let failure = other.failure();
        assert_eq!((other.code, failure.reason.as_str()), (Some(12), "SnapshotOfAnotherSource"));
        assert!(failure.message.contains(difference), "{}", failure.message);
        assert_eq!((other.manifest_bytes(), other.bundle_bytes()), bytes);
    }
    for (content, reason) in [("{\"version\": 9}", "ManifestOfAnotherVersion"), ("nonsense", "ManifestMalformed")] {
        std::fs::write(place.path("store/snapshot/manifest.json"), content).unwrap();
        let other = place.snapshot(url, "store").run();
        assert_eq!((other.code, other.failure().reason.as_str()), (Some(12), reason));
        assert_eq!(other.manifest_bytes(), content.as_bytes());
    }
}

#[test]
fn files_without_manifest_are_replaced_and_damaged_ones_are_made_again() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[20, 10, 0], 1000);
    let url = source.to_str().unwrap();
    let take = |store: &str| -> Snapshot { place.snapshot(url, store) };
    std::fs::create_dir_all(place.path("store/snapshot")).unwrap();
    std::fs::write(place.path("store/snapshot/repository.bundle"), "left by a killed process").unwrap();
    let first = take("store").run();
    let (result, manifest, bundle) = (first.result(), first.manifest_bytes(), first.bundle_bytes());
    let functions = first.functions_bytes();

    // The branch has moved on meanwhile: what counts is what the manifest says.
    git(&source, &["update-ref", "refs/heads/main", "main~1"]);
    git(&source, &["update-ref", "refs/heads/keep", &first.manifest().commits[0].original]);
    for file in [first.bundle(), first.functions_file()] {
        for damage in [&b"damaged"[..], b""] {
            if damage.is_empty() {
                std::fs::remove_file(&file).unwrap();
            } else {
                std::fs::write(&file, damage).unwrap();
            }
            let restored = take("store").run();
            assert_eq!(restored.result(), result);
            assert_eq!((restored.manifest_bytes(), restored.bundle_bytes()), (manifest.clone(), bundle.clone()));
            assert_eq!(restored.functions_bytes(), functions);
        }
    }

    // A manifest that no bundle can satisfy.
    let mut other = first.manifest();
    other.bundle.sha256 = "0".repeat(64);
    std::fs::write(place.path("store/snapshot/manifest.json"), serde_json::to_vec(&other).unwrap()).unwrap();
    let refused = take("store").run();
    assert_eq!((refused.code, refused.failure().reason.as_str()), (Some(12), "SnapshotDamaged"));
    assert_eq!(refused.bundle_bytes(), bundle, "what cannot be put right is left alone");
}

#[test]
fn the_functions_of_every_commit_are_indexed_and_counted() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[20, 10, 0], 100);
    let finished = place.snapshot(source.to_str().unwrap(), "store").flag("--commits", "2").run();
    finished.result();
    let functions = finished.functions();
    let found: Vec<(u32, &str, (u32, u32))> =
        functions.iter().map(|function| (function.snapshot, function.name.as_str(), function.lines)).collect();
    let expected: Vec<(u32, &str, (u32, u32))> =
        [0, 1].into_iter().flat_map(|snapshot| [(snapshot, "double", (1, 3)), (snapshot, "version", (5, 7))]).collect();
    assert_eq!(found, expected);
    let [double, version] = [&functions[0], &functions[1]];
    assert_eq!((double.digest == functions[2].digest, version.digest == functions[3].digest), (true, false));
    assert_eq!((version.calls[0].name.as_str(), double.callers[0].name.as_str()), ("double", "version"));

    let manifest = finished.manifest();
    assert_eq!(manifest.functions.bytes, finished.functions_bytes().len() as u64);
    for counts in &manifest.index {
        assert_eq!((counts.files, counts.functions[&Language::Rust], counts.held_out), (1, 2, 0));
        assert_eq!(counts.skipped[&SkipReason::NameNotUtf8], 1);
        assert!(counts.skipped[&SkipReason::UnknownLanguage] >= 4, "{counts:?}");
    }
}

#[test]
fn a_file_of_200_megabytes_is_in_the_snapshot_and_left_out_of_the_index() {
    let place = Place::new();
    let source = place.path("source");
    std::fs::create_dir_all(source.join("src")).unwrap();
    std::fs::write(source.join("src/lib.rs"), "pub fn one() -> u32 {\n    1\n}\n").unwrap();
    // It takes no block of the disk.
    let bytes = 200 << 20;
    std::fs::File::create(source.join("src/huge.rs")).unwrap().set_len(bytes).unwrap();
    git(&source, &["init", "--quiet", "-b", "main"]);
    git(&source, &["add", "."]);
    git_as_ada(&source, &["commit", "--quiet", "-m", "one"]);
    let finished = place.snapshot(source.to_str().unwrap(), "store").run();
    finished.result();
    assert_eq!(finished.functions().iter().map(|function| function.name.as_str()).collect::<Vec<_>>(), ["one"]);
    let counts = &finished.manifest().index[0];
    assert_eq!((counts.files, counts.skipped[&SkipReason::TooLarge]), (1, 1));
    git(&place.path(""), &["clone", "--quiet", "--bare", finished.bundle().to_str().unwrap(), "clone.git"]);
    assert_eq!(git(&place.path("clone.git"), &["cat-file", "-s", "HEAD:src/huge.rs"]), bytes.to_string());
}

#[test]
fn the_repository_that_is_brought_along_is_the_same_everywhere_and_needs_no_server() {
    let place = Place::new();
    let take = |store: &str| place.snapshot("builtin://rehearsal", store).run();
    let [first, second] = ["store", "again"].map(take);
    first.result();
    second.result();
    assert_eq!(first.bundle_bytes(), second.bundle_bytes());
    let manifest = first.manifest();
    assert_eq!((manifest.source.url.as_str(), manifest.commits.len()), ("builtin://rehearsal", 4));
    let newest = &manifest.index[0];
    assert_eq!((newest.files, newest.functions[&Language::Python]), (4, 16));
    let newest: Vec<_> = first.functions().into_iter().filter(|function| function.snapshot == 0).collect();
    assert!(newest.iter().any(|function| function.name == "may_withdraw"), "{newest:?}");
}

#[test]
fn a_repository_without_functions_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let source = repository(&place.path("source.git"), &[0], 0);
    let run = place.snapshot(source.to_str().unwrap(), "store").flag("--languages", "Go").run();
    let failure = run.failure();
    assert_eq!((run.code, failure.reason.as_str()), (Some(10), "NoFunctions"));
    assert!(failure.message.contains("1 in a language that was not asked for"), "{}", failure.message);
    assert!(!place.path("store/snapshot").exists());
}
