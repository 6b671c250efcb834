//! Whom TLS trusts beside the system's authorities: those in the file that `SERA_CA_CERTIFICATES` names, which the operator sets where
//! `pods.*.caSecretRef` is given. One place for git, for stores and for every HTTP client.

use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder};

use crate::failure::{Cause, Explain, Field};

/// The variable with the file's path.
const VARIABLE: &str = "SERA_CA_CERTIFICATES";
/// The largest value that a Secret can have, in bytes; nothing longer is read.
const MAX_BYTES: u64 = 1 << 20;

/// Why the authorities cannot be trusted. Each text names the variable and the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// There is no such file, or it cannot be read.
    #[error(
        "the authorities in {} ({VARIABLE}) cannot be read: {problem}; the Secret that caSecretRef names must exist and have the key ca.crt",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// The file is something else.
    #[error("{} ({VARIABLE}) is not a PEM bundle of certificates: {problem}; put the authority's certificate there", file.display())]
    NotCertificates {
        /// The file.
        file: PathBuf,
        /// Why not.
        problem: String,
    },
}

impl Explain for TrustError {
    fn explain(&self) -> Cause {
        Cause::configuration("CaCertificatesInvalid", Field::Authorities)
    }
}

/// The authorities that are trusted beside the system's; by default none.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    pem: Option<String>,
    certificates: Vec<Certificate>,
}

impl Trust {
    /// Those that this process was given; an unset or empty variable gives none.
    pub fn from_environment() -> Result<Self, TrustError> {
        match std::env::var_os(VARIABLE).filter(|file| !file.is_empty()) {
            Some(file) => Self::read(Path::new(&file)),
            None => Ok(Self::default()),
        }
    }

    fn read(file: &Path) -> Result<Self, TrustError> {
        let unreadable = |problem: String| TrustError::Unreadable { file: file.to_owned(), problem };
        let refused = |problem: String| TrustError::NotCertificates { file: file.to_owned(), problem };
        let bytes = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
        if bytes > MAX_BYTES {
            return Err(refused(format!("it has {bytes} bytes")));
        }
        let content = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
        let pem = String::from_utf8(content).map_err(|_| refused("it is no text".to_owned()))?;
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| refused(innermost(&error)))?;
        if certificates.is_empty() {
            return Err(refused("there is no certificate in it".to_owned()));
        }
        let trust = Self { pem: Some(pem), certificates };
        // Only a client that is being made looks into the certificates.
        trust.http().build().map_err(|error| refused(innermost(&error)))?;
        Ok(trust)
    }

    /// The authorities in PEM, for what takes a file; none where there are none.
    pub fn pem(&self) -> Option<&str> {
        self.pem.as_deref()
    }

    /// An HTTP client in the making that trusts them.
    pub fn http(&self) -> ClientBuilder {
        reqwest::Client::builder().tls_certs_merge(self.certificates.iter().cloned())
    }
}

/// What the last error of a chain says: the first ones say only that a client cannot be made.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Trust, TrustError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authorities.pem");
        std::fs::write(&file, content).unwrap();
        Trust::read(&file)
    }

    #[test]
    fn a_bundle_of_authorities_is_taken_whole() {
        let one = sera_git_server::Identity::for_address([127, 0, 0, 1].into()).unwrap().ca_pem;
        let two = sera_git_server::Identity::for_address([127, 0, 0, 2].into()).unwrap().ca_pem;
        let bundle = format!("# ours\n{one}\n# theirs\n{two}");
        let trust = read(bundle.as_bytes()).unwrap();
        assert_eq!((trust.pem(), trust.certificates.len()), (Some(bundle.as_str()), 2));
    }

    #[test]
    fn what_is_no_certificate_is_refused_with_the_variable_and_the_file() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let not_base64 = "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
        let long = vec![b'#'; usize::try_from(MAX_BYTES).unwrap() + 1];
        for content in
            [b"", b"nonsense".as_slice(), b"\xff", key.as_bytes(), broken.as_bytes(), not_base64.as_bytes(), &long]
        {
            let message = read(content).unwrap_err().to_string();
            assert!(message.contains(VARIABLE) && message.contains("authorities.pem"), "{message}");
        }
        let missing = Trust::read(Path::new("/nowhere/ca.crt")).unwrap_err();
        assert!(
            matches!(&missing, TrustError::Unreadable { .. }) && missing.to_string().contains("key ca.crt"),
            "{missing}"
        );
    }
}
