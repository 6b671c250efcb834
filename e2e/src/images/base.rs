//! The Debian that every image of the tests' own cluster stands on. It is made once by mmdebstrap, straight from Debian's
//! archive, because no registry may be at hand.

use std::env;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::ImageError;
use super::store::{self, Store};
use crate::progress::Progress;

/// The release: the one whose glibc the programs are linked with on the machines that the project names.
const SUITE: &str = "bookworm";
/// Left out of a base: half of its files, and none that a program reads.
const EXCLUDED: [&str; 4] = ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"];
/// Names another mirror of Debian, for machines that do not reach deb.debian.org.
const MIRROR_VARIABLE: &str = "SERA_DEBIAN_MIRROR";

/// What an image stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// What the project's own programs call or read.
    Programs,
    /// What an agent expects where its commands run.
    Environment,
}

impl Base {
    /// The packages, beside what Debian calls essential. Whatever is in here, a Dockerfile need not install.
    const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Programs => &["ca-certificates", "git", "openssh-client"],
            Self::Environment => &["ca-certificates", "git", "patch", "python3"],
        }
    }

    /// The digest of what decides the base's content.
    pub(super) fn key(self) -> String {
        let mut digest = Sha256::new();
        for word in [SUITE].iter().chain(self.packages()).chain(&EXCLUDED) {
            digest.update(word);
            digest.update([0]);
        }
        let mut key = hex::encode(digest.finalize());
        key.truncate(16);
        key
    }

    /// Makes sure of the base and answers its name in the store.
    pub(super) async fn ensure(
        self,
        store: &Store,
        workshop: &Path,
        progress: &Progress,
    ) -> Result<String, ImageError> {
        let reference = format!("localhost/sera-base:{}", self.key());
        if store.holds(&reference).await? {
            return Ok(reference);
        }
        progress.step(format!("making a Debian base with {} (once; about a minute)", self.packages().join(", ")));
        let tar = workshop.join("base.tar");
        store::output_of(&mut mmdebstrap(self, &tar)).await?;
        store.import(&tar, &reference).await?;
        Ok(reference)
    }
}

fn mmdebstrap(base: Base, tar: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    // Only what Debian calls essential, and what is named: without even apt, which nobody calls in a pod.
    command.args(["--variant=essential", "--format=tar"]).arg(format!("--include={}", base.packages().join(",")));
    command.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(SUITE).arg(tar).args(env::var_os(MIRROR_VARIABLE));
    command
}
