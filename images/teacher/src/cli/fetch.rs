//! `sera-teacher fetch`: brings a model from a bucket into a folder, for servers that read folders alone.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use sera_program::address::Address;
use sera_program::progress::Progress;
use sera_program::redact::Redactor;
use sera_trainer::bucket::fetch_model;

use super::running::{LogArgs, ServeError};

/// The name below `--to` by which the model is found, whatever its address was.
const NAME: &str = "model";

pub(super) const EXAMPLES: &str = "Examples:
  What a run has put into its bucket, for an engine that reads folders:
    sera-teacher fetch --model s3://acme-ml/sera/ml/billing/3f2c/model --store-credentials ./s3 --to /mnt/nvme
    vllm serve /mnt/nvme/model

Each file is checked by its sha256 where the model's manifest names it. Run again after whatever happened, it fetches what is missing.";

#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// The folder of a model in a bucket: s3://, gs:// or az://
    #[arg(long, env = "SERA_MODEL", value_name = "URI")]
    model: Address,
    /// A folder with a file for each key of the bucket's Secret: AWS_…, GOOGLE_…, AZURE_…, ca.crt; what it lacks is taken from the environment
    #[arg(long, env = "SERA_STORE_CREDENTIALS", value_name = "DIR")]
    store_credentials: Option<PathBuf>,
    /// The folder that it is brought to; `model` in it leads to its files
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// Runs the command.
pub(super) fn run(arguments: &FetchArgs, redactor: &Redactor) -> Result<(), ServeError> {
    let FetchArgs { model, store_credentials, to, .. } = arguments;
    if let Address::Folder(folder) = model {
        return Err(ServeError::NoBucket(folder.clone()));
    }
    let found = fetch_model(model, store_credentials.as_deref(), to, &Progress::detect(), redactor)?;
    let link = to.join(NAME);
    let place = found.strip_prefix(to).unwrap_or(&found);
    lead(place, &link).map_err(|source| ServeError::Link { link: link.clone(), source })?;
    tracing::info!(model = %link.display(), "the model is here");
    Ok(())
}

/// Makes `link` lead to `place`, wherever it led before.
fn lead(place: &Path, link: &Path) -> io::Result<()> {
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(place, link)
}
