//! `sera-rollout erase`: what is asked for on the command line or in the environment, and how it reaches the work.

use std::path::PathBuf;

use clap::Args;
use sera_crds::contract::{Failure, StageResult};

use super::store::StoreArgs;
use crate::erase;
use crate::progress::Progress;
use crate::redact::Redactor;

pub(super) const EXAMPLES: &str = "Examples:
  All that a run has left in a bucket; the address is its status.store:
    sera-rollout erase --store s3://acme-ml/sera/ml/billing/3f2c9a10-1111-4222-8333-444455556666 --store-credentials ./s3 \\
        --prefix ml/billing/3f2c9a10-1111-4222-8333-444455556666

What stays: the folders above it, older versions in a bucket that keeps them, and the parts of uploads that were cut off, until the
bucket's own rules take them.";

#[derive(Debug, Args)]
pub(super) struct EraseArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Whose folder it is, as NAMESPACE/NAME/UID: how its address must end, or nothing is deleted
    #[arg(long, value_name = "OWNER")]
    prefix: String,
    /// Taken as by every other command; nothing is written there
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR", hide = true)]
    scratch: Option<PathBuf>,
}

/// Deletes the folder.
pub(super) async fn stage(
    arguments: EraseArgs,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, Failure> {
    let names = arguments.store.field_names();
    let StoreArgs { store, store_credentials, .. } = arguments.store;
    let request = erase::Request { store, prefix: arguments.prefix, store_credentials };
    erase::run(&request, progress, redactor).await.map_err(|error| {
        tracing::debug!(?error, "the whole error");
        names.failure(&error)
    })
}
