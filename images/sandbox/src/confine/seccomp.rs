//! What commands may ask of the kernel: filters that deny what no build and no test needs, and what would reach beyond the slot.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

/// Why no filter is in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    /// It could not be made.
    #[error("the seccomp filter cannot be made: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel refused it.
    #[error("the kernel takes no seccomp filter: {0}")]
    Refused(#[from] seccompiler::Error),
}

/// Denied with whatever arguments.
const DENIED: &[i64] = &[
    // Other processes: their memory, their files, their calls.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Keys are a user's, not a slot's.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Large parts of the kernel that commands have no use for.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_secret,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    // File systems and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // A handle is opened past every check of paths.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    // Memory and queues that outlive processes, and that the containers of a pod share.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semctl,
    libc::SYS_semtimedop,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// Denied where the architecture has them.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// Calls that take a process, by the argument that names it: none of them on `sera-sandbox`.
const ON_A_PROCESS: &[(i64, u8)] = &[
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_setpriority, 1),
    (libc::SYS_ioprio_set, 1),
];

/// What `clone` must not make. The namespace of times cannot be asked for there: its bit is a signal's.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Where the type of a socket is in what `socket` takes as one.
const SOCKET_TYPE: u64 = 0xf;
/// The older way to a raw socket, from linux/net.h.
const SOCK_PACKET: i32 = 10;

/// Restricts this process, and what comes of it. `guard` is `sera-sandbox` itself.
pub(crate) fn apply(egress: bool, guard: i32) -> Result<(), SeccompError> {
    for program in programs(egress, guard)? {
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

fn programs(egress: bool, guard: i32) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    // What is missing is answered for differently than what is forbidden: glibc falls back from clone3 to clone, whose flags a filter can see.
    let missing = filter(BTreeMap::from([(libc::SYS_clone3, vec![])]), libc::ENOSYS)?;
    let mut programs = vec![filter(denied(egress, guard)?, libc::EPERM)?, missing];
    if cfg!(target_arch = "x86_64") {
        programs.push(no_x32());
    }
    Ok(programs)
}

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram, seccompiler::BackendError> {
    let denied = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, denied, std::env::consts::ARCH.try_into()?)?.try_into()
}

fn denied(egress: bool, guard: i32) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().chain(DENIED_HERE).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, if egress { sockets_but_internet()? } else { Vec::new() });
    rules.insert(libc::SYS_socketpair, vec![rule([word(0, SeccompCmpOp::Ne, libc::AF_UNIX)?])?]);
    rules.insert(libc::SYS_clone, new_namespaces()?);
    // What is read is what everyone has; what is set switches protections of the kernel off.
    let query = -1;
    rules
        .insert(libc::SYS_personality, vec![rule([word(0, SeccompCmpOp::Ne, query)?, word(0, SeccompCmpOp::Ne, 0)?])?]);
    // A character put into a terminal is as good as typed by its owner.
    let into_terminal = [libc::TIOCSTI, libc::TIOCLINUX]
        .into_iter()
        .map(|request| rule([SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request)?]));
    rules.insert(libc::SYS_ioctl, into_terminal.collect::<Result<_, _>>()?);
    // Its own limits, yes; those of another, no.
    let others = [rule([word(0, SeccompCmpOp::Ne, 0)?, long(2, SeccompCmpOp::Ne, 0)?])?];
    rules.insert(libc::SYS_prlimit64, others.to_vec());
    for (call, argument) in ON_A_PROCESS {
        rules.insert(*call, vec![rule([word(*argument, SeccompCmpOp::Eq, guard)?])?]);
    }
    Ok(rules)
}

fn sockets_but_internet() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let other = [word(0, SeccompCmpOp::Ne, libc::AF_INET)?, word(0, SeccompCmpOp::Ne, libc::AF_INET6)?];
    let raw = |kind: i32| {
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(SOCKET_TYPE), number(kind))
    };
    Ok(vec![rule(other)?, rule([raw(libc::SOCK_RAW)?])?, rule([raw(SOCK_PACKET)?])?])
}

fn new_namespaces() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let bits = NAMESPACES.into_iter().map(|bit| {
        let bit = number(bit);
        rule([SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)?])
    });
    bits.collect()
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions.into())
}

fn word(argument: u8, operator: SeccompCmpOp, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, number(value))
}

fn long(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)
}

/// A C `int` as it stands in a register's lower half.
fn number(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

/// Denies the second set of numbers that x86-64 has for the same calls. The other filters look at the first.
fn no_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    let statement = |code: u32, jt, jf, k| sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k };
    vec![
        // The number is what a filter's data begin with.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Whether the kernel takes the filters and keeps them. Found out on a thread that ends at once.
pub(crate) fn works() -> bool {
    let probe = std::thread::spawn(|| {
        let applied = apply(false, 0).is_ok();
        applied
            && std::net::UdpSocket::bind("127.0.0.1:0").is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    });
    probe.join().unwrap_or(false)
}
