//! The custom resource definitions as the server serves them: accepted without complaint, described and bounded to the
//! last field, and found and printed as a user would have it.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use backon::{ConstantBuilder, Retryable};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Asker,
    server::{GROUP_VERSION, Kind, Server},
    tree,
};

/// The statements about the definitions, for both kinds.
pub(crate) fn trials(asker: &Asker) -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in Kind::ALL {
        let name = |statement: &str| format!("{} {statement}", kind.word());
        trials.extend([
            asker.trial("schema", name("is established without a complaint of the server"), async move |server: &Server| {
                is_established(server, kind).await
            }),
            asker.trial("schema", name("explains every field in a sentence"), async move |server: &Server| {
                explains_every_field(server, kind).await
            }),
            asker.trial("schema", name("bounds every string, list and map of its spec"), async move |server: &Server| {
                bounds_everything(server, kind).await
            }),
            asker.trial("schema", name("is found by its short name and its category"), async move |server: &Server| {
                is_found(server, kind).await
            }),
            asker.trial("schema", name("prints the columns that the documentation promises"), async move |server: &Server| {
                prints_columns(server, kind).await
            }),
        ]);
    }
    trials
}

/// The folder of the generated definitions.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/manifests");

/// How long the server may take to serve a new definition; it takes about a second.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// Applies every definition of `crds/manifests` and waits until the server serves it.
pub(crate) async fn install(server: &Server) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(MANIFESTS).with_context(|| format!("cannot read {MANIFESTS}"))? {
        let text = fs::read_to_string(entry?.path())?;
        for document in serde_yaml::Deserializer::from_str(&text) {
            let definition = Value::deserialize(document)?;
            let name = definition["metadata"]["name"].as_str().context("a definition without a name")?.to_owned();
            server.apply(&definition_path(&name), &definition).await.with_context(|| format!("cannot install {name}"))?;
            names.push(name);
        }
    }
    ensure!(!names.is_empty(), "{MANIFESTS} holds no definition");
    for name in names {
        let established = async || {
            let definition = server.get(&definition_path(&name)).await?;
            ensure!(condition(&definition, "Established") == Some("True"), "{name} is not established: {definition:#}");
            Ok(())
        };
        let pause = Duration::from_millis(100);
        let tries = (ESTABLISHED_WITHIN.as_millis() / pause.as_millis()).try_into()?;
        established.retry(ConstantBuilder::new().with_delay(pause).with_max_times(tries)).await?;
    }
    Ok(())
}

fn definition_path(name: &str) -> String {
    format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
}

fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = definition["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

async fn is_established(server: &Server, kind: Kind) -> Result<()> {
    let definition = server.get(&definition_path(&format!("{}.sera.dev", kind.plural()))).await?;
    for wanted in ["Established", "NamesAccepted"] {
        ensure!(condition(&definition, wanted) == Some("True"), "{wanted}: {}", definition["status"]);
    }
    for unwanted in ["NonStructuralSchema", "Terminating", "KubernetesAPIApprovalPolicyConformant"] {
        ensure!(condition(&definition, unwanted) != Some("True"), "{unwanted}: {}", definition["status"]);
    }
    Ok(())
}

/// What `kubectl explain` reads: a description of each field, in words that say more than its name.
async fn explains_every_field(server: &Server, kind: Kind) -> Result<()> {
    let schema = tree::served(server, kind).await?;
    let mut unexplained = Vec::new();
    for field in tree::fields(&schema) {
        let description = field.schema["description"].as_str().unwrap_or_default();
        let is_sentence = description.split_whitespace().count() >= 3 && description.ends_with(['.', ')']);
        if !is_sentence && !field.is_of_kubernetes() && !field.is_item() {
            unexplained.push(format!("{}: {description:?}", field.path));
        }
    }
    ensure!(unexplained.is_empty(), "not explained in a sentence:\n{}", unexplained.join("\n"));
    Ok(())
}

/// What is unbounded costs CEL its budget and etcd its space.
async fn bounds_everything(server: &Server, kind: Kind) -> Result<()> {
    let schema = tree::served(server, kind).await?;
    let unbounded: Vec<String> = tree::fields(&schema)
        .into_iter()
        .filter(|field| field.is_in_spec() && !field.is_of_kubernetes() && !field.is_bounded())
        .map(|field| field.path)
        .collect();
    ensure!(unbounded.is_empty(), "without a bound:\n{}", unbounded.join("\n"));
    Ok(())
}

async fn is_found(server: &Server, kind: Kind) -> Result<()> {
    let (short, singular) = match kind {
        Kind::SpecializationRun => ("srun", "specializationrun"),
        Kind::RolloutBatch => ("rbatch", "rolloutbatch"),
    };
    let served = server.get(GROUP_VERSION).await?;
    let resources = served["resources"].as_array().context("no resources are served")?;
    let find = |name: &str| resources.iter().find(|resource| resource["name"] == name);
    let resource = find(kind.plural()).with_context(|| format!("{} is not served", kind.plural()))?;
    ensure!(resource["shortNames"] == json!([short]), "short names: {}", resource["shortNames"]);
    ensure!(resource["singularName"] == singular, "singular: {}", resource["singularName"]);
    ensure!(resource["categories"] == json!(["sera"]), "categories: {}", resource["categories"]);
    ensure!(resource["namespaced"] == true, "the kind is not namespaced");
    ensure!(find(&format!("{}/status", kind.plural())).is_some(), "there is no status subresource");
    Ok(())
}

/// The columns of `kubectl get`, and those that `-o wide` adds.
async fn prints_columns(server: &Server, kind: Kind) -> Result<()> {
    let (narrow, wide): (&[&str], &[&str]) = match kind {
        Kind::SpecializationRun => (
            &["NAME", "PHASE", "PROGRESS", "ACCEPTED", "RECALL", "LOSS", "COST", "AGE"],
            &["STAGE", "ETA", "TEACHER", "STUDENT"],
        ),
        Kind::RolloutBatch => (
            &["NAME", "PHASE", "PROGRESS", "ATTEMPTED", "ACCEPTED", "RECALL", "COST", "AGE"],
            &["RUN", "ETA", "TEACHER"],
        ),
    };
    let table = server.table(kind).await?;
    let columns = table["columnDefinitions"].as_array().context("no columns")?;
    let shown = |in_wide: bool| -> Vec<String> {
        let chosen = columns.iter().filter(|column| (column["priority"].as_i64().unwrap_or(0) > 0) == in_wide);
        chosen.filter_map(|column| column["name"].as_str()).map(str::to_uppercase).collect()
    };
    ensure!(shown(false) == narrow, "columns: {:?}", shown(false));
    ensure!(shown(true) == wide, "wide columns: {:?}", shown(true));
    Ok(())
}
