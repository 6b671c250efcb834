//! The shell: what stays from command to command, how commands end, what is kept of what they print.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use sera_sandbox::wire::{Answer, CommandEnd, Fault, Limit, Policy, Request};

use crate::support::{PROGRAM, Sandbox, Tree, descendants, policy};

#[test]
fn directory_variables_and_functions_stay() {
    let mut sandbox = Sandbox::new();
    assert_eq!(sandbox.run("pwd"), format!("{}\n", sandbox.workspace.display()));
    sandbox.run("mkdir -p a/b && cd a/b && export SEEN=here && f() { echo \"f $1\"; }; plain=kept");
    assert_eq!(sandbox.run("basename \"$PWD\"; sh -c 'echo $SEEN'; f 1; echo $plain"), "b\nhere\nf 1\nkept\n");
}

#[test]
fn exit_codes_and_both_outputs_come_in_order() {
    let mut sandbox = Sandbox::new();
    let executed = sandbox.exec("echo out; echo err >&2; echo 'it'\\''s'; (exit 7)");
    assert_eq!((executed.end, executed.output.as_str()), (CommandEnd::Exited { code: 7 }, "out\nerr\nit's\n"));
    assert_eq!(sandbox.code("true"), 0);
    assert_eq!(sandbox.code("kill -9 $BASHPID & wait $!"), 137);
    assert_eq!(sandbox.code("no-such-program"), 127);
}

#[test]
fn many_lines_comments_and_here_documents_are_taken_as_written() {
    let mut sandbox = Sandbox::new();
    let command = "# a comment\ncat <<'EOF'\n$not \"expanded\" 'at' all\nEOF\nfor x in 1 2; do\n  echo $x\ndone # done";
    assert_eq!(sandbox.run(command), "$not \"expanded\" 'at' all\n1\n2\n");
    assert_eq!(sandbox.run(&format!("printf %s '{}' | wc -c", "x".repeat(200_000))).trim(), "200000");
}

#[test]
fn a_syntax_error_ends_the_command_and_not_the_shell() {
    let mut sandbox = Sandbox::new();
    sandbox.run("cd / && x=1");
    let executed = sandbox.exec("echo 'open");
    assert!(matches!(executed.end, CommandEnd::Exited { code } if code != 0), "{executed:?}");
    assert_ne!(sandbox.code("if true; then ("), 0);
    assert_eq!(sandbox.run("pwd; echo $x"), "/\n1\n");
}

#[test]
fn the_shells_errors_are_told_behind_its_name() {
    let mut sandbox = Sandbox::new();
    let executed = sandbox.exec("no-such-program; cd /no-such-directory");
    let shell = if sandbox.shell.ends_with("bash") { "bash: line " } else { "sh: " };
    let lines: Vec<&str> = executed.output.lines().collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.starts_with(shell)), "{lines:?}");
}

#[test]
fn what_comes_and_goes_beside_a_slot_keeps_no_shell_from_starting() {
    let mut sandbox = Sandbox::new();
    let beside = sandbox.path("");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let churn = std::thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let paths: Vec<_> = (0..100).map(|at| beside.join(format!("other slot {at}"))).collect();
            paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
            paths.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
        }
    });
    for _ in 0..20 {
        assert_eq!(sandbox.exec("exit").end, CommandEnd::ShellEnded);
        assert_eq!(sandbox.run("echo alive"), "alive\n");
    }
    drop(stop);
    churn.join().unwrap();
}

#[test]
fn a_shell_that_shows_what_it_does_shows_the_command_alone() {
    let mut sandbox = Sandbox::new();
    sandbox.run("set -x");
    let traced = sandbox.run("echo one");
    assert!(traced.ends_with("+ echo one\none\n") && traced.lines().count() == 2, "{traced}");
    sandbox.run("set +x");
    sandbox.run("set -v");
    let shown = sandbox.run("echo two");
    assert!(shown.ends_with("two\n") && !shown.contains("builtin"), "{shown}");
    assert!(sandbox.exec("set +v; if").output.contains("syntax error"));
}

#[test]
fn the_shell_that_exits_is_followed_by_a_new_one() {
    let mut sandbox = Sandbox::new();
    sandbox.run("cd /; export GONE=1");
    let executed = sandbox.exec("echo last; exit 3");
    assert_eq!((executed.end, executed.output.as_str()), (CommandEnd::ShellEnded, "last\n"));
    assert_eq!(sandbox.run("echo \"$PWD ${GONE-unset}\""), format!("{} unset\n", sandbox.workspace.display()));
    assert_eq!(sandbox.exec("kill -9 $$").end, CommandEnd::ShellEnded);
    assert_eq!(sandbox.exec("set -e; false").end, CommandEnd::ShellEnded);
    assert_eq!(sandbox.run("echo alive"), "alive\n");
}

#[test]
fn a_workspace_that_a_command_locked_is_opened_for_the_next_shell() {
    let mut sandbox = Sandbox::new();
    sandbox.put("t1", &Tree::of(&[("a", "1")]));
    assert_eq!(sandbox.exec("chmod -R 644 .; exit").end, CommandEnd::ShellEnded);
    assert_eq!(sandbox.run("cat a; pwd"), format!("1{}\n", sandbox.workspace.display()));
}

#[test]
fn a_shell_that_does_not_start_after_commands_is_the_fault_of_this_slot_alone() {
    let mut sandbox = Sandbox::new();
    assert_eq!(sandbox.exec("exit").end, CommandEnd::ShellEnded);
    std::fs::rename(sandbox.path("workspace"), sandbox.path("elsewhere")).unwrap();
    match sandbox.ask(&Request::Exec { command: "true".to_owned(), timeout_ms: 10_000, max_output: 10 }) {
        Answer::Failed { fault: Fault::Environment, message, fatal: true } => {
            assert!(message.contains("cannot enter"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_at_the_other_end_of_standard_input() {
    let mut sandbox = Sandbox::new();
    assert_eq!(sandbox.run("cat; read line; echo \"[$line]\"; test -t 0 || echo none; umask"), "[]\nnone\n0002\n");
    assert_ne!(sandbox.code("echo x >/dev/tty"), 0);
}

#[test]
fn redirections_of_the_shell_itself_last_for_one_command() {
    let mut sandbox = Sandbox::new();
    sandbox.run("exec >/dev/null 2>&1 </dev/zero");
    assert_eq!(sandbox.run("echo heard; cat"), "heard\n");
}

#[test]
fn a_long_output_keeps_head_and_tail_and_says_so() {
    let mut sandbox = Sandbox::new();
    let executed = sandbox.exec("seq 1 200000");
    assert_eq!(executed.end, CommandEnd::Exited { code: 0 });
    assert!(executed.output.starts_with("1\n2\n") && executed.output.ends_with("199999\n200000\n"));
    assert!(executed.output.contains("bytes left out") && executed.cut_bytes > 1_000_000);
    let executed = sandbox.exec("head -c 300000 /dev/urandom");
    assert_eq!(executed.end, CommandEnd::Exited { code: 0 });
}

/// The most memory that a process has had, in bytes.
fn high_water(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// How much of an output is kept in these tests, in bytes.
const CAP: usize = 100_000;

#[test]
fn an_endless_flood_is_cut_and_ends_with_its_command() {
    let mut sandbox = Sandbox::new();
    let floods = ["yes", "yes >&2 & yes", "cat /dev/zero", "cat /dev/urandom", "setsid cat /dev/urandom & sleep 1000"];
    for command in floods {
        let executed = sandbox.exec_for(command, 2000);
        assert_eq!(executed.end, CommandEnd::TimedOut, "{command}");
        assert!(executed.cut_bytes > 10 * CAP as u64, "{command}: {} bytes are no flood", executed.cut_bytes);
        // A byte that is no UTF-8 becomes a character of three.
        assert!(executed.output.len() < 3 * CAP + 100, "{command}: {} bytes", executed.output.len());
        assert!(executed.output.contains(&format!("{} bytes left out", executed.cut_bytes)), "{command}");
        assert_eq!(descendants(sandbox.pid()), Vec::<u32>::new(), "after {command}");
        assert_eq!(sandbox.run("echo alive"), "alive\n", "after {command}");
    }
}

#[test]
fn a_flood_takes_little_memory_however_much_of_it_a_driver_asks_for() {
    const FLOOD: u64 = 256 << 20;
    let mut sandbox = Sandbox::new();
    let begin = high_water(sandbox.pid());
    // The most that there is of an answer are four MiB, and each byte of them becomes six: `\u0000`.
    for (source, max_output, kept, most) in
        [("urandom", 100_000, 100_000, 8 << 20), ("zero", u32::MAX, 4 << 20, 64 << 20)]
    {
        let command = format!("head -c {FLOOD} /dev/{source}");
        let answer = sandbox.ask(&Request::Exec { command, timeout_ms: 300_000, max_output });
        let Answer::Executed { end, output, cut_bytes, .. } = answer else { panic!("{answer:?}") };
        assert_eq!((end, cut_bytes), (CommandEnd::Exited { code: 0 }, FLOOD - kept), "{source}");
        assert!(output.len() as u64 > kept && output.len() as u64 <= 3 * kept + 100, "{} bytes", output.len());
        let grown = high_water(sandbox.pid()) - begin;
        assert!(grown < most, "{source}: {grown} bytes of memory");
    }
    assert_eq!(sandbox.run("echo alive"), "alive\n");
}

#[test]
fn a_flood_in_the_background_drowns_no_command_and_ends_with_the_rollout() {
    let mut sandbox = Sandbox::new();
    sandbox.run("yes flood & echo started");
    let executed = sandbox.exec("sleep 0.3; echo end >ended");
    assert_eq!(executed.end, CommandEnd::Exited { code: 0 });
    assert!(executed.output.contains("flood\nflood\n") && executed.output.len() < CAP + 100);
    assert_eq!(std::fs::read_to_string(sandbox.path("workspace/ended")).unwrap(), "end\n");
    sandbox.wipe();
    assert_eq!(descendants(sandbox.pid()), Vec::<u32>::new());
    assert_eq!(sandbox.run("echo alive"), "alive\n");
}

#[test]
fn a_background_process_does_not_hold_the_command_open() {
    let mut sandbox = Sandbox::new();
    let executed = sandbox.exec_for("sleep 100 & echo started", 20_000);
    assert_eq!((executed.end, executed.output.as_str()), (CommandEnd::Exited { code: 0 }, "started\n"));
    assert_eq!(sandbox.run("jobs -r | wc -l").trim(), "1", "it lives on");
}

#[test]
fn a_timeout_leaves_no_survivor() {
    let tries = [
        "sleep 1000",
        "setsid sleep 1000 & sleep 1000",
        "(setsid sh -c 'setsid sleep 1000 & exit' &) ; sleep 1000",
        "sh -c 'kill -STOP $$'",
        "trap '' TERM INT HUP; while :; do sleep 1000; done",
        "nohup sh -c 'trap \"\" TERM; while :; do sleep 1; done' & sleep 1000",
        "kill -STOP $$",
        "yes >/dev/null & yes | cat >/dev/null",
        "while :; do (sleep 1000 &) ; done",
    ];
    let mut sandbox = Sandbox::new();
    for command in tries {
        sandbox.run("export MARKED=yes");
        let executed = sandbox.exec_for(command, 300);
        assert_eq!(executed.end, CommandEnd::TimedOut, "{command}");
        assert_eq!(descendants(sandbox.pid()), Vec::<u32>::new(), "after {command}");
        assert_eq!(sandbox.run("echo ${MARKED-new}"), "new\n");
    }
}

#[test]
fn what_was_printed_before_a_timeout_is_told() {
    let mut sandbox = Sandbox::new();
    let executed = sandbox.exec_for("echo before; sleep 1000", 300);
    assert_eq!((executed.end, executed.output.as_str()), (CommandEnd::TimedOut, "before\n"));
}

#[test]
fn a_driver_that_goes_leaves_nothing_running() {
    let mut sandbox = Sandbox::new();
    sandbox.run("setsid sleep 1000 &");
    let running = descendants(sandbox.pid());
    assert!(running.len() >= 2, "the shell and what it started: {running:?}");
    sandbox.say(&Request::Exec { command: "sleep 1000".to_owned(), timeout_ms: 100_000, max_output: 10 });
    assert!(sandbox.leave().success());
    assert!(running.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
}

#[test]
fn limits_are_policed() {
    let policy = Policy { memory_bytes: Some(200 << 20), disk_bytes: Some(50 << 20), processes: Some(60), ..policy() };
    let Some(mut sandbox) = Sandbox::local(&policy) else { return };
    let bomb = |sandbox: &mut Sandbox, command: &str| sandbox.exec_for(command, 60_000).end;
    let passed = |limit| CommandEnd::LimitPassed { limit };
    // A bomb that doubles eleven times and no more: if nothing held it, the machine that runs this test would survive.
    let forks = "f() { test $1 = 0 || { f $(($1 - 1)) | f $(($1 - 1)) & }; sleep 60; }; f 11";
    assert_eq!(bomb(&mut sandbox, forks), passed(Limit::Processes));
    assert_eq!(bomb(&mut sandbox, "python3 -c 'x = bytearray(1 << 40 >> 10)'; sleep 60"), passed(Limit::Memory));
    assert_eq!(
        bomb(&mut sandbox, "for i in $(seq 99); do head -c 9000000 /dev/zero >f$i; done; sleep 60"),
        passed(Limit::Disk)
    );
    sandbox.wipe();
    assert_eq!(
        bomb(&mut sandbox, "exec 7>f; rm f; head -c 40000000 /dev/zero >&7; head -c 40000000 /dev/zero >g; sleep 60"),
        passed(Limit::Disk)
    );
    sandbox.wipe();
    assert_ne!(sandbox.code("head -c 60000000 /dev/zero >large"), 0, "no single file is larger than all may be");
    assert_eq!(sandbox.run("echo alive"), "alive\n");
}

#[test]
fn what_is_in_a_directory_that_its_owner_may_not_list_counts() {
    let policy = Policy { disk_bytes: Some(50 << 20), ..policy() };
    // As in a pod, where nobody may read everything.
    let mut sandbox = Sandbox::start(&policy, |_, command| {
        let mut narrow = Command::new("setpriv");
        narrow.arg("--bounding-set=-dac_override,-dac_read_search").arg(PROGRAM).args(command.get_args());
        narrow.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        *command = narrow;
    });
    sandbox.put("empty", &Tree::new());
    for mode in ["300", "400", "000"] {
        let fill = format!(
            "mkdir d; for n in $(seq 21 29); do eval \"exec $n>d/f$n\"; done; chmod {mode} d
             for n in $(seq 21 29); do eval \"head -c 9000000 /dev/zero >&$n\"; done; sleep 60"
        );
        assert_eq!(sandbox.exec_for(&fill, 60_000).end, CommandEnd::LimitPassed { limit: Limit::Disk }, "{mode}");
        let kept = std::fs::metadata(sandbox.workspace.join("d")).unwrap().permissions().mode() & 0o777;
        assert_eq!(format!("{kept:03o}"), mode, "it stays as it was");
        sandbox.wipe();
    }
}

#[test]
fn a_slot_s_container_limits_what_the_driver_leaves_open() {
    let Some(mut sandbox) = Sandbox::local_with(&policy(), &["--disk-limit=50000000"]) else { return };
    let filled = sandbox.exec_for("for i in $(seq 99); do head -c 9000000 /dev/zero >f$i; done; sleep 60", 60_000);
    assert_eq!(filled.end, CommandEnd::LimitPassed { limit: Limit::Disk });
    sandbox.wipe();
    assert_eq!(sandbox.run("ls; echo alive"), "alive\n");
}

#[test]
fn what_passes_a_limit_in_the_background_is_told_with_the_next_command() {
    let mut sandbox = Sandbox::with(&Policy { processes: Some(40), ..policy() });
    sandbox.run("(sleep 0.5; for i in $(seq 100); do sleep 1000 & done) >/dev/null 2>&1 &");
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(sandbox.exec("echo not run").end, CommandEnd::LimitPassed { limit: Limit::Processes });
    assert_eq!(sandbox.run("echo run"), "run\n");
}

#[test]
fn a_shell_that_is_not_bash_does_as_well() {
    let Some(mut sandbox) = Sandbox::local_with(&policy(), &["--hide=/usr/bin/bash"]) else { return };
    assert!(sandbox.shell.ends_with("/sh"), "{}", sandbox.shell);
    sandbox.run("cd /; export SEEN=here; f() { echo \"f $1\"; }");
    assert_eq!(sandbox.run("pwd; sh -c 'echo $SEEN'; f 1; umask"), "/\nhere\nf 1\n0002\n");
    for (command, code) in
        [("echo 'open", 2), ("if true; then (", 2), ("exec 7</no/such", 2), ("(exit 7)", 7), (": >&9", 2)]
    {
        assert_eq!(sandbox.code(command), code, "{command}");
    }
    assert_eq!(sandbox.run("pwd; cat"), "/\n", "it is the same shell still");
    assert_eq!(sandbox.exec("exit 3").end, CommandEnd::ShellEnded);
    assert_eq!(sandbox.exec_for("setsid sleep 1000 & sleep 1000", 300).end, CommandEnd::TimedOut);
    assert_eq!(sandbox.run("pwd"), "/testbed\n");
}
