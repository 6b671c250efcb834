//! Runs that are through: each gets the status that a finished run has, word for word as the operator writes it, so that what is measured beside them
//! is what finished runs cost. Nobody has worked on them: their Jobs are gone, as they are after `ttl.afterSucceeded`, and so are their batches.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use sera_crds::SpecializationRun;
use sera_crds::conditions::{self, ConditionType, Reason};
use sera_crds::run::PodRole;
use sera_crds::values::Stage;
use serde_json::{Map, Value, json};

use super::operator::{AT_ONCE, name_of};

/// The stages of such a run: when each began and ended, how many attempts it took, and its word in the end. The model is the second attempt's.
const STAGES: [(Stage, &str, &str, u32, &str); 5] = [
    (
        Stage::Snapshot,
        "2026-03-02T08:00:05Z",
        "2026-03-02T08:01:40Z",
        1,
        "5 commits are in the store, the newest 8f4c1d2a9b7e6053f1c2d3e4a5b6978812345678",
    ),
    (
        Stage::Generation,
        "2026-03-02T08:01:40Z",
        "2026-03-05T07:20:00Z",
        3,
        "12544 samples in 49 batches gave enough trajectories",
    ),
    (
        Stage::Dataset,
        "2026-03-05T07:20:00Z",
        "2026-03-05T07:31:10Z",
        1,
        "5000 first and 3000 second trajectories are in the store",
    ),
    (
        Stage::Training,
        "2026-03-05T07:31:10Z",
        "2026-03-05T19:02:05Z",
        2,
        "the model is in the store after 735 steps, the last one's loss 0.2871",
    ),
    (
        Stage::Evaluation,
        "2026-03-05T19:02:05Z",
        "2026-03-05T22:45:30Z",
        1,
        "Improved: over 187 tasks the student has 41.3 points of F1, its base 29.8 and its teacher 47.5",
    ),
];
/// When the last of them ended.
const ENDED: &str = STAGES[STAGES.len() - 1].2;
/// A digest of something.
const DIGEST: &str = "0f3a5c7e9b1d2f4068ac13579bdf02468ace13579bdf0f1e2d3c4b5a69788796";

/// Resumes so many runs that were held, and says of each that it is through; what came of it are their versions.
pub(super) async fn settle(api: &Api<SpecializationRun>, count: u32) -> Result<BTreeSet<String>> {
    stream::iter(0..count)
        .map(async |number| {
            let (name, parameters) = (name_of(number), PatchParams::default());
            let resumed = Patch::Merge(json!({"spec": {"suspend": false}}));
            let run = Box::pin(api.patch(&name, &parameters, &resumed)).await?;
            let through = Patch::Merge(json!({"status": status_of(&run)}));
            let run = Box::pin(api.patch_status(&name, &parameters, &through)).await?;
            run.resource_version().context("a run without a version")
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// How many of them were written since they had these versions. All must still be through, and nobody at work for them.
pub(super) async fn written_since(
    api: &Api<SpecializationRun>,
    jobs: &Api<Job>,
    versions: &BTreeSet<String>,
) -> Result<usize> {
    let runs = Box::pin(api.list(&ListParams::default())).await?.items;
    for run in &runs {
        let conditions = run.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
        let ready = conditions::get(conditions, ConditionType::Ready);
        ensure!(conditions::is_true(conditions, ConditionType::Ready), "{} is not ready: {ready:?}", run.name_any());
    }
    let at_work = jobs.list(&ListParams::default()).await?.items.len();
    ensure!(at_work == 0, "{at_work} Jobs were made for runs that are through");
    let is_new = |run: &&SpecializationRun| run.resource_version().is_none_or(|version| !versions.contains(&version));
    Ok(runs.iter().filter(is_new).count())
}

/// What the operator says of a run of the bench's spec when all of it is done.
fn status_of(run: &SpecializationRun) -> Value {
    let (uid, generation) = (run.uid().unwrap_or_default(), run.metadata.generation.unwrap_or_default());
    let store = format!("s3://acme-ml/sera/default/{}/{uid}", run.name_any());
    let stored = |what: &str| json!({"uri": format!("{store}/{what}"), "sha256": DIGEST});
    let mut snapshot = stored("snapshot/manifest.json");
    snapshot["commit"] = json!("8f4c1d2a9b7e6053f1c2d3e4a5b6978812345678");
    snapshot["commits"] = json!(5);
    let attempts: Map<String, Value> =
        STAGES.iter().map(|(stage, _, _, number, _)| (stage.to_string(), json!(number))).collect();
    let times = STAGES.map(|(stage, began, ended, ..)| json!({"stage": stage, "started": began, "finished": ended}));
    json!({
        "phase": "Succeeded",
        "observedGeneration": generation,
        "conditions": conditions_of(&store, generation),
        "lockedStages": [
            Stage::Snapshot, Stage::Generation, Stage::Rollouts, Stage::Dataset, Stage::Training, Stage::Evaluation,
        ],
        "attempts": attempts,
        "latestAttempts": STAGES.map(|stage| latest_attempt(stage, generation, &uid)),
        "progress": {"stage": Stage::Evaluation, "percent": 100},
        "generation": counts(),
        "training": {
            "step": 735, "totalSteps": 735, "loss": "0.2871", "attempt": 2, "learningRate": "5e-5", "warmupSteps": 48,
            "precision": "bf16",
        },
        "evaluation": {
            "student": {"mean": "0.413100", "low": "0.371900", "high": "0.454700"},
            "base": {"mean": "0.298000", "low": "0.259300", "high": "0.338200"},
            "teacher": {"mean": "0.475300", "low": "0.433500", "high": "0.516400"},
            "verdict": "Improved",
        },
        "artifacts": {
            "snapshot": snapshot,
            "dataset": stored("dataset/manifest.json"),
            "model": stored("model"),
            "report": stored("report/report.json"),
        },
        "images": images(),
        "stageTimes": times,
        "recentFailures": [{
            "stage": Stage::Training, "attempt": 1, "time": "2026-03-05T11:47:12Z", "reason": "Killed",
            "message": "rank 3 of 8 was lost in step 251: its pod was killed while the others waited for it",
        }],
        "store": store,
        "teacher": "GLM-4.6",
    })
}

/// What holds of it, in the order in which conditions are written.
fn conditions_of(store: &str, generation: i64) -> Vec<Value> {
    let done = format!("the model is in the store: {store}/model, evaluated as Improved");
    let sense = "the spec makes sense, and no stage has found otherwise";
    let whole = [
        (ConditionType::Ready, Reason::Succeeded, done.as_str(), ENDED),
        (ConditionType::Validated, Reason::SpecValid, sense, STAGES[0].1),
    ];
    let stages = STAGES.map(|(stage, _, ended, _, word)| (ConditionType::from(stage), Reason::Succeeded, word, ended));
    let holds = |(about, reason, message, since): (ConditionType, Reason, &str, &str)| {
        json!({
            "type": about, "status": "True", "reason": reason, "message": message, "observedGeneration": generation,
            "lastTransitionTime": since,
        })
    };
    whole.into_iter().chain(stages).map(holds).collect()
}

fn latest_attempt(
    (stage, began, ended, number, _): (Stage, &str, &str, u32, &str),
    generation: i64,
    job: &str,
) -> Value {
    let mut attempt = json!({
        "stage": stage, "number": number, "generation": generation, "recorded": began, "job": job, "failures": 0,
        "finished": ended, "outcome": "Succeeded",
    });
    // Attempts of this stage are dry runs of the dataset, which is asked for by a policy.
    if stage == Stage::Generation {
        attempt["inputs"] = json!(DIGEST);
    }
    attempt
}

/// What was counted: once as it is shown, and once as the batches counted it.
fn counts() -> Value {
    let totals = json!({
        "attempted": 12544, "accepted": 8000, "acceptedFirst": 5000, "acceptedSecond": 3000,
        "rejected": {
            "BelowThreshold": 5302, "NotSubmitted": 1911, "RefusedByReview": 1480, "EmptyPatch": 604, "TooLong": 377,
            "PatchTooLong": 290, "DuplicatePatch": 88, "HeldOut": 41,
        },
        "recallHistogram": [2210, 1190, 905, 820, 790, 760, 745, 720, 705, 1610], "recall": "0.452318",
        "tokens": 9_810_443_201_u64, "cachedTokens": 9_401_220_118_u64, "outputTokens": 96_388_007_u64,
    });
    let mut counts = totals.clone();
    counts["maxSamples"] = json!(160_000);
    counts["folded"] = json!({"through": 49, "samples": 12544, "policy": DIGEST, "totals": totals});
    counts["pausedSeconds"] = json!(0);
    counts["dryRun"] = json!({
        "inputs": DIGEST, "through": 49, "acceptedFirst": 5000, "acceptedSecond": 3000, "complete": true,
    });
    counts["forecast"] = json!({"samples": 12544, "finish": "2026-03-05T07:12:00Z"});
    counts
}

/// The images of its stages' pods, by their roles.
fn images() -> Map<String, Value> {
    let image = |(role, name): (PodRole, &str)| {
        (role.to_string(), json!(format!("ghcr.io/sera-dev/{name}:0.1.0@sha256:{DIGEST}")))
    };
    let all = [
        (PodRole::Snapshot, "sera-rollout"),
        (PodRole::Dataset, "sera-rollout"),
        (PodRole::Train, "sera-trainer"),
        (PodRole::Evaluate, "sera-rollout"),
    ];
    all.into_iter().map(image).collect()
}

#[cfg(test)]
mod tests {
    use sera_crds::run::{Phase, RunStatus};

    use super::super::operator::manifest;
    use super::*;

    /// Whether all of `part` is in `whole`, in its place.
    fn is_within(part: &Value, whole: &Value) -> bool {
        match (part, whole) {
            (Value::Object(part), Value::Object(whole)) => {
                part.iter().all(|(key, value)| whole.get(key).is_some_and(|whole| is_within(value, whole)))
            }
            (Value::Array(part), Value::Array(whole)) => {
                part.len() == whole.len() && part.iter().zip(whole).all(|(part, whole)| is_within(part, whole))
            }
            _ => part == whole,
        }
    }

    #[test]
    fn the_status_is_one_that_the_api_has_a_field_for_each_word_of() {
        let run: SpecializationRun = serde_json::from_value(manifest(7, false)).unwrap();
        let status = status_of(&run);
        let read: RunStatus = serde_json::from_value(status.clone()).unwrap();
        assert_eq!(read.phase, Some(Phase::Succeeded));
        let written = serde_json::to_value(&read).unwrap();
        assert!(is_within(&status, &written), "{status:#}\nis read and written as\n{written:#}");
    }

    #[test]
    fn every_stage_that_is_not_served_holds_and_has_its_attempts_and_times() {
        let run: SpecializationRun = serde_json::from_value(manifest(7, false)).unwrap();
        let read: RunStatus = serde_json::from_value(status_of(&run)).unwrap();
        for stage in Stage::OF_A_RUN.into_iter().filter(|stage| *stage != Stage::Serving) {
            assert!(conditions::is_true(&read.conditions, stage.into()), "{stage}");
            let latest = read.latest_attempts.iter().find(|attempt| attempt.stage == stage);
            assert_eq!(latest.map(|attempt| attempt.number), read.attempts.get(&stage).copied(), "{stage}");
            assert!(read.stage_times.iter().any(|time| time.stage == stage && time.finished.is_some()), "{stage}");
        }
    }
}
