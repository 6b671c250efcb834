//! Writes the lines of a dataset, a few trajectories at a time, so that memory does not grow with their number: each is read, checked, written down in
//! the student's format and cut where verification has cut it.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use sera_crds::contract::{DatasetLine, FileDigest, Lineage, RolloutKind};

use super::candidates::Candidate;
use super::format;
use super::shape::Shape;
use super::student::Student;
use super::trajectories::{self, TrajectoryError};
use crate::failure::{Cause, Explain};
use crate::progress::Step;
use crate::store::{Digester, Store};

/// How many trajectories are in memory at once.
const AT_ONCE: usize = 16;
/// The width of a bin of the histogram of lengths, in tokens.
const LENGTH_BIN: u32 = 4096;

/// Why a line cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinesError {
    /// Its trajectory.
    #[error(transparent)]
    Trajectory(#[from] TrajectoryError),
    /// The trajectory is not the one that was verified.
    #[error(
        "sample {sample} ({rollout:?}) no longer becomes the line that was verified: {problem}; verify its batch again"
    )]
    Changed {
        /// The sample.
        sample: u64,
        /// The rollout.
        rollout: RolloutKind,
        /// How it differs.
        problem: String,
    },
    /// The file cannot be written.
    #[error("the lines cannot be written to the scratch folder: {0}")]
    Scratch(#[from] std::io::Error),
}

impl Explain for LinesError {
    fn explain(&self) -> Cause {
        match self {
            Self::Trajectory(error) => error.explain(),
            Self::Changed { .. } => Cause::conflict("TrajectoryDamaged"),
            Self::Scratch(_) => Cause::unavailable("ScratchUnavailable"),
        }
    }
}

/// What is counted while lines are written.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lineage: Vec<Lineage>,
    pub(super) bug_kinds: BTreeMap<String, u64>,
    pub(super) token_histogram: Vec<u64>,
    pub(super) kept_histogram: [u64; 10],
    pub(super) rehearsal: bool,
}

/// A line and where it is from.
struct Written {
    json: Vec<u8>,
    lineage: Lineage,
}

/// Writes a file of lines to `folder`.
pub(super) async fn write(
    store: &Store,
    student: &Arc<Student>,
    candidates: &[Candidate],
    file: &Path,
    tally: &mut Tally,
    step: &Step,
) -> Result<FileDigest, LinesError> {
    let mut output = Output::create(file)?;
    let mut lines = stream::iter(candidates)
        .map(|candidate| line(store, student, candidate))
        .buffered(AT_ONCE)
        .zip(stream::iter(candidates))
        .map(|(line, candidate)| line.map(|line| (line, candidate)));
    let mut done = 0;
    while let Some((line, candidate)) = lines.try_next().await? {
        output.line(&line.json)?;
        tally.count(line, candidate);
        done += 1;
        step.update("lines", done, candidates.len() as u64);
    }
    Ok(output.finish()?)
}

/// A file in the making, with its digest.
pub(super) struct Output {
    name: String,
    file: BufWriter<std::fs::File>,
    digester: Digester,
}

impl Output {
    pub(super) fn create(file: &Path) -> std::io::Result<Self> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, file: BufWriter::new(std::fs::File::create(file)?), digester: Digester::default() })
    }

    pub(super) fn line(&mut self, json: &[u8]) -> std::io::Result<()> {
        for piece in [json, b"\n"] {
            self.file.write_all(piece)?;
            self.digester.update(piece);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> std::io::Result<FileDigest> {
        self.file.flush()?;
        let digest = self.digester.finish();
        Ok(FileDigest { name: self.name, bytes: digest.bytes, sha256: digest.sha256 })
    }
}

impl Tally {
    fn count(&mut self, line: Written, candidate: &Candidate) {
        let kind = candidate.bug_kind.map_or_else(|| "PullRequest".to_owned(), |kind| kind.to_string());
        *self.bug_kinds.entry(kind).or_default() += 1;
        let length = usize::try_from(candidate.tokens / LENGTH_BIN).unwrap_or(usize::MAX);
        if self.token_histogram.len() <= length {
            self.token_histogram.resize(length + 1, 0);
        }
        self.token_histogram[length] += 1;
        let kept = candidate.kept.matched * 10 / candidate.kept.total.max(1);
        self.kept_histogram[usize::try_from(kept).unwrap_or(9).min(9)] += 1;
        self.rehearsal |= line.lineage.rehearsal;
        self.lineage.push(line.lineage);
    }
}

async fn line(store: &Store, student: &Arc<Student>, candidate: &Candidate) -> Result<Written, LinesError> {
    let Candidate { batch, sample, rollout, .. } = candidate;
    let changed = |problem: String| LinesError::Changed { sample: *sample, rollout: *rollout, problem };
    let record = trajectories::record(store, batch, *sample, *rollout).await?;
    let record = record.ok_or_else(|| changed("its record is missing".to_owned()))?;
    if record.patch.sha256 != candidate.patch_sha256 {
        return Err(changed("it has another patch".to_owned()));
    }
    let packed = trajectories::file(store, batch, &record, &record.trajectory).await?;
    let instance_id = format!("{batch}-{sample}-{}", rollout.stem());
    let (kept, all) = (candidate.kept.matched, candidate.kept.total);
    let lineage = Lineage {
        instance_id: instance_id.clone(),
        batch: batch.clone(),
        sample: *sample,
        rollout: *rollout,
        patch_sha256: record.patch.sha256.clone(),
        trajectory_sha256: record.trajectory.sha256.clone(),
        kept: (u32::try_from(kept).unwrap_or(u32::MAX), u32::try_from(all).unwrap_or(u32::MAX)),
        tokens: candidate.tokens,
        rehearsal: record.teacher.rehearsal,
    };
    let student = Arc::clone(student);
    let json = tokio::task::spawn_blocking(move || -> Result<Vec<u8>, LineProblem> {
        let trajectory = trajectories::unpack(&packed, &record)?;
        json(&trajectory, &student, instance_id, (kept, all)).map_err(LineProblem::Changed)
    });
    let json = json.await.map_err(|error| changed(error.to_string()))?.map_err(|problem| match problem {
        LineProblem::Trajectory(error) => LinesError::Trajectory(error),
        LineProblem::Changed(problem) => changed(problem),
    })?;
    Ok(Written { json, lineage })
}

/// Why a trajectory does not become its line.
enum LineProblem {
    Trajectory(TrajectoryError),
    Changed(String),
}

impl From<TrajectoryError> for LineProblem {
    fn from(error: TrajectoryError) -> Self {
        Self::Trajectory(error)
    }
}

/// A line as it stands in the file.
pub(super) fn json(
    trajectory: &sera_crds::contract::Trajectory,
    student: &Student,
    instance_id: String,
    (kept, all): (u64, u64),
) -> Result<Vec<u8>, String> {
    let shape = Shape::of(trajectory).map_err(|error| error.to_string())?;
    let formatted = format::format(&shape, student.policy().tool_call_format, &student.chat);
    let mut formatted = formatted.map_err(|error| error.to_string())?;
    if formatted.messages.len() as u64 != all {
        return Err(format!("it has {} messages and not {all}", formatted.messages.len()));
    }
    formatted.messages.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    let line = DatasetLine { instance_id, messages: formatted.messages, tool_json: formatted.tool_json };
    serde_json::to_vec(&line).map_err(|error| error.to_string())
}
