//! What samples are made of: the snapshot's manifest and bundle, the samples that are drawn from its functions, and the texts whose style pull requests
//! follow.

use std::path::{Path, PathBuf};

use sera_crds::contract::{RolloutPlan, SnapshotManifest, StyleExample};
use sha2::{Digest as _, Sha256};

use crate::failure::{Cause, Explain, Field};
use crate::jsonl::{JsonlError, Reader};
use crate::progress::Progress;
use crate::sampling::{Purpose, Sample, SampleSpace, SamplingError, Settings};
use crate::snapshot::stored::{self, StoredError};
use crate::store::{Store, StoreError};

/// Why there is nothing to draw samples from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot is missing or damaged.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// There is no such sample.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The texts to follow cannot be read.
    #[error("the style examples in the store cannot be read: {0}")]
    Examples(#[source] JsonlError),
    /// There are none.
    #[error("the store has no style examples: take the snapshot again with images of one release")]
    NoExamples,
}

impl From<JsonlError> for SourceError {
    fn from(error: JsonlError) -> Self {
        Self::Stored(error.into())
    }
}

impl Explain for SourceError {
    fn explain(&self) -> Cause {
        match self {
            Self::Store(error) => error.explain(),
            Self::Stored(error) => error.explain(),
            Self::Sampling(_) => Cause::configuration("NoSuchSample", Field::Include),
            Self::Examples(_) | Self::NoExamples => Cause::conflict("SnapshotDamaged"),
        }
    }
}

/// A run's snapshot, as far as rollouts need it.
pub(super) struct Source {
    manifest: SnapshotManifest,
    bundle: PathBuf,
    samples: SampleSpace,
    /// At least one.
    examples: Vec<StyleExample>,
    seed: u64,
}

impl Source {
    /// Reads what is in the store; its files go to `folder`.
    pub(super) async fn read(
        store: &Store,
        folder: &Path,
        plan: &RolloutPlan,
        purpose: Purpose,
        progress: &Progress,
    ) -> Result<Self, SourceError> {
        let manifest = stored::manifest(store).await?;
        let step = progress.step("fetching the snapshot");
        let bundle = folder.join(&manifest.bundle.path);
        stored::fetch(store, &manifest.bundle, &bundle, &step).await?;
        let functions = stored::functions(store, &manifest, folder, &step).await?;
        let settings = Settings {
            seed: plan.seed,
            instances_per_function: match purpose {
                Purpose::Generation => plan.instances_per_function,
                // A second task on one function would count it twice.
                Purpose::Evaluation => 1,
            },
            bug_kinds: plan.bug_kinds.clone(),
        };
        let functions = functions.collect::<Result<Vec<_>, JsonlError>>()?;
        let samples = SampleSpace::new(functions, purpose, &settings)?;
        let file = folder.join(&manifest.style.path);
        stored::fetch(store, &manifest.style, &file, &step).await?;
        let examples = Reader::new(std::fs::File::open(&file).map_err(StoredError::Scratch)?);
        let examples = examples
            .and_then(Iterator::collect::<Result<Vec<StyleExample>, JsonlError>>)
            .map_err(SourceError::Examples)?;
        if examples.is_empty() {
            return Err(SourceError::NoExamples);
        }
        Ok(Self { manifest, bundle, samples, examples, seed: plan.seed })
    }

    pub(super) fn manifest(&self) -> &SnapshotManifest {
        &self.manifest
    }

    pub(super) fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// How many samples there are.
    pub(super) fn len(&self) -> u64 {
        self.samples.len()
    }

    /// Sample `number`: the same function and bug kinds on every machine.
    pub(super) fn sample(&self, number: u64) -> Result<Sample, SamplingError> {
        self.samples.sample(number)
    }

    /// The text whose style sample `number`'s pull request follows, drawn as the sample is.
    pub(super) fn example(&self, number: u64) -> &StyleExample {
        let draw: [u8; 32] = Sha256::new()
            .chain_update(self.seed.to_be_bytes())
            .chain_update(b"style")
            .chain_update(number.to_be_bytes())
            .finalize()
            .into();
        let draw = draw.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let position = usize::try_from(draw % self.examples.len() as u64).unwrap_or_default();
        &self.examples[position]
    }
}
