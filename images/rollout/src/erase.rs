//! Deleting what an object has in its store, and nothing else: a folder is an object's own if its address ends with the object's namespace, name and
//! uid, of which the uid is given to nobody again. Done twice, it finds nothing the second time.

use std::path::PathBuf;
use std::sync::Arc;

use sera_crds::contract::StageResult;

use crate::failure::{Cause, Explain};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::store::{self, Erased, Store, StoreError};

/// What is asked for.
pub(crate) struct Request {
    /// The object's own folder.
    pub store: String,
    /// How the folder's address must end: `<namespace>/<name>/<uid>`.
    pub prefix: String,
    /// A folder with the store's keys.
    pub store_credentials: Option<PathBuf>,
}

/// Why not all was deleted. What was stays so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EraseError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder is somebody else's, or may be.
    #[error(
        "{store} is not the folder of {prefix}, which ends with its namespace, its name and its uid: nothing was deleted"
    )]
    Foreign {
        /// The folder.
        store: String,
        /// Whose folder was asked for.
        prefix: String,
    },
}

impl Explain for EraseError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Foreign { .. } => Cause::conflict("FolderForeign"),
        }
    }
}

/// Deletes the folder.
pub(crate) async fn run(
    request: &Request,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, EraseError> {
    let Request { store, prefix, store_credentials } = request;
    if !is_own(store, prefix) {
        return Err(EraseError::Foreign { store: store.clone(), prefix: prefix.clone() });
    }
    let secret = store::secret(store_credentials.as_deref(), redactor)?;
    let store = Store::open(store, secret.as_ref())?;
    let step = Arc::new(progress.step("deleting the data"));
    let Erased { files, bytes } = store.erase(step).await?;
    tracing::info!(files, bytes, "nothing is left");
    Ok(StageResult::Reclaim { files, bytes })
}

/// Whether the address ends with these three parts, none of which is empty or leads elsewhere, below a bucket or a folder.
fn is_own(store: &str, prefix: &str) -> bool {
    /// A UUID in Kubernetes' form: long enough that no two objects ever share it.
    const UID_CHARS: usize = 36;
    let parts: Vec<&str> = prefix.split('/').collect();
    let [namespace, name, uid] = parts[..] else { return false };
    let is_name = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
            && !part.starts_with('.')
    };
    let is_uid = uid.len() == UID_CHARS && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let Some((_, path)) = store.split_once("://") else { return false };
    let above = path.strip_suffix(prefix).and_then(|above| above.strip_suffix('/'));
    let leads_elsewhere = |above: &str| above.split('/').any(|part| matches!(part, "." | ".."));
    is_name(namespace) && is_name(name) && is_uid && above.is_some_and(|above| !leads_elsewhere(above))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::failure::FieldNames;

    const OWN: &str = "ml/billing/3f2c9a10-1111-4222-8333-444455556666";
    const SIBLING: &str = "ml/billing/77aa1000-1111-4222-8333-444455556666";

    fn write(folder: &Path, name: &str, content: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    async fn erase(folder: &Path, own: &str, prefix: &str) -> Result<StageResult, EraseError> {
        let request = Request {
            store: format!("file://{}/{own}", folder.display()),
            prefix: prefix.to_owned(),
            store_credentials: None,
        };
        run(&request, &Progress::detect(), &Redactor::default()).await
    }

    #[tokio::test]
    async fn its_own_folder_goes_and_its_namesake_s_stays() {
        let folder = tempfile::tempdir().unwrap();
        for owner in [OWN, SIBLING] {
            write(folder.path(), &format!("{owner}/snapshot/manifest.json"), "manifest");
            write(folder.path(), &format!("{owner}/rollouts/billing-1/0/t1.json"), "{}");
        }
        let gone = erase(folder.path(), OWN, OWN).await.unwrap();
        assert_eq!(gone, StageResult::Reclaim { files: 2, bytes: 10 });
        assert!(!folder.path().join(OWN).exists());
        assert!(folder.path().join(SIBLING).join("rollouts/billing-1/0/t1.json").exists());
        let again = erase(folder.path(), OWN, OWN).await.unwrap();
        assert_eq!(again, StageResult::Reclaim { files: 0, bytes: 0 });
    }

    #[tokio::test]
    async fn another_s_folder_is_refused_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &format!("{SIBLING}/snapshot/manifest.json"), "manifest");
        write(folder.path(), &format!("{OWN}/snapshot/manifest.json"), "manifest");
        for (store, prefix) in [
            (SIBLING, OWN),
            ("ml/billing", OWN),
            ("ml", OWN),
            ("", OWN),
            ("", ""),
            ("ml/billing", "ml/billing"),
            ("ml/billing/", "ml/billing/"),
            ("x/../ml/billing/3f2c9a10-1111-4222-8333-444455556666", OWN),
            (OWN, "billing/3f2c9a10-1111-4222-8333-444455556666"),
            ("xml/billing/3f2c9a10-1111-4222-8333-444455556666", OWN),
        ] {
            let error = erase(folder.path(), store, prefix).await.unwrap_err();
            assert!(matches!(error, EraseError::Foreign { .. }), "{store} {prefix}: {error}");
            let names = FieldNames { git_credentials: String::new(), store_credentials: String::new() };
            assert_eq!(names.failure(&error).field.as_deref(), Some("spec.output.store"));
        }
        for owner in [OWN, SIBLING] {
            assert!(folder.path().join(owner).join("snapshot/manifest.json").exists());
        }
    }

    #[test]
    fn a_folder_at_the_root_of_a_bucket_or_a_claim_is_an_object_s_own_too() {
        for store in [format!("s3://acme/{OWN}"), format!("file:///mnt/store/{OWN}"), format!("gs://acme/a/{OWN}")] {
            assert!(is_own(&store, OWN), "{store}");
        }
        assert!(!is_own(&format!("s3://{OWN}"), OWN), "the namespace would be the bucket");
    }
}
