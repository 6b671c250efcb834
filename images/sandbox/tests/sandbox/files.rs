//! Trees: what is put, what is shipped as changed, what a wipe leaves.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use sera_sandbox::wire::{Answer, Fault, Policy, Request};

use crate::support::{Changed, Sandbox, Tree, policy};

fn changed(files: &[(&str, Changed)]) -> BTreeMap<String, Changed> {
    files.iter().map(|(path, now)| ((*path).to_owned(), now.clone())).collect()
}

fn file(text: &str) -> Changed {
    Changed::File(text.to_owned())
}

#[test]
fn a_tree_is_put_as_it_is_and_nothing_has_changed_then() {
    let mut sandbox = Sandbox::new();
    let tree = Tree::of(&[("src/a.go", "package a\n\tx\r\n"), ("naïve name", "1"), ("new\nline", "2")]);
    let written = sandbox.put("t1", &tree.executable("run", b"#!/bin/sh\necho ran\n").link("link", "src/a.go"));
    assert_eq!(written, 5);
    assert_eq!(
        sandbox.run("./run; cat link; stat -c '%a %Y' src/a.go run"),
        "ran\npackage a\n\tx\r\n644 1700000000\n755 1700000000\n"
    );
    assert_eq!(sandbox.changed(), BTreeMap::new());
}

#[test]
fn directories_are_dated_as_what_is_in_them_so_that_listings_are_the_same_in_every_slot() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("src/deep/a.go", "1"), ("src/b.go", "2"), ("c", "3")]));
    let look = "stat -c '%n %Y' . src src/deep src/deep/a.go | tr '\\n' ' '";
    let dated = ". 1700000000 src 1700000000 src/deep 1700000000 src/deep/a.go 1700000000 ";
    assert_eq!(sandbox.run(look), dated);
    sandbox.run("touch src/deep/new; rm src/b.go; mkdir other; touch -d @1800000000 src/deep");
    sandbox.wipe();
    assert_eq!(sandbox.run(look), dated);
}

/// As the kubelet makes a volume's directories: of a group of its own, which is handed on to what is made in them.
#[test]
fn files_are_of_the_slots_own_group_whoever_had_them_before() {
    let Some(other) = another_group() else { return };
    let mut sandbox = Sandbox::start(&policy(), |folder, _| {
        let workspace = folder.join("workspace");
        fs::create_dir(&workspace).unwrap();
        chown(&workspace, None, Some(other)).unwrap();
        fs::set_permissions(&workspace, fs::Permissions::from_mode(0o2775)).unwrap();
    });
    sandbox.put("t1", &Tree::of(&[("src/a", "1"), ("src/b", "2"), ("gone/c", "3")]).link("link", "src/a"));
    let groups = "[ \"$(stat -c %g . src src/* gone gone/* link | sort -u)\" = \"$(id -g)\" ] && stat -c %a src gone";
    let listed = sandbox.run("ls -lR");
    assert_eq!(sandbox.run(groups), "775\n775\n", "{listed}");
    assert_eq!(sandbox.changed(), BTreeMap::new());
    sandbox.run(&format!("echo x >src/a; rm -r gone link; chgrp {other} src src/b || true; ln -s src/a link"));
    sandbox.wipe();
    assert_eq!(sandbox.run("ls -lR"), listed, "what nobody may tell from a slot that is new");
}

/// A group that a file may be given to and that is not this process's own; none where there is none, which CI does not put up with.
fn another_group() -> Option<u32> {
    let own = nix::unistd::getegid().as_raw();
    let others = if nix::unistd::geteuid().is_root() { vec![own + 1] } else { supplementary_groups() };
    let other = others.into_iter().find(|group| *group != own);
    if other.is_none() {
        assert!(std::env::var_os("CI").is_none(), "this user is of one group alone");
        eprintln!("left out: this user is of one group alone");
    }
    other
}

/// The groups that this process is of beside its own.
fn supplementary_groups() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[test]
fn changes_are_shipped_as_data() {
    let mut sandbox = Sandbox::new();
    let tree = Tree::of(&[
        ("same", "s"),
        ("edited", "e"),
        ("gone", "g"),
        ("d/a", "1"),
        ("d/b", "2"),
        ("mode", "m"),
        ("f", "f"),
        ("touched", "t"),
    ]);
    sandbox.put("t1", &tree.link("link", "same"));
    sandbox.run("echo E >edited; rm gone; rm -r d; echo now >d; chmod +x mode; rm f; mkdir f; echo x >f/x; touch touched; ln -sfn /etc link");
    sandbox.run("mkdir -p deep/er; printf '\\377' >deep/er/binary; mkfifo pipe; mkdir empty; ln same hard; truncate -s 20M large");
    sandbox.run("touch $(printf 'bad\\377name') 'new\nline'; rm same; mkfifo same");
    let expected = changed(&[
        ("bad\\xffname", file("")),
        ("d", file("now\n")),
        ("d/a", Changed::Gone),
        ("d/b", Changed::Gone),
        ("deep/er/binary", file("\u{fffd}")),
        ("edited", file("E\n")),
        ("f", Changed::Gone),
        ("f/x", file("x\n")),
        ("gone", Changed::Gone),
        ("hard", file("s")),
        ("large", Changed::TooLarge(20 << 20)),
        ("link", Changed::Link("/etc".to_owned())),
        ("mode", Changed::Executable("m".to_owned())),
        ("new\nline", file("")),
        ("same", Changed::Gone),
    ]);
    assert_eq!(sandbox.changed(), expected);
}

#[test]
fn a_change_of_the_same_size_and_time_is_seen() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("a", "one"), ("b", "one"), ("c", "one"), ("d", "one")]));
    sandbox.run("echo -n two >a; touch -d @1700000000 a");
    sandbox.run("cp -p b x && echo -n two >x && touch -r b x && mv x b");
    sandbox.run("ln c hard; echo -n two >hard; rm hard; touch -d @1700000000 c");
    sandbox.run("python3 -c \"import mmap; f = open('d', 'r+b'); m = mmap.mmap(f.fileno(), 3); m[:] = b'two'; m.close()\"; touch -d @1700000000 d");
    assert_eq!(sandbox.changed(), changed(&["a", "b", "c", "d"].map(|name| (name, file("two")))));
    sandbox.wipe();
    assert_eq!(sandbox.run("cat a b c d"), "oneoneoneone");
}

#[test]
fn unreadable_files_of_the_model_are_shipped_too() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("a", "1"), ("d/b", "2")]));
    sandbox.run("echo x >a; chmod 0 a; echo y >d/b; chmod 0 d");
    assert_eq!(sandbox.changed(), changed(&[("a", file("x\n")), ("d/b", file("y\n"))]));
    sandbox.wipe();
    assert_eq!(sandbox.run("cat a d/b; stat -c %a a d"), "12644\n775\n");
}

#[test]
fn the_image_lies_below_the_tree() {
    let image = tempfile::tempdir().unwrap();
    fs::create_dir_all(image.path().join("node_modules/m")).unwrap();
    fs::write(image.path().join("node_modules/m/index.js"), "built").unwrap();
    fs::write(image.path().join("README"), "of the image").unwrap();
    symlink("m", image.path().join("node_modules/alias")).unwrap();
    let mut sandbox = Sandbox::start(&policy(), |_, command| {
        command.arg("--image-workspace").arg(image.path());
    });
    sandbox.put("t1", &Tree::of(&[("README", "of the tree")]));
    assert_eq!(sandbox.run("cat node_modules/alias/index.js README"), "builtof the tree");
    assert_eq!(sandbox.changed(), BTreeMap::new());
    sandbox.run("rm -rf node_modules");
    sandbox.put("t2", &Tree::new());
    assert_eq!(sandbox.run("cat node_modules/m/index.js README"), "builtof the image");
}

#[test]
fn what_setup_does_is_part_of_the_baseline_and_is_restored() {
    let venv = tempfile::tempdir().unwrap();
    fs::write(venv.path().join("tool"), "pristine").unwrap();
    let policy = Policy {
        setup: Some("echo built >built; echo cached >~/cache; echo set up >\"$TMPDIR/t\"; echo installed >>\"$VENV/tool\"; echo said; rm -f nothing".to_owned()),
        writable_paths: vec![venv.path().display().to_string()],
        env: vec![("VENV".to_owned(), venv.path().display().to_string())],
        ..policy()
    };
    let mut sandbox = Sandbox::start(&policy, |_, _| {});
    let Answer::Put { setup_output, .. } = sandbox.try_put("t1", &Tree::of(&[("a", "1")]).tar()) else {
        panic!("not put")
    };
    assert_eq!(setup_output.as_deref(), Some("said\n"));
    assert_eq!(sandbox.changed(), BTreeMap::new());
    sandbox.run("rm -rf built ~/* \"$TMPDIR\"/* \"$VENV\"/*; echo x >~/x");
    sandbox.wipe();
    let look = "cat built ~/cache \"$TMPDIR/t\" \"$VENV/tool\"; ls ~";
    assert_eq!(sandbox.run(look), "built\ncached\nset up\npristineinstalled\ncache\n");
    sandbox.put("t2", &Tree::of(&[("a", "2")]));
    assert_eq!(sandbox.run(look), "built\ncached\nset up\npristineinstalled\ncache\n", "not installed twice");
}

#[test]
fn a_setup_that_fails_is_told_with_what_it_printed() {
    let mut sandbox = Sandbox::start(&Policy { setup: Some("echo why; exit 3".to_owned()), ..policy() }, |_, _| {});
    match sandbox.try_put("t1", &Tree::new().tar()) {
        Answer::Failed { fault: Fault::Setup, message, .. } => assert!(message.contains("why"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_planted_is_found_after_a_wipe_or_another_tree() {
    let mut sandbox = Sandbox::new();
    let tree = Tree::of(&[("a", "1"), (".gitignore", "ignored\n"), ("d/e/f", "2")]);
    let plant = [
        "echo CANARY >ignored; echo CANARY >d/e/.hidden; mkdir -p x/y/z; echo CANARY >x/y/z/c",
        "echo CANARY >\"$TMPDIR/c\"; echo CANARY >~/c; mkdir -p ~/.config; echo CANARY >~/.config/c",
        "git init -q . && git add -A && git -c user.name=n -c user.email=e commit -qm CANARY && echo CANARY >a && git stash -q 2>/dev/null; true",
        "(setsid sh -c 'while :; do echo CANARY >late; echo CANARY >~/late; sleep 0.01; done' >/dev/null 2>&1 &)",
        "mkfifo pipe; ln -s /etc etc; chmod 0 d; mkdir locked; echo CANARY >locked/c; chmod 0 locked",
        "python3 -c \"import os\nfor i in range(3000):\n os.mkdir('n'); os.chdir('n')\nopen('c', 'w').write('CANARY')\"",
        "python3 -c 'import os; os.setxattr(\".\", \"user.CANARY\", b\"CANARY\")'; export LEFT=CANARY; cd /; f() { echo CANARY; }",
    ];
    for (round, next) in ["t1", "t1", "t2", "t1"].into_iter().enumerate() {
        sandbox.put(next, &tree);
        let look = "set; find . ~ \"$TMPDIR\" | sort; grep -ral CANARY . ~ \"$TMPDIR\"; git log 2>&1 | head -1; git stash list 2>&1 | head -1; pwd; python3 -c 'import os; print(os.listxattr(\".\"))'";
        let found = sandbox.run(look);
        assert!(!found.contains("CANARY") && !found.contains("late"), "round {round}: {found}");
        for command in plant {
            sandbox.exec(command);
        }
        assert!(sandbox.run("cd \"$OLDPWD\"; find . 2>/dev/null | wc -l").trim().parse::<u32>().unwrap() > 20);
        let restored = sandbox.wipe();
        assert!(restored > 5, "{restored}");
        assert_eq!(sandbox.run("cat a d/e/f; find . -mindepth 1 | wc -l"), "125\n");
        assert_eq!(sandbox.wipe(), 0, "what is clean needs nothing");
    }
}

#[test]
fn the_workspace_itself_cannot_be_taken_away() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("a/b", "1")]));
    sandbox.exec(
        "rm -rf \"$PWD\" ~ \"$TMPDIR\"; cd /; mv \"$OLDPWD\" /tmp/elsewhere; rmdir \"$OLDPWD\"; chmod 0 \"$OLDPWD\"",
    );
    assert_eq!(sandbox.changed(), changed(&[("a/b", Changed::Gone)]));
    sandbox.wipe();
    assert_eq!(sandbox.run("cat a/b; pwd"), format!("1{}\n", sandbox.workspace.display()));
}

#[test]
fn a_name_below_git_is_never_shipped() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[(".git/config", "c"), ("sub/.git/x", "y"), ("a", "1")]));
    sandbox.run("echo evil >.git/config; mkdir -p .git/hooks new/.GIT; echo evil >.git/hooks/post-checkout; echo evil >new/.GIT/config; rm -r sub/.git; echo evil >sub/.Git; echo 2 >a");
    assert_eq!(sandbox.changed(), changed(&[("a", file("2\n"))]));
}

#[test]
fn a_path_that_the_driver_takes_from_nobody_is_left_out() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("a", "1")]));
    sandbox.run("mkdir -p git~1 new/.git.; echo x >git~1/config; echo x >new/.git./config; echo x >'.git '; echo x >GIT~1; echo 2 >a");
    sandbox.run("python3 -c \"import os\nfor _ in range(17): os.mkdir('d' * 250); os.chdir('d' * 250)\nopen('f', 'w').close()\"");
    assert_eq!(sandbox.changed(), changed(&[("a", file("2\n"))]));
}

#[test]
fn an_edit_is_shipped_however_much_a_build_has_made() {
    let setup = "mkdir build; for at in 1 2 3 4; do echo old >build/$at; done";
    let mut sandbox = Sandbox::start(&Policy { setup: Some(setup.to_owned()), ..policy() }, |_, _| {});
    sandbox.put("t1", &Tree::of(&[("src/x.cpp", "1"), ("src/y.cpp", "2")]));
    sandbox.run("for at in 1 2 3 4 5 6 7 8 9; do truncate -s 8M build/$at; done; echo edited >src/x.cpp; echo new >new; rm src/y.cpp");
    let all = sandbox.changed();
    assert_eq!((&all["src/x.cpp"], &all["src/y.cpp"]), (&file("edited\n"), &Changed::Gone));
    assert!(matches!(all["build/1"], Changed::File(_)));
    assert_eq!((all.len(), &all["build/9"]), (12, &Changed::TooLarge(8 << 20)));
}

#[test]
fn a_directory_that_was_locked_is_not_taken_to_be_empty() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("a", "1"), ("d/b", "2")]));
    sandbox.run("echo x >a; echo y >d/b; chmod 644 d .");
    assert_eq!(sandbox.changed(), changed(&[("a", file("x\n")), ("d/b", file("y\n"))]));
}

#[test]
fn swaps_while_files_are_shipped_never_ship_what_lies_outside() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("d/f", "1")]));
    let outside = sandbox.path("readable");
    fs::write(&outside, "OUTSIDE").unwrap();
    fs::create_dir(sandbox.path("dir")).unwrap();
    fs::write(sandbox.path("dir/f"), "OUTSIDE").unwrap();
    let (outside, dir) = (outside.display().to_string(), sandbox.path("dir").display().to_string());
    sandbox.run(&format!(
        "(while :; do ln -sf '{outside}' s; mv -T s d/f; echo x >s; mv -T s d/f; done >/dev/null 2>&1 &)
         (while :; do mv -T d e; ln -s '{dir}' d; rm d; mv -T e d; done >/dev/null 2>&1 &)
         (while :; do ln '{outside}' h; mkfifo p; rm -f p; echo x >p; rm -f p h; done >/dev/null 2>&1 &)"
    ));
    for _ in 0..300 {
        let all = sandbox.changed();
        let read = all.iter().find(
            |(_, now)| matches!(now, Changed::File(text) | Changed::Executable(text) if text.contains("OUTSIDE")),
        );
        assert_eq!(read, None);
    }
    sandbox.wipe();
    assert_eq!(sandbox.run("cat d/f; find . -mindepth 1 | wc -l"), "12\n");
}

#[test]
fn a_stream_that_is_no_tree_is_refused() {
    let refused = |tar: &[u8]| {
        let mut sandbox = Sandbox::start(&policy(), |_, _| {});
        match sandbox.try_put("t1", tar) {
            Answer::Failed { fault: Fault::Protocol, message, fatal: true } => message,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&[7; 2000]).contains("cannot be unpacked"));
    assert!(refused(&[]).contains("nothing was sent"));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    header.set_size(0);
    builder.append_link(&mut header, "shadow", "/etc/shadow").unwrap();
    assert!(refused(&builder.into_inner().unwrap()).contains("shadow"));
}

#[test]
fn more_than_is_shipped_is_said_with_where_it_is_and_can_be_deleted() {
    let mut sandbox = Sandbox::new();
    sandbox.run("touch a z; mkdir many && (cd many && seq 50001 | xargs touch)");
    let answer = sandbox.ask(&Request::Changed);
    let Answer::Failed { fault: Fault::TooMuch, message, fatal: false } = answer else { panic!("{answer:?}") };
    assert_eq!(message, "50000 files have changed, and more, most of them in many");
    sandbox.run("rm -r many");
    assert_eq!(sandbox.changed().into_keys().collect::<Vec<_>>(), ["a", "z"]);
}

#[test]
fn ten_thousand_files_are_put_and_restored() {
    let mut sandbox = Sandbox::new();
    let tree = (0..10_000).fold(Tree::new(), |tree, at| {
        tree.file(format!("d{}/e{}/f{at}.py", at % 50, at % 7), format!("value = {at}\n").repeat(40).as_bytes())
    });
    assert_eq!(sandbox.put("t1", &tree), 10_000);
    sandbox.run("rm -r d1; for f in d2/*/*; do echo >>$f; done");
    let restored = sandbox.wipe();
    assert_eq!(restored, 400);
    assert!(matches!(sandbox.try_put("t1", &[]), Answer::Put { written: 0, .. }), "the driver need not send it again");
    assert_eq!(
        sandbox
            .run("find . -type f | wc -l; cat $(find . -type f | sort | head -300) | cksum | cut -d' ' -f2 >/dev/null"),
        "10000\n"
    );
}

#[test]
fn modes_of_the_group_are_kept_apart_from_what_the_tree_says() {
    let mut sandbox = Sandbox::start(&policy(), |folder, _| {
        fs::create_dir(folder.join("workspace")).unwrap();
        fs::set_permissions(folder.join("workspace"), fs::Permissions::from_mode(0o2775)).unwrap();
    });
    sandbox.put("t1", &Tree::of(&[("a", "1")]));
    sandbox.run("chmod 0700 .");
    sandbox.wipe();
    assert_eq!(sandbox.run("stat -c %a ."), "2775\n");
}
