//! Which Debian the images stand on. The programs in them are linked on this machine, and run where glibc is as new as here or newer.

use std::path::Path;
use std::process::Command;

use super::ImageError;

/// Says which glibc the programs of this machine are linked with.
const ASKED: [&str; 2] = ["getconf", "GNU_LIBC_VERSION"];

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    Bookworm,
    Trixie,
}

impl Suite {
    /// All, the oldest first.
    const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// What Debian's archive calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The version of its glibc.
    const fn glibc(self) -> (u32, u32) {
        match self {
            Self::Bookworm => (2, 36),
            Self::Trixie => (2, 41),
        }
    }

    /// The one for programs that are linked on this machine.
    pub(super) fn of_this_machine() -> Result<Self, ImageError> {
        let [program, argument] = ASKED;
        let output = Command::new(program).arg(argument).output();
        let output = output.map_err(ImageError::io("run", Path::new(program)))?;
        Self::for_programs_of(String::from_utf8_lossy(&output.stdout).trim())
    }

    /// The oldest that is as new as what was said: `glibc 2.36`.
    fn for_programs_of(said: &str) -> Result<Self, ImageError> {
        let glibc = version(said).ok_or_else(|| ImageError::NoGlibc { said: said.to_owned() })?;
        let is_new_enough = |suite: &Self| suite.glibc() >= glibc;
        Self::ALL.into_iter().find(is_new_enough).ok_or_else(|| ImageError::NewGlibc { said: said.to_owned() })
    }
}

fn version(said: &str) -> Option<(u32, u32)> {
    let (major, minor) = said.strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_stand_on_the_oldest_debian_whose_glibc_is_not_older_than_theirs() {
        for (said, suite) in [
            ("glibc 2.31", Suite::Bookworm),
            ("glibc 2.36", Suite::Bookworm),
            ("glibc 2.37", Suite::Trixie),
            ("glibc 2.39", Suite::Trixie),
            ("glibc 2.41", Suite::Trixie),
        ] {
            assert_eq!(Suite::for_programs_of(said).unwrap(), suite, "{said}");
        }
    }

    #[test]
    fn a_glibc_that_no_debian_has_is_refused_with_what_to_do() {
        for said in ["glibc 2.42", "glibc 2.100", "glibc 3.0"] {
            let refused = Suite::for_programs_of(said).unwrap_err().to_string();
            assert!(refused.contains(said) && refused.contains("2.41"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_version_of_glibc_is_told_as_it_was_said() {
        for said in ["", "musl 1.2", "glibc", "glibc 2"] {
            let refused = Suite::for_programs_of(said).unwrap_err().to_string();
            assert!(refused.contains(&format!("{said:?}")), "{refused}");
        }
    }

    #[test]
    fn this_machine_has_one() {
        Suite::of_this_machine().unwrap();
    }
}
