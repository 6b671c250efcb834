//! The model's own git: it works, and nothing that is done with it shows in what is shipped.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Changed, Sandbox, Tree};

/// A repository with one commit, as the driver puts it.
fn repository() -> Tree {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let status = Command::new("git")
            .args(arguments)
            .current_dir(folder.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .status();
        assert!(status.unwrap().success(), "{arguments:?}");
    };
    fs::write(folder.path().join("a.txt"), "one\ntwo\n").unwrap();
    fs::write(folder.path().join(".gitignore"), "*.o\n").unwrap();
    git(&["init", "-q", "."]);
    git(&["add", "-A"]);
    git(&["-c", "user.name=n", "-c", "user.email=e@x", "commit", "-qm", "snapshot"]);
    let tree = Tree::folder(Path::new(folder.path()));
    drop(folder);
    tree
}

/// As in a pod, where the workspace is a directory that the kubelet made.
#[test]
fn git_works_where_the_workspace_is_somebody_elses() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &repository());
    let elses = "export GIT_TEST_ASSUME_DIFFERENT_OWNER=1";
    let refused = sandbox.run(&format!("({elses}; env -u GIT_CONFIG_COUNT git status --porcelain 2>&1 | head -n 1)"));
    assert!(refused.contains("dubious ownership"), "{refused}");
    assert_eq!(sandbox.run(&format!("({elses}; echo three >>a.txt; git diff --numstat)")), "1\t0\ta.txt\n");
}

#[test]
fn diff_log_stash_and_commit_work() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &repository());
    assert_eq!(sandbox.run("git status --porcelain; git log --format=%s"), "snapshot\n");
    sandbox.run("echo three >>a.txt");
    assert_eq!(sandbox.run("git diff --numstat"), "1\t0\ta.txt\n");
    sandbox.run("git config user.name m; git config user.email m@x; git stash -q");
    assert_eq!(sandbox.run("git stash list | wc -l; cat a.txt"), "1\none\ntwo\n");
    sandbox.run("git stash pop -q && git commit -qam mine && git checkout -qb other");
    assert_eq!(sandbox.run("git log --format=%s"), "mine\nsnapshot\n");
    assert_eq!(
        sandbox.changed().into_iter().collect::<Vec<_>>(),
        [("a.txt".to_owned(), Changed::File("one\ntwo\nthree\n".to_owned()))]
    );
}

#[test]
fn nothing_that_the_model_tells_git_changes_what_is_shipped() {
    let tricks = [
        "git -c user.name=m -c user.email=m@x commit -qam hidden",
        "git config diff.noprefix true; git config diff.external /bin/true; git config core.fsmonitor /bin/true; git config core.quotepath false",
        "printf '* -diff -text\\n' >.git/info/attributes; printf '*\\n' >.git/info/exclude",
        "git update-index --assume-unchanged a.txt; git update-index --skip-worktree a.txt",
        "git rm -q --cached a.txt",
        "mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch /tmp/hooked\\n' >.git/hooks/post-index-change; chmod +x .git/hooks/*",
        "rm -rf .git; git init -q .; git add -A",
        "printf 'ref: refs/heads/none\\n' >.git/HEAD; rm -f .git/index",
    ];
    let mut sandbox = Sandbox::new();
    let tree = repository();
    for trick in tricks {
        sandbox.put("t1", &tree);
        sandbox.run("echo two >a.txt; echo new >new.txt");
        sandbox.exec(trick);
        let file = |text: &str| Changed::File(text.to_owned());
        let expected = [("a.txt".to_owned(), file("two\n")), ("new.txt".to_owned(), file("new\n"))];
        assert_eq!(sandbox.changed().into_iter().collect::<Vec<_>>(), expected, "{trick}");
        sandbox.wipe();
        assert_eq!(
            sandbox.run("git status --porcelain; git log --format=%s; git config --get diff.external; cat a.txt"),
            "snapshot\none\ntwo\n"
        );
    }
}
