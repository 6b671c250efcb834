//! Where files lie that a program is given: a folder of this machine, or one of a store, told apart by how they are written.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

/// A folder, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// On this machine: a path, or what `file://` names.
    Folder(PathBuf),
    /// In a bucket: `s3://`, `gs://` or `az://`.
    Store(String),
}

impl Address {
    /// The folder `name` within it.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Folder(folder) => Self::Folder(folder.join(name)),
            Self::Store(uri) => Self::Store(format!("{}/{name}", uri.trim_end_matches('/'))),
        }
    }
}

impl FromStr for Address {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if ["s3://", "gs://", "az://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self::Store(text.to_owned()));
        }
        let file = url::Url::parse(text).ok().filter(|url| url.scheme() == "file");
        let folder = file.and_then(|url| url.to_file_path().ok());
        Ok(Self::Folder(folder.unwrap_or_else(|| PathBuf::from(text))))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Store(uri) => uri.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_folders_are_told_apart_by_how_they_are_written() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        for uri in ["s3://b/x", "gs://b/x", "az://b/x/"] {
            assert_eq!(address(uri), Address::Store(uri.to_owned()));
        }
        for (text, folder) in
            [("file:///a%20b/c", "/a b/c"), ("./a", "./a"), ("builtin://tiny", "builtin://tiny"), ("s3:/b", "s3:/b")]
        {
            assert_eq!(address(text), Address::Folder(folder.into()));
        }
    }

    #[test]
    fn what_lies_within_is_named_in_the_same_way() {
        assert_eq!(Address::Store("s3://b/x/".to_owned()).join("dataset").to_string(), "s3://b/x/dataset");
        assert_eq!(Address::Folder("/a".into()).join("dataset"), Address::Folder("/a/dataset".into()));
    }
}
