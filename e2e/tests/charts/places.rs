//! The places in a spec where a Secret or a `ServiceAccount` is named, read from the schema so that a new one cannot be
//! forgotten, and legal specs that name something there.

use anyhow::{Context, Result};
use kube::CustomResourceExt;
use kube::core::ApiResource;
use sera_crds::{RolloutBatch, SpecializationRun};
use serde_json::{Value, json};

/// A kind of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Run,
    Batch,
}

impl Kind {
    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::Run => ApiResource::erase::<SpecializationRun>(&()),
            Self::Batch => ApiResource::erase::<RolloutBatch>(&()),
        }
    }

    /// The schema of `spec`.
    fn schema(self) -> Result<Value> {
        let definition = match self {
            Self::Run => SpecializationRun::crd(),
            Self::Batch => RolloutBatch::crd(),
        };
        let definition = serde_json::to_value(definition)?;
        let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
        schema.cloned().context("the definition has a schema")
    }

    /// A spec that names nothing.
    pub(crate) fn spec(self) -> Value {
        let teacher = json!({"endpoint": {"url": "https://teacher.acme.internal/v1", "model": "GLM-4.6"}});
        let source = json!({"git": {"url": "https://github.com/acme/billing.git"}});
        let output = json!({"store": "s3://acme-ml/sera"});
        match self {
            Self::Run => json!({
                "source": source, "teacher": teacher, "output": output,
                "generation": {"acceptedTrajectories": 8000},
                "training": {"student": {"uri": "pvc://models/Qwen3-8B"}},
            }),
            Self::Batch => json!({
                "source": source, "teacher": teacher, "output": output,
                "generation": {},
                "samples": {"count": 8},
            }),
        }
    }

    /// A spec that names `name` at `place` and nothing else.
    pub(crate) fn spec_naming(self, place: &Place, name: &str) -> Result<Value> {
        let mut spec = self.spec();
        // What a place needs around it to be a legal spec.
        if place.field().starts_with("spec.source.github.") {
            spec["source"]["github"] = json!({"owner": "acme", "repository": "billing"});
        }
        if place.field().starts_with("spec.teacher.serve.") {
            spec["teacher"] = json!({"serve": {"engine": "vLLM", "model": {"uri": "pvc://models/GLM-4.5-Air"}}});
        }
        place.fill(&mut spec, &[name.to_owned()])?;
        Ok(spec)
    }
}

/// How a name stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Reference,
    References,
    Plain,
}

/// A place in a spec where a Secret or a `ServiceAccount` is named.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: Vec<String>,
    form: Form,
    /// How many names it has room for.
    pub(crate) room: u64,
}

impl Place {
    /// Names something there, in a spec that is legal around it.
    pub(crate) fn fill(&self, spec: &mut Value, names: &[String]) -> Result<()> {
        let mut at = spec;
        for step in &self.path {
            let object = at.as_object_mut().with_context(|| format!("{} leads through no object", self.field()))?;
            at = object.entry(step).or_insert_with(|| json!({}));
        }
        let mut references = names.iter().map(|name| json!({"name": name}));
        *at = match self.form {
            Form::References => references.collect(),
            Form::Reference => references.next_back().unwrap_or_default(),
            Form::Plain => names.last().map_or(Value::Null, |name| json!(name)),
        };
        Ok(())
    }

    /// Whether it is in `spec.pods`, where anything can be named beside anything.
    pub(crate) fn is_of_pods(&self) -> bool {
        self.path.first().is_some_and(|section| section == "pods")
    }

    pub(crate) fn names_secrets(&self) -> bool {
        self.form != Form::Plain
    }

    pub(crate) fn field(&self) -> String {
        format!("spec.{}", self.path.join("."))
    }
}

/// All places of a kind, by the names that the API gives such fields.
pub(crate) fn of(kind: Kind) -> Result<Vec<Place>> {
    let mut found = Vec::new();
    visit(&kind.schema()?, &mut Vec::new(), &mut found);
    Ok(found)
}

fn visit(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Place>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        path.push(name.clone());
        let form = match name.as_str() {
            "imagePullSecrets" => Some(Form::References),
            "serviceAccountName" => Some(Form::Plain),
            name if name.ends_with("SecretRef") => Some(Form::Reference),
            _ => None,
        };
        match form {
            // A list without a bound has room for more than any policy compares.
            Some(Form::References) => {
                let room = property["maxItems"].as_u64().unwrap_or(u64::MAX);
                found.push(Place { path: path.clone(), form: Form::References, room });
            }
            Some(form) => found.push(Place { path: path.clone(), form, room: 1 }),
            None => visit(property, path, found),
        }
        path.pop();
    }
}
