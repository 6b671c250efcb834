//! The program around a session: sockets, signals, greetings, what it says to a driver that it cannot serve.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use sera_sandbox::frame;
use sera_sandbox::wire::{Answer, CommandEnd, Fault, PROTOCOL, Policy, Request};

use crate::support::{PROGRAM, Sandbox, descendants, left_out, policy};

fn wait_for(mut what: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < until, "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_socket_takes_one_driver_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg("--socket").arg(path("socket"));
    for name in ["workspace", "tmp", "home"] {
        command.arg(format!("--{name}")).arg(path(name));
    }
    let mut child = command.spawn().unwrap();
    // It is there a moment before anybody listens, and has its mode only then.
    let listens = || fs::metadata(path("socket")).is_ok_and(|socket| socket.permissions().mode() & 0o777 == 0o660);
    wait_for(listens);
    let mut stream = UnixStream::connect(path("socket")).unwrap();
    frame::write_message(&mut stream, &Request::Hello { protocol: PROTOCOL, policy: policy() }).unwrap();
    assert!(matches!(frame::read_message(&mut stream).unwrap(), Some(Answer::Ready { .. })));
    assert!(!path("socket").exists() && UnixStream::connect(path("socket")).is_err());
    let background = "sleep 1000 & echo $! >number".to_owned();
    frame::write_message(&mut stream, &Request::Exec { command: background, timeout_ms: 10_000, max_output: 10 })
        .unwrap();
    assert!(matches!(frame::read_message(&mut stream).unwrap(), Some(Answer::Executed { .. })));
    let background = fs::read_to_string(path("workspace/number")).unwrap();
    drop(stream);
    // The next finds nothing of it running; but what it left at writable paths, nobody can know, this program or one that is started again in the pod.
    let refused = |child: &mut Child| {
        wait_for(listens);
        assert!(!Path::new("/proc").join(background.trim()).exists());
        let mut stream = UnixStream::connect(path("socket")).unwrap();
        let policy = Policy { writable_paths: vec![path("home").display().to_string()], ..policy() };
        frame::write_message(&mut stream, &Request::Hello { protocol: PROTOCOL, policy }).unwrap();
        let answer = frame::read_message(&mut stream).unwrap();
        let Some(Answer::Failed { message, fatal: true, .. }) = answer else { panic!("{answer:?}") };
        assert!(message.contains("served a driver before"), "{message}");
        assert!(!child.wait().unwrap().success());
    };
    refused(&mut child);
    refused(&mut command.spawn().unwrap());
}

#[test]
fn it_outlives_its_driver_until_it_is_asked_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut child = Command::new(PROGRAM).arg("serve").arg("--socket").arg(&socket).spawn().unwrap();
    for _ in 0..2 {
        wait_for(|| socket.exists());
        let driver = UnixStream::connect(&socket);
        wait_for(|| !socket.exists());
        drop(driver);
    }
    wait_for(|| socket.exists());
    assert!(child.try_wait().unwrap().is_none(), "the kubelet would start it again");
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn it_ends_when_it_is_asked_to_whatever_runs() {
    let mut sandbox = Sandbox::new();
    sandbox.say(&Request::Exec {
        command: "trap '' TERM; sleep 1000".to_owned(),
        timeout_ms: 1_000_000,
        max_output: 10,
    });
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    Command::new("kill").arg(sandbox.pid().to_string()).status().unwrap();
    wait_for(|| sandbox.has_ended());
    assert!(begin.elapsed() < Duration::from_secs(10));
    // And while nobody has come yet.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut child = Command::new(PROGRAM).arg("serve").arg("--socket").arg(&socket).spawn().unwrap();
    wait_for(|| socket.exists());
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(child.wait().unwrap().success());
}

/// Where the kernel gives namespaces, the program as the first process of its own, as in a pod, with all that it has in a folder, and its pid; this
/// process is its grandparent.
fn container(folder: &Path) -> Option<(Child, u32)> {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    let mut tried = Command::new("unshare");
    let tried = tried.args(command.get_args()).arg("true").stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        left_out("this kernel gives no namespaces");
        return None;
    }
    command.args([PROGRAM, "serve"]);
    for name in ["socket", "workspace", "tmp", "home"] {
        command.arg(format!("--{name}")).arg(folder.join(name));
    }
    let container = command.spawn().unwrap();
    wait_for(|| folder.join("socket").exists());
    let first = child_of(container.id());
    Some((container, first))
}

/// The only child of a process.
fn child_of(process: u32) -> u32 {
    let children = || fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    wait_for(|| !children().is_empty());
    children().trim().parse().unwrap()
}

#[test]
fn as_the_first_process_of_a_container_it_ends_when_it_is_asked_to_with_all_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // While a command runs that does not listen, and others that got away from it; and while nobody has come yet.
    for busy in [true, false] {
        let Some((mut container, first)) = container(folder.path()) else { return };
        let mut stream = busy.then(|| greeted(&path("socket")));
        if let Some(stream) = &mut stream {
            let command =
                "trap '' TERM INT HUP; setsid sleep 1000 & nohup sleep 1001 & touch runs; sleep 1002".to_owned();
            frame::write_message(stream, &Request::Exec { command, timeout_ms: 1_000_000, max_output: 10 }).unwrap();
            wait_for(|| path("workspace/runs").exists());
        }
        let all = descendants(first);
        assert!(!busy || all.len() >= 3, "the shell and what it started: {all:?}");
        let begin = Instant::now();
        Command::new("kill").arg(first.to_string()).status().unwrap();
        let mut ended = None;
        wait_for(|| {
            ended = container.try_wait().unwrap();
            ended.is_some()
        });
        // The kubelet kills what takes longer than the pod's grace, which is half a minute.
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert_eq!(ended.unwrap().code(), Some(0));
        assert!(all.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()), "{all:?}");
    }
}

#[test]
fn as_the_first_process_of_a_container_it_does_not_end_for_what_runs_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some((mut container, first)) = container(folder.path()) else { return };
    let mut stream = greeted(&folder.path().join("socket"));
    // Somebody in the namespace whom Landlock does not hold, as commands are on kernels before 6.12; and one who claims to be nobody.
    let claims = format!(
        "import ctypes, struct; libc = ctypes.CDLL(None, use_errno=True)
info = struct.pack('iiii', 15, 0, -1, 0) + bytes(112)
assert libc.syscall({}, 1, 15, info) == 0, ctypes.get_errno()",
        libc::SYS_rt_sigqueueinfo
    );
    for signals in [vec!["kill", "-TERM", "1"], vec!["kill", "-HUP", "1"], vec!["python3", "-c", &claims]] {
        let within = ["--pid", "--target", &first.to_string()].map(str::to_owned);
        let sent = Command::new("nsenter").args(within).args(&signals).status().unwrap();
        assert!(sent.success(), "{signals:?}");
        let request = Request::Exec { command: "echo alive".to_owned(), timeout_ms: 10_000, max_output: 100 };
        frame::write_message(&mut stream, &request).unwrap();
        let answer: Option<Answer> = frame::read_message(&mut stream).unwrap();
        assert!(answer.is_some(), "{signals:?} has ended it");
    }
    Command::new("kill").arg(first.to_string()).status().unwrap();
    assert_eq!(container.wait().unwrap().code(), Some(0));
}

/// A driver that was taken by the first process of a PID namespace.
fn greeted(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    frame::write_message(&mut stream, &Request::Hello { protocol: PROTOCOL, policy: policy() }).unwrap();
    match frame::read_message(&mut stream).unwrap() {
        Some(Answer::Ready { protections, .. }) => {
            assert!(protections.iter().any(|kept| kept == "kill-all"), "it is not the first: {protections:?}");
        }
        other => panic!("{other:?}"),
    }
    stream
}

#[test]
fn who_speaks_another_protocol_or_out_of_turn_is_told() {
    let refused = |request: &Request| {
        let (mut child, mut input) = raw();
        frame::write_message(&mut input, request).unwrap();
        let mut output = child.stdout.take().unwrap();
        let answer = frame::read_message(&mut output).unwrap().unwrap();
        drop(input);
        assert!(!child.wait().unwrap().success());
        let Answer::Failed { fault: Fault::Protocol, message, fatal: true } = answer else { panic!("{answer:?}") };
        message
    };
    assert!(refused(&Request::Wipe).contains("greeting"));
    assert!(refused(&Request::Hello { protocol: 77, policy: policy() }).contains("version 77"));
}

#[test]
fn noise_instead_of_frames_ends_it() {
    let (mut child, mut input) = raw();
    std::io::Write::write_all(&mut input, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut said = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
    drop(input);
    assert!(!child.wait().unwrap().success());
    assert!(String::from_utf8_lossy(&said).contains("protocol"));
}

fn raw() -> (std::process::Child, std::process::ChildStdin) {
    let folder = std::env::temp_dir();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--stdio"]).arg("--workspace").arg(folder.join("sera-raw"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let input = child.stdin.take().unwrap();
    (child, input)
}

#[test]
fn a_policy_that_cannot_be_kept_is_refused() {
    let refused = |policy: &Policy| match Sandbox::try_start(policy, |_, _| {}) {
        Err(Answer::Failed { fault: Fault::Unsupported, message, fatal: true }) => message,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("taken"),
    };
    let writable = |path: &str| Policy { writable_paths: vec![path.to_owned()], ..policy() };
    assert!(refused(&writable("/")).contains("not one that commands may have"));
    assert!(refused(&writable("opt")).contains("cannot be used") || refused(&writable("opt")).contains("not absolute"));
    assert!(refused(&writable("/no/such")).contains("cannot be used"));
    assert!(refused(&writable("/etc/passwd")).contains("is no directory"));
    assert!(refused(&Policy { env: vec![("A=B".to_owned(), "x".to_owned())], ..policy() }).contains("A=B"));
}

/// Does something as on a kernel that has no Landlock: its calls are unknown to the thread, and to the processes that it starts.
fn without_landlock<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let calls = [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let rules = calls.map(|call| (call, Vec::new())).into();
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, unknown, architecture).unwrap().try_into().unwrap();
    let thread = std::thread::spawn(move || {
        seccompiler::apply_filter(&filter).unwrap();
        act()
    });
    thread.join().unwrap()
}

#[test]
fn a_kernel_without_landlock_is_refused_where_it_is_required_and_otherwise_it_is_not_among_the_protections() {
    let refused = without_landlock(|| Sandbox::try_start(&policy(), |_, _| {}).err());
    let Some(Answer::Failed { fault: Fault::Unsupported, message, fatal: true }) = refused else {
        panic!("{refused:?}")
    };
    assert!(message.contains("no Landlock") && message.contains("`landlock: Required`"), "{message}");
    without_landlock(|| {
        let mut sandbox = Sandbox::with(&Policy { landlock_required: false, ..policy() });
        let kept = &sandbox.protections;
        assert!(!kept.iter().any(|kept| kept.starts_with("landlock")) && kept.iter().any(|kept| kept == "seccomp"));
        assert_eq!(sandbox.run("echo alive"), "alive\n");
    });
}

#[test]
fn a_slot_with_namespaces_is_the_same_wherever_it_lies() {
    let Some(mut sandbox) = Sandbox::local(&policy()) else { return };
    assert_eq!(sandbox.workspace.to_str(), Some("/testbed"));
    assert_eq!(
        sandbox.run("pwd; echo $HOME $TMPDIR; id -u; mktemp -d >/dev/null; touch ~/x /dev/shm/x"),
        "/testbed\n/home/sera /tmp\n1000\n"
    );
    assert!(sandbox.run("ps -e | wc -l").trim().parse::<u32>().unwrap() < 8, "it sees its own processes alone");
    assert_eq!(sandbox.run("python3 -c 'import multiprocessing; multiprocessing.Lock(); print(1)'"), "1\n");
    for path in ["/sera", "/home/other", "/usr/sera"] {
        assert_ne!(sandbox.code(&format!("mkdir {path}")), 0);
    }
    assert_eq!(sandbox.exec_for("setsid sleep 1000 & setsid sleep 1000", 300).end, CommandEnd::TimedOut);
    assert_eq!(
        // Not in a pipe: its second process may or may not be there when the first one looks.
        sandbox.run("ls /proc >seen; grep -c '^[0-9]' seen").trim().parse::<u32>().unwrap(),
        3,
        "the shell, ls and sera-sandbox"
    );
    sandbox.wipe();
    assert_eq!(sandbox.run("ls -A ~ /tmp /dev/shm /testbed | grep -v : | tr -d '\\n'"), "");
    assert!(
        !fs::exists("/testbed").unwrap_or(true) || !fs::exists("/home/sera").unwrap_or(true),
        "nothing is made on the machine"
    );
}
