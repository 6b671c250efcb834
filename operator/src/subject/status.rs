//! The two kinds' statuses as a plan's record, and back. Their fields have the same names and types, but for where a snapshot stands and for the
//! locks that only runs have.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as ApiCondition, Time};
use sera_crds::{
    conditions::MAX_MESSAGE_CHARS,
    contract::{Failure, FailureClass},
    run::{self, AttemptRecord, BatchRecord, FailureRecord, GenerationStatus, SnapshotArtifact},
    values::Stage,
};

use crate::plan::{
    conditions::{Condition, Conditions, Truth},
    record::{
        Attempt, AttemptEnd, AttemptOutcome, Batch, DryRun, Edition, Folded, Forecast, Generation, PastFailure, Paused,
        Slice, Snapshot, StageTime,
    },
};

/// Reads and writes the fields that both statuses have.
macro_rules! shared_fields {
    ($status:ty) => {
        impl super::status::SharedStatus for $status {
            fn read(&self) -> crate::plan::record::Record {
                crate::plan::record::Record {
                    observed_generation: self.observed_generation,
                    phase: self.phase,
                    conditions: super::status::conditions(&self.conditions),
                    attempts: super::status::attempts(&self.latest_attempts, &self.recent_failures),
                    retry: self.observed_retry.clone().unwrap_or_default(),
                    generation: self.generation.as_ref().map(super::status::generation),
                    times: super::status::times(&self.stage_times),
                    failures: super::status::failures(&self.recent_failures),
                    images: self.images.clone(),
                    progress: self.progress.as_ref().map(|progress| (progress.stage, progress.percent)),
                    eta: self.progress.as_ref().and_then(|progress| progress.eta.as_ref()).map(|eta| eta.0),
                    store: self.store.clone(),
                    teacher: self.teacher.clone(),
                    ..crate::plan::record::Record::default()
                }
            }

            fn write(&mut self, record: &crate::plan::record::Record) {
                self.observed_generation = record.observed_generation;
                self.phase = record.phase;
                self.conditions = super::status::api_conditions(&record.conditions);
                self.attempts = record.attempts.iter().map(|(stage, attempt)| (*stage, attempt.number)).collect();
                self.latest_attempts = super::status::attempt_records(&record.attempts);
                self.observed_retry = Some(record.retry.clone()).filter(|retry| !retry.is_empty());
                if let Some(generation) = &record.generation {
                    self.generation = Some(super::status::api_generation(generation));
                }
                self.stage_times = super::status::api_times(&record.times);
                self.recent_failures = super::status::failure_records(&record.failures);
                self.images.clone_from(&record.images);
                self.progress = super::status::api_progress(record);
                self.store.clone_from(&record.store);
                self.teacher.clone_from(&record.teacher);
            }
        }
    };
}
pub(super) use shared_fields;

use crate::plan::record::Record;

/// What both statuses can be asked and told.
pub(super) trait SharedStatus {
    /// What they remember.
    fn read(&self) -> Record;
    /// Has them say `record`.
    fn write(&mut self, record: &Record);
}

pub(super) fn conditions(conditions: &[ApiCondition]) -> Conditions {
    let known = conditions.iter().filter_map(|condition| {
        let truth = match condition.status.as_str() {
            "True" => Truth::True,
            "False" => Truth::False,
            _ => Truth::Unknown,
        };
        let read = Condition {
            truth,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            generation: condition.observed_generation.unwrap_or_default(),
            since: condition.last_transition_time.0,
        };
        Some((condition.type_.parse().ok()?, read))
    });
    known.collect()
}

pub(super) fn api_conditions(conditions: &Conditions) -> Vec<ApiCondition> {
    let written = conditions.iter().map(|(kind, condition)| ApiCondition {
        type_: kind.to_string(),
        status: match condition.truth {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
        .to_owned(),
        reason: condition.reason.clone(),
        message: cut(&condition.message, MAX_MESSAGE_CHARS),
        observed_generation: Some(condition.generation),
        last_transition_time: Time(condition.since),
    });
    written.collect()
}

/// The attempts, their failures' words taken from the list of failures, where every failure stands once.
pub(super) fn attempts(records: &[AttemptRecord], failures: &[FailureRecord]) -> BTreeMap<Stage, Attempt> {
    let attempt = |record: &AttemptRecord| Attempt {
        number: record.number,
        edition: Edition { own: record.generation, runs: record.run_generation },
        recorded: record.recorded.0,
        job: record.job.as_deref().map(Into::into),
        inputs: record.inputs.clone(),
        failures: record.failures,
        end: record.finished.as_ref().zip(record.outcome).map(|(at, outcome)| AttemptEnd {
            at: at.0,
            outcome: match outcome {
                run::AttemptOutcome::Succeeded => AttemptOutcome::Succeeded,
                run::AttemptOutcome::Failed => AttemptOutcome::Failed(failure(record, failures)),
                run::AttemptOutcome::Lost => AttemptOutcome::Lost,
                run::AttemptOutcome::Withdrawn => AttemptOutcome::Withdrawn,
                run::AttemptOutcome::Disrupted => AttemptOutcome::Disrupted,
            },
        }),
    };
    records.iter().map(|record| (record.stage, attempt(record))).collect()
}

fn failure(record: &AttemptRecord, failures: &[FailureRecord]) -> Failure {
    let class = record.failure_class.unwrap_or(FailureClass::Internal);
    let said = failures.iter().find(|said| said.stage == record.stage && said.attempt == record.number);
    said.map_or_else(
        || Failure { class, reason: "Unknown".to_owned(), field: None, message: "what was said is lost".to_owned() },
        |said| Failure { class, reason: said.reason.clone(), field: said.field.clone(), message: said.message.clone() },
    )
}

pub(super) fn attempt_records(attempts: &BTreeMap<Stage, Attempt>) -> Vec<AttemptRecord> {
    let record = |(stage, attempt): (&Stage, &Attempt)| AttemptRecord {
        stage: *stage,
        number: attempt.number,
        generation: attempt.edition.own,
        run_generation: attempt.edition.runs,
        recorded: Time(attempt.recorded),
        job: attempt.job.as_ref().map(ToString::to_string),
        inputs: attempt.inputs.clone(),
        failures: attempt.failures,
        finished: attempt.end.as_ref().map(|end| Time(end.at)),
        outcome: attempt.end.as_ref().map(|end| match end.outcome {
            AttemptOutcome::Succeeded => run::AttemptOutcome::Succeeded,
            AttemptOutcome::Failed(_) => run::AttemptOutcome::Failed,
            AttemptOutcome::Lost => run::AttemptOutcome::Lost,
            AttemptOutcome::Withdrawn => run::AttemptOutcome::Withdrawn,
            AttemptOutcome::Disrupted => run::AttemptOutcome::Disrupted,
        }),
        failure_class: attempt.failure().map(|failure| failure.class),
    };
    attempts.iter().map(record).collect()
}

pub(super) fn failures(records: &[FailureRecord]) -> Vec<PastFailure> {
    let failure = |record: &FailureRecord| PastFailure {
        stage: record.stage,
        attempt: record.attempt,
        at: record.time.0,
        failure: Failure {
            // Whose turn it was is a matter of the latest attempt alone, which says so itself.
            class: FailureClass::Internal,
            reason: record.reason.clone(),
            field: record.field.clone(),
            message: record.message.clone(),
        },
    };
    records.iter().map(failure).collect()
}

pub(super) fn failure_records(failures: &[PastFailure]) -> Vec<FailureRecord> {
    let record = |past: &PastFailure| FailureRecord {
        stage: past.stage,
        attempt: past.attempt,
        time: Time(past.at),
        reason: past.failure.reason.clone(),
        field: past.failure.field.as_deref().map(|field| cut(field, FailureRecord::MAX_FIELD_CHARS)),
        message: cut(&past.failure.message, FailureRecord::MAX_MESSAGE_CHARS),
    };
    failures.iter().map(record).collect()
}

pub(super) fn times(times: &[run::StageTime]) -> BTreeMap<Stage, StageTime> {
    let time =
        |time: &run::StageTime| StageTime { began: time.started.0, ended: time.finished.as_ref().map(|time| time.0) };
    times.iter().map(|entry| (entry.stage, time(entry))).collect()
}

pub(super) fn api_times(times: &BTreeMap<Stage, StageTime>) -> Vec<run::StageTime> {
    let time = |(stage, time): (&Stage, &StageTime)| run::StageTime {
        stage: *stage,
        started: Time(time.began),
        finished: time.ended.map(Time),
    };
    times.iter().map(time).collect()
}

/// The stage at work, how far it is and when it will be done.
pub(super) fn api_progress(record: &Record) -> Option<run::Progress> {
    let (stage, percent) = record.progress?;
    Some(run::Progress { stage, percent, eta: record.eta.map(Time) })
}

pub(super) fn generation(status: &GenerationStatus) -> Generation {
    let run::Folded { through, samples, adopted, policy, totals } = status.folded.clone().unwrap_or_default();
    Generation {
        totals: status.totals.clone(),
        max_samples: status.max_samples,
        folded: Folded { through, samples, adopted, policy, totals },
        batches: status.batches.iter().map(batch).collect(),
        paused: Paused { seconds: status.paused_seconds, since: status.paused_since.as_ref().map(|time| time.0) },
        forecast: status.forecast.as_ref().and_then(|forecast| {
            let run::Forecast { samples, cost, finish } = forecast.clone();
            Some(Forecast { samples: samples?, cost, finish: finish.map(|time| time.0) })
        }),
        dry_run: status.dry_run.clone().map(
            |run::DryRun { inputs, through, accepted_first, accepted_second, complete }| DryRun {
                inputs,
                through,
                accepted_first,
                accepted_second,
                complete,
            },
        ),
    }
}

pub(super) fn api_generation(generation: &Generation) -> GenerationStatus {
    let Folded { through, samples, adopted, policy, totals } = generation.folded.clone();
    GenerationStatus {
        totals: generation.totals.clone(),
        max_samples: generation.max_samples,
        folded: (through > 0).then_some(run::Folded { through, samples, adopted, policy, totals }),
        batches: generation.batches.iter().map(batch_record).collect(),
        paused_seconds: generation.paused.seconds,
        paused_since: generation.paused.since.map(Time),
        dry_run: generation.dry_run.clone().map(
            |DryRun { inputs, through, accepted_first, accepted_second, complete }| run::DryRun {
                inputs,
                through,
                accepted_first,
                accepted_second,
                complete,
            },
        ),
        forecast: generation.forecast.clone().map(|Forecast { samples, cost, finish }| run::Forecast {
            samples: Some(samples),
            cost,
            finish: finish.map(Time),
        }),
    }
}

fn batch(record: &BatchRecord) -> Batch {
    let BatchRecord { number, from, count, uid, max_cost, max_tokens } = record.clone();
    Batch { number, from, count, uid: uid.map(Into::into), slice: Slice { max_cost, max_tokens } }
}

fn batch_record(batch: &Batch) -> BatchRecord {
    let Batch { number, from, count, uid, slice: Slice { max_cost, max_tokens } } = batch.clone();
    BatchRecord { number, from, count, uid: uid.map(|uid| uid.to_string()), max_cost, max_tokens }
}

pub(super) fn time(time: Timestamp) -> Time {
    Time(time)
}

pub(super) fn snapshot(artifact: &SnapshotArtifact) -> Snapshot {
    let SnapshotArtifact { uri, sha256, commit, commits } = artifact.clone();
    Snapshot { uri, sha256, commit, commits }
}

pub(super) fn artifact(snapshot: &Snapshot) -> SnapshotArtifact {
    let Snapshot { uri, sha256, commit, commits } = snapshot.clone();
    SnapshotArtifact { uri, sha256, commit, commits }
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}
