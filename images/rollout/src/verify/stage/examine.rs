//! One sample: what the store has of it, measured and judged. A file that is missing or damaged makes its trajectory missing, and is said in the log;
//! a store that fails ends the stage, since it may have the file the next time.

use std::sync::Arc;

use bytes::Bytes;
use sera_crds::contract::{
    CONTRACT_VERSION, Judgement, Measures, Policy, Rejection, RolloutKind, RolloutRecord, SampleOutcome, Trajectory,
    Usage, Verdict,
};

use super::VerificationError;
use super::judge::{Known, reason};
use crate::dataset::trajectories::{self, TrajectoryError};
use crate::dataset::{Student, StudentJudgement, student_judgement};
use crate::index::HeldOut;
use crate::store::Store;
use crate::verify::lines::is_blank;
use crate::verify::{Criterion, Refusal, decide, measure, patch_lines};

/// What samples are examined with.
pub(super) struct Examiner {
    pub(super) store: Store,
    pub(super) policy: Policy,
    pub(super) student: Option<Student>,
    pub(super) held_out: HeldOut,
}

/// A finished rollout and its patch.
struct Rollout {
    record: RolloutRecord,
    patch: Bytes,
}

impl Examiner {
    /// The verdict on a sample of a batch, before duplicates are looked for.
    pub(super) async fn verdict(self: Arc<Self>, batch: Arc<str>, sample: u64) -> Result<Verdict, VerificationError> {
        let (first, second, outcome) = futures::try_join!(
            self.rollout(&batch, sample, RolloutKind::First),
            self.rollout(&batch, sample, RolloutKind::Second),
            self.outcome(&batch, sample),
        )?;
        let patches = [&first, &second].map(|found| found.as_ref().map(|rollout| rollout.patch.clone()));
        let measures = blocking(move || measures(patches)).await?;
        let found = match (&first, &second) {
            (Some(first), Some(second)) => self.found(first, second, measures.as_ref()),
            _ => Err(Refusal::EmptyFirst),
        };
        let records = [&first, &second].map(|found| found.as_ref().map(|rollout| &rollout.record));
        let known = outcome.as_ref().map(|outcome| &outcome.function);
        let teachers = records.iter().flatten().map(|record| &record.teacher);
        let mut teachers = teachers.chain(outcome.as_ref().map(|outcome| &outcome.teacher));
        Ok(Verdict {
            sample,
            function: records.iter().flatten().map(|record| &record.function).next().or(known).cloned(),
            bug_kind: records[0].and_then(|record| record.bug_kind),
            rehearsal: teachers.any(|teacher| teacher.rehearsal),
            usage: outcome.as_ref().map_or_else(|| usage(&records), |outcome| outcome.usage),
            leaks: outcome.and_then(|outcome| outcome.pull_request).is_some_and(|pull_request| pull_request.leaks),
            // A first rollout needs the self-review only.
            first: self.clone().judgement(&batch, first, Ok(())).await?,
            second: self.judgement(&batch, second, found).await?,
            measures,
        })
    }

    /// A rollout, where it was finished and its files are whole.
    async fn rollout(
        &self,
        batch: &str,
        sample: u64,
        rollout: RolloutKind,
    ) -> Result<Option<Rollout>, VerificationError> {
        let record = trajectories::record(&self.store, batch, sample, rollout).await;
        let Some(record) = whole(record, sample, rollout)?.flatten() else { return Ok(None) };
        let patch = trajectories::file(&self.store, batch, &record, &record.patch).await;
        Ok(whole(patch, sample, rollout)?.map(|patch| Rollout { record, patch }))
    }

    /// The end of a sample, where it has one.
    async fn outcome(&self, batch: &str, sample: u64) -> Result<Option<SampleOutcome>, VerificationError> {
        let name = format!("rollouts/{batch}/{sample}/outcome.json");
        let Some(document) = self.store.read(&name).await? else { return Ok(None) };
        match serde_json::from_slice::<SampleOutcome>(&document) {
            Ok(outcome) if outcome.version == CONTRACT_VERSION => Ok(Some(outcome)),
            Ok(SampleOutcome { version, .. }) => {
                tracing::warn!(sample, file = name, "it is of version {version}, and not looked at");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(sample, file = name, "it is no outcome, and not looked at: {error}");
                Ok(None)
            }
        }
    }

    /// Whether a second rollout has found the first one's change.
    fn found(&self, first: &Rollout, second: &Rollout, measures: Option<&Measures>) -> Result<(), Refusal> {
        let criterion = Criterion { measure: self.policy.measure, threshold: self.policy.threshold.clone() };
        match measures {
            Some(measures) => decide(&first.patch, &second.patch, measures, &criterion),
            None if is_blank(&second.patch) => Err(Refusal::EmptySecond),
            None => Err(Refusal::EmptyFirst),
        }
    }

    /// What becomes of a trajectory. Its text is read only where nothing else speaks against it.
    async fn judgement(
        self: Arc<Self>,
        batch: &str,
        rollout: Option<Rollout>,
        found: Result<(), Refusal>,
    ) -> Result<Judgement, VerificationError> {
        let Some(Rollout { record, patch }) = rollout else { return Ok(missing()) };
        let known = Known {
            outcome: record.outcome,
            is_empty: is_blank(&patch),
            touches_held_out: self.touches_held_out(&record, &patch),
            found,
            patch_lines: patch_lines(&patch),
        };
        let mut judgement = Judgement {
            outcome: Some(record.outcome),
            rejected: reason(&known, &self.policy),
            patch_lines: Some(u32::try_from(known.patch_lines).unwrap_or(u32::MAX)),
            patch_sha256: Some(record.patch.sha256.clone()),
            ..missing()
        };
        if judgement.rejected.is_some() {
            return Ok(judgement);
        }
        let (sample, rollout) = (record.sample, record.rollout);
        let packed = trajectories::file(&self.store, batch, &record, &record.trajectory).await;
        let Some(packed) = whole(packed, sample, rollout)? else { return Ok(missing()) };
        let read =
            blocking(move || trajectories::unpack(&packed, &record).map(|trajectory| self.read(&trajectory))).await?;
        let Some(read) = whole(read, sample, rollout)? else { return Ok(missing()) };
        if let Some(detail) = &read.detail {
            tracing::debug!(sample, rollout = rollout.stem(), reason = ?read.rejected, "left out: {detail}");
        }
        judgement.rejected = read.rejected;
        judgement.mean_tool_tokens = read.mean_tool_tokens;
        judgement.tokens = read.tokens;
        judgement.kept = read.kept;
        judgement.sketch = read.sketch;
        Ok(judgement)
    }

    fn touches_held_out(&self, record: &RolloutRecord, patch: &[u8]) -> bool {
        // Paths that are no UTF-8 are in no index.
        self.held_out.touched(record.function.snapshot, &String::from_utf8_lossy(patch)).is_some()
    }

    fn read(&self, trajectory: &Trajectory) -> StudentJudgement {
        student_judgement(trajectory, self.policy.max_mean_tool_tokens, self.student.as_ref())
    }
}

/// Both measures, where both patches have something in them.
fn measures(patches: [Option<Bytes>; 2]) -> Option<Measures> {
    match patches {
        [Some(first), Some(second)] if !is_blank(&first) && !is_blank(&second) => Some(measure(&first, &second).0),
        _ => None,
    }
}

/// The judgement on what did not take place.
fn missing() -> Judgement {
    Judgement {
        outcome: None,
        rejected: Some(Rejection::Missing),
        patch_lines: None,
        patch_sha256: None,
        mean_tool_tokens: None,
        tokens: None,
        kept: None,
        sketch: None,
    }
}

/// What a sample without an end has taken so far, as far as its records tell.
fn usage(records: &[Option<&RolloutRecord>]) -> Usage {
    let mut usage = Usage::default();
    records.iter().flatten().for_each(|record| usage += record.usage);
    usage
}

/// Something that was read, or nothing where it is missing or damaged.
fn whole<T>(
    read: Result<T, TrajectoryError>,
    sample: u64,
    rollout: RolloutKind,
) -> Result<Option<T>, VerificationError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(TrajectoryError::Store(error)) => Err(error.into()),
        Err(error @ (TrajectoryError::Missing(_) | TrajectoryError::Damaged { .. })) => {
            tracing::warn!(sample, rollout = rollout.stem(), "counted as missing: {error}");
            Ok(None)
        }
    }
}

/// Runs what needs a processor and no store, so that files of other samples are read meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, VerificationError> {
    tokio::task::spawn_blocking(work).await.map_err(VerificationError::Panicked)
}
