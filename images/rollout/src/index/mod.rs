//! The function index: which functions the commits of a snapshot have, where they stand and which call which. Files are read from git's objects, never
//! from a checkout, each content once however many commits have it. What is drawn from the index is not decided here.

mod eligible;
mod grammar;
mod graph;
mod held_out;
mod objects;
mod parse;
mod symbols;
mod touched;
mod tree;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use rayon::iter::{ParallelBridge, ParallelIterator};
use sera_crds::contract::{CallEdge, FunctionSelection, IndexCounts, IndexedFunction, SkipReason};
use sera_crds::values::Ratio;

pub(crate) use eligible::GlobError;
pub(crate) use touched::{HeldOut, is_near};

use crate::failure::{Cause, Explain, Field};
use crate::git::{Git, GitError};
use crate::jsonl::Writer;
use crate::progress::Step;
use crate::store::Digest;
use eligible::{Attributes, Eligible, MAX_BYTES};
use grammar::Form;
use graph::{Edge, File, Graph};
use held_out::Fingerprint;
use parse::{FileFunctions, Outcome, Parsers};
use symbols::Symbols;

/// Files that are read and not parsed yet; together with the largest that is read this bounds what waits in memory.
const QUEUE: usize = 32;
/// The most edges of a function that are kept, each way.
const MAX_EDGES: usize = 32;

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// A glob is none.
    #[error(transparent)]
    Glob(#[from] GlobError),
    /// git fails.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A thread that parses or writes ended before its time.
    #[error("the functions cannot be indexed: {0}")]
    Thread(#[from] tokio::task::JoinError),
    /// The file cannot be written.
    #[error("cannot write the function index to the scratch folder: {0}")]
    Write(#[source] io::Error),
    /// There is nothing to work on.
    #[error("there is no function to work on; of the newest commit's files these were left out: {skipped}; {advice}")]
    NoFunction {
        /// How many files were left out, by reason.
        skipped: String,
        /// What to change.
        advice: &'static str,
        /// Whether globs or languages were given.
        narrowed: bool,
    },
}

impl Explain for IndexError {
    fn explain(&self) -> Cause {
        match self {
            Self::Glob(error) if error.is_include() => Cause::configuration("GlobInvalid", Field::Include),
            Self::Glob(_) => Cause::configuration("GlobInvalid", Field::Exclude),
            Self::Git(error) => error.explain(),
            Self::Thread(_) => Cause::internal("IndexerFailed"),
            Self::Write(_) => Cause::unavailable("ScratchFull"),
            Self::NoFunction { narrowed: true, .. } => Cause::configuration("NoFunctions", Field::Include),
            Self::NoFunction { narrowed: false, .. } => Cause::configuration("NoFunctions", Field::Url),
        }
    }
}

/// An index.
pub(crate) struct Index {
    commits: Vec<Commit>,
    outcomes: Vec<Outcome>,
    symbols: Arc<Symbols>,
    held_out: HashSet<String>,
}

/// A commit's files that are wanted, sorted by path, each with the place of its outcome.
struct Commit {
    files: Vec<(String, usize)>,
    counts: IndexCounts,
}

/// Contents that have to be parsed, each once.
#[derive(Default)]
struct Jobs {
    places: HashMap<(String, Form, bool), usize>,
    blobs: Vec<String>,
    forms: Vec<(Form, bool)>,
}

impl Jobs {
    /// The place of the outcome of an object's content, read in that form.
    fn place(&mut self, blob: String, form: (Form, bool)) -> usize {
        *self.places.entry((blob, form.0, form.1)).or_insert_with_key(|(blob, ..)| {
            self.blobs.push(blob.clone());
            self.forms.push(form);
            self.blobs.len() - 1
        })
    }
}

/// Indexes these trees of a repository below git's home; the newest comes first.
pub(crate) async fn build(
    git: &Git,
    repository: &str,
    trees: &[&str],
    selection: &FunctionSelection,
    step: &Step,
) -> Result<Index, IndexError> {
    let eligible = Arc::new(Eligible::new(selection)?);
    let mut jobs = Jobs::default();
    let mut commits = Vec::with_capacity(trees.len());
    for tree in trees {
        commits.push(choose(git, repository, tree, &eligible, &mut jobs).await?);
    }
    let symbols = Arc::new(Symbols::default());
    let outcomes = parse_all(git, repository, jobs, &eligible, &symbols, step).await?;
    let mut index = Index { commits, outcomes, symbols, held_out: HashSet::new() };
    index.held_out = index.set_aside(&selection.held_out_fraction, selection.held_out_seed);
    index.count();
    if index.commits.iter().all(|commit| commit.counts.total() == 0) {
        return Err(nothing(&index.commits, selection));
    }
    Ok(index)
}

/// Chooses the files of a tree that are wanted, and counts the others.
async fn choose(
    git: &Git,
    repository: &str,
    tree: &str,
    eligible: &Eligible,
    jobs: &mut Jobs,
) -> Result<Commit, GitError> {
    let listing = tree::list(git, repository, tree).await?;
    let mut counts = IndexCounts::default();
    if listing.unnamed > 0 {
        counts.skipped.insert(SkipReason::NameNotUtf8, listing.unnamed);
    }
    let mut skip = |reason| *counts.skipped.entry(reason).or_default() += 1;
    let mut candidates = Vec::new();
    for entry in &listing.entries {
        match eligible.form(&entry.path) {
            Ok(form) => candidates.push((entry, form)),
            Err(reason) => skip(reason),
        }
    }
    let paths: Vec<&str> = candidates.iter().map(|(entry, _)| entry.path.as_str()).collect();
    let attributes = tree::attributes(git, repository, tree, &listing, &paths).await?;
    let mut files = Vec::new();
    for (entry, form) in candidates {
        let said = attributes.get(&entry.path).copied().unwrap_or_default();
        match judge(eligible, &entry.path, entry.bytes, said) {
            Ok(()) => {
                files.push((entry.path.clone(), jobs.place(entry.blob.clone(), (form, said.generated.is_none()))));
            }
            Err(reason) => skip(reason),
        }
    }
    Ok(Commit { files, counts })
}

fn judge(eligible: &Eligible, path: &str, bytes: u64, said: Attributes) -> Result<(), SkipReason> {
    eligible.judge(path, said)?;
    if bytes > MAX_BYTES { Err(SkipReason::TooLarge) } else { Ok(()) }
}

/// Reads and parses all contents, as many at once as there are cores.
async fn parse_all(
    git: &Git,
    repository: &str,
    jobs: Jobs,
    eligible: &Arc<Eligible>,
    symbols: &Arc<Symbols>,
    step: &Step,
) -> Result<Vec<Outcome>, IndexError> {
    let Jobs { blobs, forms, .. } = jobs;
    let (sender, receiver) = mpsc::sync_channel::<(usize, Vec<u8>)>(QUEUE);
    let (eligible, symbols) = (eligible.clone(), symbols.clone());
    let parsing = tokio::task::spawn_blocking(move || {
        let contents = receiver.into_iter().par_bridge();
        let parsed = contents.map_init(Parsers::default, |parsers, (place, content)| {
            (place, parse::read(parsers, &symbols, &eligible, forms[place], &content))
        });
        let mut outcomes: Vec<(usize, Outcome)> = parsed.collect();
        outcomes.sort_unstable_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    });
    let total = blobs.len() as u64;
    let reading = objects::read(git, repository, blobs.iter().map(String::as_str), |place, content| {
        step.update("parsing", place as u64, total);
        sender.send((place, content)).map_err(|_| io::Error::other("nobody takes it"))
    })
    .await;
    drop(sender);
    let outcomes = parsing.await?;
    reading?;
    Ok(outcomes)
}

fn nothing(commits: &[Commit], selection: &FunctionSelection) -> IndexError {
    let counts = commits.first().map(|newest| newest.counts.clone()).unwrap_or_default();
    let narrowed = !(selection.include.is_empty() && selection.exclude.is_empty() && selection.languages.is_empty());
    let skipped: Vec<String> =
        counts.skipped.iter().map(|(reason, count)| format!("{count} {}", because(*reason))).collect();
    IndexError::NoFunction {
        skipped: if skipped.is_empty() { "none".to_owned() } else { skipped.join(", ") },
        advice: if narrowed {
            "widen include, exclude and languages"
        } else {
            "name another revision or repository, or spell out in include what was left out"
        },
        narrowed,
    }
}

/// What files are that were left out, after their number.
fn because(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::NameNotUtf8 => "with a name that is not UTF-8",
        SkipReason::UnknownLanguage => "in no language that the indexer knows",
        SkipReason::OtherLanguage => "in a language that was not asked for",
        SkipReason::NotIncluded => "not named by include",
        SkipReason::Excluded => "named by exclude",
        SkipReason::Vendored => "vendored",
        SkipReason::Generated => "generated",
        SkipReason::Documentation => "of documentation",
        SkipReason::Test => "of tests",
        SkipReason::TooLarge => "larger than 1 MiB",
        SkipReason::Binary => "binary",
        SkipReason::LfsPointer => "kept by Git LFS",
        SkipReason::Minified => "minified",
        SkipReason::Unparsable => "that cannot be parsed",
    }
}

impl Index {
    /// What it has of each commit.
    pub(crate) fn counts(&self) -> Vec<IndexCounts> {
        self.commits.iter().map(|commit| commit.counts.clone()).collect()
    }

    /// Writes all functions, a line each: by commit, file and first line.
    pub(crate) async fn write(self, path: PathBuf) -> Result<Digest, IndexError> {
        tokio::task::spawn_blocking(move || self.write_to(&path)).await?.map_err(IndexError::Write)
    }

    fn write_to(&self, path: &Path) -> io::Result<Digest> {
        let mut writer = Writer::create(path)?;
        for snapshot in 0..self.commits.len() {
            self.each(snapshot, |function| writer.write(&function))?;
        }
        writer.finish()
    }

    /// Hands on the functions of one commit, by file and first line.
    fn each(&self, snapshot: usize, mut sink: impl FnMut(IndexedFunction) -> io::Result<()>) -> io::Result<()> {
        let files = self.files(snapshot);
        let graph = Graph::of(&files, &self.symbols);
        let functions: Vec<(&File<'_>, &parse::Definition)> =
            files.iter().flat_map(|file| file.has.functions.iter().map(move |function| (file, function))).collect();
        let edges = |edges: &[Edge]| {
            let mut kept: Vec<CallEdge> = Vec::new();
            for (other, candidates) in edges {
                let Some((file, function)) = functions.get(*other as usize) else { continue };
                let name = self.symbols.text(function.name);
                let is_known = |edge: &CallEdge| edge.file == file.path && *edge.name == *name;
                if kept.len() < MAX_EDGES && !kept.iter().any(is_known) {
                    let (file, name) = (file.path.to_owned(), name.to_string());
                    kept.push(CallEdge { file, name, candidates: *candidates });
                }
            }
            kept
        };
        for (at, (file, function)) in functions.iter().enumerate() {
            sink(IndexedFunction {
                snapshot: u32::try_from(snapshot).unwrap_or(u32::MAX),
                file: file.path.to_owned(),
                name: self.symbols.text(function.name).to_string(),
                kind: function.kind,
                language: file.has.language,
                lines: function.lines,
                digest: hex::encode(function.digest),
                calls: edges(&graph.calls[at]),
                callers: edges(&graph.callers[at]),
                held_out: self.held_out.contains(file.path),
            })?;
        }
        Ok(())
    }

    /// The files of a commit that have functions.
    fn files(&self, snapshot: usize) -> Vec<File<'_>> {
        let wanted = self.commits.get(snapshot).map(|commit| commit.files.as_slice()).unwrap_or_default();
        wanted.iter().filter_map(|(path, place)| Some(File { path, has: self.has(*place)? })).collect()
    }

    fn has(&self, place: usize) -> Option<&FileFunctions> {
        match self.outcomes.get(place)? {
            Outcome::Read(functions) if !functions.functions.is_empty() => Some(functions),
            _ => None,
        }
    }

    fn set_aside(&self, fraction: &Ratio, seed: u64) -> HashSet<String> {
        let fraction = fraction.value();
        let share = (u128::try_from(fraction.mantissa()).unwrap_or_default(), 10_u128.saturating_pow(fraction.scale()));
        let digests: Vec<(&str, Vec<u64>)> = (0..self.commits.len())
            .flat_map(|snapshot| self.files(snapshot))
            .map(|file| {
                (file.path, file.has.functions.iter().map(|function| u64::from_le_bytes(function.digest)).collect())
            })
            .collect();
        let files: Vec<Fingerprint<'_>> =
            digests.iter().map(|(path, functions)| Fingerprint { path, functions }).collect();
        held_out::choose(&files, seed, share).into_iter().map(str::to_owned).collect()
    }

    fn count(&mut self) {
        for commit in &mut self.commits {
            for (path, place) in &commit.files {
                match self.outcomes.get(*place) {
                    Some(Outcome::Skipped(reason)) => *commit.counts.skipped.entry(*reason).or_default() += 1,
                    Some(Outcome::Read(has)) if !has.functions.is_empty() => {
                        let count = has.functions.len() as u64;
                        commit.counts.files += 1;
                        *commit.counts.functions.entry(has.language).or_default() += count;
                        commit.counts.held_out += if self.held_out.contains(path) { count } else { 0 };
                    }
                    _ => {}
                }
            }
        }
    }
}
