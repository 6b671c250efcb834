//! Who owns what of a run that several apply server-side: a part of a section, such as `pods.train`, has one owner as a whole; sections, and what is
//! scaled, may have several.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    Asker,
    server::{Kind, Server},
};

/// The statements about owners.
pub(crate) fn trials(asker: &Asker) -> [Trial; 2] {
    let scaled = "run keeps the copies that one manager scales a teacher to, whatever another applies";
    let shared = "run has one owner of what is said about the pods of a role";
    [asker.trial("owners", scaled, scales), asker.trial("owners", shared, shares_roles)]
}

const KIND: Kind = Kind::SpecializationRun;

/// What a manager applies beside what every run says.
fn run(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun", "metadata": {"name": name}, "spec": spec})
}

/// A whole run, with `pods`.
fn whole(name: &str, pods: &Value) -> Value {
    run(
        name,
        &json!({
            "source": {"git": {"url": "https://github.com/acme/billing.git"}},
            "teacher": {"serve": {"engine": "vLLM", "model": {"uri": "pvc://models/teacher"}, "gpusPerReplica": 8}},
            "generation": {"acceptedTrajectories": 10},
            "training": {"student": {"uri": "pvc://models/student"}},
            "output": {"store": "s3://acme-ml/sera"},
            "pods": pods,
        }),
    )
}

async fn scales(server: &Server) -> Result<()> {
    let git = whole("scaled", &json!({}));
    applied(server, "git", &git).await?;
    applied(server, "scaler", &run("scaled", &json!({"teacher": {"serve": {"replicas": 3}}}))).await?;
    let run = applied(server, "git", &git).await?;
    ensure!(run["spec"]["teacher"]["serve"]["replicas"] == 3, "{}", run["spec"]["teacher"]);
    server.delete(KIND, &run).await
}

async fn shares_roles(server: &Server) -> Result<()> {
    applied(server, "git", &whole("shared", &json!({"train": {"queueName": "research"}}))).await?;
    let other = |pods: Value| run("shared", &json!({ "pods": pods }));
    let refused = server.apply_as("platform", KIND, &other(json!({"train": {"nodeSelector": {"zone": "a"}}}))).await?;
    let words = refused.err().context("two managers own one role's pods")?;
    ensure!(words.contains(".spec.pods.train") && words.contains("\"git\""), "{words}");
    let run = applied(server, "platform", &other(json!({"default": {"nodeSelector": {"zone": "a"}}}))).await?;
    let pods = json!({"train": {"queueName": "research"}, "default": {"nodeSelector": {"zone": "a"}}});
    ensure!(run["spec"]["pods"] == pods, "{}", run["spec"]["pods"]);
    server.delete(KIND, &run).await
}

async fn applied(server: &Server, manager: &str, object: &Value) -> Result<Value> {
    server.apply_as(manager, KIND, object).await?.map_err(anyhow::Error::msg)
}
