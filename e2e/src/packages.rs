//! Debian packages that a node needs: says which are missing, and installs them where that is possible. It knows nothing
//! of what they are for.

use std::io;
use std::path::Path;

use nix::unistd::Uid;
use tokio::process::Command;

use crate::cluster::on_path;
use crate::progress::Progress;

/// Why packages are missing still.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// This process may not install them.
    #[error("{missing} missing: run `sudo apt-get install --no-install-recommends {missing}`")]
    NotRoot {
        /// The packages.
        missing: String,
    },
    /// There is no apt-get here.
    #[error("no apt-get on this machine: install what Debian calls {missing} by its own package manager")]
    NoApt {
        /// The packages.
        missing: String,
    },
    /// apt-get could not be run.
    #[error("cannot run apt-get")]
    Run(#[source] io::Error),
    /// apt-get failed.
    #[error("`apt-get {arguments}` failed: {complaint}")]
    Failed {
        /// What it was told.
        arguments: String,
        /// The last line of what it said.
        complaint: String,
    },
}

/// A package, and a file or program by which one sees that it is there.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Debian's name for it.
    pub name: &'static str,
    /// An absolute path, or a program on the `PATH`.
    pub provides: &'static str,
}

impl Package {
    /// A package known by something it provides.
    pub const fn new(name: &'static str, provides: &'static str) -> Self {
        Self { name, provides }
    }

    fn is_missing(&self) -> bool {
        let provided =
            if self.provides.starts_with('/') { Path::new(self.provides).exists() } else { on_path(self.provides) };
        !provided
    }
}

/// Installs those of some packages that are missing.
pub async fn ensure(packages: &[Package], progress: &Progress) -> Result<(), PackageError> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| package.is_missing()).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !on_path("apt-get") {
        return Err(PackageError::NoApt { missing: names });
    }
    if !Uid::effective().is_root() {
        return Err(PackageError::NotRoot { missing: names });
    }
    progress.step(format!("installing {names}"));
    apt_get(&["update", "--quiet"]).await?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    apt_get(&[&install[..], &missing].concat()).await
}

/// Waits for up to five minutes for whoever else is installing something: another of our programs, or a machine's upgrades of itself.
const LOCK: &str = "--option=DPkg::Lock::Timeout=300";

async fn apt_get(arguments: &[&str]) -> Result<(), PackageError> {
    let output =
        Command::new("apt-get").arg(LOCK).args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output().await;
    let output = output.map_err(PackageError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    Err(PackageError::Failed { arguments: arguments.join(" "), complaint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_missed_by_what_it_provides() {
        assert!(!Package::new("dash", "sh").is_missing());
        assert!(!Package::new("base-files", "/etc/os-release").is_missing());
        assert!(Package::new("nothing", "no-program-of-this-name").is_missing());
        assert!(Package::new("nothing", "/nowhere/at/all").is_missing());
    }
}
