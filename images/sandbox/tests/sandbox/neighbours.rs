//! Ways from one slot into another that lies beside it in the same folder, as `sera-rollout rollout --sandbox local` lays them; each tried by its name,
//! and first outside, where it has to get through.

use std::collections::BTreeMap;
use std::path::Path;

use crate::escapes::{Try, harmless, try_with_neighbour};
use crate::support::{Changed, Sandbox, Tree, policy};

const CANARY: &str = "the-neighbours-canary\n";

const WAYS: &[Try] = &[
    harmless("read its workspace", r#"grep -q the-neighbours-canary "$NEIGHBOUR/workspace/canary" && echo ESCAPED"#),
    harmless("read its temporary files", r#"grep -q the-neighbours-canary "$NEIGHBOUR/tmp/canary" && echo ESCAPED"#),
    harmless("read its home", r#"grep -q the-neighbours-canary "$NEIGHBOUR/home/canary" && echo ESCAPED"#),
    harmless("list its folder", r#"ls "$NEIGHBOUR" | grep -q workspace && echo ESCAPED"#),
    harmless("search its folder", r#"grep -rqs the-neighbours-canary "$NEIGHBOUR" && echo ESCAPED"#),
    harmless(
        "reach its workspace over a link",
        r#"ln -sfn "$NEIGHBOUR/workspace" l; grep -q the-neighbours-canary l/canary && echo ESCAPED"#,
    ),
    harmless("bring a hard link in", r#"rm -f h; ln "$NEIGHBOUR/workspace/canary" h && echo ESCAPED"#),
    harmless(
        "write into its workspace",
        r#"echo x >"$NEIGHBOUR/workspace/x" && rm "$NEIGHBOUR/workspace/x" && echo ESCAPED"#,
    ),
    harmless(
        "take a file out of its workspace",
        r#"mv "$NEIGHBOUR/workspace/canary" taken && mv taken "$NEIGHBOUR/workspace/canary" && echo ESCAPED"#,
    ),
    harmless(
        "go through the roots of all processes",
        r#"grep -qs the-neighbours-canary /proc/[0-9]*/root/testbed/canary /proc/[0-9]*/root"$NEIGHBOUR"/workspace/canary && echo ESCAPED"#,
    ),
    harmless(
        "go through the directories of all processes",
        "grep -qs the-neighbours-canary /proc/[0-9]*/cwd/canary && echo ESCAPED",
    ),
    harmless(
        "list what all processes have opened",
        "ls -l /proc/[0-9]*/fd/7 2>/dev/null | grep -q canary && echo ESCAPED",
    ),
    harmless(
        "read the environment of all processes",
        r"cat /proc/[0-9]*/environ | tr '\0' '\n' | grep -q the-neighbours-variable && echo ESCAPED",
    ),
];

/// Puts canaries into all that a slot has, a process among them.
fn inhabit(neighbour: &mut Sandbox) {
    neighbour.put("t1", &Tree::of(&[("canary", CANARY)]));
    neighbour.run("cp canary \"$TMPDIR/canary\"; cp canary ~/canary");
    neighbour.run("SERA_CANARY=the-neighbours-variable sleep 1000 7<canary &");
}

fn try_all(sandbox: &mut Sandbox, neighbour: &mut Sandbox, folder: &Path) {
    assert_eq!(std::fs::read_to_string(folder.join("tmp/canary")).unwrap(), CANARY);
    try_with_neighbour(WAYS, sandbox, true, folder);
    assert_eq!(neighbour.changed(), BTreeMap::<String, Changed>::new());
    assert_eq!(neighbour.run("cat canary; jobs -r | wc -l"), format!("{CANARY}1\n"));
}

#[test]
fn nothing_leads_from_one_slot_into_another() {
    let mut neighbour = Sandbox::with(&policy());
    inhabit(&mut neighbour);
    let ground = neighbour.folder.path().to_owned();
    let mut sandbox = Sandbox::start(&policy(), |_, command| {
        for name in ["workspace", "tmp", "home"] {
            command.arg(format!("--{name}")).arg(ground.join("other").join(name));
        }
        command.arg("--hide").arg(&ground);
    });
    sandbox.put("t1", &Tree::of(&[("a", "1")]));
    try_all(&mut sandbox, &mut neighbour, &ground);
}

#[test]
fn nothing_leads_from_one_slot_with_namespaces_into_another() {
    let Some(mut neighbour) = Sandbox::local(&policy()) else { return };
    inhabit(&mut neighbour);
    let ground = neighbour.folder.path().display();
    let options = [format!("--local={ground}/other"), format!("--hide={ground}")];
    let mut sandbox = Sandbox::local_with(&policy(), &options.each_ref().map(String::as_str)).unwrap();
    let folder = neighbour.path("slot");
    try_all(&mut sandbox, &mut neighbour, &folder);
}
