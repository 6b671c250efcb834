//! Where the student is whose tokens are counted: a folder, one that is built in, or one in a bucket, of which its tokenizer alone is fetched.

use std::path::{Path, PathBuf};

use clap::Args;
use sera_program::address::Address;
use sera_program::fetch::{FetchError, Kind, fetch};

use crate::failure::{Cause, Explain, Field};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::store::{self, Store, StoreError};

/// With what a student in a bucket is read.
#[derive(Debug, Args)]
pub(super) struct StudentArgs {
    /// The same as --store-credentials, for the bucket of the student [default: what the environment has]
    #[arg(long, env = "SERA_STUDENT_CREDENTIALS", value_name = "DIR")]
    student_credentials: Option<PathBuf>,
}

/// Why a student's tokenizer is not here.
#[derive(Debug, thiserror::Error)]
#[error("the student: {0}")]
pub(super) struct NotFetched(FetchError);

impl From<StoreError> for NotFetched {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

impl Explain for NotFetched {
    fn explain(&self) -> Cause {
        self.0.cause(Field::Student, Field::StudentCredentials)
    }
}

impl StudentArgs {
    /// The folder on this machine with the tokenizer of the student at `address`.
    pub(super) async fn folder(
        &self,
        address: &Address,
        scratch: &Path,
        progress: &Progress,
        redactor: &Redactor,
    ) -> Result<PathBuf, NotFetched> {
        let uri = match address {
            Address::Folder(folder) => return Ok(sera_chat::student_folder(folder)),
            Address::Store(uri) => uri,
        };
        let secret = store::secret(self.student_credentials.as_deref(), redactor)?;
        let store = Store::open(uri, secret.as_ref())?;
        fetch(&store, Kind::Tokenizer, scratch, progress).await.map_err(NotFetched)
    }
}
