//! Pages as people see them, of statuses as the operator writes them.

use serde_json::{Value, json};

use super::*;
use crate::plugin::testing;

fn run(status: &Value) -> Object {
    Object::Run(Box::new(testing::run(status)))
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn told(object: &Object) -> String {
    page(object, "2026-01-01T04:00:00Z".parse().unwrap())
}

#[test]
fn a_run_at_work_tells_its_stage_its_yield_its_money_and_its_forecast() {
    let said = told(&run(&json!({
        "phase": "Running", "observedGeneration": 3, "teacher": "GLM-4.6", "store": "s3://acme/sera/runs/ml/billing/u",
        "conditions": [
            condition("Reconciling", "True", "Progressing", "batches are at work"),
            condition("Snapshotted", "True", "Succeeded", "597 functions of commit 3f2c9a1"),
            condition("Generated", "False", "Progressing", "517 of 8000 trajectories"),
        ],
        "progress": {"stage": "Generation", "percent": 6, "eta": "2026-01-02T14:05:10Z"},
        "stageTimes": [
            {"stage": "Snapshot", "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:12Z"},
            {"stage": "Generation", "started": "2026-01-01T00:00:13Z"},
        ],
        "attempts": {"Snapshot": 2},
        "generation": {
            "attempted": 812, "accepted": 517, "acceptedFirst": 312, "acceptedSecond": 205, "recall": "0.61",
            "rejected": {"BelowThreshold": 1200, "Duplicate": 31}, "tokens": 12_400_000, "outputTokens": 400_000,
            "cachedTokens": 10_920_000, "cost": "41.2", "maxSamples": 24000,
            "batches": [{"number": 13, "from": 768, "count": 64}, {"number": 14, "from": 832, "count": 64}],
            "forecast": {"samples": 12560, "cost": "637.3", "finish": "2026-01-02T14:05:10Z"},
        },
        "artifacts": {"snapshot": {"uri": "s3://acme/x/manifest.json", "sha256": "0".repeat(64), "commit": "3f2c9a1", "commits": 1}},
    })));
    assert_eq!(
        said,
        "run billing in ml: Running\n\
         Generation is 6 % done, done about 2026-01-02 14:05 UTC\n\
         \n  \
           ✓ Snapshot            12 s   attempt 2: 597 functions of commit 3f2c9a1\n  \
           ▸ Generation    3 h 59 min   517 of 8000 trajectories\n\
         \n\
         samples     812 made of at most 24,000; at this pace 12,560 samples, 637.3 USD, until 2026-01-02 14:05 UTC\n\
         accepted    517 of 8,000 trajectories: 312 first rollouts, 205 second ones; mean recall 0.61\n\
         rejected    1,200 BelowThreshold, 31 Duplicate\n\
         batches     at work: 13 (64 samples), 14 (64 samples)\n\
         teacher     GLM-4.6, 12,000,000 tokens read (91 % of them cached), 400,000 written, 41.2 of 200 USD\n\
         store       s3://acme/sera/runs/ml/billing/u\n\
         snapshot    s3://acme/x/manifest.json (commit 3f2c9a1)\n"
    );
}

#[test]
fn a_run_that_cannot_go_on_says_why_what_failed_and_what_to_type() {
    let said = told(&run(&json!({
        "phase": "Stalled", "observedGeneration": 3,
        "conditions": [
            condition("Stalled", "True", "OutOfMemory", "spec.pods.train.resources.limits.memory: raise it"),
            condition("Trained", "False", "OutOfMemory", "spec.pods.train.resources.limits.memory: raise it"),
        ],
        "stageTimes": [{"stage": "Training", "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:40:00Z"}],
        "attempts": {"Training": 1},
        "recentFailures": [{
            "stage": "Training", "attempt": 1, "time": "2026-01-01T03:57:00Z", "reason": "OutOfMemory",
            "field": "spec.pods.train.resources.limits.memory", "message": "it was killed at 24Mi: raise it",
        }],
    })));
    for line in [
        "run billing in ml: Stalled\nOutOfMemory: spec.pods.train.resources.limits.memory: raise it\n",
        "  ✗ Training          40 min   spec.pods.train",
        "What failed last:\n  Training, attempt 1, 3 min ago: OutOfMemory: spec.pods.train.resources.limits.memory: it was killed",
        "It goes on by itself when that is put right; `kubectl sera retry billing` has it look at once.\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
}

#[test]
fn a_run_that_is_done_tells_its_scores_and_where_everything_is() {
    let artifact = |name: &str| json!({"uri": format!("s3://acme/{name}"), "sha256": "0".repeat(64)});
    let score = |mean: &str| json!({"mean": mean, "low": "0.1", "high": "0.9"});
    let said = told(&run(&json!({
        "phase": "Succeeded", "observedGeneration": 3,
        "training": {"step": 800, "totalSteps": 800, "loss": "0.4312", "attempt": 1, "learningRate": "0.00001"},
        "evaluation": {"student": score("0.52"), "base": score("0.31"), "verdict": "Improved"},
        "serving": {"url": "http://billing.ml:8000/v1", "model": "billing", "replicas": 2, "readyReplicas": 1},
        "artifacts": {"dataset": artifact("dataset"), "model": artifact("model"), "report": artifact("report")},
    })));
    for line in [
        "training    step 800 of 800, loss 0.4312, learning rate 0.00001\n",
        "evaluation  student 0.52 [0.1, 0.9], base 0.31 [0.1, 0.9]: Improved\n",
        "serving     http://billing.ml:8000/v1 as billing, 1 of 2 copies answer\n",
        "dataset     s3://acme/dataset\nmodel       s3://acme/model\nreport      s3://acme/report\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
}

#[test]
fn what_the_operator_has_not_looked_at_is_told_so() {
    let new = run(&Value::Null);
    assert!(told(&new).starts_with("run billing in ml: not looked at by the operator yet\n"));
    let changed = run(&json!({"phase": "Running", "observedGeneration": 2}));
    assert!(told(&changed).contains("its spec was changed, and the operator has not looked at it since\n"));
}

#[test]
fn a_batch_tells_its_own_stages_and_is_named_with_its_kind_where_something_is_to_be_typed() {
    let object = json!({
        "apiVersion": "sera.dev/v1alpha1", "kind": "RolloutBatch",
        "metadata": {"name": "trial", "namespace": "ml", "generation": 1},
        "spec": {
            "source": {"git": {"url": "https://example.org/a.git"}}, "teacher": {"rehearsal": {}}, "generation": {},
            "samples": {"count": 4}, "output": {"store": "s3://acme/sera"},
        },
        "status": {
            "phase": "Suspended", "observedGeneration": 1,
            "conditions": [condition("Verified", "False", "Suspended", "held"), condition("Snapshotted", "True", "Succeeded", "")],
        },
    });
    let said = told(&Object::Batch(Box::new(serde_json::from_value(object).unwrap())));
    assert!(said.starts_with("batch trial in ml: Suspended\n"), "{said}");
    assert!(said.contains("  ✓ Snapshot") && said.contains("  · Verification") && !said.contains("Training"), "{said}");
    assert!(said.ends_with("`kubectl sera resume batch/trial` has it go on.\n"), "{said}");
}
