//! Where a repository is: an address as the API takes it, or a folder of this machine.

use std::path::Path;

use sera_crds::values::{GitUrl, ValueError};
use url::Url;

use crate::failure::{Cause, Explain, Field};

/// Where the repository that this program brings along is laid, from git's home.
pub(crate) const REHEARSAL: &str = "./rehearsal.git";

/// How git reaches a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Https,
    Http,
    Ssh,
    /// git's own protocol: neither secret nor authenticated.
    Git,
    /// A folder of this machine.
    File,
}

impl Transport {
    /// The names that git's `protocol.<name>.allow` has to let through: an answer may lead from http to https, but not back.
    pub(crate) fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Https => &["https"],
            Self::Http => &["http", "https"],
            Self::Ssh => &["ssh"],
            Self::Git => &["git"],
            Self::File => &["file"],
        }
    }

    /// Whether the repository is on another machine.
    pub(crate) fn is_remote(self) -> bool {
        self != Self::File
    }
}

/// Why a text is no repository's address. It never repeats a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteUrlError {
    /// Neither an address nor a path.
    #[error("{0}; a folder of this machine is written as an absolute path, or with './' before it")]
    Invalid(#[from] ValueError),
    /// What git would take for one of its options.
    #[error("a repository's address does not begin with '-'")]
    Option,
    /// A path that means nothing here.
    #[error("'{path}' is no folder that could be named as a repository")]
    Path {
        /// As it was given.
        path: String,
    },
}

impl Explain for RemoteUrlError {
    fn explain(&self) -> Cause {
        Cause::configuration("InvalidUrl", Field::Url)
    }
}

/// The address of a repository; it carries no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteUrl {
    /// As manifests and messages have it.
    pub(crate) text: String,
    /// As git gets it: over HTTP without a user name, which goes with the password.
    pub(crate) address: String,
    pub(crate) transport: Transport,
    /// The host, with its port if it has one; empty for a folder.
    pub(crate) host: String,
    pub(crate) user: Option<String>,
}

impl RemoteUrl {
    /// Understands `https://`, `http://`, `ssh://`, `git://`, `user@host:path`, `builtin://rehearsal`, `file:///folder` and paths.
    pub(crate) fn parse(text: &str) -> Result<Self, RemoteUrlError> {
        if let Some(folder) = local_folder(text) {
            return Self::of_folder(&folder, text);
        }
        if text.starts_with('-') {
            return Err(RemoteUrlError::Option);
        }
        let text = text.parse::<GitUrl>()?.as_str().to_owned();
        if text == GitUrl::REHEARSAL {
            let (address, host) = (REHEARSAL.to_owned(), String::new());
            return Ok(Self { text, address, transport: Transport::File, host, user: None });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            // The pattern of a GitUrl has user@host:path as its only other form.
            let (user, host) = text.split_once('@').unwrap_or_default();
            let host = host.split(':').next().unwrap_or_default().to_owned();
            return Ok(Self {
                address: text.clone(),
                transport: Transport::Ssh,
                host,
                user: Some(user.to_owned()),
                text,
            });
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.split_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        let transport = match scheme {
            "https" => Transport::Https,
            "http" => Transport::Http,
            "ssh" => Transport::Ssh,
            _ => Transport::Git,
        };
        let address = match transport {
            Transport::Https | Transport::Http => format!("{scheme}://{host}/{path}"),
            _ => text.clone(),
        };
        Ok(Self { address, transport, host: host.to_owned(), user, text })
    }

    /// Whether it is the repository that this program brings along.
    pub(crate) fn is_rehearsal(&self) -> bool {
        self.text == GitUrl::REHEARSAL
    }

    fn of_folder(folder: &Path, given: &str) -> Result<Self, RemoteUrlError> {
        let unusable = || RemoteUrlError::Path { path: given.to_owned() };
        let absolute = std::path::absolute(folder).map_err(|_| unusable())?;
        let text = Url::from_file_path(&absolute).map_err(|()| unusable())?.to_string();
        let address = absolute.to_str().ok_or_else(unusable)?.to_owned();
        Ok(Self { text, address, transport: Transport::File, host: String::new(), user: None })
    }
}

impl std::fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The folder that a text names, if it names one.
fn local_folder(text: &str) -> Option<std::path::PathBuf> {
    if text.starts_with("file://") {
        return Url::parse(text).ok()?.to_file_path().ok();
    }
    (text == "." || text == ".." || ["/", "./", "../"].iter().any(|start| text.starts_with(start))).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_taken_apart() {
        let cases = [
            (
                "https://git.example:8443/a/b.git",
                Transport::Https,
                "git.example:8443",
                None,
                "https://git.example:8443/a/b.git",
            ),
            (
                "https://ada@git.example/a.git",
                Transport::Https,
                "git.example",
                Some("ada"),
                "https://git.example/a.git",
            ),
            ("http://[::1]:80/a", Transport::Http, "[::1]:80", None, "http://[::1]:80/a"),
            ("ssh://git@git.example:22/a", Transport::Ssh, "git.example:22", Some("git"), "ssh://git@git.example:22/a"),
            ("git@git.example:acme/a.git", Transport::Ssh, "git.example", Some("git"), "git@git.example:acme/a.git"),
            ("git://git.example/a", Transport::Git, "git.example", None, "git://git.example/a"),
        ];
        for (text, transport, host, user, address) in cases {
            let url = RemoteUrl::parse(text).unwrap();
            let found =
                (url.transport, url.host.as_str(), url.user.as_deref(), url.address.as_str(), url.text.as_str());
            assert_eq!(found, (transport, host, user, address, text));
        }
    }

    #[test]
    fn the_repository_that_is_brought_along_is_a_folder_of_git_s_home_under_a_name_of_its_own() {
        let url = RemoteUrl::parse("builtin://rehearsal").unwrap();
        assert_eq!((url.text.as_str(), url.address.as_str()), ("builtin://rehearsal", REHEARSAL));
        assert!(url.is_rehearsal() && !url.transport.is_remote());
        assert!(!RemoteUrl::parse(REHEARSAL).unwrap().is_rehearsal());
        assert!(RemoteUrl::parse("builtin://tiny").is_err());
    }

    #[test]
    fn a_folder_is_named_absolutely_however_it_was_given() {
        let here = std::env::current_dir().unwrap();
        for text in ["/srv/a b.git", "file:///srv/a%20b.git"] {
            let url = RemoteUrl::parse(text).unwrap();
            assert_eq!((url.text.as_str(), url.address.as_str()), ("file:///srv/a%20b.git", "/srv/a b.git"));
        }
        assert_eq!(RemoteUrl::parse("./x").unwrap().address, here.join("x").to_str().unwrap());
    }

    #[test]
    fn passwords_tokens_options_and_foreign_protocols_are_refused_and_not_repeated() {
        let token = format!("https://ghp_{}@github.com/a/b", "0".repeat(36));
        for text in [
            "https://u:hunter2@git.example/a",
            &token,
            "ext::sh -c id",
            "--upload-pack=id",
            "ftp://h/x",
            "",
            "https://h",
            "-x@h:p",
        ] {
            match RemoteUrl::parse(text) {
                Err(error) => {
                    assert!(
                        !error.to_string().contains("hunter2") && !error.to_string().contains("ghp_000"),
                        "{error}"
                    );
                }
                Ok(url) => panic!("{text} was taken as {url:?}"),
            }
        }
    }
}
