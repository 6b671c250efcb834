//! The certificates and kubeconfigs of one cluster: a certificate authority of its own, a certificate for each component,
//! and a key for service-account tokens. It knows names and addresses, but starts nothing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// Why credentials could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate could not be made.
    #[error("cannot make the certificate of {name}")]
    Certificate {
        /// Whose certificate.
        name: String,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The kubeconfig could not be put into words.
    #[error("cannot write the kubeconfig of {name}")]
    Kubeconfig {
        /// Whose kubeconfig.
        name: String,
        /// Why it failed.
        source: serde_yaml::Error,
    },
}

/// Who a certificate is for.
pub(super) struct Identity<'a> {
    /// The file name, without its ending.
    pub(super) file: &'a str,
    /// The user that Kubernetes sees (common name).
    pub(super) user: &'a str,
    /// The group that Kubernetes sees (organization).
    pub(super) group: Option<&'a str>,
    /// The names and addresses it serves under; none for one that is only a client.
    pub(super) serves: Vec<String>,
}

impl<'a> Identity<'a> {
    /// One that only ever calls others.
    pub(super) fn client(file: &'a str, user: &'a str, group: Option<&'a str>) -> Self {
        Self { file, user, group, serves: Vec::new() }
    }
}

/// A certificate authority that writes what it signs into one folder.
pub(super) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new one: `ca.crt` and `ca.key`, and `sa.key` and `sa.pub` for service-account tokens.
    pub(super) fn create(folder: &Path) -> Result<Self, PkiError> {
        fs::create_dir_all(folder).map_err(|source| PkiError::Write { path: folder.to_owned(), source })?;
        let failed = |source| PkiError::Certificate { name: "the certificate authority".to_owned(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "sera-e2e");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        let authority = Self { folder: folder.to_owned(), issuer };
        authority.write("ca.crt", &authority.issuer.pem())?;
        authority.write("ca.key", &authority.issuer.key().serialize_pem())?;
        let tokens = KeyPair::generate().map_err(failed)?;
        authority.write("sa.key", &tokens.serialize_pem())?;
        authority.write("sa.pub", &tokens.public_key_pem())?;
        Ok(authority)
    }

    /// Signs a certificate and writes it: `<file>.crt` and `<file>.key`.
    pub(super) fn issue(&self, identity: &Identity<'_>) -> Result<(), PkiError> {
        self.sign(identity).map(|_| ())
    }

    /// Signs a certificate and writes a kubeconfig that holds it.
    pub(super) fn issue_kubeconfig(
        &self,
        identity: &Identity<'_>,
        server: &str,
        cluster: &str,
        path: &Path,
    ) -> Result<(), PkiError> {
        let (certificate, key) = self.sign(identity)?;
        let (authority, certificate, key) = (
            BASE64_STANDARD.encode(self.issuer.pem()),
            BASE64_STANDARD.encode(certificate),
            BASE64_STANDARD.encode(key),
        );
        let user = identity.user;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": cluster,
            "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"client-certificate-data": certificate, "client-key-data": key}}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        });
        let text = serde_yaml::to_string(&config)
            .map_err(|source| PkiError::Kubeconfig { name: identity.file.to_owned(), source })?;
        write_private(path, &text)
    }

    fn sign(&self, identity: &Identity<'_>) -> Result<(String, String), PkiError> {
        let failed = |source| PkiError::Certificate { name: identity.file.to_owned(), source };
        let mut params = CertificateParams::new(identity.serves.clone()).map_err(failed)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, identity.user);
        if let Some(group) = identity.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !identity.serves.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        let key = key.serialize_pem();
        self.write(&format!("{}.crt", identity.file), &certificate)?;
        self.write(&format!("{}.key", identity.file), &key)?;
        Ok((certificate, key))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), PkiError> {
        write_private(&self.folder.join(name), text)
    }
}

/// The names and addresses under which pods and people reach the API server.
pub(super) fn api_server_names(address: IpAddr, service_address: &str) -> Vec<String> {
    let mut names = vec![address.to_string(), service_address.to_owned(), "localhost".to_owned()];
    if !address.is_loopback() {
        names.push("127.0.0.1".to_owned());
    }
    for end in ["", ".default", ".default.svc", ".default.svc.cluster.local"] {
        names.push(format!("kubernetes{end}"));
    }
    names
}

/// Writes a file that only its owner may read: most of them hold a key.
fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_kubeconfig_holds_all_it_needs_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        let path = folder.path().join("admin.kubeconfig");
        let identity = Identity::client("admin", "kubernetes-admin", Some("system:masters"));
        authority.issue_kubeconfig(&identity, "https://127.0.0.1:1", "here", &path).unwrap();
        let config = kube::config::Kubeconfig::read_from(&path).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("here"));
        assert_eq!(config.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://127.0.0.1:1"));
        assert!(config.auth_infos[0].auth_info.as_ref().unwrap().client_key_data.is_some());
        for name in ["admin.kubeconfig", "admin.key", "ca.key", "sa.key"] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name} is readable by others");
        }
    }

    #[test]
    fn the_api_server_is_known_by_its_service() {
        let names = api_server_names("10.77.0.2".parse().unwrap(), "10.96.0.1");
        for name in
            ["10.77.0.2", "10.96.0.1", "127.0.0.1", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        {
            assert!(names.iter().any(|known| known == name), "{name} is missing from {names:?}");
        }
    }
}
