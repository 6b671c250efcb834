//! What clusters are called: a name becomes part of folders, sockets and cgroups.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::folder::FolderError;

/// The longest name: it becomes part of a cgroup's name and of socket paths.
pub(super) const LONGEST_NAME: usize = 24;

/// The name of a cluster, unique among those of one user on one machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

impl ClusterName {
    /// The name that `up` takes when none is given.
    pub fn unnamed() -> Self {
        Self("default".to_owned())
    }

    /// The `number`th name for a cluster that lives and dies with this process.
    pub(super) fn of_this_process(number: usize) -> Self {
        Self(format!("test-{}-{number}", std::process::id()))
    }
}

impl FromStr for ClusterName {
    type Err = FolderError;

    fn from_str(name: &str) -> Result<Self, FolderError> {
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let starts_well = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
        if plain && starts_well && name.len() <= LONGEST_NAME {
            Ok(Self(name.to_owned()))
        } else {
            Err(FolderError::Name(name.to_owned()))
        }
    }
}

impl TryFrom<String> for ClusterName {
    type Error = FolderError;

    fn try_from(name: String) -> Result<Self, FolderError> {
        name.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        for good in ["a", "default", "test-12345-1", "a2345678901234567890bcde"] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", "A", "1a", "-a", "a b", "a/b", "..", "ä", "a23456789012345678901bcdef"] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?} was taken");
        }
    }
}
