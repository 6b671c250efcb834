//! The snapshot of an earlier run: its files, and then its manifest, byte for byte.

use sera_crds::contract::Artifact;
use sera_crds::values::AdoptableStage;

use super::{AdoptionError, Courier};
use crate::snapshot::committed::{self, MANIFEST};

/// A snapshot that was taken over.
pub(super) struct Adopted {
    /// Its manifest.
    pub manifest: Artifact,
    /// The newest of its commits.
    pub commit: String,
    /// How many it has.
    pub commits: u32,
}

pub(super) async fn adopt(courier: &Courier<'_>, repository: Option<&str>) -> Result<Adopted, AdoptionError> {
    let encoded = courier.document(MANIFEST, AdoptableStage::Snapshot).await?;
    let manifest = committed::decode(&encoded)?;
    let there = &manifest.source.url;
    if let Some(asked) = repository.filter(|asked| path(asked) != path(there)) {
        let from = courier.address.to_owned();
        return Err(AdoptionError::OtherRepository { from, there: there.clone(), asked: asked.to_owned() });
    }
    if !courier.has(MANIFEST, &encoded).await? {
        let step = courier.progress.step("copying the snapshot");
        for file in manifest.files() {
            courier.file(&committed::path(file), &file.into(), &step).await?;
        }
        courier.commit(MANIFEST, encoded.clone()).await?;
    }
    let (commit, commits) = committed::commits(&manifest);
    Ok(Adopted { manifest: committed::artifact(&encoded), commit, commits })
}

/// What stays of a repository's address when it is reached by another protocol, or moves to another host: its path.
fn path(address: &str) -> String {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        // As scp writes it: user@host:path.
        None => address.split_once(':').map_or(address, |(_, path)| path),
    };
    let path = path.trim_matches('/');
    path.strip_suffix(".git").unwrap_or(path).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn one_repository_has_one_path_by_whatever_protocol_and_on_whatever_host() {
        for address in [
            "https://github.com/acme/billing.git",
            "https://mirror.acme.internal/Acme/billing/",
            "ssh://git@github.com:22/acme/billing",
            "git@github.com:acme/billing.git",
        ] {
            assert_eq!(path(address), "acme/billing", "{address}");
        }
        assert_ne!(path("https://github.com/acme/billing"), path("https://github.com/acme/billing-ui"));
    }
}
