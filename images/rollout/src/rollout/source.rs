//! What samples are made of: the snapshot's manifest and bundle, its function index, and the texts whose style pull requests follow.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sera_crds::contract::{CONTRACT_VERSION, FunctionRef, IndexedFunction, RolloutPlan, SnapshotManifest, StyleExample, StyleOrigin};
use sera_crds::values::BugKind;
use sha2::{Digest as _, Sha256};

use super::Sample;
use crate::failure::{Cause, Explain, Field};
use crate::progress::Progress;
use crate::store::{Digest, Store, StoreError};

/// The snapshot's files.
const MANIFEST: &str = "snapshot/manifest.json";
const FUNCTIONS: &str = "snapshot/functions.jsonl.zst";
const STYLE: &str = "snapshot/style.jsonl.zst";
/// How many bug kinds a first rollout may be tried with.
const KINDS: usize = 3;

/// Why there is nothing to draw samples from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is not there.
    #[error("the store has no {0}: run sera-rollout snapshot first, or name the folder that has one with --snapshot")]
    Missing(&'static str),
    /// A file is none of this release.
    #[error("{name} in the store is not what this release writes ({problem}): take the snapshot again with images of one release")]
    Malformed {
        /// The file.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The bundle is not what the manifest says.
    #[error("the bundle in the store is not what {MANIFEST} says: run sera-rollout snapshot again, which repairs it")]
    Damaged,
    /// No function is left to draw from.
    #[error("the snapshot has no function to draw samples from: check include, exclude and languages")]
    NoFunctions,
    /// There are fewer samples than that.
    #[error("there is no sample number {number}: the snapshot's functions give {available} samples; take more commits, or allow more instances of a function")]
    Exhausted {
        /// The number.
        number: u64,
        /// How many there are.
        available: u64,
    },
}

impl Explain for SourceError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Missing(_) | Self::Damaged => Cause::configuration("SnapshotMissing", Field::Store),
            Self::Malformed { .. } => Cause::conflict("SnapshotMalformed"),
            Self::NoFunctions | Self::Exhausted { .. } => Cause::configuration("NoFunctions", Field::Url),
        }
    }
}

/// A run's snapshot, as far as rollouts need it.
#[derive(Debug)]
pub(super) struct Source {
    manifest: SnapshotManifest,
    bundle: PathBuf,
    functions: Vec<FunctionRef>,
    examples: Vec<StyleExample>,
    kinds: Vec<BugKind>,
    seed: u64,
    instances: u64,
}

impl Source {
    /// Reads what is in the store; the bundle goes to `folder`.
    pub(super) async fn read(store: &Store, folder: &Path, plan: &RolloutPlan, progress: &Progress) -> Result<Self, SourceError> {
        let manifest = store.read(MANIFEST).await?.ok_or(SourceError::Missing(MANIFEST))?;
        let manifest: SnapshotManifest = decode(MANIFEST, &manifest)?;
        if manifest.version != CONTRACT_VERSION {
            let problem = format!("its version is {}, not {CONTRACT_VERSION}", manifest.version);
            return Err(SourceError::Malformed { name: MANIFEST, problem });
        }
        let bundle = folder.join("snapshots.bundle");
        let name = format!("snapshot/{}", manifest.bundle.path);
        let step = progress.step("fetching the snapshot");
        let found = store.download(&name, &bundle, &step).await?;
        if found != Some(Digest { bytes: manifest.bundle.bytes, sha256: manifest.bundle.sha256.clone() }) {
            return Err(SourceError::Damaged);
        }
        let indexed: Vec<IndexedFunction> = lines(store, FUNCTIONS).await?.ok_or(SourceError::Missing(FUNCTIONS))?;
        let mut functions: Vec<FunctionRef> = indexed.into_iter().filter(|function| !function.held_out).map(reference).collect();
        if functions.is_empty() {
            return Err(SourceError::NoFunctions);
        }
        functions.sort_by_cached_key(|function| drawn(plan.seed, &format!("{function:?}")));
        let examples = lines(store, STYLE).await?.filter(|examples: &Vec<StyleExample>| !examples.is_empty());
        let kinds = if plan.bug_kinds.is_empty() { BugKind::ALL.to_vec() } else { plan.bug_kinds.clone() };
        Ok(Self {
            manifest,
            bundle,
            functions,
            examples: examples.unwrap_or_else(|| vec![plain_example()]),
            kinds,
            seed: plan.seed,
            instances: plan.instances_per_function.into(),
        })
    }

    pub(super) fn manifest(&self) -> &SnapshotManifest {
        &self.manifest
    }

    pub(super) fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Sample `number`: the same function and bug kinds on every machine.
    pub(super) fn sample(&self, number: u64) -> Result<Sample, SourceError> {
        let functions = self.functions.len() as u64;
        let available = functions.saturating_mul(self.instances);
        let exhausted = SourceError::Exhausted { number, available };
        let position = usize::try_from(number % functions).ok().filter(|_| number < available);
        let function = position.and_then(|position| self.functions.get(position)).ok_or(exhausted)?.clone();
        let mut kinds = self.kinds.clone();
        kinds.sort_by_cached_key(|kind| drawn(self.seed, &format!("{number} {kind}")));
        kinds.truncate(KINDS);
        Ok(Sample { number, function, bug_kinds: kinds })
    }

    /// The text whose style sample `number`'s pull request follows.
    pub(super) fn example(&self, number: u64) -> &StyleExample {
        let draw = drawn(self.seed, &format!("style {number}"));
        let draw = u64::from_be_bytes([draw[0], draw[1], draw[2], draw[3], draw[4], draw[5], draw[6], draw[7]]);
        let position = usize::try_from(draw % self.examples.len() as u64).unwrap_or_default();
        &self.examples[position]
    }
}

fn drawn(seed: u64, what: &str) -> [u8; 32] {
    Sha256::new().chain_update(seed.to_be_bytes()).chain_update(what).finalize().into()
}

fn reference(function: IndexedFunction) -> FunctionRef {
    let IndexedFunction { snapshot, file, name, lines, .. } = function;
    FunctionRef { snapshot, file, name, lines }
}

/// What is followed where a repository has no texts of its own.
fn plain_example() -> StyleExample {
    StyleExample {
        origin: StyleOrigin::BuiltIn,
        title: None,
        body: "**What happens**\n\nCalling it with an empty list raises an exception from deep inside.\n\n**What I expected**\n\nAn empty result, as \
               the documentation says.\n\n**How to see it**\n\nOpen a session, ask for all entries of a new account, and look at the result."
            .to_owned(),
    }
}

fn decode<T: DeserializeOwned>(name: &'static str, bytes: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(bytes).map_err(|error| SourceError::Malformed { name, problem: error.to_string() })
}

async fn lines<T: DeserializeOwned>(store: &Store, name: &'static str) -> Result<Option<Vec<T>>, SourceError> {
    let Some(bytes) = store.read_data(name).await? else { return Ok(None) };
    let unreadable = |error: std::io::Error| SourceError::Malformed { name, problem: error.to_string() };
    let decoder = BufReader::new(zstd::Decoder::new(&bytes[..]).map_err(unreadable)?);
    let values = decoder.split(b'\n').map(|line| decode(name, &line.map_err(unreadable)?));
    values.collect::<Result<Vec<T>, SourceError>>().map(Some)
}
