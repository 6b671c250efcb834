//! What a training reads before its first step: the student, the dataset, and what proves which they are.

use std::path::{Path, PathBuf};

use candle_core::Device;
use sera_crds::contract::{DatasetManifest, FileDigest, TrainingPlan};
use sha2::{Digest, Sha256};

use super::error::TrainingError;
use super::plan;
use crate::checkpoint::Origin;
use crate::data::{DataError, Dataset, Limits, Renderer};
use crate::durable;
use crate::files::{self, ModelDir};

/// The file of lines to train on.
const TRAIN: &str = "train.jsonl";
/// The file of lines to watch the loss on.
const EVAL: &str = "eval.jsonl";
/// The dataset's manifest, where it was made by `sera-rollout dataset`.
const MANIFEST: &str = "manifest.json";

/// Where everything lies on this machine.
#[derive(Debug, Clone)]
pub struct Places {
    /// The student, as Hugging Face lays a model out.
    pub student: PathBuf,
    /// What an adapter says that it belongs to.
    pub base: String,
    /// `train.jsonl`, and `eval.jsonl` and `manifest.json` where there are such.
    pub dataset: PathBuf,
    /// Where tokens are kept for the next start; none: nowhere.
    pub cache: Option<PathBuf>,
}

/// What was read.
#[derive(Debug)]
pub struct Inputs {
    /// The student's files.
    pub student: ModelDir,
    /// What an adapter says that it belongs to.
    pub base_name: String,
    /// Its template and tokenizer.
    pub renderer: Renderer,
    /// The token with which the student learns to end its turns.
    pub turn_end: Option<u32>,
    /// The lines to train on.
    pub train: Dataset,
    /// The lines to watch the loss on.
    pub eval: Option<Dataset>,
    /// Whether a rehearsal teacher made any of them.
    pub rehearsal: bool,
    /// The sha256 that the dataset is known by.
    pub dataset: String,
    /// The digests of the student's files.
    pub base: Vec<FileDigest>,
    /// What checkpoints belong to.
    pub origin: Origin,
}

impl Inputs {
    /// Reads everything; the same on every rank.
    pub fn read(places: &Places, plan: &TrainingPlan, device: &Device) -> Result<Self, TrainingError> {
        let student = ModelDir::open(&places.student)?;
        let renderer = Renderer::load(&places.student)
            .map_err(|source| TrainingError::Chat { folder: places.student.clone(), source })?;
        // It is added to what these files say when the student is published: what cannot be read is refused now, and not when the work is done.
        files::generation(&places.student, |name| std::fs::read(places.student.join(name)))?;
        let turn_end = renderer.turn_end();
        let limits = Limits { context: plan.context_length, vocabulary: student.config().vocabulary };
        let read = |name: &str| Dataset::read(&places.dataset.join(name), &renderer, limits, places.cache.as_deref());
        let train = read(TRAIN)?;
        let eval = Watched::of(read(EVAL))?;
        let (dataset, rehearsal) = identity(&places.dataset, &train, &eval)?;
        let eval = eval.lines();
        let base = student.digests()?;
        let plan = plan::digest(plan, device)
            .map_err(|error| TrainingError::Read { path: PathBuf::from("the plan"), problem: error.to_string() })?;
        let origin = Origin { plan, model: digest_of(&base), dataset: dataset.clone() };
        let base_name = places.base.clone();
        Ok(Self { student, base_name, renderer, turn_end, train, eval, rehearsal, dataset, base, origin })
    }

    /// Lines that are left out because they are too long, to train on or to watch.
    pub fn too_long(&self) -> u64 {
        self.train.too_long + self.eval.as_ref().map_or(0, |eval| eval.too_long)
    }
}

/// The lines to watch the loss on, as they were found.
enum Watched {
    /// There are none.
    Absent,
    /// All of them are too long.
    TooLong,
    /// These.
    Lines(Dataset),
}

impl Watched {
    fn of(read: Result<Dataset, DataError>) -> Result<Self, DataError> {
        match read {
            Err(DataError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(Self::Absent),
            Err(DataError::Empty { .. }) => Ok(Self::Absent),
            Err(error @ DataError::AllTooLong { .. }) => {
                tracing::warn!("no evaluation loss is looked at: {error}");
                Ok(Self::TooLong)
            }
            lines => lines.map(Self::Lines),
        }
    }

    fn lines(self) -> Option<Dataset> {
        match self {
            Self::Lines(lines) => Some(lines),
            Self::Absent | Self::TooLong => None,
        }
    }
}

/// What the dataset is known by, and whether it is a rehearsal's: its manifest, which has to be that of these files, or its lines.
fn identity(folder: &Path, train: &Dataset, eval: &Watched) -> Result<(String, bool), TrainingError> {
    let path = folder.join(MANIFEST);
    let content = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((train.sha256.clone(), false)),
        content => content.map_err(|error| TrainingError::Read { path: path.clone(), problem: error.to_string() })?,
    };
    let refused = |problem: String| TrainingError::DatasetManifest { path: path.clone(), problem };
    let manifest: DatasetManifest = serde_json::from_slice(&content)
        .map_err(|error| refused(format!("it is not the manifest of a dataset: {error}")))?;
    let mut named = vec![(TRAIN, &manifest.train, train)];
    match eval {
        Watched::Lines(eval) => named.push((EVAL, &manifest.eval, eval)),
        Watched::Absent if manifest.eval_lines > 0 => {
            let lines = manifest.eval_lines;
            return Err(refused(format!(
                "{EVAL}, of which it names {lines} lines, has none: copy the whole folder again"
            )));
        }
        Watched::Absent | Watched::TooLong => {}
    }
    for (name, expected, found) in named {
        if expected.sha256 != found.sha256 {
            return Err(refused(format!(
                "{name} is not the file that it names (its sha256 is {}): copy the whole folder again",
                found.sha256
            )));
        }
    }
    let digest = durable::digest(&path)
        .map_err(|error| TrainingError::Read { path: path.clone(), problem: error.to_string() })?;
    Ok((digest.sha256, manifest.rehearsal))
}

/// One digest for several files: that of what `sha256sum` prints of them.
fn digest_of(files: &[FileDigest]) -> String {
    let lines: String = files.iter().map(|file| format!("{}  {}\n", file.sha256, file.name)).collect();
    hex::encode(Sha256::digest(lines))
}
