//! Where data lies: a run's store, an earlier run's folder, a model. Buckets, claims and registries; never a hub, and
//! never a credential.

use super::text::text_value;

text_value! {
    /// Where stages keep their files: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or, on a
    /// ReadWriteMany claim, `pvc://claim/path`.
    StoreUri {
        kind: "a store",
        expected: "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or pvc://claim/path",
        pattern: r"^((s3|gs|az)://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]|pvc://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)(/[A-Za-z0-9_=+@~-][A-Za-z0-9._=+@~-]*)*/?$",
        chars: 7..=512,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// Where a model's files lie: a directory in Hugging Face's format on `pvc://claim/path`, `s3://bucket/path`,
    /// `gs://…` or `az://…`, an OCI artifact `oci://registry/repository:tag` (or `@sha256:…`), or `builtin://tiny`,
    /// which is made on the spot. Nothing is fetched from a hub at run time.
    ModelUri {
        kind: "a model",
        expected: "pvc://claim/path, s3://bucket/path, gs://bucket/path, az://container/path, oci://registry/repository:tag or builtin://tiny",
        pattern: r"^((s3|gs|az)://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[A-Za-z0-9_=+@~-][A-Za-z0-9._=+@~-]*)+/?|pvc://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(/[A-Za-z0-9_=+@~-][A-Za-z0-9._=+@~-]*)+/?|oci://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?|builtin://tiny)$",
        chars: 8..=512,
        rules: [],
        accept: |_| true,
    }
}

/// The kinds of places that a [`StoreUri`] can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreScheme {
    /// Amazon S3, or what speaks its protocol (`AWS_ENDPOINT_URL` in the credentials).
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// A `PersistentVolumeClaim` of the run's namespace.
    Pvc,
}

impl StoreUri {
    /// What kind of place it is.
    pub fn scheme(&self) -> StoreScheme {
        match self.as_str().split_once("://") {
            Some(("s3", _)) => StoreScheme::S3,
            Some(("gs", _)) => StoreScheme::Gs,
            Some(("az", _)) => StoreScheme::Az,
            _ => StoreScheme::Pvc,
        }
    }

    /// The bucket, container or claim.
    pub fn container(&self) -> &str {
        self.split().0
    }

    /// The path within it, without slashes at its ends; empty for the root.
    pub fn path(&self) -> &str {
        self.split().1
    }

    /// The claim, where the store is on one.
    pub fn claim(&self) -> Option<&str> {
        (self.scheme() == StoreScheme::Pvc).then(|| self.container())
    }

    /// The store on a claim, at its root.
    pub fn on_claim(claim: &super::ResourceName) -> Self {
        Self(format!("pvc://{claim}"))
    }

    /// The folder below this one that belongs to one owner: `<store>/<namespace>/<name>/<uid>`, as text, without a
    /// slash at its end.
    pub fn folder_of(&self, namespace: &str, name: &str, uid: &str) -> String {
        format!("{}/{namespace}/{name}/{uid}", self.as_str().trim_end_matches('/'))
    }

    fn split(&self) -> (&str, &str) {
        split(self.as_str())
    }
}

/// The kinds of places that a [`ModelUri`] can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelScheme {
    /// A folder of a bucket, container or claim.
    Store(StoreScheme),
    /// An artifact of an OCI registry.
    Oci,
    /// A model that the programs make themselves, for rehearsals and tests.
    Builtin,
}

impl ModelUri {
    /// What kind of place it is.
    pub fn scheme(&self) -> ModelScheme {
        match self.as_str().split_once("://") {
            Some(("s3", _)) => ModelScheme::Store(StoreScheme::S3),
            Some(("gs", _)) => ModelScheme::Store(StoreScheme::Gs),
            Some(("az", _)) => ModelScheme::Store(StoreScheme::Az),
            Some(("oci", _)) => ModelScheme::Oci,
            Some(("builtin", _)) => ModelScheme::Builtin,
            _ => ModelScheme::Store(StoreScheme::Pvc),
        }
    }

    /// The claim and the path on it, where the model is on one.
    pub fn claim(&self) -> Option<(&str, &str)> {
        (self.scheme() == ModelScheme::Store(StoreScheme::Pvc)).then(|| split(self.as_str()))
    }

    /// Whether it lies where only the network reaches.
    pub fn is_remote(&self) -> bool {
        !matches!(self.scheme(), ModelScheme::Store(StoreScheme::Pvc) | ModelScheme::Builtin)
    }
}

/// The part behind the scheme, cut at its first slash.
fn split(uri: &str) -> (&str, &str) {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let (container, path) = rest.split_once('/').unwrap_or((rest, ""));
    (container, path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_bucket_a_container_or_a_claim() {
        for (uri, scheme, container, path) in [
            ("s3://acme-ml/sera", StoreScheme::S3, "acme-ml", "sera"),
            ("gs://acme_ml/a/b/", StoreScheme::Gs, "acme_ml", "a/b"),
            ("az://runs", StoreScheme::Az, "runs", ""),
            ("pvc://sera.data/runs", StoreScheme::Pvc, "sera.data", "runs"),
        ] {
            let store: StoreUri = uri.parse().unwrap();
            assert_eq!((store.scheme(), store.container(), store.path()), (scheme, container, path), "{uri}");
        }
        for uri in [
            "s3://",
            "s3://UPPER/x",
            "file:///data",
            "https://bucket/x",
            "s3:/bucket",
            "s3://b/../x",
            "s3://bucket//x",
            "pvc:///x",
            "bucket/x",
            "s3://key:secret@bucket/x",
            "s3://bucket/a b",
        ] {
            assert!(uri.parse::<StoreUri>().is_err(), "{uri}");
        }
    }

    #[test]
    fn a_run_has_a_folder_of_its_own_in_its_store() {
        let store: StoreUri = "s3://acme-ml/sera/".parse().unwrap();
        assert_eq!(store.folder_of("ml", "billing", "3f2c"), "s3://acme-ml/sera/ml/billing/3f2c");
        assert_eq!(store.claim(), None);
        assert_eq!(StoreUri::on_claim(&"sera".parse().unwrap()).claim(), Some("sera"));
    }

    #[test]
    fn a_model_is_files_an_artifact_or_built_in_and_never_on_a_hub() {
        for (uri, scheme) in [
            ("pvc://models/Qwen3-8B", ModelScheme::Store(StoreScheme::Pvc)),
            ("s3://acme/models/Qwen3-8B", ModelScheme::Store(StoreScheme::S3)),
            ("oci://registry.acme.internal:5000/models/qwen3:8b", ModelScheme::Oci),
            ("builtin://tiny", ModelScheme::Builtin),
        ] {
            assert_eq!(uri.parse::<ModelUri>().unwrap().scheme(), scheme, "{uri}");
        }
        let digest = format!("oci://registry/models/qwen3@sha256:{}", "0".repeat(64));
        assert!(digest.parse::<ModelUri>().is_ok());
        for uri in [
            "Qwen/Qwen3-8B",
            "hf://Qwen/Qwen3-8B",
            "https://huggingface.co/Qwen/Qwen3-8B",
            "pvc://models",
            "s3://bucket",
            "builtin://large",
            "oci://registry",
        ] {
            assert!(uri.parse::<ModelUri>().is_err(), "{uri}");
        }
        assert_eq!("pvc://models/a/b".parse::<ModelUri>().unwrap().claim(), Some(("models", "a/b")));
    }
}
