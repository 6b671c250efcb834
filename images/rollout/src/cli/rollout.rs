//! `sera-rollout rollout`: its arguments, and what they mean for the stage.

use std::path::PathBuf;

use clap::Args;
use sera_crds::contract::{Failure, StageResult};
use url::Url;

use super::driver::{FloorArgs, PatienceArgs, PlanArgs, check_name, invalid, private};
use super::store::StoreArgs;
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::rollout::{self, Ledger, Request};

pub(super) const EXAMPLES: &str = "Examples:
  Four samples of a snapshot, with a teacher on this machine and sandboxes that are processes of it:
    sera-rollout rollout --store file:///tmp/sera/run --batch b1 --count 4 --teacher-url http://127.0.0.1:8000/v1 \\
        --teacher-model GLM-4.6 --sandbox local --slots 4

  One shard of a batch in a pod, over two replicas of a teacher, with a plan from a file:
    sera-rollout rollout --store s3://acme-ml/sera/ml/billing/1 --batch billing-3 --first 512 --count 256 --shard-size 32 \\
        --plan plan.yaml --teacher-url http://t-0.t:8000/v1 --teacher-url http://t-1.t:8000/v1 --teacher-model GLM-4.6 \\
        --teacher-credentials ./teacher --sandbox /run/slots --slots 8 --listen 0.0.0.0:8080

What it writes, for each sample below rollouts/<batch>/<sample>/:
  t1.json, pr.json, t2.json   created once: a rollout or a text that is finished, and the folder that holds its files
  outcome.json                created last: how the sample ended
  <folder>/                   t1.json.zst and t2.json.zst (trajectories), p1.diff and p2.diff, pr.md";

#[derive(Debug, Args)]
pub(super) struct RolloutArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The folder that has the snapshot [default: the store]
    #[arg(long, env = "SERA_SNAPSHOT", value_name = "URI")]
    snapshot: Option<String>,
    /// The batch's name, under which its samples lie in the store
    #[arg(long, env = "SERA_BATCH", value_name = "NAME")]
    batch: String,
    /// The batch's first sample, by its number in the run
    #[arg(long, env = "SERA_FIRST", value_name = "N", default_value_t = 0)]
    first: u64,
    /// How many samples the batch has
    #[arg(long, env = "SERA_COUNT", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// How many samples of it one process works on: those of the shard that --shard names [default: all]
    #[arg(long, env = "SERA_SHARD_SIZE", value_name = "N", requires = "shard", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    shard_size: Option<u32>,
    /// Which shard, from 0: the index of an Indexed Job
    #[arg(long, env = "JOB_COMPLETION_INDEX", value_name = "N")]
    shard: Option<u32>,
    #[command(flatten)]
    plan: PlanArgs,
    /// The teacher's base address, as OpenAI's clients take it; once for each replica
    #[arg(long = "teacher-url", env = "SERA_TEACHER_URL", value_name = "URL", value_delimiter = ',', required = true)]
    teacher_urls: Vec<Url>,
    /// Each address that the host of --teacher-url has is a replica of its own, as a headless Service has them: a rollout sticks to one
    #[arg(long, env = "SERA_TEACHER_BY_ADDRESS")]
    teacher_by_address: bool,
    /// The model's name
    #[arg(long, env = "SERA_TEACHER_MODEL", value_name = "NAME")]
    teacher_model: String,
    /// A folder with the teacher's Secret: the file apiKey, and ca.crt where its CA is not a public one
    #[arg(long, env = "SERA_TEACHER_CREDENTIALS", value_name = "DIR")]
    teacher_credentials: Option<PathBuf>,
    #[command(flatten)]
    patience: PatienceArgs,
    /// The teacher is a rehearsal, a program and no model: every record says so
    #[arg(long, env = "SERA_REHEARSAL")]
    rehearsal: bool,
    #[command(flatten)]
    floor: FloorArgs,
}

/// Runs the stage.
pub(super) async fn stage(
    arguments: RolloutArgs,
    progress: &Progress,
    redactor: &Redactor,
    ledger: &Ledger,
) -> Result<StageResult, Failure> {
    let names = arguments.store.field_names();
    let request = request(arguments, redactor)?;
    rollout::run(request, progress, redactor, ledger).await.map_err(|error| {
        tracing::debug!(?error, "the whole error");
        names.failure(&error)
    })
}

fn request(arguments: RolloutArgs, redactor: &Redactor) -> Result<Request, Failure> {
    check_name(&arguments.batch)?;
    let (first, count) = shard(arguments.first, arguments.count, arguments.shard_size, arguments.shard)?;
    let plan = arguments.plan.read()?;
    let stores = [Some(arguments.store.store.as_str()), arguments.snapshot.as_deref()];
    let credentials = [arguments.store.store_credentials.as_deref(), arguments.teacher_credentials.as_deref()];
    let floor = arguments.floor.floor(private(stores.into_iter().flatten(), credentials.into_iter().flatten()))?;
    let teacher = arguments.patience.setup(
        (arguments.teacher_urls, arguments.teacher_by_address),
        arguments.teacher_model,
        arguments.teacher_credentials.as_deref(),
        &plan,
        redactor,
    )?;
    Ok(Request {
        store: arguments.store.store,
        store_credentials: arguments.store.store_credentials,
        snapshot: arguments.snapshot,
        batch: arguments.batch,
        first,
        count,
        plan,
        teacher,
        rehearsal: arguments.rehearsal,
        floor,
    })
}

/// The samples of one shard; the last one may be shorter.
fn shard(first: u64, count: u32, size: Option<u32>, shard: Option<u32>) -> Result<(u64, u32), Failure> {
    let (Some(size), Some(shard)) = (size, shard) else { return Ok((first, count)) };
    let begin = u64::from(size) * u64::from(shard);
    let left = u64::from(count).checked_sub(begin).filter(|left| *left > 0);
    let left = left.ok_or_else(|| {
        invalid("ShardMissing", format!("the batch has no shard {shard}: it has {count} samples, {size} a shard"))
    })?;
    Ok((first + begin, size.min(u32::try_from(left).unwrap_or(u32::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_a_batch_without_gap_or_overlap() {
        let shards: Vec<(u64, u32)> = (0..3).map(|index| shard(512, 70, Some(32), Some(index)).unwrap()).collect();
        assert_eq!(shards, [(512, 32), (544, 32), (576, 6)]);
        assert_eq!(shard(512, 70, Some(32), Some(3)).unwrap_err().reason, "ShardMissing");
        assert_eq!(shard(512, 70, None, Some(1)).unwrap(), (512, 70), "the index alone means nothing");
    }
}
