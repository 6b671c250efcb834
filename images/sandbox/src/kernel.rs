//! Two calls of the kernel that no crate at hand has: the only code of the program that the compiler cannot check.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// The version of `capset` with sets of 64 bits, from linux/capability.h.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// The longest list of attributes' names that the kernel gives, from linux/limits.h.
const LONGEST_LIST: usize = 65_536;
/// Attributes of the kernel's own security modules: they belong to the machine.
const SECURITY: &[u8] = b"security.";

/// `__user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `__user_cap_data_struct`; the call takes two of them.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability of this thread. With no new privileges, no program that it executes gets one back, not even root's.
pub(crate) fn drop_capabilities() -> Result<(), Errno> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let none = [CapabilityData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: both structures are as the kernel's header has them, live through the call, and are only read by it.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Removes the extended attributes of a file, access control lists among them. Answers how many there were.
pub(crate) fn clear_attributes(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    // SAFETY: with no room given, the kernel writes nothing and answers how much it would.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), std::ptr::null_mut(), 0) };
    match Errno::result(length) {
        // A file system without attributes.
        Ok(0) | Err(Errno::ENOTSUP) => return Ok(0),
        Ok(_) => {}
        Err(error) => return Err(error),
    }
    let mut names = vec![0_u8; LONGEST_LIST];
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(usize::try_from(Errno::result(length)?).unwrap_or(0));
    let mut removed = 0;
    for name in names.split_inclusive(|byte| *byte == 0).filter(|name| !name.starts_with(SECURITY)) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // SAFETY: the name ends in NUL and lives through the call.
        Errno::result(unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) })?;
        removed += 1;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::clear_attributes;

    #[test]
    fn attributes_are_removed() {
        // /tmp may be a tmpfs of an older kernel, which has none.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let set = "import os, sys; os.setxattr(sys.argv[1], 'user.a', b'1'); os.setxattr(sys.argv[1], 'user.b', b'2')";
        let status = Command::new("python3").args(["-c", set]).arg(folder.path()).status().unwrap();
        let file = File::open(folder.path()).unwrap();
        if status.success() {
            assert_eq!(clear_attributes(file.as_fd()), Ok(2));
        }
        assert_eq!(clear_attributes(file.as_fd()), Ok(0));
    }
}
