//! The case files: their shape, and the objects that a case sends. Nothing here talks to a server.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    bounds::Bound,
    server::Kind,
    values::{expand, merge},
};

/// Complete objects, by name, that cases start from.
pub(crate) type Bases = BTreeMap<String, Value>;

/// A file of cases about one part of the API.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    /// The part of the API, as it stands in the names of the tests.
    pub(crate) about: String,
    pub(crate) kind: Kind,
    /// The base of every case that names none.
    pub(crate) base: String,
    #[serde(default)]
    pub(crate) cases: Vec<Case>,
    /// What is tried from both sides, beside the cases.
    #[serde(default)]
    pub(crate) bounds: Vec<Bound>,
}

/// One statement about the API: an object, perhaps a change to it, and what the server must answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Case {
    /// The statement, as a sentence that continues the section's name.
    pub(crate) it: String,
    base: Option<String>,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    spec: Value,
    /// The object as a whole, where a case is about fields beside `metadata` and `spec`.
    #[serde(default)]
    object: Value,
    /// Stages that the status says are locked before the change is made.
    #[serde(default)]
    locked: Vec<String>,
    /// What else the status says before the change is made.
    #[serde(default)]
    status: Value,
    /// The update that the case is about; without one, the case is about the creation.
    pub(crate) change: Option<Change>,
    /// How the server refuses; without it, the server must admit.
    pub(crate) refused: Option<Refused>,
    /// What the admitted object must hold, as a part of it; `null` stands for a field that must be absent.
    #[serde(default)]
    pub(crate) shows: Value,
}

/// An update, as a merge patch: to the object, or through the status subresource.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Change {
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
    /// Whether the status is left out altogether.
    #[serde(default)]
    forgets_status: bool,
}

/// What a refusal must say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    /// The fields that the causes name; no cause may name another.
    pub(crate) at: OneOrMany,
    /// What the message must contain.
    pub(crate) says: OneOrMany,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub(crate) fn join(&self) -> String {
        self.as_slice().join(", ")
    }
}

impl Case {
    /// The object that the case creates, named `name` unless the case is about the name; `base` is the section's.
    pub(crate) fn object(&self, base: &str, bases: &Bases, name: &str) -> Result<Value> {
        let base = self.base.as_deref().unwrap_or(base);
        let mut object = bases.get(base).with_context(|| format!("there is no base named {base}"))?.clone();
        object["metadata"] = json!({ "name": name });
        for (field, patch) in [("metadata", &self.metadata), ("spec", &self.spec)] {
            if !patch.is_null() {
                merge(&mut object, &json!({ field: patch }));
            }
        }
        if !self.object.is_null() {
            merge(&mut object, &self.object);
        }
        expand(object)
    }

    /// The status that is set before the change, if the case asks for one.
    pub(crate) fn status_before(&self) -> Result<Option<Value>> {
        if self.locked.is_empty() && self.status.is_null() {
            return Ok(None);
        }
        let mut status = json!({});
        if !self.locked.is_empty() {
            status["lockedStages"] = json!(self.locked);
        }
        if !self.status.is_null() {
            merge(&mut status, &self.status);
        }
        expand(status).map(Some)
    }
}

impl Change {
    /// Whether the change goes through the status subresource.
    pub(crate) fn is_to_status(&self) -> bool {
        self.forgets_status || !self.status.is_null()
    }

    /// `object` with the change made.
    pub(crate) fn applied_to(&self, object: &Value) -> Result<Value> {
        let mut changed = object.clone();
        for (field, patch) in [("metadata", &self.metadata), ("spec", &self.spec), ("status", &self.status)] {
            if !patch.is_null() {
                merge(&mut changed, &json!({ field: patch }));
            }
        }
        if self.forgets_status {
            merge(&mut changed, &json!({ "status": null }));
        }
        let changed = expand(changed)?;
        ensure!(&changed != object, "the change changes nothing");
        Ok(changed)
    }
}

/// Every section, with the bases that their cases start from.
pub(crate) fn load() -> Result<(Vec<Section>, Bases)> {
    let folder = folder();
    let bases = read(&folder.join("bases.yaml"))?;
    let mut sections = Vec::new();
    for kind in ["run", "batch"] {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder.join(kind))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.sort();
        for path in paths {
            let mut section: Section = read(&path)?;
            for bound in &section.bounds {
                section.cases.extend(bound.cases()?);
            }
            sections.push(section);
        }
    }
    Ok((sections, bases))
}

/// Where the case files lie.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract/cases")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // By way of JSON, so that a number and a string are told apart as the API server tells them apart.
    let value: Value = serde_yaml::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))?;
    serde_json::from_value(value).with_context(|| format!("{} is not a file of cases", path.display()))
}
