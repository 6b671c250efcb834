//! What commands that read a model or a dataset are told of where it may lie: credentials of a bucket, and a place on this machine for what is
//! fetched.

use std::path::PathBuf;

use clap::Args;
use sera_program::address::Address;
use sera_program::progress::Progress;

use super::context::Context;
use super::failure::Failure;
use crate::bucket::fetch_model;

#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// A folder with a file for each key of the store's Secret: AWS_…, GOOGLE_…, AZURE_…, ca.crt; what it lacks is taken from the environment
    #[arg(long, env = "SERA_STORE_CREDENTIALS", value_name = "DIR")]
    pub(super) store_credentials: Option<PathBuf>,
    /// Where what is fetched from a bucket goes, and what is on its way to one [default: the system's folder for such]
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
}

impl PlaceArgs {
    /// Where that is.
    pub(super) fn scratch(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// The folder on this machine with the model at `address`.
    pub(super) fn model(&self, address: &Address, context: &Context) -> Result<PathBuf, Failure> {
        let (credentials, scratch) = (self.store_credentials.as_deref(), self.scratch());
        Ok(fetch_model(address, credentials, &scratch, &Progress::detect(), &context.redactor)?)
    }
}
