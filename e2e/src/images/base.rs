//! The Debian that every image of the tests' own cluster stands on. It is made once by mmdebstrap, straight from Debian's
//! archive, because no registry may be at hand.

use std::env;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::ImageError;
use super::store::{self, Store};
use super::suite::Suite;
use crate::progress::Progress;

/// Left out of a base: half of its files, and none that a program reads.
const EXCLUDED: [&str; 4] = ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"];
/// What a bare base has beside its packages' files, as distroless images have it: the certificates of this machine, which a package's script would
/// make, a folder for files that nobody needs for long, and that names are looked for in /etc/hosts first. Where libraries are in /usr alone, as since trixie,
/// the links to them are another package's, and programs name their loader by one.
const BARE_HOOKS: [&str; 4] = [
    r#"mkdir -p "$1/etc/ssl/certs" "$1/tmp" && chmod 1777 "$1/tmp""#,
    r#"echo 'hosts: files dns' >"$1/etc/nsswitch.conf""#,
    "copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs",
    r#"for lib in lib lib64; do if [ -e "$1/usr/$lib" ] && ! [ -e "$1/$lib" ]; then ln -s "usr/$lib" "$1/$lib"; fi; done"#,
];
/// Names another mirror of Debian, for machines that do not reach deb.debian.org.
const MIRROR_VARIABLE: &str = "SERA_DEBIAN_MIRROR";

/// What an image stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// What every program of ours needs, and nothing else: no shell, no package manager.
    Bare,
    /// What those call that take repositories.
    Programs,
    /// What an agent expects where its commands run.
    Environment,
}

impl Base {
    /// The packages, beside what Debian calls essential; of a bare base, all. Whatever is in here, a Dockerfile need not install.
    const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Bare => &["libc6", "libgcc-s1"],
            Self::Programs => &["ca-certificates", "git", "openssh-client"],
            Self::Environment => &["ca-certificates", "git", "patch", "python3"],
        }
    }

    /// How mmdebstrap is told what goes in.
    fn recipe(self) -> Vec<String> {
        let include = format!("--include={}", self.packages().join(","));
        match self {
            // Files alone: nothing is there that could execute a package's scripts. Of hooks, this variant knows only those after the files.
            Self::Bare => {
                let hooks = BARE_HOOKS.iter().map(|hook| format!("--extract-hook={hook}"));
                ["--variant=extract".to_owned(), include].into_iter().chain(hooks).collect()
            }
            // Only what Debian calls essential, and what is named: without even apt, which nobody calls in a pod.
            Self::Programs | Self::Environment => {
                let excluded = EXCLUDED.iter().map(|path| format!("--dpkgopt=path-exclude={path}"));
                ["--variant=essential".to_owned(), include].into_iter().chain(excluded).collect()
            }
        }
    }

    /// The digest of what decides the base's content.
    pub(super) fn key(self, suite: Suite) -> String {
        let mut digest = Sha256::new();
        for word in [suite.name().to_owned()].into_iter().chain(self.recipe()) {
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
        let suite = Suite::of_this_machine()?;
        let reference = format!("localhost/sera-base:{}", self.key(suite));
        if store.holds(&reference).await? {
            return Ok(reference);
        }
        progress.step(format!(
            "making a base of Debian's {} with {} (once; up to a minute)",
            suite.name(),
            self.packages().join(", ")
        ));
        let tar = workshop.join("base.tar");
        store::output_of(&mut mmdebstrap(self, suite, &tar)).await?;
        store.import(&tar, &reference).await?;
        Ok(reference)
    }
}

fn mmdebstrap(base: Base, suite: Suite, tar: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    command.arg("--format=tar").args(base.recipe()).arg(suite.name()).arg(tar).args(env::var_os(MIRROR_VARIABLE));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// mmdebstrap takes any hook, and leaves out without a word what comes after the step that its variant ends with.
    #[test]
    fn a_bare_base_has_hooks_of_the_one_kind_that_its_variant_runs() {
        let recipe = Base::Bare.recipe();
        assert!(recipe.contains(&"--variant=extract".to_owned()), "{recipe:?}");
        let hooks: Vec<&String> = recipe.iter().filter(|word| word.contains("-hook=")).collect();
        assert_eq!(hooks.len(), BARE_HOOKS.len());
        assert!(hooks.iter().all(|hook| hook.starts_with("--extract-hook=")), "{hooks:?}");
    }

    #[test]
    fn a_base_of_another_suite_is_another() {
        for base in [Base::Bare, Base::Programs, Base::Environment] {
            assert_ne!(base.key(Suite::Bookworm), base.key(Suite::Trixie), "{base:?}");
        }
    }
}
