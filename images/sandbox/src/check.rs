//! Which protections this kernel gives, for people who set a cluster up.

use std::fs;
use std::process::ExitCode;

use crate::confine::{landlock, seccomp};
use crate::local;

/// Prints a line for each protection. What a policy demands by default has to be there, or the answer is a failure.
pub(crate) fn check() -> ExitCode {
    let seccomp = seccomp::works();
    let landlock = landlock::version();
    let say = |name: &str, there: bool, what: &str| println!("{} {name:<18} {what}", if there { "yes" } else { "no " });
    say("seccomp", seccomp, "commands are kept from calls of the kernel that reach beyond the slot");
    let version = format!("version {landlock}; commands write to the slot's directories alone");
    say(
        "landlock",
        landlock > 0,
        if landlock > 0 {
            &version
        } else {
            "needs Linux 5.13 or later with landlock among CONFIG_LSM; `landlock: BestEffort` runs without"
        },
    );
    say("landlock-scope", landlock >= 6, "signals and abstract sockets stay within the slot (Linux 6.12)");
    say("user-namespaces", local::works(), "without a cluster, commands get namespaces of their own");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("kernel {} on {}", release.trim(), std::env::consts::ARCH);
    if seccomp && landlock > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
