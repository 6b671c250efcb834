//! The command line: what is asked for, and how it reaches the stages. How a command ends is the same for all programs (`sera_program::ending`).

mod adopt;
mod dataset;
mod driver;
mod erase;
mod evaluate;
mod functions;
mod inspect;
mod output;
mod rollout;
mod selection;
mod sources;
mod store;
mod student;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sera_crds::contract::{ExitCode, Failure, StageResult};
use sera_crds::values::Timeout;

use crate::ending::{EXIT_CODES, Ending, EndingArgs, conduct, end, misused};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::rollout::Ledger;
use crate::snapshot;

/// How long unfinished work of other threads may hold up the end.
const LINGER: Duration = Duration::from_millis(500);

/// How long writing down what was spent may hold up the end: a pod has half a minute between SIGTERM and SIGKILL unless somebody gives it more.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// When a stage whose work is bounded is given up, where nothing else is asked for.
const STAGE_TIMEOUT: Duration = Duration::from_hours(2);

/// How many threads may do what blocks (files, names of hosts), where there are fewer processors: each takes some 20 KiB, and keeps it for seconds.
const BLOCKING_THREADS: usize = 16;

const SNAPSHOT_EXAMPLES: &str = "Examples:
  The newest commit of a public repository, to a folder:
    sera-rollout snapshot --url https://github.com/acme/billing.git --commits 1 --store file:///tmp/sera/run

  Five commits of the last year of a private one, to S3. Each folder has a file a key: username and password,
  or token, and ca.crt; AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, and ca.crt:
    sera-rollout snapshot --url https://git.acme.internal/billing.git --revision release-2 --git-credentials ./git \\
        --store s3://acme-ml/sera/ml/billing/1 --store-credentials ./s3

  Only what lies in src, the tests in src/testing too, with a tenth of the functions set aside for evaluation:
    sera-rollout snapshot --url https://github.com/acme/billing.git --include 'src/**' --include 'src/testing/**' \\
        --exclude '**/legacy/**' --languages Python,Go --held-out-fraction 0.1 --store file:///tmp/sera/run

  By ssh, with a folder that has ssh-privatekey and known_hosts:
    sera-rollout snapshot --url git@github.com:acme/billing.git --git-credentials ./ssh --store file:///tmp/sera/run

  The style of its issues, and its content, from GitHub as an App; the folder has appId, installationId and privateKey:
    sera-rollout snapshot --github acme/billing --github-credentials ./app --git-credentials ./app --store file:///tmp/sera/run

What it writes:
  snapshot/repository.bundle   a git bundle: refs/snapshots/0 (also HEAD) is the newest; each commit has no parent
  snapshot/functions.jsonl.zst a line of JSON a function and commit: file, name, lines, which functions it calls and which call it
  snapshot/style.jsonl.zst     examples of the style that issues are written in here
  snapshot/manifest.json       written last: the commits, their trees and times, what was indexed, and the files' sha256";

/// The data plane of sera-operator: the stages of a run, as plain commands.
#[derive(Debug, Parser)]
#[command(name = "sera-rollout", version, after_long_help = EXIT_CODES, arg_required_else_help = true, args_override_self = true)]
struct Cli {
    #[command(flatten)]
    ending: EndingArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take commits of a repository into the store
    ///
    /// Takes commits of a git repository, spread evenly over a window of time, each without its history, and puts them into the store, with an index
    /// of their functions. Run again after whatever happened, it finishes what is missing, and changes nothing that is there.
    #[command(after_long_help = format!("{SNAPSHOT_EXAMPLES}\n\n{EXIT_CODES}"), args_override_self = true)]
    Snapshot(SnapshotArgs),
    /// Take over what an earlier run has in its store
    ///
    /// Copies the snapshot of an earlier run, and with it its rollouts or its dataset, into a run's own folder, and checks each file by its sha256 on the
    /// way. No model is asked. Run again after whatever happened, it copies what is missing, and changes nothing that is there.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", adopt::EXAMPLES), args_override_self = true)]
    Adopt(adopt::AdoptArgs),
    /// Measure how much of one patch another finds again
    ///
    /// Measures pairs of patches, or what the rollouts of a batch left in a store: the paper's line recall, and a strict measure by file and hunk
    /// with precision and F1. No test is run, and no model is asked. Over a store it decides about every trajectory; run again, it finds its
    /// verdicts.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", verify::EXAMPLES), args_override_self = true)]
    Verify(verify::VerifyArgs),
    /// Make lines to train on from verified trajectories
    ///
    /// Takes the best of the verified trajectories, both kinds in the share asked for, without duplicates, and writes them as conversations that
    /// axolotl and sera-trainer read as they are. Run again after whatever happened, it finishes what is missing, and changes nothing that is there.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", dataset::EXAMPLES), args_override_self = true)]
    Dataset(dataset::DatasetArgs),
    /// Print one sample as the trainer will see it
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", inspect::EXAMPLES), args_override_self = true)]
    Inspect(inspect::InspectArgs),
    /// Show the functions of a repository or a snapshot, and the samples that are drawn from them
    ///
    /// Prints the function index of a clone's commit or of a store's snapshot, a line of JSON a function; or the samples that a seed draws from it; or
    /// the function set aside for evaluation that a patch touches.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", functions::EXAMPLES), args_override_self = true)]
    Functions(functions::FunctionsArgs),
    /// Let the teacher work on samples, and keep its trajectories and patches
    ///
    /// Brings a range of samples to their ends, many at once: a first rollout on a function, a synthetic pull request, a second rollout from that text
    /// alone. Run again after whatever happened, it adopts what is finished and makes the rest.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", rollout::EXAMPLES), args_override_self = true)]
    Rollout(Box<rollout::RolloutArgs>),
    /// Compare a student with its base and its teacher
    ///
    /// Lets the three models make the same changes on functions that were set aside before anything was generated, and says how much of them each
    /// finds again, how surely, and what follows. No test is run. Run again after whatever happened, it adopts what was made and makes the rest; the
    /// models can be there one after the other.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", evaluate::EXAMPLES), args_override_self = true)]
    Evaluate(Box<evaluate::EvaluateArgs>),
    /// Delete all that a run or a batch has in its store
    ///
    /// Deletes the folder of one run or batch, and refuses every other. Run again after whatever happened, it deletes what is left.
    #[command(after_long_help = format!("{}\n\n{EXIT_CODES}", erase::EXAMPLES), args_override_self = true)]
    Erase(erase::EraseArgs),
}

/// How a command tells what it does and how it ended.
#[derive(Debug, Args)]
struct SnapshotArgs {
    #[arg(
        long,
        env = "SERA_GIT_URL",
        required_unless_present = "github",
        help = "The repository: https://, http://, ssh://, git://, user@host:path, builtin://rehearsal (a small one for rehearsals), or a folder \
                (absolute, file:// or ./)"
    )]
    url: Option<String>,
    /// A branch, a tag or a commit; HEAD is the default branch
    #[arg(long, env = "SERA_GIT_REVISION", default_value = "HEAD")]
    revision: String,
    /// How many commits, spread evenly over the window, the newest among them; fewer where there are fewer
    #[arg(long, env = "SERA_COMMITS", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=64))]
    commits: u32,
    /// The window, in days before the newest commit
    #[arg(long, env = "SERA_LOOKBACK_DAYS", value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(0..=36_500))]
    lookback_days: u32,
    #[command(flatten)]
    selection: selection::SelectionArgs,
    #[command(flatten)]
    store: store::StoreArgs,
    #[arg(
        long,
        env = "SERA_GIT_CREDENTIALS",
        value_name = "DIR",
        help = "A folder with a file for each key of the repository's Secret: username, password, token, ssh-privatekey, known_hosts, ca.crt"
    )]
    git_credentials: Option<PathBuf>,
    /// What the termination message calls the field that names the repository's Secret
    #[arg(long, value_name = "FIELD", default_value = "spec.source.git.credentialsSecretRef")]
    git_credentials_field: String,
    #[command(flatten)]
    sources: sources::SourceArgs,
    /// Where scratch folders are made and deleted again; about twice the repository's size is needed [default: the system's]
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// How long the repository's server may say nothing before it is given up
    #[arg(long, env = "SERA_SILENCE", value_name = "DURATION", default_value = "60s")]
    silence: Timeout,
    /// How often a request that failed for now is tried again, each time after a longer pause
    #[arg(long, env = "SERA_RETRIES", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=20))]
    retries: u8,
}

/// Runs the program with the arguments of this process.
pub fn main() -> std::process::ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(cli).into(),
        Err(error) => misused(&error).into(),
    }
}

/// Two threads wait for everything. Others do what blocks; without a limit, hundreds of rollouts that write a file at the same moment start hundreds.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(processors.max(BLOCKING_THREADS))
        .enable_all()
        .build()
}

fn run(cli: Cli) -> ExitCode {
    let redactor = Redactor::default();
    let progress = Progress::detect();
    cli.ending.log.start(progress.bars(), redactor.clone());
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("the program's threads cannot be started: {error}");
            return ExitCode::Internal;
        }
    };
    let limit = cli.ending.timeout.map(|timeout| timeout.span());
    let ending = match cli.command {
        Command::Snapshot(arguments) => {
            let limit = limit.unwrap_or(STAGE_TIMEOUT);
            runtime.block_on(conduct(snapshot_stage(arguments, &progress, &redactor), limit))
        }
        Command::Adopt(arguments) => {
            runtime.block_on(conduct(adopt::stage(arguments, &progress, &redactor), limit.unwrap_or(STAGE_TIMEOUT)))
        }
        Command::Rollout(arguments) => {
            let (limit, ledger) = (limit.unwrap_or(Duration::MAX), Ledger::default());
            let stage = rollout::stage(*arguments, &progress, &redactor, &ledger);
            runtime.block_on(accounted(conduct(stage, limit), &ledger))
        }
        Command::Evaluate(arguments) => {
            let (limit, ledger) = (limit.unwrap_or(Duration::MAX), Ledger::default());
            let stage = evaluate::stage(*arguments, &progress, &redactor, &ledger);
            runtime.block_on(accounted(conduct(stage, limit), &ledger))
        }
        Command::Verify(arguments) if arguments.is_stage() => {
            runtime.block_on(conduct(verify::stage(arguments, &progress, &redactor), limit.unwrap_or(STAGE_TIMEOUT)))
        }
        Command::Verify(arguments) => match verify::print(&arguments) {
            Ok(()) => return ExitCode::Success,
            Err(failure) => Ending::failed(failure),
        },
        Command::Dataset(arguments) => {
            runtime.block_on(conduct(dataset::stage(arguments, &progress, &redactor), limit.unwrap_or(STAGE_TIMEOUT)))
        }
        Command::Erase(arguments) => {
            runtime.block_on(conduct(erase::stage(arguments, &progress, &redactor), limit.unwrap_or(STAGE_TIMEOUT)))
        }
        Command::Inspect(arguments) => match runtime.block_on(inspect::print(arguments, &redactor)) {
            Ok(()) => return ExitCode::Success,
            Err(failure) => Ending::failed(failure),
        },
        Command::Functions(arguments) => match runtime.block_on(functions::print(arguments, &progress, &redactor)) {
            Ok(()) => return ExitCode::Success,
            Err(failure) => Ending::failed(failure),
        },
    };
    runtime.shutdown_timeout(LINGER);
    end(ending, cli.ending.termination_message.as_deref(), &redactor)
}

async fn snapshot_stage(
    arguments: SnapshotArgs,
    progress: &Progress,
    redactor: &Redactor,
) -> Result<StageResult, Failure> {
    let names = arguments.store.field_names_with(&arguments.git_credentials_field);
    let request = snapshot::Request {
        url: arguments.url.or_else(|| arguments.sources.clone_url()).unwrap_or_default(),
        revision: arguments.revision,
        commits: arguments.commits,
        lookback_days: arguments.lookback_days,
        selection: arguments.selection.into(),
        store: arguments.store.store,
        git_credentials: arguments.git_credentials,
        store_credentials: arguments.store.store_credentials,
        github: arguments.sources.github,
        github_api: arguments.sources.github_api_url,
        github_credentials: arguments.sources.github_credentials,
        github_timeout: arguments.sources.github_timeout.span(),
        submodules: arguments.sources.submodules,
        scratch: arguments.scratch.unwrap_or_else(std::env::temp_dir),
        silence: arguments.silence.span(),
        retries: usize::from(arguments.retries),
    };
    snapshot::run(&request, progress, redactor).await.map_err(|error| {
        tracing::debug!(?error, "the whole error");
        names.failure(&error)
    })
}

/// Keeps what the rollouts have cost that were at work when the stage ended.
async fn accounted(stage: impl Future<Output = Ending>, ledger: &Ledger) -> Ending {
    let ending = stage.await;
    let lost = "what unfinished rollouts have cost is not written down, and will be missing from the run's figures";
    match tokio::time::timeout(LAST_WORDS, ledger.write_down()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("{lost}: {error}"),
        Err(_) => tracing::warn!("{lost}: the store did not answer within {} s", LAST_WORDS.as_secs()),
    }
    ending
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// A text without its line breaks, which depend on the terminal.
    fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_help_of_every_command_has_an_example_of_it_and_all_exit_codes() {
        let mut commands = 0;
        for command in Cli::command().get_subcommands_mut() {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
            let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{name} has no examples"));
            assert!(examples.contains(&format!("sera-rollout {name} ")), "no example of {name}: {examples}");
            assert!(words(&help).contains(&words(EXIT_CODES)), "{name} names no exit codes");
            commands += 1;
        }
        assert_eq!(commands, 9);
    }
}
