//! `kubectl sera`, for people: what a run or a batch is at and what it waits for on one page, its logs in one place, and the three things that are done to
//! one by hand. It asks the API server as the user of the kubeconfig and knows nothing that `kubectl get` would not show.

mod change;
mod connect;
mod list;
mod logs;
mod page;
mod standing;
mod status;
mod target;
#[cfg(test)]
mod testing;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::runtime::advice::{chain, explain};

use self::change::Change;
use self::connect::{Cluster, Connection};
use self::target::Target;

const EXAMPLES: &str = "Examples:
  kubectl sera status                        every run and every lone batch of the namespace, a line each
  kubectl sera status billing --watch        what run billing is at, until it is done
  kubectl sera status batch/billing-7        the same of a batch
  kubectl sera logs billing --follow         what its pods and those of its batches say
  kubectl sera logs billing --stage Training
  kubectl sera suspend billing               frees its pods within a minute; resume goes on
  kubectl sera retry billing                 tries at once what has failed

Exit codes: 0 done; 1 it could not be, or the run that was watched has failed or is stalled; 2 the command makes no sense";

/// What runs and batches are at, what they say, and what can be done to them
#[derive(Debug, Parser)]
#[command(name = "kubectl-sera", bin_name = "kubectl sera", version, max_term_width = 120, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What runs and batches are at: one on a page, or all in a table
    Status(status::Arguments),
    /// What the pods of a run or batch say, those of a run's batches included
    Logs(logs::Arguments),
    /// Have it stop, and give back its pods
    Suspend(Target),
    /// Have it go on after a suspension
    Resume(Target),
    /// Have it try again at once what has failed
    Retry(Target),
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// There is no way to the cluster.
    #[error("{0}; see `kubectl config view`, --kubeconfig and --context")]
    Connect(String),
    /// The API server said no.
    #[error("{}", told(.0))]
    Api(#[from] kube::Error),
    /// It is not there.
    #[error("there is no {what} in namespace {namespace}; `kubectl sera status` lists what there is")]
    Missing {
        /// The object, as it is named.
        what: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// It is its run's.
    #[error("batch {batch} belongs to run {run}, which would undo it: `kubectl sera {verb} {run}`")]
    OfARun {
        /// The batch.
        batch: String,
        /// Its run.
        run: String,
        /// What was asked for.
        verb: &'static str,
    },
    /// Nothing is told because there is nobody.
    #[error("no pod of {0} is there: they go when a stage is done, and come when one begins")]
    NoPods(String),
    /// What was to be printed cannot be.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

/// The advice on permissions is for whoever runs the operator; here the user is at fault, or lacks a role.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            format!("you may not: {}; the chart has roles for users that end in -view and -edit", status.message)
        }
        kube::Error::Api(status) if status.is_not_found() => {
            format!("{}: is the chart sera-operator-crds installed on this cluster?", status.message)
        }
        other => explain(other),
    }
}

/// Reads the command line and does what it asks for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(run(cli)));
    ended.unwrap_or_else(|error| match error {
        // Whoever reads has had enough.
        Error::Print(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        error => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    })
}

async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let connection = cli.cluster.connect().await?;
    match cli.command {
        Command::Status(arguments) => arguments.show(&connection).await,
        Command::Logs(arguments) => arguments.print(&connection).await,
        Command::Suspend(target) => change(&connection, &target, Change::Suspend).await,
        Command::Resume(target) => change(&connection, &target, Change::Resume).await,
        Command::Retry(target) => change(&connection, &target, Change::Retry).await,
    }
}

async fn change(connection: &Connection, target: &Target, change: Change) -> Result<ExitCode, Error> {
    let object = target.find(connection).await?;
    if let Some(run) = object.run() {
        return Err(Error::OfARun { batch: object.name_any(), run, verb: change.verb() });
    }
    println!("{}", change.make(connection, &object).await?);
    Ok(ExitCode::SUCCESS)
}
