//! The custom resource definitions as the server serves them: accepted without complaint, described and bounded to the
//! last field, and found and printed as a user would have it.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use backon::{ConstantBuilder, Retryable};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    Asker, cases,
    server::{Effect, GROUP_VERSION, Kind, Server},
    tree,
    values::merge,
};

/// The statements about the definitions, for both kinds.
pub(crate) fn trials(asker: &Asker) -> Vec<Trial> {
    let of_kind = |kind| {
        [
            trial(asker, kind, "is established without a complaint of the server", is_served),
            trial(asker, kind, "explains every field in a sentence", explains_every_field),
            trial(asker, kind, "bounds every string, list and map of its spec", bounds_everything),
            trial(asker, kind, "is found by its short name and its category", is_found),
            trial(asker, kind, "prints the columns that a user wants to see", prints_columns),
            trial(asker, kind, "is listed by the fields that a list may be narrowed by", is_selected),
        ]
    };
    Kind::ALL.into_iter().flat_map(of_kind).collect()
}

fn trial(
    asker: &Asker,
    kind: Kind,
    statement: &str,
    ask: impl AsyncFnOnce(&Server, Kind) -> Result<()> + Send + 'static,
) -> Trial {
    let statement = format!("{} {statement}", kind.word());
    asker.trial("schema", statement, async move |server: &Server| ask(server, kind).await)
}

/// The folder of the generated definitions.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/manifests");

/// Where definitions are served.
pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// How long the server may take to serve a new definition; it takes about a second.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// Applies the generated definitions and waits until the server serves them.
pub(crate) async fn install(server: &Server) -> Result<()> {
    for kind in Kind::ALL {
        let path = format!("{MANIFESTS}/{}.yaml", kind.plural());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let definition: Value = serde_yaml::from_str(&text)?;
        server.apply(&definition_path(kind), &definition).await.with_context(|| format!("cannot install {path}"))?;
    }
    for kind in Kind::ALL {
        becomes_established(server, &definition_path(kind)).await?;
    }
    Ok(())
}

/// Waits until the server serves what a definition defines.
pub(crate) async fn becomes_established(server: &Server, definition: &str) -> Result<()> {
    let pause = Duration::from_millis(100);
    let tries = (ESTABLISHED_WITHIN.as_millis() / pause.as_millis()).try_into()?;
    let established = async || is_established(server, definition).await;
    established.retry(ConstantBuilder::new().with_delay(pause).with_max_times(tries)).await
}

/// Where the definition of a kind is served.
pub(crate) fn definition_path(kind: Kind) -> String {
    format!("{DEFINITIONS}/{}.sera.dev", kind.plural())
}

fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = definition["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

async fn is_served(server: &Server, kind: Kind) -> Result<()> {
    is_established(server, &definition_path(kind)).await
}

async fn is_established(server: &Server, definition: &str) -> Result<()> {
    let definition = server.get(definition).await?;
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
    let group = server.get(GROUP_VERSION).await?;
    let resources = group["resources"].as_array().context("no resources are served")?;
    let find = |name: &str| resources.iter().find(|resource| resource["name"] == name);
    let resource = find(kind.plural()).with_context(|| format!("{} is not served", kind.plural()))?;
    ensure!(resource["shortNames"] == json!([short]), "short names: {}", resource["shortNames"]);
    ensure!(resource["singularName"] == singular, "singular: {}", resource["singularName"]);
    ensure!(resource["categories"] == json!(["sera"]), "categories: {}", resource["categories"]);
    ensure!(resource["namespaced"] == true, "the kind is not namespaced");
    ensure!(find(&format!("{}/status", kind.plural())).is_some(), "there is no status subresource");
    Ok(())
}

/// Of two objects each selector finds the one that it speaks of; by another field nothing can be narrowed.
async fn is_selected(server: &Server, kind: Kind) -> Result<()> {
    let (base, of_spec, selector) = match kind {
        Kind::SpecializationRun => ("run", json!({"suspend": true}), "spec.suspend=true"),
        Kind::RolloutBatch => ("child batch", json!({"runRef": {"name": "selected"}}), "spec.runRef.name=selected"),
    };
    let (_, bases) = cases::load()?;
    let named = |name: &str| {
        let mut object = bases[base].clone();
        object["metadata"] = json!({ "name": name });
        object
    };
    let mut wanted = named("selected");
    merge(&mut wanted, &json!({ "spec": of_spec }));
    let (mut wanted, other) = (server.store(kind, &wanted).await?, server.store(kind, &named("passed-over")).await?);
    wanted["status"] = json!({"phase": "Suspended"});
    server.replace_status(kind, &wanted, Effect::Stored).await?.admitted()?;
    let list = async |selector: &str| {
        let collection = server.collection_of(GROUP_VERSION, kind.plural());
        server.get(&format!("{collection}?fieldSelector={selector}")).await
    };
    for selector in [selector, "status.phase=Suspended"] {
        let listed = list(selector).await?;
        let items = listed["items"].as_array().context("there is no list")?;
        let has = |object: &Value| items.iter().any(|item| item["metadata"]["name"] == object["metadata"]["name"]);
        ensure!(has(&wanted) && !has(&other), "{selector} lists {listed}");
    }
    ensure!(list("spec.retry=again").await.is_err(), "a list is narrowed by a field that is not selectable");
    for object in [wanted, other] {
        server.delete(kind, &object).await?;
    }
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
