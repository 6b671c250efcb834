//! Images that have next to nothing: no C library, no bash, no git, no Python; or not even a shell.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use sera_sandbox::wire::{Answer, CommandEnd, EditOperation, Fault};

use crate::support::{Changed, PROGRAM, Sandbox, Tree, left_out, policy};

/// All that the image with a shell has: one program that is linked to nothing (Debian's `busybox-static`, as the tests' node has it), by these names.
const BUSYBOX: &str = "/bin/busybox";
const NAMES: [&str; 8] = ["cat", "grep", "ls", "mkdir", "sed", "sh", "sleep", "touch"];

/// What a container's runtime gives the program, in an image at `$0`.
const ENTER: &str = "mount --rbind /dev \"$0/dev\" && mount -t proc proc \"$0/proc\" && \
    exec /usr/sbin/chroot \"$0\" /bin/sera-sandbox serve --stdio --workspace=/testbed --tmp=/tmp --home=/home";

/// Starts the program in an image that has these commands alone; none where the kernel gives no namespaces, which CI does not put up with.
fn try_start(commands: &[&str]) -> Option<Result<Sandbox, Answer>> {
    let gives = Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status();
    if !gives.is_ok_and(|status| status.success()) {
        left_out("this kernel gives no namespaces");
        return None;
    }
    if !Path::new(BUSYBOX).exists() {
        left_out("Debian's package busybox-static is not installed");
        return None;
    }
    Some(Sandbox::try_start(&policy(), |folder, command| {
        let root = folder.join("image");
        for name in ["bin", "proc", "dev", "tmp"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::copy(PROGRAM, root.join("bin/sera-sandbox")).unwrap();
        if !commands.is_empty() {
            std::fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        }
        for name in commands {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        *command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER]).arg(root);
        command.env("PATH", "/bin");
    }))
}

#[test]
fn an_image_of_busybox_alone_has_all_that_a_rollout_needs() {
    let Some(started) = try_start(&NAMES) else { return };
    let mut sandbox = started.unwrap();
    assert_eq!(sandbox.shell, "/bin/sh");
    assert_eq!(sandbox.put("t1", &Tree::of(&[("src/price.lua", "return 1\n"), ("README", "prices\n")])), 2);
    assert_eq!(sandbox.run("export SEEN=here; cd src; grep -rn 'return' ."), "./price.lua:1:return 1\n");
    assert_eq!(sandbox.run("ls; sh -c 'echo $SEEN'"), "price.lua\nhere\n");
    let (path, old) = ("/testbed/src/price.lua".to_owned(), "return 1".to_owned());
    sandbox.edit(EditOperation::StrReplace { path, old, new: "return 2".to_owned() }).unwrap();
    sandbox.run("mkdir new && touch new/empty");
    assert_eq!(sandbox.exec_for("sleep 1000 & sleep 1000", 300).end, CommandEnd::TimedOut);
    let changed: Vec<(String, Changed)> = sandbox.changed().into_iter().collect();
    let file = |path: &str, text: &str| (path.to_owned(), Changed::File(text.to_owned()));
    assert_eq!(changed, [file("src/new/empty", ""), file("src/price.lua", "return 2\n")]);
    sandbox.wipe();
    assert_eq!(sandbox.run("pwd; ls; cat src/price.lua"), "/testbed\nREADME\nsrc\nreturn 1\n");
    assert_ne!(sandbox.code("echo over > /bin/sh"), 0, "the image is not written to");
}

#[test]
fn an_image_without_a_shell_is_refused_in_words() {
    let Some(started) = try_start(&[]) else { return };
    match started.err() {
        Some(Answer::Failed { fault: Fault::Unsupported, message, fatal: true }) => {
            assert!(message.contains("the image has neither bash nor sh, in /bin"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}
