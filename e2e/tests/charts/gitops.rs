//! What Argo CD and Flux make of runs and batches: Argo CD's health script, in its own language, and kstatus' rules, over statuses that a real node's
//! operator wrote.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kube::CustomResourceExt;
use libtest_mimic::Trial;
use sera_crds::values::Stage;
use sera_crds::{RolloutBatch, SpecializationRun};
use serde::Deserialize;
use serde_json::Value;

use crate::Host;
use crate::house::{House, LUA};

mod install;

pub(crate) fn trials(host: &Host) -> Vec<Trial> {
    vec![
        host.trial("Argo CD's script says of every recorded status what docs/gitops.md says", argo),
        host.trial("kstatus makes of every recorded status what docs/gitops.md says", kstatus),
        host.trial("every phase is among the recorded statuses", phases),
        host.trial("every stage of a run and of a batch is among the recorded statuses", stages),
        host.trial("Flux's example waits for a kind of a version that is served, and not for hours on end", flux),
        host.trial("Argo CD's example installs both charts, with the operator let make the Lease", install::argo),
        host.trial("Flux's example installs both charts, the operator's after the other", install::flux),
    ]
}

/// A status as it was recorded, of an object of this generation, and what is to be made of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    it: String,
    kind: String,
    generation: i64,
    /// Whether the object was being deleted.
    #[serde(default)]
    going: bool,
    status: Value,
    argo: String,
    kstatus: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn recorded() -> Result<Vec<Recorded>> {
    Ok(serde_yaml::from_str(&fs::read_to_string(root().join("e2e/tests/charts/gitops/statuses.yaml"))?)?)
}

/// Has Lua run the example's script over the object, as Argo CD does; the script ends with a return.
async fn argo(_: &House) -> Result<()> {
    let config: Value = serde_yaml::from_str(&fs::read_to_string(root().join("docs/gitops/argocd-cm.yaml"))?)?;
    for Recorded { it, kind, generation, status, argo, .. } in recorded()? {
        let key = format!("resource.customizations.health.sera.dev_{kind}");
        let script = config["data"][&key].as_str().with_context(|| format!("no script for {kind}"))?;
        let status = literal(&status);
        let program = format!(
            "obj = {{metadata = {{generation = {generation}}}, status = {status}}}\n\
             local function health()\n{script}\nend\n\
             local said = health()\nassert(#said.message > 0)\nio.write(said.status)"
        );
        let output = Command::new(LUA.provides).arg("-e").arg(&program).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{it}: {complaint}");
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said == argo.as_str(), "{it}: the script says {said}, not {argo}");
    }
    Ok(())
}

/// A value as Lua writes it.
fn literal(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Null => text.push_str("nil"),
        Value::Object(fields) => {
            text.push('{');
            for (name, field) in fields {
                let _ = write!(text, "[{}] = {}, ", Value::from(name.as_str()), literal(field));
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('{');
            items.iter().for_each(|item| text.push_str(&(literal(item) + ", ")));
            text.push('}');
        }
        plain => text.push_str(&plain.to_string()),
    }
    text
}

/// The rules of kstatus for kinds that it does not know, in their order: deletion, generation, Reconciling, Stalled, Ready.
async fn kstatus(_: &House) -> Result<()> {
    for Recorded { it, generation, going, status, kstatus, .. } in recorded()? {
        let holds = |kind: &str, truth: &str| {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.filter(|condition| condition["type"] == kind).any(|condition| condition["status"] == truth)
        };
        let seen = status["observedGeneration"].as_i64();
        let made = match () {
            () if going => "Terminating",
            () if seen.is_some_and(|seen| seen != generation) || holds("Reconciling", "True") => "InProgress",
            () if holds("Stalled", "True") => "Failed",
            () if holds("Ready", "False") || holds("Ready", "Unknown") => "InProgress",
            () => "Current",
        };
        ensure!(made == kstatus, "{it}: kstatus makes {made} of it, not {kstatus}");
    }
    Ok(())
}

async fn phases(_: &House) -> Result<()> {
    let recorded = recorded()?;
    let seen: BTreeSet<&str> = recorded.iter().filter_map(|recorded| recorded.status["phase"].as_str()).collect();
    let all = BTreeSet::from(["Pending", "Running", "Suspended", "Stalled", "Failed", "Succeeded"]);
    ensure!(seen == all, "recorded are the phases {seen:?}");
    Ok(())
}

async fn stages(_: &House) -> Result<()> {
    let recorded = recorded()?;
    let of_a_batch = [Stage::Snapshot, Stage::Rollouts, Stage::Verification];
    for (kind, stages) in [("SpecializationRun", &Stage::OF_A_RUN[..]), ("RolloutBatch", &of_a_batch[..])] {
        let of_kind = recorded.iter().filter(|recorded| recorded.kind == kind);
        let seen: BTreeSet<&str> = of_kind.filter_map(|recorded| recorded.it.rsplit(", ").next()).collect();
        let unseen: Vec<_> =
            stages.iter().chain([&Stage::Reclaim]).filter(|stage| !seen.contains(stage.as_str())).collect();
        ensure!(unseen.is_empty(), "no status of a {kind} is recorded in {unseen:?}");
    }
    Ok(())
}

async fn flux(_: &House) -> Result<()> {
    let example: Value = serde_yaml::from_str(&fs::read_to_string(root().join("docs/gitops/flux.yaml"))?)?;
    ensure!(example["kind"] == "Kustomization", "it is {example}");
    let checks = example["spec"]["healthChecks"].as_array().context("there are health checks")?;
    ensure!(!checks.is_empty(), "it waits for nothing");
    let timeout = example["spec"]["timeout"].as_str().context("it says how long it waits")?;
    ensure!(timeout.ends_with('m'), "the next commit waits for {timeout}");
    for check in checks {
        let definitions = [SpecializationRun::crd(), RolloutBatch::crd()];
        let is_served = definitions.iter().any(|definition| {
            let versions = definition.spec.versions.iter().filter(|version| version.served);
            let mut names = versions.map(|version| format!("{}/{}", definition.spec.group, version.name));
            check["kind"] == definition.spec.names.kind && names.any(|name| check["apiVersion"] == name)
        });
        ensure!(is_served, "it waits for what is not served: {check}");
        ensure!(check["name"].is_string() && check["namespace"].is_string(), "it waits for nobody: {check}");
    }
    Ok(())
}
