//! What files commands may use, as Landlock keeps it: all may be read but what is hidden, and only the slot's own may be written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use ::landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, PathFdError,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Confinement;

/// The newest version that is asked for; a kernel that has an older one keeps what it knows.
const NEWEST: ABI = ABI::V7;
/// Devices that everyone writes to.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Why Landlock does not keep what it has to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LandlockError {
    /// The kernel has none.
    #[error(
        "this kernel has no Landlock, which `landlock: Required` asks for (a kernel since 5.13 that lists it in /sys/kernel/security/lsm)"
    )]
    Missing,
    /// The kernel refused a rule.
    #[error("Landlock refused: {0}")]
    Rule(#[from] RulesetError),
    /// A directory cannot be opened.
    #[error("cannot let commands use {path}: {source}")]
    Path {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Restricts this process, and what comes of it.
pub(crate) fn apply(confinement: &Confinement) -> Result<(), LandlockError> {
    let mut rules = ruleset()?;
    let read = AccessFs::from_read(NEWEST);
    for path in readable(&confinement.hidden) {
        rules = allow_if_there(rules, &path, read)?;
    }
    // No devices are made: nobody could without a capability that is gone, and a rule is one more reason.
    let write = AccessFs::from_all(NEWEST) & !(AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev);
    for path in &confinement.writable {
        rules = allow(rules, path, write)?;
    }
    for path in DEVICES.iter().map(Path::new).filter(|path| path.exists()) {
        rules = allow(rules, path, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)?;
    }
    let status = rules.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced && confinement.landlock_required {
        return Err(LandlockError::Missing);
    }
    Ok(())
}

fn ruleset() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()
}

fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, LandlockError> {
    let opened = PathFd::new(path)
        .map_err(|error| LandlockError::Path { path: path.to_owned(), source: io::Error::other(error) })?;
    Ok(rules.add_rule(PathBeneath::new(opened, access))?)
}

/// What was listed a moment ago may be gone, as other slots' files are all the time: nobody has to be let read it then.
fn allow_if_there(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, LandlockError> {
    match PathFd::new(path) {
        Ok(opened) => Ok(rules.add_rule(PathBeneath::new(opened, access))?),
        Err(PathFdError::OpenCall { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(rules),
        Err(error) => Err(LandlockError::Path { path: path.to_owned(), source: io::Error::other(error) }),
    }
}

/// Everything but what is hidden: rules only ever allow, so what stands beside the way to a hidden directory is allowed one by one.
fn readable(hidden: &[PathBuf]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut open = vec![PathBuf::from("/")];
    while let Some(path) = open.pop() {
        if hidden.contains(&path) {
            continue;
        }
        if hidden.iter().any(|hidden| hidden.starts_with(&path)) {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            // A symbolic link is where it leads, and that is looked at on its own.
            open.extend(
                entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
                    .map(|entry| entry.path()),
            );
        } else {
            paths.push(path);
        }
    }
    paths
}

/// The version that this kernel keeps, 0 for none. Found out by restricting a thread that ends at once.
pub(crate) fn version() -> u32 {
    let probe = thread::spawn(|| ruleset().and_then(RulesetCreated::restrict_self).ok());
    match probe.join().ok().flatten().map(|status| status.landlock) {
        Some(LandlockStatus::Available { effective_abi, .. }) => effective_abi as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::readable;

    #[test]
    fn what_is_hidden_is_left_out_with_all_beneath_and_nothing_else_is() {
        assert_eq!(readable(&[]), [std::path::Path::new("/")]);
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        for name in ["driver/keys", "driver-not", "slots/1/tmp", "slots/2/tmp"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let paths = readable(&[folder.join("driver"), folder.join("slots/2")]);
        let allowed = |name: &str| paths.iter().any(|path| folder.join(name).starts_with(path));
        assert!(allowed("driver-not") && allowed("slots/1/tmp"));
        assert!(!allowed("driver") && !allowed("driver/keys") && !allowed("slots/2/tmp") && !allowed("slots"));
    }
}
