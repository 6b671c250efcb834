//! `sera-rollout rollout`: its arguments, and what they mean for the stage.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use secrecy::SecretString;
use sera_crds::contract::{Failure, FailureClass, RolloutPlan, StageResult};
use sera_crds::values::Timeout;
use url::Url;

use super::store::StoreArgs;
use crate::chat::{Patience, Setup};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::rollout::{self, Ledger, Request, Sandboxes};
use crate::secrets::SecretFiles;

/// The word that stands for sandboxes on this machine.
const LOCAL: &str = "local";
/// The sandbox's program, beside this one.
const SANDBOX_PROGRAM: &str = "sera-sandbox";

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
    /// The plan (limits, environment, sampling, budget), as YAML or JSON [default: the API's defaults]
    #[arg(long, value_name = "FILE", conflicts_with = "plan_json")]
    plan: Option<PathBuf>,
    /// The same as a text
    #[arg(long, env = "SERA_PLAN", value_name = "JSON")]
    plan_json: Option<String>,
    /// The teacher's base address, as OpenAI's clients take it; once for each replica
    #[arg(long = "teacher-url", env = "SERA_TEACHER_URL", value_name = "URL", value_delimiter = ',', required = true)]
    teacher_urls: Vec<Url>,
    /// The model's name
    #[arg(long, env = "SERA_TEACHER_MODEL", value_name = "NAME")]
    teacher_model: String,
    /// A folder with the teacher's Secret: the file apiKey, and ca.crt where its CA is not a public one
    #[arg(long, env = "SERA_TEACHER_CREDENTIALS", value_name = "DIR")]
    teacher_credentials: Option<PathBuf>,
    /// The longest time one call may take
    #[arg(long, env = "SERA_TEACHER_TIMEOUT", value_name = "DURATION", default_value = "10m")]
    teacher_timeout: Timeout,
    /// The longest time between two tokens of an answer
    #[arg(long, env = "SERA_TEACHER_STALL", value_name = "DURATION", default_value = "60s")]
    teacher_stall: Timeout,
    /// How often a call that failed for now is tried again, each time after a longer pause
    #[arg(long, env = "SERA_TEACHER_RETRIES", value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(0..=20))]
    teacher_retries: u8,
    /// Ask for whole answers, and not for streams of tokens; stalls are then seen at the timeout only
    #[arg(long, env = "SERA_TEACHER_WHOLE_ANSWERS")]
    whole_answers: bool,
    /// The teacher is a rehearsal, a program and no model: every record says so
    #[arg(long, env = "SERA_REHEARSAL")]
    rehearsal: bool,
    /// Where commands are executed: `local` (processes of this machine), or a folder in which slot n listens on <n>/socket
    #[arg(long, env = "SERA_SANDBOX", value_name = "local|DIR")]
    sandbox: String,
    /// The sandbox's program, for `local` [default: sera-sandbox beside this program]
    #[arg(long, env = "SERA_SANDBOX_PROGRAM", value_name = "FILE")]
    sandbox_program: Option<PathBuf>,
    /// How many sandboxes there are, and so how many rollouts run at once
    #[arg(long, env = "SERA_SLOTS", value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
    /// How many samples are worked on at once [default: one more in four than there are sandboxes, so that none waits for a review]
    #[arg(long, env = "SERA_PARALLEL", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    parallel: Option<u32>,
    /// The name of this process's own folders, such as the pod's uid [default: a fresh one]
    #[arg(long, env = "SERA_POD_UID", value_name = "NAME")]
    folder: Option<String>,
    /// Where /progress and /metrics are served, such as 0.0.0.0:8080 [default: nowhere]
    #[arg(long, env = "SERA_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where scratch folders are made and deleted again [default: the system's]
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
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
    for name in [Some(&arguments.batch), arguments.folder.as_ref()].into_iter().flatten() {
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            || name.starts_with('.')
        {
            return Err(invalid(
                "InvalidName",
                format!("'{name}' is no name of a folder: use letters, digits, '-', '_' and '.'"),
            ));
        }
    }
    let (first, count) = shard(arguments.first, arguments.count, arguments.shard_size, arguments.shard)?;
    let plan = plan(arguments.plan.as_deref(), arguments.plan_json.as_deref())?;
    let (key, ca) = credentials(arguments.teacher_credentials.as_deref(), redactor)?;
    let teacher = Setup {
        urls: arguments.teacher_urls,
        model: arguments.teacher_model,
        key,
        ca,
        temperature: temperature(&plan)?,
        streaming: !arguments.whole_answers,
        patience: Patience {
            call: arguments.teacher_timeout.span(),
            stall: arguments.teacher_stall.span(),
            retries: usize::from(arguments.teacher_retries),
            ..Patience::default()
        },
    };
    let sandbox = match arguments.sandbox.as_str() {
        LOCAL => Sandboxes::Local(arguments.sandbox_program.map_or_else(beside, Ok)?),
        folder => Sandboxes::Pod(PathBuf::from(folder)),
    };
    let parallel = arguments.parallel.unwrap_or(arguments.slots + arguments.slots / 4 + 1);
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
        sandbox,
        slots: arguments.slots,
        parallel: usize::try_from(parallel).unwrap_or(usize::MAX),
        folder: arguments.folder.unwrap_or_else(fresh_name),
        listen: arguments.listen,
        scratch: arguments.scratch.unwrap_or_else(std::env::temp_dir),
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

/// The plan; YAML has JSON in it.
fn plan(file: Option<&Path>, text: Option<&str>) -> Result<RolloutPlan, Failure> {
    let (text, name) = match (file, text) {
        (Some(file), _) => {
            let read = std::fs::read_to_string(file);
            (
                read.map_err(|error| {
                    invalid("PlanUnreadable", format!("the plan {} cannot be read: {error}", file.display()))
                })?,
                file.display().to_string(),
            )
        }
        (None, Some(text)) => (text.to_owned(), "SERA_PLAN".to_owned()),
        (None, None) => return Ok(RolloutPlan::default()),
    };
    serde_yaml::from_str(&text)
        .map_err(|error| invalid("PlanInvalid", format!("the plan {name} is not right: {error}")))
}

/// The temperature, which goes into each request as it is written here.
fn temperature(plan: &RolloutPlan) -> Result<String, Failure> {
    let text = &plan.sampling.temperature;
    let number = text.parse::<sera_crds::values::Decimal>();
    number
        .map(|number| number.to_string())
        .map_err(|error| invalid("PlanInvalid", format!("sampling.temperature: {error}")))
}

/// The teacher's key and CA.
fn credentials(folder: Option<&Path>, redactor: &Redactor) -> Result<(Option<SecretString>, Option<String>), Failure> {
    let Some(folder) = folder else { return Ok((None, None)) };
    let files = SecretFiles::read(folder, redactor).map_err(|error| {
        invalid("TeacherCredentialsMissing", format!("{error}; it needs the key apiKey, or ca.crt, or both"))
    })?;
    Ok((files.line("apiKey").map(SecretString::from), files.get("ca.crt").map(str::to_owned)))
}

fn beside() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| invalid("SandboxProgramMissing", format!("this program's own place is unknown: {error}")))?;
    Ok(program.with_file_name(SANDBOX_PROGRAM))
}

/// A name that no other process has.
fn fresh_name() -> String {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos();
    format!("{nanoseconds:x}-{}", std::process::id())
}

fn invalid(reason: &str, message: String) -> Failure {
    Failure { class: FailureClass::Configuration, reason: reason.to_owned(), field: None, message }
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

    #[test]
    fn a_plan_is_yaml_or_json_and_what_it_lacks_has_the_apis_default() {
        let yaml = plan(None, Some("seed: 7\nagent: {maxSteps: 3}\nbudget: {maxTokens: 9}")).unwrap();
        let json = plan(None, Some(r#"{"seed": 7, "agent": {"maxSteps": 3}, "budget": {"maxTokens": 9}}"#)).unwrap();
        assert_eq!(yaml, json);
        assert_eq!((yaml.agent.max_steps, yaml.agent.max_observation_chars), (3, 100_000));
        let failure = plan(None, Some("agent: {maxStepz: 3}")).unwrap_err();
        assert!(failure.message.contains("maxStepz"), "{}", failure.message);
        assert_eq!(plan(None, None).unwrap(), RolloutPlan::default());
    }

    #[test]
    fn a_temperature_is_a_number_as_it_goes_into_json() {
        let with = |text: &str| {
            let mut plan = RolloutPlan::default();
            plan.sampling.temperature = text.to_owned();
            temperature(&plan)
        };
        assert_eq!(with("0.60").unwrap(), "0.60");
        assert!(with("0.6, \"n\": 9").is_err() && with("NaN").is_err());
    }
}
