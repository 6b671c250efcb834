//! What can go wrong between us and a repository's server, told from what git says. The texts are git's, curl's (with `GnuTLS` and `OpenSSL`) and
//! OpenSSH's in the C locale; the tests in `tests/failures.rs` get them from the real ones.

use std::time::Duration;

use super::url::RemoteUrl;
use crate::failure::{Cause, Explain, Field};

/// Why git could not do what it was asked to. Each text names the repository or its host, and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GitError {
    /// There is no git, or it cannot be started.
    #[error("git cannot be run: {problem}; install git 2.36 or later and put it on the PATH")]
    NotRun {
        /// What the system says.
        problem: String,
    },
    /// The server asks who we are, and we have nothing to say.
    #[error("{url} asks for a user name and password: name a Secret with the keys username and password, or token")]
    CredentialsWanted {
        /// The repository.
        url: String,
    },
    /// The server does not accept what we say.
    #[error("{host} refuses the credentials for {url}: check that they are right, not expired, and may read it")]
    CredentialsRefused {
        /// The server.
        host: String,
        /// The repository.
        url: String,
    },
    /// The key cannot be used without somebody who types its passphrase.
    #[error(
        "the ssh-privatekey of the Secret cannot be used: it is protected by a passphrase, or is no private key ({detail})"
    )]
    KeyUnusable {
        /// ssh's words.
        detail: String,
    },
    /// The server knows us, and does not let us.
    #[error("{host} does not allow to read {url} (403): give these credentials access to it")]
    Forbidden {
        /// The server.
        host: String,
        /// The repository.
        url: String,
    },
    /// Nothing is there, or nothing that we may know of.
    #[error("there is no repository at {url}, or these credentials may not see it: check the URL and the access")]
    NotFound {
        /// The repository.
        url: String,
    },
    /// Something is there, but git does not know it.
    #[error("{url} is not a git repository: check the URL")]
    NotARepository {
        /// The address.
        url: String,
    },
    /// Nobody knows the host's name.
    #[error("the host of {url} is unknown to DNS: check the name ({detail})")]
    HostUnknown {
        /// The repository.
        url: String,
        /// git's words.
        detail: String,
    },
    /// The host does not take the connection, or ends it.
    #[error("{url} cannot be reached: {detail}")]
    Unreachable {
        /// The repository.
        url: String,
        /// git's words.
        detail: String,
    },
    /// The server has said nothing for too long.
    #[error("{url} has not answered for {} s", silence.as_secs())]
    Silent {
        /// The repository.
        url: String,
        /// For how long.
        silence: Duration,
    },
    /// The server says that it cannot serve for now (5xx, 429).
    #[error("{url} does not serve for now: {detail}")]
    ServerFailed {
        /// The repository.
        url: String,
        /// git's words.
        detail: String,
    },
    /// A proxy on the way does not let us through.
    #[error("the proxy does not let through to {url}: {detail}")]
    ProxyRefused {
        /// The repository.
        url: String,
        /// git's words.
        detail: String,
    },
    /// The certificate is signed by nobody who is trusted, or is another host's.
    #[error(
        "the certificate of {url} is not trusted: put the CA that signed it into the Secret as the key ca.crt, and check the host's name ({detail})"
    )]
    CertificateUntrusted {
        /// The repository.
        url: String,
        /// What TLS says.
        detail: String,
    },
    /// The host's key is not among the known ones.
    #[error(
        "the key of {host} is not among the known_hosts of the Secret: add the output of `ssh-keyscan {host}` after checking it"
    )]
    HostKeyUnknown {
        /// The host.
        host: String,
    },
    /// The host has another key than the known one.
    #[error(
        "{host} has another key than the known_hosts of the Secret say: it was changed, or somebody else answers in its place; correct known_hosts after checking it"
    )]
    HostKeyChanged {
        /// The host.
        host: String,
    },
    /// What was fetched is malformed, perhaps in order to attack who checks it out.
    #[error("{url} has objects that git refuses as malformed or dangerous: {detail}")]
    Malformed {
        /// The repository.
        url: String,
        /// fsck's words.
        detail: String,
    },
    /// There is no such reference, or none any more.
    #[error("{url} has no such reference: {detail}")]
    NoSuchReference {
        /// The repository.
        url: String,
        /// git's words.
        detail: String,
    },
    /// The server cannot give a part of a repository; the whole may do.
    #[error("{url} gives whole histories only: {detail}")]
    WholeOnly {
        /// The repository.
        url: String,
        /// git's words.
        detail: String,
    },
    /// The scratch folder is full.
    #[error("the scratch space is full: give the pod more (or name a larger folder with --scratch)")]
    ScratchFull,
    /// The user has no name, which ssh insists on.
    #[error("ssh does not run as a user without a name: add one for uid {uid} to /etc/passwd of the image")]
    Nameless {
        /// The numeric user.
        uid: u32,
    },
    /// Anything else.
    #[error("git {command} failed: {detail}")]
    Failed {
        /// The command.
        command: String,
        /// git's last words.
        detail: String,
    },
}

impl GitError {
    /// Whether the same may work in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::HostUnknown { .. } | Self::Unreachable { .. } | Self::Silent { .. } | Self::ServerFailed { .. }
        )
    }

    /// The error that git's messages stand for.
    pub(super) fn classify(command: &str, messages: &str, url: &RemoteUrl) -> Self {
        let (address, host) = (url.text.clone(), url.host.clone());
        let detail = decisive(messages);
        match kind(messages) {
            Kind::CredentialsWanted => Self::CredentialsWanted { url: address },
            Kind::CredentialsRefused => Self::CredentialsRefused { host, url: address },
            Kind::KeyUnusable => Self::KeyUnusable { detail },
            Kind::Forbidden => Self::Forbidden { host, url: address },
            Kind::NotFound => Self::NotFound { url: address },
            Kind::NotARepository if url.transport.is_remote() => Self::NotFound { url: address },
            Kind::NotARepository | Kind::NotGit => Self::NotARepository { url: address },
            Kind::HostUnknown => Self::HostUnknown { url: address, detail },
            Kind::Unreachable => Self::Unreachable { url: address, detail },
            Kind::ServerFailed => Self::ServerFailed { url: address, detail },
            Kind::ProxyRefused => Self::ProxyRefused { url: address, detail },
            Kind::CertificateUntrusted => Self::CertificateUntrusted { url: address, detail },
            Kind::HostKeyUnknown => Self::HostKeyUnknown { host },
            Kind::HostKeyChanged => Self::HostKeyChanged { host },
            Kind::Malformed => Self::Malformed { url: address, detail },
            Kind::NoSuchReference => Self::NoSuchReference { url: address, detail },
            Kind::WholeOnly => Self::WholeOnly { url: address, detail },
            Kind::ScratchFull => Self::ScratchFull,
            Kind::Nameless => Self::Nameless { uid: nix::unistd::geteuid().as_raw() },
            Kind::Other => Self::Failed { command: command.to_owned(), detail },
        }
    }
}

impl Explain for GitError {
    fn explain(&self) -> Cause {
        match self {
            Self::CredentialsWanted { .. } => Cause::configuration("CredentialsMissing", Field::GitCredentials),
            Self::CredentialsRefused { .. } => Cause::configuration("AuthenticationFailed", Field::GitCredentials),
            Self::KeyUnusable { .. } => Cause::configuration("CredentialsInvalid", Field::GitCredentials),
            Self::Forbidden { .. } => Cause::configuration("AccessDenied", Field::GitCredentials),
            Self::NotFound { .. } => Cause::configuration("RepositoryNotFound", Field::Url),
            Self::NotARepository { .. } => Cause::configuration("NotARepository", Field::Url),
            Self::CertificateUntrusted { .. } => Cause::configuration("CertificateNotTrusted", Field::GitCredentials),
            Self::HostKeyUnknown { .. } => Cause::configuration("HostKeyUnknown", Field::GitCredentials),
            Self::HostKeyChanged { .. } => Cause::configuration("HostKeyChanged", Field::GitCredentials),
            Self::Malformed { .. } => Cause::configuration("RepositoryMalformed", Field::Url),
            Self::NoSuchReference { .. } => Cause::configuration("RevisionNotFound", Field::Revision),
            Self::HostUnknown { .. } => Cause::unavailable("HostNotFound").at(Field::Url),
            Self::Unreachable { .. } => Cause::unavailable("HostUnreachable"),
            Self::Silent { .. } => Cause::unavailable("HostSilent"),
            Self::ServerFailed { .. } => Cause::unavailable("ServerUnavailable"),
            Self::ProxyRefused { .. } => Cause::unavailable("ProxyRefused"),
            Self::ScratchFull => Cause::unavailable("ScratchFull"),
            Self::NotRun { .. } | Self::WholeOnly { .. } | Self::Nameless { .. } | Self::Failed { .. } => {
                Cause::internal("GitFailed")
            }
        }
    }
}

/// What a message says, before it is put into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    CredentialsWanted,
    CredentialsRefused,
    KeyUnusable,
    Forbidden,
    NotFound,
    /// git's answer where a path has no repository.
    NotARepository,
    /// An HTTP server that is no git server.
    NotGit,
    HostUnknown,
    Unreachable,
    ServerFailed,
    ProxyRefused,
    CertificateUntrusted,
    HostKeyUnknown,
    HostKeyChanged,
    Malformed,
    NoSuchReference,
    WholeOnly,
    ScratchFull,
    Nameless,
    Other,
}

/// What to look for, the telling before the general: ssh's reasons stand beside git's "Could not read from remote repository", and several
/// messages quote another's words.
const SIGNS: &[(&str, Kind)] = &[
    ("No space left on device", Kind::ScratchFull),
    ("Disk quota exceeded", Kind::ScratchFull),
    ("No user exists for uid", Kind::Nameless),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Kind::HostKeyChanged),
    ("Host key verification failed", Kind::HostKeyUnknown),
    ("incorrect passphrase supplied", Kind::KeyUnusable),
    ("error in libcrypto", Kind::KeyUnusable),
    ("invalid format", Kind::KeyUnusable),
    ("Permission denied (", Kind::CredentialsRefused),
    ("Too many authentication failures", Kind::CredentialsRefused),
    ("Authentication failed for", Kind::CredentialsRefused),
    ("could not read Username", Kind::CredentialsWanted),
    ("could not read Password", Kind::CredentialsWanted),
    ("from proxy after CONNECT", Kind::ProxyRefused),
    ("CONNECT tunnel failed", Kind::ProxyRefused),
    ("server certificate verification failed", Kind::CertificateUntrusted),
    ("SSL certificate problem", Kind::CertificateUntrusted),
    ("SSL: no alternative certificate subject name", Kind::CertificateUntrusted),
    ("certificate subject name", Kind::CertificateUntrusted),
    ("error setting certificate", Kind::CertificateUntrusted),
    ("Could not resolve", Kind::HostUnknown),
    ("unable to look up", Kind::HostUnknown),
    ("The requested URL returned error: 403", Kind::Forbidden),
    ("The requested URL returned error: 429", Kind::ServerFailed),
    ("The requested URL returned error: 5", Kind::ServerFailed),
    ("RPC failed; HTTP 429", Kind::ServerFailed),
    ("RPC failed; HTTP 5", Kind::ServerFailed),
    ("RPC failed; curl", Kind::Unreachable),
    ("not valid: is this a git repository?", Kind::NotGit),
    ("invalid gitfile format", Kind::NotARepository),
    ("does not appear to be a git repository", Kind::NotARepository),
    ("access denied or repository not exported", Kind::NotFound),
    ("Repository not found", Kind::NotFound),
    ("couldn't find remote ref", Kind::NoSuchReference),
    ("does not allow request for unadvertised object", Kind::WholeOnly),
    ("not our ref", Kind::WholeOnly),
    ("does not support shallow", Kind::WholeOnly),
    ("does not support --filter", Kind::WholeOnly),
    ("not support filter", Kind::WholeOnly),
    ("filter is not supported", Kind::WholeOnly),
    ("shallow update not allowed", Kind::WholeOnly),
    ("error: object ", Kind::Malformed),
    ("fsck error", Kind::Malformed),
    ("refusing to create malformed", Kind::Malformed),
    ("error in object:", Kind::Malformed),
    ("error in tree ", Kind::Malformed),
    ("error in blob ", Kind::Malformed),
    ("error in commit ", Kind::Malformed),
    ("error in tag ", Kind::Malformed),
    ("unable to connect to", Kind::Unreachable),
    ("unable to access", Kind::Unreachable),
    ("ssh: connect to host", Kind::Unreachable),
    ("Connection closed by", Kind::Unreachable),
    ("Connection reset by", Kind::Unreachable),
    ("Connection timed out", Kind::Unreachable),
    ("kex_exchange_identification", Kind::Unreachable),
    ("unexpected disconnect", Kind::Unreachable),
    ("early EOF", Kind::Unreachable),
    ("hung up unexpectedly", Kind::Unreachable),
    ("Could not read from remote repository", Kind::Unreachable),
];

fn kind(messages: &str) -> Kind {
    // The one message whose sign stands at both its ends: "fatal: repository 'URL' not found".
    let not_found =
        messages.lines().any(|line| line.starts_with("fatal: repository '") && line.ends_with("' not found"));
    if not_found {
        return Kind::NotFound;
    }
    SIGNS.iter().find(|(sign, _)| messages.contains(sign)).map_or(Kind::Other, |(_, kind)| *kind)
}

/// The line that says most: the first of git's or ssh's own, without what it begins with.
fn decisive(messages: &str) -> String {
    let line = messages
        .lines()
        .find(|line| SIGNS.iter().any(|(sign, _)| line.contains(sign)))
        .or_else(|| messages.lines().find(|line| line.starts_with("fatal: ") || line.starts_with("error: ")))
        .or_else(|| messages.lines().last())
        .unwrap_or("it said nothing");
    let line = ["fatal: ", "error: "].iter().fold(line, |line, start| line.strip_prefix(start).unwrap_or(line));
    line.trim_end_matches([':', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(url: &str, messages: &str) -> GitError {
        GitError::classify("fetch", messages, &RemoteUrl::parse(url).unwrap())
    }

    #[test]
    fn a_message_of_two_meanings_is_taken_by_the_more_telling_one() {
        let ssh = "ssh: Could not resolve hostname h: Name or service not known\nfatal: Could not read from remote repository.";
        assert!(matches!(classified("git@h:a", ssh), GitError::HostUnknown { .. }));
        let key = "Host key verification failed.\nfatal: Could not read from remote repository.";
        assert_eq!(classified("git@h:a", key), GitError::HostKeyUnknown { host: "h".into() });
        let tls = "fatal: unable to access 'https://h/a/': server certificate verification failed. CAfile: none CRLfile: none";
        assert!(matches!(classified("https://h/a", tls), GitError::CertificateUntrusted { .. }));
        let openssl = "fatal: unable to access 'https://h/a/': SSL certificate problem: self-signed certificate in certificate chain";
        assert!(matches!(classified("https://h/a", openssl), GitError::CertificateUntrusted { .. }));
    }

    #[test]
    fn a_missing_repository_is_told_from_a_folder_that_is_none() {
        let message =
            "fatal: '/a' does not appear to be a git repository\nfatal: Could not read from remote repository.";
        assert!(matches!(classified("git@h:a", message), GitError::NotFound { .. }));
        assert!(matches!(classified("/a", message), GitError::NotARepository { .. }));
        let hub = "remote: Repository not found.\nfatal: repository 'https://h/a/' not found";
        assert!(matches!(classified("https://h/a", hub), GitError::NotFound { .. }));
    }

    #[test]
    fn what_is_unknown_is_told_in_gits_own_words() {
        let error = classified("https://h/a", "warning: hm\nfatal: the moon is in the way.\n");
        assert_eq!(error.to_string(), "git fetch failed: the moon is in the way");
        assert!(!error.is_transient());
    }
}
