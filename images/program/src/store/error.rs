//! What can go wrong with a store, told from what `object_store` and the operating system say.

use std::error::Error as _;
use std::io::ErrorKind;
use std::path::PathBuf;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use crate::failure::{Cause, Explain, Field};
use crate::secrets::SecretFilesError;
use crate::trust::TrustError;

/// Why the store cannot be used. Each text names the store, and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No URI of a store.
    #[error(
        "'{uri}' is not a store: {problem}; write file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    Uri {
        /// What was given, without what may be a password.
        uri: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder with the Secret's keys is of no use.
    #[error("{0}; it needs {KEYS}")]
    SecretFiles(#[source] SecretFilesError),
    /// `object_store` does not take the credentials or settings as they are.
    #[error("the settings for the store {uri} are not complete or not right: {source}")]
    Settings {
        /// The store.
        uri: String,
        /// What is missing.
        source: Error,
    },
    /// The `ca.crt` among the credentials is none.
    #[error("the key ca.crt of the store's Secret is not a PEM bundle of certificates: {problem}")]
    CaCertificate {
        /// Why not.
        problem: String,
    },
    /// The authorities that this process was given are none.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The server's certificate is signed by nobody who is trusted.
    #[error(
        "the certificate of the store {uri} is not trusted: add the CA that signed it as the key ca.crt to the store's Secret ({source})"
    )]
    UntrustedCertificate {
        /// The store.
        uri: String,
        /// What TLS says.
        source: Said,
    },
    /// The server does not let these credentials in.
    #[error(
        "the store {uri} refuses these credentials: check the keys of the store's Secret and that they may read, write and delete there ({source})"
    )]
    Refused {
        /// The store.
        uri: String,
        /// What the server says.
        source: Said,
    },
    /// There is no such bucket.
    #[error("the store {uri} does not exist: create the bucket or container, or correct the name ({source})")]
    NoBucket {
        /// The store.
        uri: String,
        /// What the server says.
        source: Said,
    },
    /// The server understands, and will not.
    #[error("the store {uri} does not take the request: check its region and endpoint ({source})")]
    Rejected {
        /// The store.
        uri: String,
        /// What the server says.
        source: Said,
    },
    /// The folder cannot be written.
    #[error(
        "the store {uri} cannot be written: check that it is mounted and that user {user} may write there ({source})"
    )]
    NotWritable {
        /// The store.
        uri: String,
        /// The numeric user that tried.
        user: u32,
        /// What the system says.
        source: Said,
    },
    /// No space is left.
    #[error("the store {uri} is full: free some space or make it larger ({source})")]
    Full {
        /// The store.
        uri: String,
        /// What the system says.
        source: Said,
    },
    /// Two writers of one object both succeed.
    #[error(
        "the store {uri} lets two writers create the same object, so that results could overwrite each other: use a store that honours conditional writes (If-None-Match)"
    )]
    NotConditional {
        /// The store.
        uri: String,
    },
    /// The store did not answer, or not sensibly.
    #[error("the store {uri} cannot be reached or does not work for now: {source}")]
    Unavailable {
        /// The store.
        uri: String,
        /// What happened.
        source: Said,
    },
    /// Somebody writes to a folder that is being deleted.
    #[error(
        "{name} of the store {uri} is there again after all was deleted: stop what writes to that folder, or delete it by hand"
    )]
    NotErased {
        /// The store.
        uri: String,
        /// What is there.
        name: String,
    },
    /// A document of ours would be shorter.
    #[error("{name} in the store has {bytes} bytes, which is no document of this program: use an empty folder")]
    DocumentTooLong {
        /// The document's name within the run's folder.
        name: String,
        /// How long it is.
        bytes: u64,
    },
    /// A file of our own cannot be read or written.
    #[error("the scratch file {} cannot be read or written: {source}", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The keys that a store's Secret may have, for messages.
const KEYS: &str = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (s3), GOOGLE_SERVICE_ACCOUNT_KEY (gs), or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (az)";

impl StoreError {
    /// Whether it may be gone in a moment.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The error that `object_store`'s stands for; `local` tells folders from servers.
    pub(super) fn from_object_store(source: Error, uri: &str, local: bool) -> Self {
        let uri = uri.to_owned();
        if local { Self::from_folder(source, uri) } else { Self::from_server(source, uri) }
    }

    /// The error that the operating system's stands for, of a folder of this machine.
    pub(super) fn from_system(source: std::io::Error, uri: String) -> Self {
        Self::from_folder(Error::Generic { store: "LocalFileSystem", source: Box::new(source) }, uri)
    }

    /// The error of a client that could not be made.
    pub(super) fn from_settings(source: Error, uri: String) -> Self {
        let problem = chain(&source);
        // Certificates are looked at only when the client is made.
        if problem.contains("certificate") { Self::CaCertificate { problem } } else { Self::Settings { uri, source } }
    }

    fn from_folder(source: Error, uri: String) -> Self {
        match find::<std::io::Error>(&source).map(std::io::Error::kind) {
            Some(kind) if is_full(kind) => Self::Full { uri, source: Said(source) },
            Some(
                ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory,
            ) => Self::NotWritable { uri, user: nix::unistd::geteuid().as_raw(), source: Said(source) },
            _ => Self::Unavailable { uri, source: Said(source) },
        }
    }

    fn from_server(source: Error, uri: String) -> Self {
        match source {
            Error::NotFound { .. } => Self::NoBucket { uri, source: Said(source) },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                Self::Refused { uri, source: Said(source) }
            }
            source => {
                let text = chain(&source);
                // Of a listing that is answered so, object_store keeps no more than the words.
                let says = |status: &str| text.contains(&format!("status code: {status}"));
                let connecting = find::<HttpError>(&source).is_some_and(|error| error.kind() == HttpErrorKind::Connect);
                if connecting && text.contains("certificate") {
                    Self::UntrustedCertificate { uri, source: Said(source) }
                } else if says("404") {
                    Self::NoBucket { uri, source: Said(source) }
                } else if says("401") || says("403") {
                    Self::Refused { uri, source: Said(source) }
                } else if says("400") || text.contains("redirect without LOCATION") {
                    Self::Rejected { uri, source: Said(source) }
                } else {
                    Self::Unavailable { uri, source: Said(source) }
                }
            }
        }
    }
}

impl Explain for StoreError {
    fn explain(&self) -> Cause {
        match self {
            Self::Uri { .. } => Cause::configuration("InvalidStore", Field::Store),
            Self::SecretFiles(_) => Cause::configuration("StoreCredentialsMissing", Field::StoreCredentials),
            Self::Settings { .. } => Cause::configuration("StoreSettingsInvalid", Field::StoreCredentials),
            Self::CaCertificate { .. } | Self::UntrustedCertificate { .. } => {
                Cause::configuration("StoreCertificateNotTrusted", Field::StoreCredentials)
            }
            Self::Trust(error) => error.explain(),
            Self::Refused { .. } => Cause::configuration("StoreAccessDenied", Field::StoreCredentials),
            Self::NoBucket { .. } => Cause::configuration("StoreNotFound", Field::Store),
            Self::Rejected { .. } => Cause::configuration("StoreRejected", Field::Store),
            Self::NotWritable { .. } => Cause::configuration("StoreNotWritable", Field::Store),
            Self::NotConditional { .. } => Cause::configuration("StoreNotConditional", Field::Store),
            Self::Full { .. } => Cause::unavailable("StoreFull").at(Field::Store),
            Self::Unavailable { .. } => Cause::unavailable("StoreUnavailable"),
            Self::NotErased { .. } => Cause::unavailable("StoreNotEmpty").at(Field::Store),
            Self::DocumentTooLong { .. } => Cause::conflict("StoreOccupied"),
            Self::Local { source, .. } if is_full(source.kind()) => Cause::unavailable("ScratchFull"),
            Self::Local { .. } => Cause::internal("ScratchUnusable"),
        }
    }
}

/// What a store says, in the few words that matter: an XML answer's code and message, or whatever there is, on one line.
#[derive(Debug)]
pub struct Said(Error);

/// What is shown of a saying, in characters.
const MAX_SAID: usize = 300;

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = chain(&self.0);
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            Some(rest.split_once(&format!("</{name}>"))?.0)
        };
        let said = match (element("Code"), element("Message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            _ => self.0.to_string(),
        };
        let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let cut: String = line.chars().take(MAX_SAID).collect();
        f.write_str(cut.trim_end_matches('.'))
    }
}

impl std::error::Error for Said {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Whether there is no space for more.
fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// The first error of type `T` in the chain of causes.
fn find<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// The texts of an error and all of its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Generic { store: "S3", source: Box::new(source) }
    }

    #[test]
    fn a_folders_errors_are_told_apart_by_what_the_system_says() {
        let reason = |kind: ErrorKind| {
            StoreError::from_object_store(generic(Wrapped(kind.into())), "file:///store", true).explain().reason
        };
        assert_eq!(reason(ErrorKind::StorageFull), "StoreFull");
        assert_eq!(reason(ErrorKind::ReadOnlyFilesystem), "StoreNotWritable");
        assert_eq!(reason(ErrorKind::PermissionDenied), "StoreNotWritable");
        assert_eq!(reason(ErrorKind::TimedOut), "StoreUnavailable");
    }

    #[test]
    fn a_servers_errors_are_told_apart_by_status_and_transport() {
        let reason = |error: Error| StoreError::from_object_store(error, "s3://bucket", false).explain().reason;
        let source = || Box::new(io::Error::other("x"));
        assert_eq!(reason(Error::NotFound { path: "p".into(), source: source() }), "StoreNotFound");
        assert_eq!(reason(Error::PermissionDenied { path: "p".into(), source: source() }), "StoreAccessDenied");
        assert_eq!(reason(Error::Unauthenticated { path: "p".into(), source: source() }), "StoreAccessDenied");
        let untrusted =
            HttpError::new(HttpErrorKind::Connect, io::Error::other("invalid peer certificate: UnknownIssuer"));
        assert_eq!(reason(generic(untrusted)), "StoreCertificateNotTrusted");
        let refused = HttpError::new(HttpErrorKind::Connect, io::Error::other("connection refused"));
        assert_eq!(reason(generic(refused)), "StoreUnavailable");
        assert_eq!(reason(generic(io::Error::other("non-2xx status code: 400 Bad Request"))), "StoreRejected");
    }

    #[test]
    fn of_an_xml_answer_only_its_code_and_message_are_shown() {
        let answer = "status 403: <?xml?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message><Secret>x</Secret></Error>";
        let said = |text: &str| Said(generic(io::Error::other(text.to_owned()))).to_string();
        assert_eq!(said(answer), "SignatureDoesNotMatch: Check your key");
        assert_eq!(said("a\n  b"), "Generic S3 error: a b");
        assert_eq!(said(&"x".repeat(9000)).len(), MAX_SAID);
    }

    /// `object_store` wraps the system's errors once.
    #[derive(Debug, thiserror::Error)]
    #[error("cannot write")]
    struct Wrapped(#[source] io::Error);
}
