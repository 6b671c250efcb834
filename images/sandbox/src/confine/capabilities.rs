//! Capabilities: commands have none, whoever the user is. This is the one place of the program with code that the compiler cannot check, since no crate
//! at hand has the call.

use nix::errno::Errno;
use nix::libc;

/// The version of the call with sets of 64 bits, from linux/capability.h.
const VERSION: u32 = 0x2008_0522;

/// `__user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `__user_cap_data_struct`; the call takes two of them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability of this thread. With no new privileges, no program that it executes gets one back, not even root's.
#[allow(unsafe_code)]
pub(super) fn drop_all() -> Result<(), Errno> {
    let header = Header { version: VERSION, pid: 0 };
    let none = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: both structures are as the kernel's header has them, live through the call, and are only read by it.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    Errno::result(result).map(drop)
}
