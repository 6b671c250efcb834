//! The termination message: what a stage's program tells the operator in its last breath (Kubernetes keeps up to 4,096
//! bytes of it in the pod's status). The truth is in the store; a lost message is had again by running the stage again,
//! which finds its own manifest.

use serde::{Deserialize, Serialize};

use super::{CONTRACT_VERSION, Interval, VerificationCounts};
use crate::values::Verdict;

/// What Kubernetes keeps of a termination message, in bytes.
const MAX_BYTES: usize = 4096;
/// What we let the free text of a failure take, in bytes, so that the whole always fits and stays JSON.
const MAX_MESSAGE_BYTES: usize = 1024;

/// A termination message, versioned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    /// [`CONTRACT_VERSION`] of the program that wrote it.
    pub version: u32,
    /// How the stage ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The stage's manifest is in the store.
    Succeeded(StageResult),
    /// It is not, and this is why.
    Failed(Failure),
}

/// What a finished stage reports: what the operator needs for status, never a list of samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum StageResult {
    /// The snapshot stage.
    Snapshot {
        /// The snapshot's manifest.
        manifest: Artifact,
        /// The newest of the source's commits that were taken (hexadecimal object id).
        commit: String,
        /// How many commits were taken.
        commits: u32,
        /// The bundle's size in bytes.
        bundle_bytes: u64,
    },
    /// Stages of an earlier run, taken over.
    Adoption {
        /// The snapshot's manifest.
        snapshot: Artifact,
        /// The newest of the source's commits that it has (hexadecimal object id).
        commit: String,
        /// How many commits it has.
        commits: u32,
        /// The batches of rollouts, where those were taken over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollouts: Option<AdoptedRollouts>,
        /// The dataset, where that was taken over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dataset: Option<AdoptedDataset>,
    },
    /// One shard of a batch's rollouts.
    Rollouts {
        /// The first sample of the shard, by its number in the run.
        first: u64,
        /// How many samples it has; all of them have an end now.
        count: u32,
    },
    /// The verification of a batch, or of all.
    Verification {
        /// The file of verdicts. Of all batches together their folder, and the sha256 of what `sha256sum` prints of their files.
        verdicts: Artifact,
        /// The digest of the policy that decided.
        policy: String,
        /// What was found.
        counts: VerificationCounts,
    },
    /// The dataset, or a dry run of it.
    Dataset {
        /// Its manifest; none in a dry run, and where the shares were not met.
        manifest: Option<Artifact>,
        /// First trajectories that the dataset has, or would have.
        accepted_first: u64,
        /// Second trajectories that it has, or would have.
        accepted_second: u64,
        /// Whether both shares of what was asked for are met.
        complete: bool,
    },
    /// A rank of the training. Rank 0 speaks for all of them; the others end with the same words.
    Training {
        /// The model's manifest.
        manifest: Artifact,
        /// How many optimizer steps it took.
        steps: u32,
        /// The mean loss a trained token of the last step.
        loss: f64,
        /// The same over the lines set aside, at the end; none without any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        eval_loss: Option<f64>,
        /// The highest learning rate that applied.
        learning_rate: f64,
        /// The warm-up that applied, in steps.
        warmup_steps: u32,
    },
    /// The evaluation.
    Evaluation {
        /// The report.
        report: Artifact,
        /// How many tasks there were.
        tasks: u64,
        /// The mean F1 of each model.
        student: Interval,
        /// See `student`.
        base: Interval,
        /// See `student`.
        teacher: Interval,
        /// What that says; none where training had seen what was asked, or there were no tasks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verdict: Option<Verdict>,
    },
    /// The deletion of all that an object has in its store.
    Reclaim {
        /// How many files this attempt deleted; those of earlier ones are not counted again.
        files: u64,
        /// Their size together, in bytes.
        bytes: u64,
    },
}

/// Batches of an earlier run, under the names that they have in this one: `<run>-1` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdoptedRollouts {
    /// How many batches.
    pub batches: u32,
    /// How many samples they have together, from sample 0 on without a gap.
    pub samples: u32,
}

/// A dataset of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdoptedDataset {
    /// Its manifest.
    pub manifest: Artifact,
    /// First trajectories that it has.
    pub accepted_first: u64,
    /// Second trajectories that it has.
    pub accepted_second: u64,
}

/// A file in the store and the digest that proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Where it lies, relative to the run's folder in the store: `snapshot/manifest.json`. What mounts a claim as
    /// `file://` and what calls it `pvc://` agree on this.
    pub path: String,
    /// Its sha256, in lower-case hexadecimal.
    pub sha256: String,
}

/// Why a stage failed, in words for its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Whose turn it is.
    pub class: FailureClass,
    /// A CamelCase word for conditions and events, such as `RevisionNotFound`.
    pub reason: String,
    /// The spec field that must change, where one can be named: `spec.source.git.revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// A sentence: what is wrong and what to do. Never a secret.
    pub message: String,
}

/// Whose turn it is after a failure; each class has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureClass {
    /// The user's: something given is wrong or missing.
    Configuration,
    /// Nobody's: something outside was not reachable; try again later.
    Unavailable,
    /// The user's: the store holds something else at the place where this stage writes.
    Conflict,
    /// Ours: this should not happen.
    Internal,
}

/// Why a termination message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TerminationError {
    /// The pod ended without one: killed, evicted, or an image that is not ours.
    #[error("the program left no termination message")]
    Empty,
    /// Not JSON, or not of this shape.
    #[error("the termination message is not one of ours: {0}")]
    Malformed(#[source] serde_json::Error),
    /// Written by a program of another release.
    #[error(
        "the termination message has version {found}, and this operator reads version {CONTRACT_VERSION}: use images of one release"
    )]
    Version {
        /// The version that was found.
        found: u32,
    },
}

impl Termination {
    /// The message of a stage that finished.
    pub fn succeeded(result: StageResult) -> Self {
        Self { version: CONTRACT_VERSION, outcome: Outcome::Succeeded(result) }
    }

    /// The message of a stage that failed; control characters become spaces, and a text too long for Kubernetes is cut
    /// at a character's end.
    pub fn failed(mut failure: Failure) -> Self {
        failure.message = failure.message.replace(char::is_control, " ");
        truncate(&mut failure.message, MAX_MESSAGE_BYTES);
        Self { version: CONTRACT_VERSION, outcome: Outcome::Failed(failure) }
    }

    /// The bytes for `terminationMessagePath`: one line of JSON.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        debug_assert!(json.len() <= MAX_BYTES, "a termination message of {} bytes would be cut", json.len());
        json
    }

    /// Reads what a pod's status carries.
    pub fn parse(message: &str) -> Result<Self, TerminationError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        if message.trim().is_empty() {
            return Err(TerminationError::Empty);
        }
        let Version { version } = serde_json::from_str(message).map_err(TerminationError::Malformed)?;
        if version != CONTRACT_VERSION {
            return Err(TerminationError::Version { found: version });
        }
        serde_json::from_str(message).map_err(TerminationError::Malformed)
    }
}

/// Cuts `text` to at most `limit` bytes, at a character's end, and says so.
fn truncate(text: &mut String, limit: usize) {
    const MARK: &str = " […]";
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit - MARK.len()));
        text.push_str(MARK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> StageResult {
        StageResult::Snapshot {
            manifest: Artifact { path: "snapshot/manifest.json".into(), sha256: "ab".repeat(32) },
            commit: "c0ffee".into(),
            commits: 5,
            bundle_bytes: 1234,
        }
    }

    fn failure(message: String) -> Failure {
        Failure {
            class: FailureClass::Configuration,
            reason: "RevisionNotFound".into(),
            field: Some("spec.source.git.revision".into()),
            message,
        }
    }

    #[test]
    fn both_outcomes_survive_the_way_through_a_pod() {
        for message in
            [Termination::succeeded(result()), Termination::failed(failure("no branch, tag or commit 'mian'".into()))]
        {
            assert_eq!(Termination::parse(&message.to_json()).unwrap(), message);
        }
    }

    #[test]
    fn the_longest_failure_fits_what_kubernetes_keeps_and_is_still_json() {
        for unit in ["\u{1}é", "\"", "\u{1}", "\n", "🦀"] {
            let message = Termination::failed(failure(unit.repeat(5000)));
            assert!(serde_json::to_string(&message).unwrap().len() <= MAX_BYTES);
            assert_eq!(Termination::parse(&message.to_json()).unwrap(), message);
        }
    }

    #[test]
    fn another_version_is_refused_by_number_even_when_its_shape_is_unknown() {
        let error = Termination::parse(r#"{"version":7,"verdict":"fine"}"#).unwrap_err();
        assert!(matches!(error, TerminationError::Version { found: 7 }), "{error}");
    }

    #[test]
    fn an_empty_message_and_a_foreign_one_are_told_apart() {
        assert!(matches!(Termination::parse(" \n"), Err(TerminationError::Empty)));
        assert!(matches!(Termination::parse("Killed"), Err(TerminationError::Malformed(_))));
    }
}
