//! Who we are to GitHub: what the keys of a Secret mean, a `token`, or `appId`, `installationId` and `privateKey` of a GitHub App.

use octocrab::auth::EncodingKey;
use secrecy::{ExposeSecret, SecretString};

use crate::secrets::{SecretFiles, SecretFilesError};

/// How this program introduces itself.
pub(crate) enum Login {
    /// Not at all: GitHub lets strangers ask 60 times an hour.
    Anonymous,
    /// With a personal or an installation's token.
    Token(SecretString),
    /// As a GitHub App.
    App(App),
}

/// A GitHub App where it is installed.
pub(crate) struct App {
    /// The App's number.
    pub(super) id: u64,
    /// The installation's number.
    pub(super) installation: u64,
    private_key: SecretString,
}

/// Why credentials for GitHub are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// The folder is empty, or cannot be read.
    #[error("{0}; it needs the keys {NEEDS}")]
    Files(#[from] SecretFilesError),
    /// There are keys, but not the right ones.
    #[error("the credentials in {folder} do not fit GitHub: they have the keys {found}, and it needs {NEEDS}")]
    WrongKeys {
        /// Where the Secret is mounted.
        folder: String,
        /// The names of the keys that are there.
        found: String,
    },
    /// A token is one line of printable characters.
    #[error("the key token of the Secret has a line break or another character that no token has: it must be one line")]
    Token,
    /// Both numbers are decimal.
    #[error("the key {key} of the Secret is not a number: GitHub shows it on the page of the App's settings")]
    Number {
        /// The key's name.
        key: &'static str,
    },
    /// No RSA key in PEM.
    #[error(
        "the key privateKey of the Secret is not an RSA key in PEM: take the file that GitHub lets you download for the App"
    )]
    PrivateKey,
    /// Only an App has installations.
    #[error("the credentials are not those of a GitHub App: they need appId, installationId and privateKey")]
    NoApp,
}

/// The keys that would do, in words.
const NEEDS: &str = "token, or appId, installationId and privateKey of a GitHub App";

impl Login {
    /// What a Secret means.
    pub(crate) fn of(secret: &SecretFiles) -> Result<Self, CredentialsError> {
        if let Some(token) = secret.line("token") {
            // A header cannot carry anything else.
            let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
            return if printable { Ok(Self::Token(token.into())) } else { Err(CredentialsError::Token) };
        }
        let number = |key: &'static str| match secret.line(key) {
            Some(value) => value.trim().parse().map(Some).map_err(|_| CredentialsError::Number { key }),
            None => Ok(None),
        };
        match (number("appId")?, number("installationId")?, secret.get("privateKey")) {
            (Some(id), Some(installation), Some(private_key)) => {
                Ok(Self::App(App { id, installation, private_key: private_key.into() }))
            }
            _ => Err(CredentialsError::WrongKeys {
                folder: secret.folder().display().to_string(),
                found: secret.keys().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

impl App {
    /// The key that signs what we claim to be, in either form of PEM.
    pub(super) fn key(&self) -> Result<EncodingKey, CredentialsError> {
        EncodingKey::from_rsa_pem(self.private_key.expose_secret().as_bytes()).map_err(|_| CredentialsError::PrivateKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redactor;

    fn login(keys: &[(&str, &str)]) -> Result<Login, CredentialsError> {
        let folder = tempfile::tempdir().unwrap();
        for (key, value) in keys {
            std::fs::write(folder.path().join(key), value).unwrap();
        }
        Login::of(&SecretFiles::read(folder.path(), &Redactor::default())?)
    }

    #[test]
    fn a_token_goes_before_an_app() {
        let both = [("token", "t0ken\n"), ("appId", "7"), ("installationId", "8"), ("privateKey", "k")];
        assert!(matches!(login(&both).unwrap(), Login::Token(token) if token.expose_secret() == "t0ken"));
        let Login::App(app) = login(&both[1..]).unwrap() else { panic!("no App") };
        assert_eq!((app.id, app.installation), (7, 8));
    }

    #[test]
    fn each_way_to_be_wrong_says_what_is_needed() {
        let refused = |keys: &[(&str, &str)]| login(keys).err().unwrap().to_string();
        assert!(refused(&[]).contains("does not exist or is empty"));
        assert!(refused(&[("password", "p")]).contains("they have the keys password, and it needs token"));
        assert!(refused(&[("appId", "7"), ("privateKey", "k")]).contains("installationId"));
        assert!(refused(&[("appId", "seven"), ("installationId", "8"), ("privateKey", "k")]).contains("appId"));
        assert!(refused(&[("token", "a\nb")]).contains("one line"));
        let Login::App(app) = login(&[("appId", "7"), ("installationId", "8"), ("privateKey", "k")]).unwrap() else {
            panic!()
        };
        assert!(matches!(app.key().err(), Some(CredentialsError::PrivateKey)));
    }
}
