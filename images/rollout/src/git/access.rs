//! Who git is to the server: what the keys of a Secret mean for a repository's address, in Kubernetes' own names (basic-auth, ssh-auth) and `token`.

use secrecy::SecretString;

use super::url::{RemoteUrl, Transport};
use crate::failure::{Cause, Explain, Field};
use crate::secrets::{SecretFiles, SecretFilesError};
use crate::trust::{Trust, TrustError};

/// How this program introduces itself.
pub(crate) enum Login {
    /// Not at all.
    Anonymous,
    /// With a user name and a password or token, over HTTP.
    Password {
        /// Public.
        username: String,
        /// Not.
        password: SecretString,
    },
    /// With a key, to a host that is known by its own.
    Key {
        /// In OpenSSH's or PEM format.
        private_key: SecretString,
        /// Lines of OpenSSH's `known_hosts`.
        known_hosts: String,
    },
}

/// What is needed to be let in by the server, and to be sure that it is the right one.
pub(crate) struct Access {
    pub(crate) login: Login,
    /// A PEM bundle of CAs to trust, beside those of the system.
    pub(crate) ca: Option<String>,
}

/// Why a repository's credentials are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    /// The authorities that this process was given are none.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The folder is empty, or cannot be read.
    #[error("{source}; it needs the keys {needs}")]
    Files {
        /// Why.
        source: SecretFilesError,
        /// The keys that would do.
        needs: Needs,
    },
    /// ssh without a Secret.
    #[error("{url} is reached by ssh, which needs credentials: name a Secret with the keys {needs}", needs = Needs(Transport::Ssh))]
    SshWithoutKey {
        /// The repository.
        url: String,
    },
    /// There are keys, but not the right ones.
    #[error("the credentials in {folder} do not fit {url}: they have the keys {found}, and it needs {needs}")]
    WrongKeys {
        /// Where the Secret is mounted.
        folder: String,
        /// The repository.
        url: String,
        /// The names of the keys that are there.
        found: String,
        /// The keys that would do.
        needs: Needs,
    },
    /// The server's own key is not given, so that anybody could pose as it.
    #[error(
        "the Secret has no key known_hosts: without it nobody can tell {host} from an impostor; add the output of `ssh-keyscan {host}` after checking it"
    )]
    NoKnownHosts {
        /// The host.
        host: String,
    },
    /// No user name or password can have one.
    #[error("the key {key} of the Secret has a line break or NUL within: it must be one line")]
    LineBreak {
        /// The key's name.
        key: &'static str,
    },
}

impl Explain for AccessError {
    fn explain(&self) -> Cause {
        let reason = match self {
            Self::Trust(error) => return error.explain(),
            Self::Files { .. } | Self::SshWithoutKey { .. } => "CredentialsMissing",
            Self::WrongKeys { .. } | Self::NoKnownHosts { .. } | Self::LineBreak { .. } => "CredentialsInvalid",
        };
        Cause::configuration(reason, Field::GitCredentials)
    }
}

/// The keys that a Secret needs for a transport, in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs(Transport);

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0 == Transport::Ssh {
            "ssh-privatekey and known_hosts"
        } else {
            "username and password, or token (and ca.crt where the server's CA is not a public one)"
        })
    }
}

impl Access {
    /// What the Secret (`None`: no Secret is named) and the authorities of this process mean for `url`.
    pub(crate) fn resolve(
        url: &RemoteUrl,
        secret: Option<Result<SecretFiles, SecretFilesError>>,
    ) -> Result<Self, AccessError> {
        let trust = match url.transport {
            Transport::Https | Transport::Http => Trust::from_environment()?,
            Transport::Ssh | Transport::Git | Transport::File => Trust::default(),
        };
        let secret = secret.transpose().map_err(|source| AccessError::Files { source, needs: Needs(url.transport) })?;
        let Some(secret) = secret else {
            return match url.transport {
                Transport::Ssh => Err(AccessError::SshWithoutKey { url: url.text.clone() }),
                _ => Ok(Self { login: Login::Anonymous, ca: bundle([trust.pem(), None]) }),
            };
        };
        let login = match url.transport {
            Transport::Https | Transport::Http => password(url, &secret)?,
            Transport::Ssh => key(url, &secret)?,
            Transport::Git | Transport::File => {
                tracing::warn!(%url, "the credentials are not used: this kind of address asks for none");
                Login::Anonymous
            }
        };
        if url.transport == Transport::Http && matches!(login, Login::Password { .. }) {
            tracing::warn!(%url, "the password is sent in clear over http: use https where the server can");
        }
        Ok(Self { login, ca: bundle([trust.pem(), secret.get("ca.crt")]) })
    }
}

/// PEM bundles as one; none where there are none.
fn bundle(parts: [Option<&str>; 2]) -> Option<String> {
    let parts: Vec<&str> = parts.into_iter().flatten().map(str::trim_end).collect();
    (!parts.is_empty()).then(|| parts.join("\n") + "\n")
}

fn wrong_keys(url: &RemoteUrl, secret: &SecretFiles) -> AccessError {
    AccessError::WrongKeys {
        folder: secret.folder().display().to_string(),
        url: url.text.clone(),
        found: secret.keys().collect::<Vec<_>>().join(", "),
        needs: Needs(url.transport),
    }
}

fn password(url: &RemoteUrl, secret: &SecretFiles) -> Result<Login, AccessError> {
    let line = |key: &'static str| match secret.line(key) {
        Some(value) if value.contains(['\n', '\r', '\0']) => Err(AccessError::LineBreak { key }),
        value => Ok(value),
    };
    let password = match line("password")? {
        Some(password) => password,
        None => match line("token")? {
            Some(token) => token,
            // A CA alone is fine: a public repository on a private server.
            None if secret.get("ca.crt").is_some() => return Ok(Login::Anonymous),
            None => return Err(wrong_keys(url, secret)),
        },
    };
    let username = line("username")?.or(url.user.as_deref()).unwrap_or_else(|| token_user(&url.host));
    Ok(Login::Password { username: username.to_owned(), password: SecretString::from(password) })
}

/// The user name that goes with a bare token. Bitbucket Cloud and GitHub (for its Apps) want these; GitLab, Gitea and Azure DevOps take any.
fn token_user(host: &str) -> &'static str {
    if host == "bitbucket.org" { "x-token-auth" } else { "x-access-token" }
}

fn key(url: &RemoteUrl, secret: &SecretFiles) -> Result<Login, AccessError> {
    let private_key = secret.get("ssh-privatekey").ok_or_else(|| wrong_keys(url, secret))?;
    let known_hosts = secret.get("known_hosts").ok_or_else(|| AccessError::NoKnownHosts { host: url.host.clone() })?;
    // OpenSSH refuses a key with Windows' line ends, or without a line break at its end: both happen when a key is pasted into a Secret.
    let private_key = format!("{}\n", private_key.replace("\r\n", "\n").trim_end());
    Ok(Login::Key {
        private_key: SecretString::from(private_key),
        known_hosts: format!("{}\n", known_hosts.trim_end()),
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::redact::Redactor;

    fn resolve(url: &str, keys: &[(&str, &str)]) -> Result<Access, AccessError> {
        let folder = tempfile::tempdir().unwrap();
        for (key, value) in keys {
            std::fs::write(folder.path().join(key), value).unwrap();
        }
        let secret = SecretFiles::read(folder.path(), &Redactor::default());
        Access::resolve(&RemoteUrl::parse(url).unwrap(), Some(secret))
    }

    fn login(url: &str, keys: &[(&str, &str)]) -> (String, String) {
        match resolve(url, keys).unwrap().login {
            Login::Password { username, password } => (username, password.expose_secret().to_owned()),
            _ => panic!("no password"),
        }
    }

    #[test]
    fn a_password_or_token_goes_with_the_user_that_is_named_or_the_hosts_own() {
        let https = "https://git.example/a";
        let pair = |user: &str, password: &str| (user.to_owned(), password.to_owned());
        assert_eq!(login(https, &[("username", "ada\n"), ("password", "pw\n")]), pair("ada", "pw"));
        assert_eq!(login(https, &[("username", "ada"), ("token", "t")]), pair("ada", "t"));
        assert_eq!(login("https://bob@git.example/a", &[("token", "t")]), pair("bob", "t"));
        assert_eq!(login(https, &[("token", "t")]), pair("x-access-token", "t"));
        assert_eq!(login("https://bitbucket.org/a", &[("token", "t")]), pair("x-token-auth", "t"));
    }

    #[test]
    fn a_pasted_key_is_put_right() {
        let keys =
            [("ssh-privatekey", "-----BEGIN X-----\r\nabc\r\n-----END X-----"), ("known_hosts", "h ssh-ed25519 AAAA")];
        let Login::Key { private_key, known_hosts } = resolve("git@git.example:a", &keys).unwrap().login else {
            panic!("no key")
        };
        assert_eq!(private_key.expose_secret(), "-----BEGIN X-----\nabc\n-----END X-----\n");
        assert_eq!(known_hosts, "h ssh-ed25519 AAAA\n");
    }

    #[test]
    fn each_way_to_be_wrong_says_what_is_needed() {
        let refused = |url: &str, keys: &[(&str, &str)]| resolve(url, keys).err().unwrap().to_string();
        assert!(refused("https://h/a", &[]).contains("username and password, or token"));
        let wrong = refused("https://h/a", &[("ssh-privatekey", "k")]);
        assert!(wrong.contains("they have the keys ssh-privatekey") && wrong.contains("token"), "{wrong}");
        assert!(refused("git@h:a", &[("password", "p")]).contains("ssh-privatekey and known_hosts"));
        assert!(refused("git@h:a", &[("ssh-privatekey", "k")]).contains("ssh-keyscan h"));
        assert!(refused("https://h/a", &[("token", "a\nb")]).contains("line break"));
        assert!(
            refused("https://h/a", &[("username", "u"), ("password", " ")]).contains("needs username and password")
        );
    }

    #[test]
    fn without_a_secret_only_ssh_is_refused() {
        let bare = |url: &str| Access::resolve(&RemoteUrl::parse(url).unwrap(), None);
        for url in ["https://h/a", "git://h/a", "/srv/a"] {
            assert!(bare(url).is_ok_and(|access| matches!(access.login, Login::Anonymous)));
        }
        assert!(matches!(bare("ssh://h/a"), Err(AccessError::SshWithoutKey { .. })));
    }

    #[test]
    fn the_authorities_of_the_process_and_of_the_secret_are_trusted_together() {
        assert_eq!(bundle([Some("one"), Some("two\n")]).as_deref(), Some("one\ntwo\n"));
        assert_eq!(bundle([None, None]), None);
    }

    #[test]
    fn a_ca_alone_is_enough_for_a_public_repository() {
        let access = resolve("https://h/a", &[("ca.crt", "pem")]).unwrap();
        assert!(matches!(access.login, Login::Anonymous) && access.ca.as_deref() == Some("pem\n"));
    }
}
