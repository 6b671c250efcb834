//! Ways out of a slot, each tried for real. A try is a script that prints ESCAPED when it gets through. Where it is harmless, the same script is run
//! without the sandbox first and has to get through there: so that what is refused is the way out, and not a mistake in the script.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sera_sandbox::wire::{CommandEnd, Policy};

use crate::support::{Sandbox, policy, search_path};

/// A way out.
pub(crate) struct Try {
    name: &'static str,
    script: &'static str,
    /// Whether it gets through outside, as root on this machine, without doing harm there.
    works_outside: bool,
}

pub(crate) const fn harmless(name: &'static str, script: &'static str) -> Try {
    Try { name, script, works_outside: true }
}

const fn only_inside(name: &'static str, script: &'static str) -> Try {
    Try { name, script, works_outside: false }
}

/// What the scripts have: the driver's folder in DRIVER, a folder that may be read and not be written in OUTSIDE, that of another slot, where there is one,
/// in NEIGHBOUR, `sera-sandbox` in GUARD; `call` makes a system call and prints ESCAPED if the kernel does it, `socket` makes a socket.
const PRELUDE: &str = r#"
call() { python3 -c "
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
args = [eval(a) for a in sys.argv[1:]]
args = [ctypes.create_string_buffer(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in args]
sys.exit(0 if libc.syscall(*args) >= 0 else 1)
" "$@" && echo ESCAPED; }
socket() { python3 -c "
import socket, sys
s = socket.socket(*eval(sys.argv[1]))
" "$1" && echo ESCAPED; }
"#;

/// Files and processes of others.
const OTHERS: &[Try] = &[
    harmless("read a file of the driver", r#"grep -q the-drivers-key "$DRIVER/key" && echo ESCAPED"#),
    harmless("list the driver's folder", r#"ls "$DRIVER" | grep -q key && echo ESCAPED"#),
    harmless(
        "reach the driver's folder over a link",
        r#"ln -sfn "$DRIVER" l; grep -q the-drivers-key l/key && echo ESCAPED"#,
    ),
    harmless(
        "reach the driver's folder over /proc/self/root",
        r#"grep -q the-drivers-key "/proc/self/root$DRIVER/key" && echo ESCAPED"#,
    ),
    harmless("link a file of the driver into the workspace", r#"rm -f h; ln "$DRIVER/key" h && echo ESCAPED"#),
    harmless(
        "read the environment of every process",
        r"cat /proc/[0-9]*/environ | tr '\0' '\n' | grep -q the-drivers-variable && echo ESCAPED",
    ),
    harmless("read the memory map of sera-sandbox", r#"grep -q . "/proc/$GUARD/maps" && echo ESCAPED"#),
    harmless("read the memory of sera-sandbox", r"call 0+101 16 $GUARD 0 0"),
    harmless("list what sera-sandbox has opened", r#"ls -l "/proc/$GUARD/fd/" | grep -q -e '->' && echo ESCAPED"#),
    harmless("go through the root of sera-sandbox", r#"ls "/proc/$GUARD/root/" | grep -q . && echo ESCAPED"#),
    harmless("go through its directory", r#"ls "/proc/$GUARD/cwd/" | grep -q . && echo ESCAPED"#),
    harmless("write a file outside", r#"echo x >"$OUTSIDE/written" && echo ESCAPED"#),
    harmless("make a directory outside", r#"mkdir "$OUTSIDE/made" && rmdir "$OUTSIDE/made" && echo ESCAPED"#),
    harmless("write outside over a link", r#"ln -sfn "$OUTSIDE" l; echo x >l/linked && echo ESCAPED"#),
    harmless("move a file out", r#"echo x >m; mv m "$OUTSIDE/moved" && echo ESCAPED"#),
    harmless("link a file out", r#"echo x >m; ln -f m "$OUTSIDE/linked" && echo ESCAPED"#),
    harmless("truncate a file outside", r#": >>"$OUTSIDE/t" && truncate -s 0 "$OUTSIDE/t" && echo ESCAPED"#),
    harmless("remove a file outside", r#"rm "$OUTSIDE/removable" && echo ESCAPED"#),
    harmless("take a file in and change it", r#"mv "$OUTSIDE/movable" taken && echo ESCAPED"#),
    harmless(
        "bring a hard link in and change it",
        r#"rm -f h; ln "$OUTSIDE/linkable" h && echo x >>h && echo ESCAPED"#,
    ),
    harmless(
        "change the mode of a file outside",
        r#"chmod 777 "$OUTSIDE/linkable" && echo x >>"$OUTSIDE/linkable" && echo ESCAPED"#,
    ),
    only_inside("write /etc", "echo x >>/etc/passwd && echo ESCAPED"),
    only_inside("set where cores go", "echo /tmp/x >/proc/sys/kernel/core_pattern && echo ESCAPED"),
    only_inside("pull the kernel's levers", "echo h >/proc/sysrq-trigger && echo ESCAPED"),
    only_inside(
        "join another control group",
        "for f in $(find /sys/fs/cgroup -name cgroup.procs 2>/dev/null | head -5); do echo $$ >$f && echo ESCAPED; done",
    ),
    harmless("be the last that is ended for want of memory", "echo 0 >/proc/self/oom_score_adj && echo ESCAPED"),
    only_inside("kill sera-sandbox", r"kill -9 $GUARD && [ $GUARD != 1 ] && echo ESCAPED"),
    only_inside("stop sera-sandbox", r"kill -STOP $GUARD && [ $GUARD != 1 ] && echo ESCAPED"),
    only_inside("kill every process there is", "trap '' TERM; kill -TERM -1; [ -d /proc/$GUARD ] || echo ESCAPED"),
    harmless("take the open files of sera-sandbox", r"prlimit --pid $GUARD --nofile=512:512 && echo ESCAPED"),
    harmless("bind sera-sandbox to one processor", r"taskset -p 1 $GUARD && echo ESCAPED"),
    harmless("make sera-sandbox slow", r"renice -n 1 -p $GUARD && echo ESCAPED"),
    only_inside(
        "read a disk past its file system",
        "for d in /dev/[svn][dbv][a-z0-9]* /dev/mem; do head -c 512 $d | grep -q . && echo ESCAPED; done",
    ),
    only_inside("make a device", "rm -f n; mknod n c 1 1 && echo ESCAPED"),
    only_inside("make a file immutable", "echo x >i; chattr +i i && chattr -i i && echo ESCAPED"),
    only_inside(
        "look through the descriptors of its own shell for the pipe that tells exit codes",
        "{ : >&9; } 2>/dev/null && echo ESCAPED",
    ),
];

/// Calls of the kernel.
const KERNEL: &[Try] = &[
    harmless("trace another process", "sleep 9 & call 101 16 $! 0 0; kill -9 $!; wait $! 2>/dev/null"),
    harmless(
        "read another process's memory",
        "sleep 9 & sleep 0.2; call 310 $! 0 0 0 0 0; kill -9 $!; wait $! 2>/dev/null",
    ),
    harmless(
        "write another process's memory",
        "sleep 9 & sleep 0.2; call 311 $! 0 0 0 0 0; kill -9 $!; wait $! 2>/dev/null",
    ),
    harmless("a new user namespace", "unshare --user true && echo ESCAPED"),
    harmless("a new mount namespace", "unshare --mount true && echo ESCAPED"),
    harmless(
        "new namespaces by clone",
        r#"python3 -c "
import ctypes, os
pid = ctypes.CDLL(None).syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
if pid == 0: os._exit(0)
os._exit(0 if pid > 0 else 1)" && echo ESCAPED"#,
    ),
    harmless(
        "new namespaces by clone3",
        r#"python3 -c "
import ctypes, os, struct
args = struct.pack('8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0)
pid = ctypes.CDLL(None).syscall(435, args, len(args))
if pid == 0: os._exit(0)
os._exit(0 if pid > 0 else 1)" && echo ESCAPED"#,
    ),
    harmless(
        "another's namespace",
        r#"python3 -c "
import ctypes, os
fd = os.open('/proc/$GUARD/ns/uts', os.O_RDONLY)
os._exit(0 if ctypes.CDLL(None).setns(fd, 0) == 0 else 1)" && echo ESCAPED"#,
    ),
    harmless("another root", "chroot / true && echo ESCAPED"),
    only_inside("a mount", "mkdir -p m; mount -t tmpfs none m && echo ESCAPED"),
    only_inside("a bind mount", "mkdir -p m; mount --bind / m && echo ESCAPED"),
    only_inside("an unmount", "umount -l /proc && echo ESCAPED"),
    harmless("a mount by file descriptors", "call 430 b\"'tmpfs'\" 0"),
    harmless("a detached mount tree", "call 428 -100 b\"'/'\" 1"),
    harmless(
        "a file by its handle",
        r#"python3 -c "
import ctypes, struct
libc = ctypes.CDLL(None)
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128))
mount = ctypes.c_int()
ok = libc.name_to_handle_at(-100, b'/etc/passwd', handle, ctypes.byref(mount), 0) == 0
raise SystemExit(0 if ok else 1)" && echo ESCAPED"#,
    ),
    harmless("io_uring", "call 425 8 \"bytes(120)\""),
    harmless("bpf", "call 321 0 \"bytes([2,0,0,0,4,0,0,0,4,0,0,0,1,0,0,0])+bytes(56)\" 72"),
    harmless("userfaultfd", "call 323 1"),
    harmless("perf_event_open", "call 298 \"bytes([1,0,0,0,112,0,0,0])+bytes(104)\" 0 -1 -1 0"),
    harmless("a key", "call 248 b\"'user'\" b\"'k'\" b\"'v'\" 1 -1"),
    harmless("the keys of its user", "call 250 0 -4 1"),
    only_inside("a kernel module", "call 313 0 b\"''\" 0; call 175 b\"'x'\" 1 b\"''\""),
    only_inside("another kernel", "call 246 0 0 0 0; call 320 0 0 0 b\"''\" 0"),
    harmless("the kernel's log", "call 103 10 0 0"),
    harmless("no randomised addresses", "call 135 0x0040000"),
    harmless("memory that outlives it and that a pod shares", "call 29 0 4096 0o1600"),
    harmless("a queue that a pod shares", "call 68 0 0o1600"),
    harmless("a POSIX queue", "call 240 b\"'sera-q'\" 0o102 0o600 0; call 241 b\"'sera-q'\""),
    harmless("semaphores that a pod shares", "call 64 0 1 0o1600"),
    harmless("secret memory", "call 447 0"),
    only_inside(
        "a character put into a terminal",
        r#"python3 -c "
import fcntl, pty
m, s = pty.openpty()
fcntl.ioctl(s, 0x5412, b'x')" && echo ESCAPED"#,
    ),
    only_inside("calls with the numbers of x32", "call 0x40000000+39"),
    harmless(
        "calls of 32 bits",
        r#"python3 -c "
import ctypes, mmap
code = bytes.fromhex('53b814000000cd805bc3')
m = mmap.mmap(-1, 4096, prot=7)
m.write(code)
f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))
raise SystemExit(0 if f() > 0 else 1)" && echo ESCAPED"#,
    ),
    harmless("larger cores", "ulimit -c unlimited && echo ESCAPED"),
    only_inside("more open files than it may have", "ulimit -n 1000000 && echo ESCAPED"),
    harmless("capabilities", "grep -q 'CapEff:.*[1-9a-f]' /proc/self/status && echo ESCAPED"),
    harmless(
        "a program that makes its caller root",
        "cp /usr/bin/id id && chmod u+s id && grep -q 'NoNewPrivs:.0' /proc/self/status && echo ESCAPED",
    ),
];

/// The network.
const NETWORK: &[Try] = &[
    harmless("a TCP socket", "socket '2, 1'"),
    harmless("a UDP socket", "socket '2, 2'"),
    harmless("a TCP socket of IPv6", "socket '10, 1'"),
    harmless("a raw socket", "socket '2, 3, 1'"),
    harmless("a packet socket", "socket '17, 3, 0'"),
    harmless("a netlink socket", "socket '16, 3, 0'"),
    harmless("a unix socket", "socket '1, 1'"),
    harmless(
        "a unix socket without a path",
        r#"python3 -c "
import socket
s = socket.socket(socket.AF_UNIX)
s.bind('\0sera-escape')" && echo ESCAPED"#,
    ),
    only_inside("a socket of the kernel's ciphers", "socket '38, 5, 0'"),
    harmless(
        "the shell's own network",
        "python3 -m http.server 18749 --bind 127.0.0.1 >/dev/null 2>&1 & sleep 1; (: </dev/tcp/127.0.0.1/18749) && echo ESCAPED; kill -9 $!; wait $! 2>/dev/null",
    ),
    only_inside(
        "a pair of sockets that is not of the unix kind",
        "python3 -c 'import socket; socket.socket(30, 1)' && echo ESCAPED",
    ),
];

/// The folder that outside is, made anew.
fn prepare(outside: &Path) {
    let _ = fs::remove_dir_all(outside);
    fs::create_dir(outside).unwrap();
    for name in ["removable", "movable", "linkable"] {
        fs::write(outside.join(name), name).unwrap();
    }
}

fn contents(outside: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(outside).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> =
        files.map(|file| (file.file_name().display().to_string(), fs::read(file.path()).unwrap())).collect();
    files.sort();
    files
}

/// Where nothing keeps it, the way out has to be one.
fn try_outside(way: &Try, place: &Path, [driver, outside, neighbour]: [&Path; 3]) {
    let bystander = Command::new("sleep").arg("60").env("SERA_API_KEY", "the-drivers-variable").spawn();
    let mut bystander = bystander.unwrap();
    let output = Command::new("bash")
        .args(["-c", &format!("{PRELUDE}{}", way.script)])
        .current_dir(place)
        .env("PATH", search_path())
        .env("DRIVER", driver)
        .env("OUTSIDE", outside)
        .env("NEIGHBOUR", neighbour)
        .env("GUARD", bystander.id().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    let output = [output.stdout, output.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    assert!(output.contains("ESCAPED"), "without the sandbox `{}` has to get through: {output}", way.name);
}

fn try_all(ways: &[Try], sandbox: &mut Sandbox, first_outside: bool) {
    try_with_neighbour(ways, sandbox, first_outside, Path::new(""));
}

/// Tries each way, and says which got out.
pub(crate) fn try_with_neighbour(ways: &[Try], sandbox: &mut Sandbox, first_outside: bool, neighbour: &Path) {
    let (driver, outside) = (sandbox.path("driver"), sandbox.path("outside"));
    let place = tempfile::tempdir().unwrap();
    let guard = if sandbox.protections.iter().any(|kept| kept == "pid-namespace") { 1 } else { sandbox.pid() };
    let mut escaped = Vec::new();
    for way in ways {
        prepare(&outside);
        if first_outside && way.works_outside && is_root() {
            try_outside(way, place.path(), [&driver, &outside, neighbour]);
            prepare(&outside);
        }
        let before = contents(&outside);
        let script = format!(
            "DRIVER='{}' OUTSIDE='{}' NEIGHBOUR='{}' GUARD={guard}\n{PRELUDE}{}\necho tried",
            driver.display(),
            outside.display(),
            neighbour.display(),
            way.script
        );
        let executed = sandbox.exec(&script);
        let tried = matches!(executed.end, CommandEnd::Exited { .. }) && executed.output.ends_with("tried\n");
        if executed.output.contains("ESCAPED") || contents(&outside) != before {
            escaped.push(format!("{}: {}", way.name, executed.output));
        }
        assert!(tried || way.name == "kill every process there is", "`{}` was not tried: {executed:?}", way.name);
        assert_eq!(sandbox.run("echo alive"), "alive\n", "after `{}`", way.name);
    }
    assert!(escaped.is_empty(), "{} got out:\n{}", escaped.len(), escaped.join("\n"));
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}

#[test]
fn nobody_elses_files_and_processes_are_reached() {
    try_all(OTHERS, &mut Sandbox::new(), true);
}

#[test]
fn the_kernel_does_nothing_that_reaches_beyond_the_slot() {
    try_all(KERNEL, &mut Sandbox::new(), true);
}

#[test]
fn there_is_no_network() {
    try_all(NETWORK, &mut Sandbox::new(), true);
}

#[test]
fn nothing_gets_out_of_namespaces_of_its_own() {
    let Some(mut sandbox) = Sandbox::local(&policy()) else { return };
    try_all(OTHERS, &mut sandbox, false);
    try_all(KERNEL, &mut sandbox, false);
    try_all(NETWORK, &mut sandbox, false);
}

#[test]
fn what_every_build_needs_is_allowed() {
    let mut sandbox = Sandbox::new();
    let needs = [
        "python3 -c 'import socket; a, b = socket.socketpair(); a.send(b\"x\"); print(b.recv(1))'",
        "python3 -c 'import threading; t = threading.Thread(target=print); t.start(); t.join()'",
        "python3 -c 'import subprocess; subprocess.run([\"true\"], check=True)'",
        "python3 -c 'import asyncio; asyncio.run(asyncio.sleep(0))'",
        "echo x | tee a | cat >/dev/null; echo y >/dev/stdout; echo z >/dev/stderr; cat <(echo sub)",
        "mkdir -p p/q && mv a p/q/b && ln p/q/b p/c && ln -s p d && cp -a p r && rm -rf p r d",
        "mkfifo f && (echo through >f &) && cat f && rm f",
        "mktemp && mktemp -d && touch ~/x && chmod 600 ~/x && touch -d yesterday ~/x",
        "head -c 8 /dev/urandom | od >/dev/null; : </dev/zero; ulimit -n 64; nice true; timeout 5 true",
        "git --version && find / -maxdepth 0 && date && id && uname -a && df . && ps >/dev/null",
        "perl -e 'fork or exit; wait' && (sleep 0.01 & wait)",
        "python3 -m venv --without-pip v && v/bin/python -c 'print(1)' && rm -r v",
    ];
    for command in needs {
        sandbox.run(command);
    }
}

#[test]
fn egress_is_the_internet_and_nothing_else() {
    let mut sandbox = Sandbox::with(&Policy { egress: true, ..policy() });
    let socket = |kind: &str| format!("python3 -c 'import socket; socket.socket({kind})'");
    for kind in ["2, 1", "2, 2", "10, 1"] {
        sandbox.run(&socket(kind));
    }
    for kind in ["1, 1", "2, 3, 1", "16, 3, 0", "17, 3, 0", "38, 5, 0"] {
        assert_eq!(sandbox.code(&socket(kind)), 1, "{kind}");
    }
}

#[test]
fn commands_have_the_variables_of_the_policy_and_none_of_the_driver() {
    let env = vec![("GIVEN".to_owned(), "a b".to_owned()), ("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let mut sandbox = Sandbox::with(&Policy { env, ..policy() });
    let shown = sandbox.run("env | cut -d= -f1 | sort | tr '\\n' ' '; echo \"$GIVEN\"");
    let names: Vec<&str> = shown.split_whitespace().collect();
    assert!(names.contains(&"GIVEN") && names.contains(&"HOME") && !shown.contains("SERA"), "{shown}");
    assert!(shown.ends_with("a b\n"));
}
