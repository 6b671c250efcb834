//! The flags by which every stage is told its folder, and how it is reached.

use std::path::PathBuf;

use clap::Args;

use crate::failure::FieldNames;

#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    #[arg(
        long,
        env = "SERA_STORE",
        value_name = "URI",
        help = "The run's own folder: file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    pub(super) store: String,
    /// A folder with a file for each key of the store's Secret: AWS_…, GOOGLE_…, AZURE_…, ca.crt; what it lacks is taken from the environment
    #[arg(long, env = "SERA_STORE_CREDENTIALS", value_name = "DIR")]
    pub(super) store_credentials: Option<PathBuf>,
    /// What the termination message calls the field that names the store's Secret
    #[arg(long, value_name = "FIELD", default_value = "spec.output.credentialsSecretRef")]
    store_credentials_field: String,
}

impl StoreArgs {
    /// The names of the fields for a stage that asks no repository.
    pub(super) fn field_names(&self) -> FieldNames {
        self.field_names_with("")
    }

    /// The same, for one that asks a repository with the Secret that `git_credentials` names.
    pub(super) fn field_names_with(&self, git_credentials: &str) -> FieldNames {
        FieldNames {
            git_credentials: git_credentials.to_owned(),
            store_credentials: self.store_credentials_field.clone(),
        }
    }
}
