//! Which store a URI means, and how it is opened: with the keys of a Secret over what the environment gives (a cloud's workload identity).

use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::{Store, StoreError};
use crate::secrets::{SecretFiles, SecretFilesError};
use crate::trust::Trust;

/// How long a connection may take to be made. Twice the client's default: TLS through a proxy of an enterprise.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one request may take: a part of 8 MiB over a slow line (70 KB/s).
const REQUEST: Duration = Duration::from_mins(2);
/// Tries after the first one, each later than the one before: half a minute in all. The Job tries again after that.
const RETRIES: usize = 6;
/// After this, a request is not tried again.
const RETRY_FOR: Duration = Duration::from_mins(1);

/// A store's kind and place, from its URI.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    Folder(PathBuf),
    S3 { prefix: Path },
    Gs { prefix: Path },
    Az { prefix: Path },
}

impl Location {
    fn parse(uri: &str) -> Result<(Self, Url), StoreError> {
        let invalid = |problem: &str| StoreError::Uri { uri: without_userinfo(uri), problem: problem.to_owned() };
        let url = Url::parse(uri).map_err(|error| invalid(&error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("credentials belong into the store's Secret"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has a '?' or '#'"));
        }
        let bucket = url.host_str().unwrap_or_default();
        if url.scheme() == "file" {
            let folder =
                url.to_file_path().map_err(|()| invalid("a file:// URI has three slashes and an absolute path"))?;
            return Ok((Self::Folder(folder), url));
        }
        let prefix = Path::from_url_path(url.path()).map_err(|error| invalid(&error.to_string()))?;
        let location = match url.scheme() {
            "s3" => Self::S3 { prefix },
            "gs" => Self::Gs { prefix },
            "az" => Self::Az { prefix },
            "pvc" => return Err(invalid("a claim is mounted by the operator, and given as file:// here")),
            other => return Err(invalid(&format!("'{other}' is no known kind"))),
        };
        if bucket.is_empty() {
            return Err(invalid("the bucket is missing"));
        }
        Ok((location, url))
    }
}

impl Store {
    /// Opens the store at `uri`, with the keys of `secret` where there is one. Nothing is asked of it yet.
    pub fn open(uri: &str, secret: Option<&SecretFiles>) -> Result<Self, StoreError> {
        let (location, url) = Location::parse(uri)?;
        let uri = uri.to_owned();
        match location {
            Location::Folder(folder) => Self::open_folder(uri, folder),
            Location::S3 { prefix } => {
                let builder = settings::<AmazonS3ConfigKey>(secret)
                    .fold(AmazonS3Builder::from_env().with_url(url.as_str()), |builder, (key, value)| {
                        builder.with_config(key, value)
                    })
                    .with_client_options(client(secret)?)
                    .with_retry(retry());
                // An endpoint without TLS is somebody's choice, made by writing it down.
                let plain = builder
                    .get_config_value(&AmazonS3ConfigKey::Endpoint)
                    .is_some_and(|endpoint| endpoint.starts_with("http://"));
                let built = if plain { builder.with_allow_http(true).build() } else { builder.build() };
                Self::remote(uri, prefix, built)
            }
            Location::Gs { prefix } => {
                let builder = settings::<GoogleConfigKey>(secret)
                    .fold(GoogleCloudStorageBuilder::from_env().with_url(url.as_str()), |builder, (key, value)| {
                        builder.with_config(key, value)
                    });
                Self::remote(uri, prefix, builder.with_client_options(client(secret)?).with_retry(retry()).build())
            }
            Location::Az { prefix } => {
                let builder = settings::<AzureConfigKey>(secret)
                    .fold(MicrosoftAzureBuilder::from_env().with_url(url.as_str()), |builder, (key, value)| {
                        builder.with_config(key, value)
                    });
                Self::remote(uri, prefix, builder.with_client_options(client(secret)?).with_retry(retry()).build())
            }
        }
    }

    /// A folder of this machine: synced to disk at each write, as other stores are.
    fn open_folder(uri: String, folder: PathBuf) -> Result<Self, StoreError> {
        let root = Path::from_absolute_path(&folder)
            .map_err(|error| StoreError::Uri { uri: uri.clone(), problem: error.to_string() })?;
        let objects = LocalFileSystem::new().with_fsync(true);
        Ok(Self { objects: Arc::new(objects), root, uri, local: Some(folder) })
    }

    fn remote<S: ObjectStore>(uri: String, root: Path, built: object_store::Result<S>) -> Result<Self, StoreError> {
        match built {
            Ok(objects) => Ok(Self { objects: Arc::new(objects), root, uri, local: None }),
            Err(source) => Err(StoreError::from_settings(source, uri)),
        }
    }
}

/// Reads the store's Secret, where one is named.
pub fn secret(
    folder: Option<&FilePath>,
    redactor: &crate::redact::Redactor,
) -> Result<Option<SecretFiles>, StoreError> {
    folder
        .map(|folder| SecretFiles::read(folder, redactor))
        .transpose()
        .map_err(|error: SecretFilesError| StoreError::SecretFiles(error))
}

/// The keys of the Secret that a kind of store knows: `AWS_ACCESS_KEY_ID` and the like.
fn settings<K: FromStr>(secret: Option<&SecretFiles>) -> impl Iterator<Item = (K, String)> {
    secret.into_iter().flat_map(|secret| {
        secret.keys().filter_map(|key| Some((key.to_ascii_lowercase().parse().ok()?, secret.line(key)?.to_owned())))
    })
}

/// The HTTP client's settings, the authorities of this process and of the Secret among them.
fn client(secret: Option<&SecretFiles>) -> Result<ClientOptions, StoreError> {
    let options = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST);
    let options = match Trust::from_environment()?.pem() {
        Some(bundle) => trusting(options, bundle)?,
        None => options,
    };
    match secret.and_then(|secret| secret.get("ca.crt")) {
        Some(bundle) => trusting(options, bundle),
        None => Ok(options),
    }
}

/// The same settings, with the authorities of a PEM bundle.
fn trusting(options: ClientOptions, bundle: &str) -> Result<ClientOptions, StoreError> {
    let refused = |problem: String| StoreError::CaCertificate { problem };
    let certificates = Certificate::from_pem_bundle(bundle.as_bytes()).map_err(|error| refused(error.to_string()))?;
    if certificates.is_empty() {
        return Err(refused("there is no certificate in it".to_owned()));
    }
    Ok(certificates.into_iter().fold(options, ClientOptions::with_root_certificate))
}

fn retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRY_FOR }
}

/// A URI without what may be a password, for messages.
fn without_userinfo(uri: &str) -> String {
    match (uri.find("://"), uri.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://…{}", &uri[..scheme], &uri[at..]),
        _ => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redactor;

    fn problem(uri: &str) -> String {
        Location::parse(uri).unwrap_err().to_string()
    }

    #[test]
    fn each_kind_of_store_is_recognised_with_its_prefix() {
        let location = |uri| Location::parse(uri).unwrap().0;
        assert_eq!(location("file:///mnt/store/a%20b"), Location::Folder("/mnt/store/a b".into()));
        assert_eq!(location("s3://bucket/sera/ml"), Location::S3 { prefix: "sera/ml".into() });
        assert_eq!(location("gs://bucket"), Location::Gs { prefix: "".into() });
        assert_eq!(location("az://container/x/"), Location::Az { prefix: "x".into() });
    }

    #[test]
    fn what_is_no_store_is_refused_with_the_reason_and_without_its_password() {
        for (uri, expected) in [
            ("bucket/prefix", "relative URL without a base"),
            ("s3:///prefix", "bucket is missing"),
            ("ftp://host/x", "'ftp' is no known kind"),
            ("pvc://claim/x", "mounted by the operator"),
            ("file://folder/x", "three slashes"),
            ("s3://bucket/x?region=eu", "'?' or '#'"),
            ("s3://key:hunter2@bucket/x", "belong into the store's Secret"),
        ] {
            let message = problem(uri);
            assert!(message.contains(expected) && !message.contains("hunter2"), "{uri}: {message}");
        }
    }

    #[test]
    fn a_secret_that_is_named_must_have_keys_and_its_ca_must_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let read = || secret(Some(folder.path()), &Redactor::default());
        assert!(matches!(read(), Err(StoreError::SecretFiles(_))));
        for nonsense in ["nonsense", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"] {
            std::fs::write(folder.path().join("ca.crt"), nonsense).unwrap();
            let opened = Store::open("s3://bucket/x", read().unwrap().as_ref());
            assert!(matches!(opened, Err(StoreError::CaCertificate { .. })), "{opened:?}");
        }
    }

    #[test]
    fn the_keys_of_a_secret_are_taken_by_the_store_that_knows_them() {
        let folder = tempfile::tempdir().unwrap();
        for (key, value) in
            [("AWS_ACCESS_KEY_ID", "id\n"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("unrelated", "x")]
        {
            std::fs::write(folder.path().join(key), value).unwrap();
        }
        let files = secret(Some(folder.path()), &Redactor::default()).unwrap();
        let taken: Vec<(AmazonS3ConfigKey, String)> = settings(files.as_ref()).collect();
        assert_eq!(
            taken,
            [(AmazonS3ConfigKey::AccessKeyId, "id".into()), (AmazonS3ConfigKey::Endpoint, "http://127.0.0.1:9".into())]
        );
        assert_eq!(settings::<GoogleConfigKey>(files.as_ref()).count(), 0);
    }
}
