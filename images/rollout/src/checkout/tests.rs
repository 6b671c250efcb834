//! Patches of what a sandbox says has changed: exact, canonical, and deaf to everything that a model could have written.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Command;

use sera_crds::contract::{RolloutPlan, SnapshottedCommit};
use sera_sandbox::frame::{read_message, write_message};
use sera_sandbox::wire::{Answer, ChangedFile, FileNow, PROTOCOL, PathBytes, Request};
use tempfile::TempDir;

use super::*;
use crate::sandbox::{Slot, policy};

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=n", "-c", "user.email=e@e.invalid", "-c", "core.autocrlf=false"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository of these files, bundled as the snapshot stage does it, and checked out.
async fn tree(files: &[(&str, &str)]) -> (TempDir, Tree) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for (name, text) in files {
        std::fs::create_dir_all(source.join(name).parent().unwrap()).unwrap();
        std::fs::write(source.join(name), text).unwrap();
    }
    git(&source, &["init", "--quiet"]);
    // These go before the tree's own: the bytes are committed as they are.
    std::fs::create_dir_all(source.join(".git/info")).unwrap();
    std::fs::write(source.join(".git/info/attributes"), "* -text -ident\n").unwrap();
    git(&source, &["-c", "core.attributesFile=/dev/null", "add", "--force", "."]);
    git(&source, &["commit", "--quiet", "--message=snapshot"]);
    let commit = git(&source, &["rev-parse", "HEAD"]);
    git(&source, &["update-ref", "refs/snapshots/0", &commit]);
    git(&source, &["bundle", "create", "--quiet", "../bundle", "refs/snapshots/0"]);
    let commits = vec![SnapshottedCommit {
        original: "0".repeat(40),
        tree: git(&source, &["rev-parse", "HEAD^{tree}"]),
        commit,
        reference: "refs/snapshots/0".into(),
        committed_at: "2026-01-02T03:04:05Z".parse().unwrap(),
    }];
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let snapshots = Snapshots::open(&home, &folder.path().join("bundle"), &commits).await.unwrap();
    let tree = snapshots.tree(0).await.unwrap();
    (folder, tree)
}

/// What a sandbox says is at a path now.
enum Now<'a> {
    Gone,
    File(&'a str),
    Program(&'a str),
    Link(&'a str),
    TooLarge,
}

impl Now<'_> {
    fn announced(&self) -> FileNow {
        match self {
            Self::Gone => FileNow::Gone,
            Self::File(text) => FileNow::File { bytes: text.len() as u64, executable: false },
            Self::Program(text) => FileNow::File { bytes: text.len() as u64, executable: true },
            Self::Link(target) => FileNow::Link { target: PathBytes(target.as_bytes().to_vec()) },
            Self::TooLarge => FileNow::TooLarge { bytes: 1 << 40 },
        }
    }

    fn content(&self) -> &str {
        match self {
            Self::File(text) | Self::Program(text) => text,
            _ => "",
        }
    }
}

/// A slot whose other end says that these files have changed. `surplus` follows the contents.
async fn slot(changes: &[(&[u8], Now<'_>)], surplus: &str) -> Slot {
    let (ours, theirs) = StdStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let files: Vec<ChangedFile> = changes
        .iter()
        .map(|(path, now)| ChangedFile { path: PathBytes(path.to_vec()), now: now.announced() })
        .collect();
    let contents: String = changes.iter().map(|(_, now)| now.content()).collect::<String>() + surplus;
    std::thread::spawn(move || peer(theirs, &files, contents.as_bytes()));
    let stream = tokio::net::UnixStream::from_std(ours).unwrap();
    Slot::greet(3, stream, None, &policy(&RolloutPlan::default()), "/testbed").await.unwrap()
}

fn peer(mut stream: StdStream, files: &[ChangedFile], contents: &[u8]) {
    use std::io::Write;
    while let Ok(Some(request)) = read_message::<Request>(&mut stream.try_clone().unwrap()) {
        match request {
            Request::Hello { .. } => {
                let answer = Answer::Ready {
                    protocol: PROTOCOL,
                    protections: vec!["none".into()],
                    workspace: "/testbed".into(),
                    shell: "/bin/sh".into(),
                };
                write_message(&mut stream, &answer).unwrap();
            }
            Request::Changed => {
                write_message(&mut stream, &Answer::Changed { files: files.to_vec() }).unwrap();
                // In pieces that end in the middle of files.
                let mut data = sera_sandbox::frame::DataWriter::new(&mut stream);
                for piece in contents.chunks(7) {
                    data.write_all(piece).unwrap();
                }
                data.finish().unwrap();
            }
            _ => return,
        }
    }
}

async fn patch(files: &[(&str, &str)], changes: &[(&[u8], Now<'_>)]) -> String {
    let (_folder, tree) = tree(files).await;
    tree.patch(&mut slot(changes, "").await).await.unwrap().shown()
}

#[tokio::test]
async fn nothing_changed_is_an_empty_patch_and_so_is_a_file_that_was_only_touched() {
    assert_eq!(patch(&[("a.py", "x\n")], &[]).await, "");
    assert_eq!(patch(&[("a.py", "x\n")], &[(b"a.py", Now::File("x\n"))]).await, "");
}

#[tokio::test]
async fn the_snapshots_ignore_rules_apply_and_the_models_do_not() {
    let files =
        [(".gitignore", "*.log\nbuild/\n"), ("kept.log", "1\n"), ("src/.gitignore", "*.tmp\n"), ("src/a.py", "1\n")];
    let patch = patch(
        &files,
        &[
            (b".gitignore", Now::File("*.py\n*.txt\n!*.log\n")),
            (b"build/out", Now::File("x\n")),
            (b"kept.log", Now::File("2\n")),
            (b"new.log", Now::File("x\n")),
            (b"notes.txt", Now::File("new\n")),
            (b"src/a.py", Now::File("2\n")),
            (b"src/a.tmp", Now::File("x\n")),
            (b"sub/.gitignore", Now::File("*\n")),
            (b"sub/b.py", Now::File("new\n")),
        ],
    )
    .await;
    let changed: Vec<&str> =
        patch.lines().filter_map(|line| line.strip_prefix("diff --git a/")?.split(' ').next()).collect();
    assert_eq!(changed, [".gitignore", "kept.log", "notes.txt", "src/a.py", "sub/.gitignore", "sub/b.py"]);
}

#[tokio::test]
async fn attributes_of_a_model_change_nothing_and_line_ends_are_bytes() {
    let files = [
        (".gitattributes", "*.go text eol=crlf\n*.sql ident\n"),
        ("a.go", "one\ntwo\n"),
        ("b.go", "one\r\ntwo\r\n"),
        ("c.sql", "$Id$\n"),
    ];
    let patch = patch(
        &files,
        &[
            (b".gitattributes", Now::File("* -diff\n*.go binary\n")),
            (b"a.go", Now::File("one\n\tdeux\n")),
            (b"b.go", Now::File("one\r\ndeux\r\n")),
            (b"c.sql", Now::File("$Id$\n--\n")),
        ],
    )
    .await;
    for part in ["-two\n+\tdeux\n", "-two\r\n+deux\r\n", " $Id$\n+--\n"] {
        assert!(patch.contains(part), "{part:?} is not in {patch}");
    }
    assert_eq!(patch.matches("\n@@").count(), 4);
}

#[tokio::test]
async fn attributes_of_the_snapshot_say_what_is_no_text_whatever_a_model_makes_of_them() {
    let files = [
        (".gitattributes", "*.lock -diff\n*.svg binary\n"),
        ("a.lock", "1\n"),
        ("b.svg", "1\n"),
        ("deep/.gitattributes", "made/** -diff\n"),
        ("deep/made/c.py", "1\n"),
        ("deep/d.py", "1\n"),
    ];
    let patch = patch(
        &files,
        &[
            (b".gitattributes", Now::File("*.py -diff\n")),
            (b"a.lock", Now::File("2\n")),
            (b"b.svg", Now::File("2\n")),
            (b"deep/.gitattributes", Now::Gone),
            (b"deep/d.py", Now::File("2\n")),
            (b"deep/made/c.py", Now::File("2\n")),
        ],
    )
    .await;
    for name in ["a.lock", "b.svg", "deep/made/c.py"] {
        assert!(patch.contains(&format!("Binary files a/{name} and b/{name} differ\n")), "{name}: {patch}");
    }
    assert!(patch.contains("+++ b/deep/d.py\n@@ -1 +1 @@\n-1\n+2\n"), "{patch}");
    assert_eq!(patch.matches("\n-1\n+2\n").count(), 1, "{patch}");
}

#[tokio::test]
async fn files_come_go_move_turn_into_directories_and_links_and_have_any_name() {
    let long: String = (0..20).map(|n| format!("line {n}\n")).collect();
    let files =
        [("old name.py", long.as_str()), ("file", "x\n"), ("folder/a", "y\n"), ("run.sh", "true\n"), ("gone", "z\n")];
    let patch = patch(
        &files,
        &[
            (b":(attr)!x", Now::File("magic\n")),
            (b"a\nb\xff", Now::File("odd\n")),
            (b"file", Now::Gone),
            (b"file/inner", Now::File("x2\n")),
            (b"folder", Now::File("now a file\n")),
            (b"folder/a", Now::Gone),
            (b"gone", Now::Gone),
            (b"huge.bin", Now::TooLarge),
            (b"link", Now::Link("/etc/passwd")),
            (b"new name.py", Now::File(&long)),
            (b"old name.py", Now::Gone),
            (b"run.sh", Now::Program("true\n")),
        ],
    )
    .await;
    for part in [
        "diff --git \"a/a\\nb\\377\" \"b/a\\nb\\377\"\nnew file mode 100644\n",
        "+++ b/:(attr)!x\n",
        "diff --git a/file b/file\ndeleted file",
        "+++ b/file/inner\n",
        "+++ b/folder\n",
        "deleted file mode 100644\nindex",
        "new file mode 120000\n",
        "+/etc/passwd\n\\ No newline at end of file\n",
        "similarity index 100%\nrename from old name.py\nrename to new name.py\n",
        "old mode 100644\nnew mode 100755\n",
    ] {
        assert!(patch.contains(part), "{part:?} is not in {patch}");
    }
    assert!(!patch.contains("huge.bin"));
}

#[tokio::test]
async fn what_could_not_be_part_of_a_patch_is_said() {
    let (_folder, tree) = tree(&[("a", "x\n")]).await;
    let patch = tree.patch(&mut slot(&[(b"huge.bin", Now::TooLarge)], "").await).await.unwrap();
    assert_eq!((patch.text.len(), patch.left_out), (0, vec!["huge.bin (1099511627776 bytes)".to_owned()]));
}

#[tokio::test]
async fn a_sandbox_that_sends_a_dishonest_path_or_more_than_it_announced_is_not_used_again() {
    let (_folder, tree) = tree(&[("a", "x\n")]).await;
    for path in [&b"../x"[..], b"/etc/passwd", b".git/hooks/pre-commit", b"a/.GIT/config", b""] {
        let mut slot = slot(&[(path, Now::File("x"))], "").await;
        assert!(matches!(tree.patch(&mut slot).await, Err(CheckoutError::Path { .. })));
        assert!(slot.changed().await.is_err(), "its stream is not read any further");
    }
    let mut slot = slot(&[(b"a", Now::File("y\n"))], "more").await;
    assert!(matches!(tree.patch(&mut slot).await, Err(CheckoutError::Sandbox(_))));
}

#[tokio::test]
async fn a_sandbox_gets_the_very_bytes_and_a_repository_with_one_commit() {
    let files = [
        (".gitattributes", "*.go text eol=crlf\nsecret export-ignore\n*.v export-subst\n"),
        ("a.go", "one\ntwo\n"),
        ("secret", "s\n"),
        ("x.v", "$Format:%H$\n"),
    ];
    let (folder, tree) = tree(&files).await;
    let unpacked = folder.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let status = Command::new("tar").arg("-xf").arg(tree.archive()).arg("-C").arg(&unpacked).status().unwrap();
    assert!(status.success());
    for (name, text) in files {
        assert_eq!(std::fs::read_to_string(unpacked.join(name)).unwrap(), text, "{name}");
        let modified = std::fs::metadata(unpacked.join(name)).unwrap().mtime();
        assert_eq!(modified.to_string(), git(&unpacked, &["show", "--no-patch", "--format=%ct"]), "{name}");
    }
    assert_eq!(git(&unpacked, &["status", "--porcelain"]), "");
    assert_eq!(git(&unpacked, &["rev-list", "--all", "--count"]), "1");
    assert_eq!(git(&unpacked, &["rev-parse", "--abbrev-ref", "HEAD"]), "main");
    git(&unpacked, &["fsck", "--strict"]);
}
