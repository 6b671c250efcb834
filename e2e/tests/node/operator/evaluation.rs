//! A run whose student is compared with its base and its teacher: by the models themselves, beside the driver in one pod, on functions that were set aside.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use sera_crds::conditions::ConditionType;
use sera_crds::contract::{Contestant, EvaluationReport, TaskResult};
use sera_crds::values::Stage;
use serde_json::{Value, json};

use super::figures;
use super::ground::{Ground, is_true, made_for, merge, status};
use super::student::{STUDENT, lay_student};
use super::training::{TRAINING, changes, folder};
use crate::company::Company;
use crate::house::{Space, Test, phase, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    a_student_is_compared_on_functions_that_training_never_saw_whatever_becomes_of_its_pod,
];

async fn a_student_is_compared_on_functions_that_training_never_saw_whatever_becomes_of_its_pod(
    space: Space,
) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(TRAINING);
    lay_student(&ground).await?;
    ground.apply_run("compared", compared(4, 2)).await?;
    ground.until("compared", |status| status.attempts.contains_key(&Stage::Evaluation)).await?;
    // Its pod is lost once while it works; what it has made by then stays.
    lose_its_pod(&ground).await?;
    let run = ground.until("compared", |status| is_true(status, ConditionType::Ready)).await?;
    let said = status(&run)?;
    let evaluation = said.evaluation.as_ref().context("no word on the evaluation")?;
    ensure!(is_true(said, ConditionType::Evaluated) && said.locked_stages.contains(&Stage::Evaluation), "{said:?}");
    let artifact = said.artifacts.as_ref().and_then(|artifacts| artifacts.report.clone()).context("no report")?;
    let cat = |file: &str| format!("cd {} && cat report/{file}", folder(&ground, &run).unwrap_or_default());
    let report: EvaluationReport = serde_json::from_str(&ground.in_store("report", &cat("report.json")).await?)?;
    let digest = format!("cd {} && sha256sum report/report.json && ls report evaluation", folder(&ground, &run)?);
    let seen = ground.in_store("look", &digest).await?;
    ensure!(seen.contains(&artifact.sha256.to_string()) && seen.contains("index.html"), "{seen}");
    ensure!(report.rehearsal && report.tasks > 0 && report.contaminated == 0, "{report:?}");
    ensure!(report.verdict == evaluation.verdict && report.verdict.is_some(), "{report:?} {evaluation:?}");
    for model in Contestant::ALL {
        let result = report.models.get(&model).with_context(|| format!("nothing of the {model}"))?;
        ensure!(result.attempts == 2 * report.tasks, "{result:?}");
        ensure!(result.usage.calls > 0, "a model was asked: {result:?}");
    }
    ensure!(report.models[&Contestant::Teacher].submitted > 0.0, "{report:?}");
    let lines = ground.in_store("tasks", &cat("tasks.jsonl")).await?;
    let lines = lines.lines().map(serde_json::from_str::<TaskResult>).collect::<Result<Vec<_>, _>>()?;
    ensure!(lines.len() as u64 == report.tasks, "{lines:?}");
    ground.until_events("compared", &["EvaluationStarted", "EvaluationSucceeded"]).await?;
    figures::are_true(&ground, &run).await?;
    ground.until_none::<Deployment>().await.context("nobody asks the teacher any more")
}

/// A run of a small student that is evaluated by so many functions, each by so many attempts.
pub(super) fn compared(samples: u32, seeds: u32) -> Value {
    let mut spec = changes(json!({"student": {"uri": STUDENT}}));
    let compared = json!({
        "source": {"heldOutFraction": "0.3"},
        "teacher": {"sampling": {"maxOutputTokens": 512}, "price": figures::price()},
        "generation": {"agent": {"maxSteps": 12, "maxOutputTokens": 256}},
        "evaluation": {"enabled": true, "samples": samples, "seeds": seeds},
        "serve": {"engine": "builtin"},
    });
    merge(&mut spec, compared);
    spec
}

/// Deletes the pod of the evaluation as soon as it works.
async fn lose_its_pod(ground: &Ground) -> Result<()> {
    let pods = ground.space.api::<Pod>();
    for _ in 0..600 {
        let found = pods.list(&made_for(Stage::Evaluation)).await?.items;
        if let Some(pod) = found.iter().find(|pod| phase(Some(pod)) == "Running") {
            let at_once = DeleteParams::default().grace_period(0);
            pods.delete(&pod.name_any(), &at_once).await?;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("no pod of the evaluation was at work within two minutes")
}
