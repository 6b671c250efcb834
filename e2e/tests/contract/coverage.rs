//! Whether anything was forgotten: every bound of the served schema is tried by a case, and the worst legal object
//! reaches every one of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Asker,
    bounds::Bound,
    cases,
    server::{Kind, Server},
    tree::{self, Field},
    values,
};

/// The statements about completeness.
pub(crate) fn trials(asker: &Asker) -> Vec<Trial> {
    let worst = "run at every bound at once";
    let bounds = Kind::ALL.map(|kind| {
        let bounds = format!("{} tries every bound of its spec from both sides", kind.word());
        asker.trial("schema", bounds, async move |server: &Server| tries_every_bound(server, kind).await)
    });
    let worst = asker.trial("admitted", worst, async |server: &Server| admits_the_worst(server).await);
    bounds.into_iter().chain([worst]).collect()
}

/// A case for each: numbers, lists, maps and choices by their path, texts by their type, since one field stands for all
/// that share it. The roles of `pods` share one type, so `default` stands for all of them; and where a batch has what a
/// run has, word for word, that is tried of the run.
async fn tries_every_bound(server: &Server, kind: Kind) -> Result<()> {
    let run = tree::served(server, Kind::SpecializationRun).await?;
    let schema = tree::served(server, kind).await?;
    let (fields, of_run) = (tree::fields(&schema), tree::fields(&run));
    let tried = tried(kind)?;
    let of_run_tried = self::tried(Kind::SpecializationRun)?;
    let types_tried: BTreeSet<String> = [(&fields, &tried), (&of_run, &of_run_tried)]
        .into_iter()
        .flat_map(|(fields, tried)| fields.iter().filter(|field| tried.contains(&field.path)).map(Field::text_type))
        .collect();
    let is_the_runs = |field: &Field| {
        let same = of_run.iter().find(|known| known.path == field.path && known.schema == field.schema);
        same.is_some_and(|known| of_run_tried.contains(&known.path))
    };
    let is_tried = |field: &Field| {
        tried.contains(&field.path) || is_the_runs(field) || field.is_text() && types_tried.contains(&field.text_type())
    };
    let forgotten: Vec<&str> = fields
        .iter()
        .filter(|field| field.is_in_spec() && !field.is_of_kubernetes() && !field.is_of_role_but_default())
        .filter(|field| field.has_bound() && !is_tried(field))
        .map(|field| field.path.as_str())
        .collect();
    ensure!(forgotten.is_empty(), "not tried by any line of `bounds`:\n{}", forgotten.join("\n"));
    Ok(())
}

/// The fields whose bounds the cases of a kind try.
fn tried(kind: Kind) -> Result<BTreeSet<String>> {
    let (sections, _) = cases::load()?;
    let of_kind = sections.iter().filter(|section| section.kind == kind);
    Ok(of_kind.flat_map(|section| &section.bounds).flat_map(paths).collect())
}

/// The field that a bound tries, as the schema calls it: the last name may be the key of a map.
fn paths(bound: &Bound) -> Vec<String> {
    let of_map = bound.field.rsplit_once('.').map(|(map, _)| format!("{map}{{}}"));
    [Some(bound.field.clone()), of_map].into_iter().flatten().collect()
}

/// The worst legal run, and the fields that it cannot reach.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Worst {
    pub(crate) object: Value,
    /// Fields that are below their bound, and why that cannot be helped.
    exceptions: BTreeMap<String, String>,
}

/// Reads the worst legal run.
pub(crate) fn worst() -> Result<Worst> {
    let text = std::fs::read_to_string(cases::folder().join("worst.yaml"))?;
    let mut worst: Worst = serde_yaml::from_str(&text)?;
    worst.object = values::expand(worst.object)?;
    Ok(worst)
}

async fn admits_the_worst(server: &Server) -> Result<()> {
    let Worst { object, exceptions } = worst()?;
    let schema = tree::served(server, Kind::SpecializationRun).await?;
    let short: Vec<String> = tree::below_bounds(&schema["properties"]["spec"], &object["spec"], "spec")
        .into_iter()
        .filter(|path| !exceptions.keys().any(|exception| path.starts_with(exception)))
        .collect();
    ensure!(short.is_empty(), "not at their bounds:\n{}", short.join("\n"));
    let stored = server.store(Kind::SpecializationRun, &object).await?;
    server.delete(Kind::SpecializationRun, &stored).await
}
