//! A run whose store and student are in buckets of a real S3-compatible server with a certificate of its own: no pod shares a folder with another, and one
//! is lost on the way. Names are short: the server keeps an object's metadata in a file whose name has the object's in it, of 255 bytes at most.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sera_crds::SpecializationRun;
use sera_crds::conditions::ConditionType;
use sera_e2e::small_student::{self, TOKENIZER};
use sera_test_servers::{Conduct, S3Server};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ground::{Ground, is_true, status};
use super::training::{changes, delete_a_pod};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome; a_run_in_buckets_is_ready];

/// How long it may take in all on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(8);
/// How often the two lines are seen: long enough that a checkpoint arrives, and a pod is lost, before the end.
const EPOCHS: u32 = 60;

/// A run like examples/s3.yaml: a Secret for both buckets, and two pods that train.
fn in_buckets() -> Value {
    let secret = json!({"name": "s3"});
    let mut changes = changes(json!({
        "student": {"uri": "s3://sera/models/small", "credentialsSecretRef": secret},
        "epochs": EPOCHS, "nodes": 2, "learningRate": "1e-3", "checkpointEvery": "1s",
    }));
    changes["output"] = json!({"store": "s3://sera/runs", "credentialsSecretRef": secret});
    changes["pods"] = json!({"train": {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}}});
    changes
}

async fn a_run_in_buckets_is_ready(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(PATIENCE);
    let host = ground.space.cluster().await?.host_ip().context("pods cannot reach this machine")?;
    let server = S3Server::start_at(host, Conduct::OneAtATime, true)?;
    let keys: serde_json::Map<String, Value> =
        server.keys().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": keys});
    ground.space.apply(&secret.to_string()).await?;
    lay_student(&ground, &server.bucket().join("models/small")).await?;

    ground.apply_run("bucket", in_buckets()).await?;
    let folder = until_checkpointed(&ground, &server).await?;
    delete_a_pod(&ground).await?;
    let run = ground.until("bucket", |status| is_true(status, ConditionType::Ready)).await?;

    let said = status(&run)?;
    let training = said.training.as_ref().context("no word on the training")?;
    ensure!((training.step, training.total_steps, training.attempt) == (EPOCHS, EPOCHS, 2), "{training:?}");
    let artifacts = said.artifacts.as_ref().context("no artifacts")?;
    let (dataset, model) = (artifacts.dataset.as_ref().context("no dataset")?, artifacts.model.as_ref());
    let model = model.context("no model")?;
    ensure!(dataset.uri.starts_with("s3://sera/runs/") && model.uri.starts_with("s3://sera/runs/"), "{model:?}");
    let manifest = tokio::fs::read(folder.join("model/manifest.json")).await?;
    ensure!(hex::encode(Sha256::digest(&manifest)) == model.sha256.to_string(), "the manifest's digest is another one");
    for file in ["model/model.safetensors", "model/tokenizer.json", "adapter/adapter_model.safetensors", "losses.jsonl"]
    {
        ensure!(folder.join(file).is_file(), "no {file} in the bucket");
    }
    let lines = tokio::fs::read_to_string(folder.join("losses.jsonl")).await?;
    ensure!(lines.lines().count() == EPOCHS as usize, "{} steps are in the losses", lines.lines().count());
    ensure!(folder.join("checkpoints/a2").is_dir(), "the second attempt has no checkpoint of its own");
    Ok(())
}

/// Puts the small student into a bucket's folder, with the tokenizer that the images have.
async fn lay_student(ground: &Ground, folder: &Path) -> Result<()> {
    tokio::fs::create_dir_all(folder).await?;
    for (name, content) in small_student::files()? {
        tokio::fs::write(folder.join(name), content).await?;
    }
    let script =
        format!("cd /opt/sera/students/tiny; for file in {}; do base64 -w0 $file; echo; done", TOKENIZER.join(" "));
    let seen = ground.in_store("tokenizer", &script).await?;
    for (name, line) in TOKENIZER.iter().zip(seen.lines()) {
        tokio::fs::write(folder.join(name), STANDARD.decode(line.trim())?).await?;
    }
    Ok(())
}

/// Waits until the first attempt has a complete checkpoint in the bucket; returns the run's folder there. The bucket is watched, and not the status, which
/// tells of a step seconds later: a quick machine is through by then.
async fn until_checkpointed(ground: &Ground, server: &S3Server) -> Result<PathBuf> {
    let run = ground.space.api::<SpecializationRun>().get("bucket").await?;
    let uid = run.metadata.uid.context("a run without a uid")?;
    let folder = server.bucket().join("runs").join(&ground.space.namespace).join("bucket").join(uid);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let mut found = tokio::fs::read_dir(folder.join("checkpoints/a1")).await.ok();
        while let Some(entries) = &mut found {
            let Some(entry) = entries.next_entry().await? else { break };
            if entry.path().join("manifest.json").is_file() {
                return Ok(folder);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no checkpoint came to {}", folder.display())
}
