//! The namespaces of a node: network, mounts and process ids of its own, so that everything a node makes is gone with its
//! first process, and nothing it writes (links, mounts, sysctls, files under /run and /var/lib) is the machine's.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::folder::Lifetime;
use super::process::{COMPONENT, MARK, ProcessId};

/// Folders that kubelet, containerd and the network plugins write to wherever they are told to put their files. A node
/// gets empty ones of its own.
const PRIVATE_FOLDERS: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// What kubelet sets for the whole machine when it starts (pkg/kubelet/cm, `setupKernelTunables`). Namespaces do not
/// cover these, so a node sees plain files in their place.
const MACHINE_SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// The first process of the node: gives it a /proc of its own, hides the machine's sysctls, says so through a file, and
/// then waits, reaping whatever loses its parent. When it ends, the kernel ends every process of the node.
/// It reads its standard input: with the pipe held by a test program, the node ends when that program does.
const INIT: &str = r#"
set -e
mount -t proc -o nosuid,nodev,noexec proc /proc
for name in $SYSCTLS; do
    [ -e "/proc/sys/$name" ] || continue
    mkdir -p "$SHADOWS/${name%/*}"
    cat "/proc/sys/$name" >"$SHADOWS/$name"
    mount --bind "$SHADOWS/$name" "/proc/sys/$name"
done
: >"$SHADOWS/ready"
$PASTIME >/dev/null
exit 0
"#;

/// A node's first process, and what keeps it alive.
pub(super) struct Init {
    pub(super) process: ProcessId,
    /// Closed, it ends the node. A persistent one has none.
    pub(super) lifeline: Option<ChildStdin>,
}

/// Makes the namespaces and starts their first process. `keep` are folders that stay visible wherever they lie.
pub(super) fn create(cluster: &Path, keep: &[&Path], lifetime: Lifetime) -> io::Result<Init> {
    let shadows = cluster.join("shadows");
    fs::create_dir_all(&shadows)?;
    let log = File::create(cluster.join("logs/init.log"))?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", INIT]).current_dir(cluster).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env(MARK, cluster).env(COMPONENT, "init");
    command.env("SYSCTLS", MACHINE_SYSCTLS.join(" ")).env("SHADOWS", &shadows);
    let (stdin, pastime) = match lifetime {
        Lifetime::Owner => (Stdio::piped(), "cat"),
        Lifetime::Persistent => (Stdio::null(), "sleep infinity"),
    };
    command.env("PASTIME", pastime).stdin(stdin).stdout(log.try_clone()?).stderr(log);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);

    // Namespaces belong to a thread: this one ends, and the process goes on where it was.
    let mut child = in_a_thread(|| {
        let flags =
            CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
        unshare(flags)?;
        hide_machine_folders(keep)?;
        command.spawn()
    })?;
    let lifeline = child.stdin.take();
    let process =
        ProcessId::of(child.id()).ok_or_else(|| io::Error::other("the node's first process ended at once"))?;
    Ok(Init { process, lifeline })
}

/// Whether the first process has made the namespaces fit for others.
pub(super) fn is_ready(cluster: &Path) -> bool {
    cluster.join("shadows/ready").exists()
}

/// Runs something (that starts processes) inside of a node's namespaces.
pub(super) fn inside<T: Send>(init: ProcessId, run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    if !init.is_alive() {
        return Err(io::Error::other("the node's first process is gone, and its namespaces with it"));
    }
    let open = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", init.pid()));
    let (net, pid, mounts) = (open("net")?, open("pid")?, open("mnt")?);
    in_a_thread(|| {
        // A thread that shares its root and working directory may not change its mount namespace.
        unshare(CloneFlags::CLONE_FS)?;
        setns(net, CloneFlags::CLONE_NEWNET)?;
        setns(pid, CloneFlags::CLONE_NEWPID)?;
        setns(mounts, CloneFlags::CLONE_NEWNS)?;
        run()
    })
}

fn in_a_thread<T: Send>(run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(run).join()).map_err(|_| io::Error::other("the thread panicked"))?
}

/// Covers the folders that a node writes to, and lets those shine through that must stay.
fn hide_machine_folders(keep: &[&Path]) -> io::Result<()> {
    const NONE: Option<&str> = None;
    // First nothing may travel back to the machine; then mounts may travel between the node and its containers.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE)?;
    for hidden in PRIVATE_FOLDERS {
        let hidden = fs::canonicalize(hidden)?;
        let below: Vec<(File, PathBuf)> = keep
            .iter()
            .filter_map(|kept| fs::canonicalize(kept).ok())
            .filter(|kept| kept.starts_with(&hidden))
            .map(|kept| Ok((File::open(&kept)?, kept)))
            .collect::<io::Result<_>>()?;
        mount(Some("tmpfs"), &hidden, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))?;
        for (file, kept) in below {
            fs::create_dir_all(&kept)?;
            let source = format!("/proc/self/fd/{}", file.as_raw_fd());
            mount(Some(source.as_str()), &kept, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
        }
    }
    Ok(())
}
