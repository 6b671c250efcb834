//! `sera-rollout adopt`: what is asked for on the command line or in the environment, and how it reaches the work.

use std::path::PathBuf;

use clap::Args;
use sera_crds::contract::{Failure, StageResult};
use sera_crds::values::AdoptableStage;

use super::store::StoreArgs;
use crate::adopt;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::settings;

pub(super) const EXAMPLES: &str = "Examples:
  The dataset of an earlier run, and the snapshot that it was made from, for a run that trains another student:
    sera-rollout adopt --from s3://acme-ml/sera/ml/billing/3f2c9a10-1111-4222-8333-444455556666 --through Dataset --run second \\
        --store s3://acme-ml/sera/ml/second/77aa0000-1111-4222-8333-444455556666 --store-credentials ./s3

  Its rollouts, to be verified by another policy; the batches are called second-1, second-2 and so on:
    sera-rollout adopt --from file:///mnt/store/ml/billing/1 --through Generation --run second --store file:///mnt/store/ml/second/1

What it writes, each file checked by the sha256 that the earlier run's manifests and records have of it:
  snapshot/                      as it was
  rollouts/<run>-<n>/            through Generation: the batches that are finished
  dataset/, verified/            through Dataset: the lines, and the verdicts that chose them
  adoption.json                  written last: what was taken over";

#[derive(Debug, Args)]
pub(super) struct AdoptArgs {
    /// The earlier run's own folder, as its status.store has it: file:///…, s3://…, gs://… or az://…; the store's credentials are for it too, and
    /// nothing in it is changed
    #[arg(long, value_name = "URI")]
    from: String,
    /// The address of that folder where it is mounted from a claim, for messages and adoption.json [default: what --from says]
    #[arg(long, value_name = "URI")]
    from_address: Option<String>,
    /// The repository that the earlier snapshot has to be of; the scheme, the host and `.git` may be others [default: any]
    #[arg(long, value_name = "URL")]
    repository: Option<String>,
    /// The last stage that is taken over: Snapshot, Generation or Dataset
    #[arg(long, value_name = "STAGE")]
    through: AdoptableStage,
    /// The name of the run that adopts, which its batches are named after
    #[arg(long, value_name = "NAME")]
    run: String,
    #[command(flatten)]
    store: StoreArgs,
    /// How lines are to be written for the student, as YAML or JSON; a dataset in another format is refused [default: what SERA_VERIFICATION holds]
    #[arg(long, value_name = "FILE")]
    verification: Option<PathBuf>,
    /// Taken as by every other command; nothing is written there
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR", hide = true)]
    scratch: Option<PathBuf>,
}

/// Takes the stages over.
pub(super) async fn stage(
    arguments: AdoptArgs,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, Failure> {
    let names = arguments.store.field_names();
    let request = adopt::Request {
        address: arguments.from_address.unwrap_or_else(|| arguments.from.clone()),
        from: arguments.from,
        repository: arguments.repository,
        through: arguments.through,
        store: arguments.store.store,
        run: arguments.run,
        store_credentials: arguments.store.store_credentials,
        verification: settings::given(arguments.verification.as_deref(), "SERA_VERIFICATION")?,
    };
    adopt::run(&request, progress, redactor).await.map_err(|error| {
        tracing::debug!(?error, "the whole error");
        names.failure(&error)
    })
}
