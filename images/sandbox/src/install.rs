//! Copies, as init containers make them: of this program into a volume that a slot's container has, and of a directory into a volume that will hide it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::tree::node::Dir;
use crate::tree::pack::Pack;
use crate::tree::restore::restore;
use crate::tree::scan::Scan;
use crate::tree::{TreeError, disk};

/// Everyone may execute it: the slot's user is any.
const MODE: u32 = 0o755;

/// Copies this program. Whoever looks sees all of it or nothing.
pub(crate) fn install(to: &Path) -> io::Result<()> {
    let to = if to.is_dir() { to.join("sera-sandbox") } else { to.to_owned() };
    let mut beside = to.clone().into_os_string();
    beside.push(format!(".{}", std::process::id()));
    let written = fs::copy("/proc/self/exe", &beside)
        .and_then(|_| fs::set_permissions(&beside, fs::Permissions::from_mode(MODE)))
        .and_then(|()| File::open(&beside)?.sync_all())
        .and_then(|()| fs::rename(&beside, &to));
    written.inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Copies what is in a directory into another, which is there. Done again, it changes nothing.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<u64, TreeError> {
    let open = |path: &Path| {
        let opened = File::open(path);
        opened.map_err(|error| {
            TreeError::disk("open", path)(nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)))
        })
    };
    let mut pack = Pack::create(to)?;
    // An image without anything there has nothing to copy.
    let mut tree = if from.is_dir() {
        Scan { pack: &mut pack, trust: false }.tree(open(from)?.as_fd(), from, None)?
    } else {
        Dir::empty()
    };
    let dir = open(to)?;
    tree.mode = nix::sys::stat::fstat(&dir).map_err(TreeError::disk("look at", to))?.st_mode & 0o7777;
    restore(dir.as_fd(), to, &mut tree, &pack, disk::times_tell_changes(&dir))
}
