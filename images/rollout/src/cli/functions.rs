//! `sera-rollout functions`: shows what the function index has, which samples are drawn from it, and whether a patch touches what was set aside. It
//! writes to no store.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args};
use sera_crds::contract::{Failure, FunctionSelection, IndexedFunction};
use sera_crds::values::BugKind;
use serde::Serialize;

use super::output;
use super::selection::SelectionArgs;
use crate::failure::{Cause, Explain, Field, FieldNames};
use crate::git::access::{Access, Login};
use crate::git::url::{RemoteUrl, RemoteUrlError};
use crate::git::{Git, GitError, Home};
use crate::index::{self, HeldOut, IndexError};
use crate::jsonl::{JsonlError, Reader};
use crate::progress::Progress;
use crate::redact::Redactor;
use crate::sampling::{Purpose, SampleSpace, SamplingError, Settings};
use crate::scratch::{Scratch, ScratchError};
use crate::snapshot::stored::{self, Functions, StoredError};
use crate::store::{self, Store, StoreError};

pub(super) const EXAMPLES: &str = "Examples:
  The functions of a clone's newest commit, a line of JSON each:
    sera-rollout functions --repository ./billing

  The names of those that a snapshot sets aside:
    sera-rollout functions --store file:///tmp/sera/run | jq -r 'select(.heldOut) | .file + \" \" + .name'

  The first ten samples of a run, and of its evaluation:
    sera-rollout functions --store file:///tmp/sera/run --samples 10
    sera-rollout functions --store file:///tmp/sera/run --samples 10 --evaluation

  Whether a patch of the newest snapshot touches a function that was set aside:
    sera-rollout functions --store file:///tmp/sera/run --touched-by change.diff --snapshot 0";

/// What is told where no file is named: nobody waits for a server here.
const SILENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["repository", "store"]))]
pub(super) struct FunctionsArgs {
    /// A clone on this machine, bare or not: one of its commits is indexed now
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
    /// The commit of the clone
    #[arg(long, default_value = "HEAD", requires = "repository")]
    revision: String,
    #[arg(
        long,
        env = "SERA_STORE",
        value_name = "URI",
        help = "A run's own folder, whose snapshot is read: file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    store: Option<String>,
    /// A folder with a file for each key of the store's Secret; what it lacks is taken from the environment
    #[arg(long, env = "SERA_STORE_CREDENTIALS", value_name = "DIR")]
    store_credentials: Option<PathBuf>,
    /// Write the index to this file, compressed as in a snapshot, instead of printing it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["samples", "touched_by"])]
    output: Option<PathBuf>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// A patch, as git writes it: print the first function set aside that it touches, or nothing
    #[arg(long, value_name = "FILE", conflicts_with = "samples", help_heading = "Patches")]
    touched_by: Option<PathBuf>,
    /// The snapshot that the patch is for: 0 is the newest
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Patches")]
    snapshot: u32,
    /// Where scratch folders are made and deleted again [default: the system's]
    #[arg(long, env = "SERA_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Samples")]
struct SamplingArgs {
    /// Print so many samples instead of functions
    #[arg(long, value_name = "N")]
    samples: Option<u64>,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Draw from the functions that were set aside
    #[arg(long)]
    evaluation: bool,
    /// What samples are drawn from
    #[arg(long, value_name = "SEED", default_value_t = 42)]
    seed: u64,
    /// How many samples a function is good for
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    instances_per_function: u32,
    /// The kinds of bugs to draw from, with commas between them [default: all 51]
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    bug_kinds: Vec<BugKind>,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
enum FunctionsError {
    #[error(transparent)]
    Url(#[from] RemoteUrlError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Stored(#[from] StoredError),
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error("the index in the scratch folder cannot be read: {0}")]
    Lines(#[from] JsonlError),
    #[error("{} cannot be read or written: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the output cannot be written: {0}")]
    Output(#[source] std::io::Error),
}

impl Explain for FunctionsError {
    fn explain(&self) -> Cause {
        match self {
            Self::Url(error) => error.explain(),
            Self::Git(error) => error.explain(),
            Self::Index(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Stored(error) => error.explain(),
            Self::Sampling(_) => Cause::configuration("NoSuchSample", Field::Include),
            Self::Scratch(_) | Self::File { .. } => Cause::unavailable("FileUnavailable"),
            Self::Lines(_) | Self::Output(_) => Cause::internal("OutputFailed"),
        }
    }
}

/// Shows what was asked for.
pub(super) async fn print(arguments: FunctionsArgs, progress: &Progress, redactor: &Redactor) -> Result<(), Failure> {
    let names = FieldNames { git_credentials: String::new(), store_credentials: "--store-credentials".to_owned() };
    match show(arguments, progress, redactor).await {
        Err(FunctionsError::Output(cause)) if output::is_unread(&cause) => Ok(()),
        shown => shown.map_err(|error| names.failure(&error)),
    }
}

async fn show(arguments: FunctionsArgs, progress: &Progress, redactor: &Redactor) -> Result<(), FunctionsError> {
    let scratch = Scratch::create(&arguments.scratch.unwrap_or_else(std::env::temp_dir))?;
    let folder = scratch.path();
    let functions = if let Some(repository) = &arguments.repository {
        let selection = arguments.selection.into();
        let index = indexed(repository, &arguments.revision, &selection, folder, progress).await?;
        let file = arguments.output.clone().unwrap_or_else(|| folder.join("functions.jsonl.zst"));
        index.write(file.clone()).await?;
        if arguments.output.is_some() {
            return Ok(());
        }
        let opened = std::fs::File::open(&file).map_err(|source| FunctionsError::File { path: file, source })?;
        Reader::new(opened)?
    } else {
        let secret = store::secret(arguments.store_credentials.as_deref(), redactor)?;
        let store = Store::open(&arguments.store.unwrap_or_default(), secret.as_ref())?;
        let manifest = stored::manifest(&store).await?;
        stored::functions(&store, &manifest, folder, &progress.step("fetching the functions")).await?
    };
    if let Some(path) = arguments.touched_by {
        return touched(functions, &path, arguments.snapshot);
    }
    match arguments.sampling.samples {
        Some(count) => samples(functions, &arguments.sampling, count),
        None => lines(functions),
    }
}

/// Indexes one commit of a clone.
async fn indexed(
    repository: &Path,
    revision: &str,
    selection: &FunctionSelection,
    folder: &Path,
    progress: &Progress,
) -> Result<index::Index, FunctionsError> {
    let unreadable = |source| FunctionsError::File { path: repository.to_owned(), source };
    let absolute = std::path::absolute(repository).map_err(unreadable)?;
    let url = RemoteUrl::parse(&absolute.to_string_lossy())?;
    let access = Access { login: Login::Anonymous, ca: None };
    let home = Home::prepare(folder, &url, &access, SILENCE).map_err(unreadable)?;
    let git = Git::new(home, url, SILENCE);
    let folder = absolute.to_string_lossy();
    let printed = git.print(&["-C", &folder, "rev-parse", "--absolute-git-dir"]).await?;
    let repository = printed.trim_end();
    let (place, wanted) = (format!("--git-dir={repository}"), format!("{revision}^{{tree}}"));
    let tree = git.print(&[&place, "rev-parse", "--verify", "--end-of-options", &wanted]).await?;
    let step = progress.step("indexing the functions");
    Ok(index::build(&git, repository, &[tree.trim_end()], selection, &step).await?)
}

fn lines(functions: Functions) -> Result<(), FunctionsError> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    for function in functions {
        line(&mut output, &function?)?;
    }
    output.flush().map_err(FunctionsError::Output)
}

fn samples(functions: Functions, arguments: &SamplingArgs, count: u64) -> Result<(), FunctionsError> {
    let settings = Settings {
        seed: arguments.seed,
        instances_per_function: arguments.instances_per_function,
        bug_kinds: arguments.bug_kinds.clone(),
    };
    let purpose = if arguments.evaluation { Purpose::Evaluation } else { Purpose::Generation };
    let space = SampleSpace::new(whole(functions)?, purpose, &settings)?;
    let mut output = BufWriter::new(std::io::stdout().lock());
    for number in arguments.from..arguments.from.saturating_add(count) {
        line(&mut output, &space.sample(number)?)?;
    }
    output.flush().map_err(FunctionsError::Output)
}

fn touched(functions: Functions, path: &Path, snapshot: u32) -> Result<(), FunctionsError> {
    let unreadable = |source| FunctionsError::File { path: path.to_owned(), source };
    let patch = String::from_utf8_lossy(&std::fs::read(path).map_err(unreadable)?).into_owned();
    let held_out = HeldOut::of(whole(functions)?);
    match held_out.touched(snapshot, &patch) {
        Some(function) => line(&mut std::io::stdout().lock(), &function),
        None => Ok(()),
    }
}

fn whole(functions: Functions) -> Result<Vec<IndexedFunction>, FunctionsError> {
    Ok(functions.collect::<Result<_, _>>()?)
}

fn line(output: &mut impl Write, value: &impl Serialize) -> Result<(), FunctionsError> {
    let json = serde_json::to_string(value).map_err(|error| FunctionsError::Output(error.into()))?;
    writeln!(output, "{json}").map_err(FunctionsError::Output)
}
