//! A mounted Secret: a folder with a file a key. What the keys mean is for whoever asks for them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::redact::Redactor;

/// The largest Secret that Kubernetes stores, in bytes; nothing longer is read from a file.
const MAX_BYTES: u64 = 1 << 20;

/// Why a folder of secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFilesError {
    /// The Secret is named, but not there, or has no keys.
    #[error("no credentials were found in {}: the Secret that is named does not exist or is empty", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// A file in it cannot be read.
    #[error("the credentials in {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file in it is no text, or is longer than any Secret.
    #[error("the credential {} is not a text of at most 1 MiB", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

/// The keys of a Secret and their values.
pub struct SecretFiles {
    folder: PathBuf,
    values: BTreeMap<String, SecretString>,
}

impl SecretFiles {
    /// Reads all keys of the Secret mounted at `folder`, and has `redactor` hide their values, but for what anybody may know.
    pub fn read(folder: &Path, redactor: &Redactor) -> Result<Self, SecretFilesError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| SecretFilesError::Unreadable { path, source }
        };
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(SecretFilesError::Empty { folder: folder.to_owned() });
            }
            entries => entries.map_err(unreadable(folder))?,
        };
        let mut values = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(unreadable(folder))?.path();
            // The kubelet's own links (`..data`) begin with a dot, and lead to what is linked beside them.
            let Some(key) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            let metadata = std::fs::metadata(&path).map_err(unreadable(&path))?;
            if metadata.is_dir() {
                continue;
            }
            if metadata.len() > MAX_BYTES {
                return Err(SecretFilesError::NotText { path });
            }
            let bytes = std::fs::read(&path).map_err(unreadable(&path))?;
            let text = String::from_utf8(bytes).map_err(|_| SecretFilesError::NotText { path: path.clone() })?;
            if !is_public(key) {
                redactor.hide(&text);
            }
            values.insert(key.to_owned(), SecretString::from(text));
        }
        if values.is_empty() {
            return Err(SecretFilesError::Empty { folder: folder.to_owned() });
        }
        Ok(Self { folder: folder.to_owned(), values })
    }

    /// The value of `key`, as it is in the file; none where it is absent or blank.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(ExposeSecret::expose_secret).filter(|value| !value.trim().is_empty())
    }

    /// The value of `key` without the line break that editors and `echo` leave at its end.
    pub fn line(&self, key: &str) -> Option<&str> {
        self.get(key).map(|value| value.trim_end_matches(['\r', '\n']))
    }

    /// The same, with `value` as the value of `key`.
    #[must_use]
    pub fn with(mut self, key: &str, value: SecretString) -> Self {
        self.values.insert(key.to_owned(), value);
        self
    }

    /// The names of the keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The folder, for messages.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Keys whose values messages may show, and must be able to: hiding a user called `main` would hide each branch of that name.
fn is_public(key: &str) -> bool {
    matches!(key, "username" | "known_hosts" | "ca.crt" | "appId" | "installationId")
        || ["_REGION", "_ENDPOINT", "_ENDPOINT_URL", "_ENDPOINT_URL_S3", "_ACCOUNT_NAME"]
            .iter()
            .any(|end| key.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path) -> Result<SecretFiles, SecretFilesError> {
        SecretFiles::read(folder, &Redactor::default())
    }

    #[test]
    fn keys_are_read_as_the_kubelet_lays_them_out() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("..2026_01_02");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("token"), "t0ken\n").unwrap();
        std::os::unix::fs::symlink("..2026_01_02", folder.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/token", folder.path().join("token")).unwrap();
        std::fs::write(folder.path().join("username"), " \n").unwrap();
        let files = read(folder.path()).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["token", "username"]);
        assert_eq!((files.get("token"), files.line("token")), (Some("t0ken\n"), Some("t0ken")));
        assert_eq!(files.get("username"), None, "blank is as good as absent");
    }

    #[test]
    fn a_missing_folder_and_an_empty_one_are_the_same_to_their_user() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("missing")] {
            assert!(matches!(read(&path), Err(SecretFilesError::Empty { .. })));
        }
    }

    #[test]
    fn what_is_no_text_is_named_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), b"\xffsecret").unwrap();
        let Err(error) = read(folder.path()) else { panic!("not text, but read") };
        assert!(error.to_string().contains("token") && !error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn values_are_hidden_but_for_those_that_messages_need() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("username"), "somebody").unwrap();
        std::fs::write(folder.path().join("password"), "correct horse").unwrap();
        let redactor = Redactor::default();
        SecretFiles::read(folder.path(), &redactor).unwrap();
        assert_eq!(redactor.apply("somebody: correct horse"), "somebody: [redacted]");
    }
}
