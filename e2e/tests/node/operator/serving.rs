//! What a student that the operator serves answers, and what becomes of its pods when the run is held, or nobody wants it any more.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams};
use sera_crds::SpecializationRun;
use sera_crds::conditions::ConditionType;
use sera_crds::run::Phase;
use serde_json::{Value, json};

use super::ground::{Ground, is_true, reason, status};

/// The label that the pods of a student have.
const OF_A_STUDENT: &str = "sera.dev/student";

/// Has the student answer a chat, through the API server, as `kubectl` could.
pub(super) async fn answers(ground: &Ground, run: &SpecializationRun) -> Result<()> {
    let said = status(run)?.serving.clone().context("nothing is said of where it is served")?;
    ensure!((said.replicas, said.ready_replicas, said.model.as_str()) == (1, 1, "billing"), "{said:?}");
    let service = said.url.strip_prefix("http://").and_then(|url| url.split('.').next()).context("no host")?;
    let path =
        format!("/api/v1/namespaces/{}/services/{service}:8000/proxy/v1/chat/completions", ground.space.namespace);
    let body = json!({
        "model": said.model, "max_tokens": 8, "temperature": 0,
        "messages": [{"role": "user", "content": "What is a monad?"}],
    });
    let request =
        http::Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(&body)?)?;
    let answer: Value = ground.space.client().request(request).await.context("the student does not answer")?;
    ensure!(answer["usage"]["completion_tokens"] == 8, "{answer}");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    ensure!(!text.trim().is_empty(), "{answer}");
    Ok(())
}

/// A pod that is lost comes back, and the run has succeeded all the while.
pub(super) async fn comes_back(ground: &Ground) -> Result<()> {
    let pods = ground.space.api::<Pod>();
    let of_it = ListParams::default().labels(OF_A_STUDENT);
    let lost = pods.list(&of_it).await?.items.pop().and_then(|pod| pod.metadata.name).context("no pod serves it")?;
    pods.delete(&lost, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await?;
    let broken = ground.until("billing", |status| !is_true(status, ConditionType::Serving)).await?;
    ensure!(status(&broken)?.phase == Some(Phase::Succeeded), "{:?}", status(&broken)?.phase);
    let mended = ground.until("billing", |status| is_true(status, ConditionType::Ready)).await?;
    answers(ground, &mended).await
}

/// Holding the run takes its pods away, and resuming brings one back; what nobody wants goes whole.
pub(super) async fn goes_and_comes_as_its_owner_says(ground: &Ground) -> Result<()> {
    ground.change_run("billing", json!({"suspend": true})).await?;
    let held = ground.until("billing", |status| reason(status, ConditionType::Serving) == Some("Suspended")).await?;
    ensure!(status(&held)?.phase == Some(Phase::Succeeded), "a run that has its model is done, held or not");
    ground.until_no_pod(&ListParams::default().labels(OF_A_STUDENT)).await?;
    ground.change_run("billing", json!({"suspend": false})).await?;
    ground.until("billing", |status| is_true(status, ConditionType::Serving)).await?;
    ground.change_run("billing", json!({"serve": {"enabled": false}})).await?;
    ground.until("billing", |status| reason(status, ConditionType::Serving) == Some("Disabled")).await?;
    ground.until_none::<Deployment>().await?;
    let left = ground.space.api::<Service>().list(&ListParams::default().labels(OF_A_STUDENT)).await?.items.len();
    ensure!(left == 0, "its Service is left");
    Ok(())
}
