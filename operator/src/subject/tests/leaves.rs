//! That no field of either spec is read by nobody: whichever changes, something else is planned or built.

use sera_crds::definition::definitions;

use super::{
    batches::{child, guide},
    mapping::{pods, whole},
    *,
};

/// Fields that change nothing by themselves, and why.
const WITHOUT_A_VALUE: [(&str, &str); 1] = [("/training/method/full", "it has no field, and is there or is not")];

/// A field that is no section: where it stands in a spec, and what may stand there.
struct Leaf {
    pointer: String,
    schema: Value,
}

/// The fields of a section that are no sections: of a list the first item, and of the roles of pods the one that stands for all.
fn leaves(at: &str, schema: &Value, found: &mut Vec<Leaf>) {
    if schema["items"].is_object() {
        return leaves(&format!("{at}/0"), &schema["items"], found);
    }
    let fields = || schema["properties"].as_object().into_iter().flatten();
    if !fields().any(|(_, field)| field["description"].is_string()) {
        found.push(Leaf { pointer: at.to_owned(), schema: schema.clone() });
        return;
    }
    for (name, field) in fields().filter(|(name, _)| at != "/pods" || *name == "default") {
        leaves(&format!("{at}/{name}"), field, found);
    }
}

/// Those of a kind's spec.
fn leaves_of(kind: Kind) -> Vec<Leaf> {
    let definition = definitions().into_iter().find(|definition| definition.spec.names.kind == kind.as_str()).unwrap();
    let definition = serde_json::to_value(definition).unwrap();
    let mut found = Vec::new();
    leaves("", &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], &mut found);
    assert!(found.len() > 50, "this test cannot fail");
    found
}

impl Leaf {
    /// Values of its type that are others than this one. Which of them its type takes, it says itself.
    fn others(&self, value: &Value) -> Vec<Value> {
        const TEXTS: [&str; 7] =
            ["another", "0.2", "77s", "s3://another/folder", "https://another.example/x", "/another", "9Gi"];
        let texts = || TEXTS.iter().map(|text| json!(text));
        let others: Vec<Value> = match value {
            Value::Bool(is) => vec![json!(!is)],
            Value::Number(number) => vec![json!(number.as_u64().unwrap() + 1)],
            Value::Object(_) => vec![json!({})],
            _ => self.schema["enum"].as_array().cloned().unwrap_or_else(|| texts().collect()),
        };
        others.into_iter().filter(|other| other != value).collect()
    }
}

/// All that follows from an object's word: what is planned by, what is built from, and whether its data goes with it.
fn follows<S: Subject>(object: &S, guide: &Guide) -> (Wish, bool) {
    let wish = object.wish(&RunDefaults::default(), guide);
    assert_eq!((&wish.intent.findings, &wish.intent.unsupported), (&Vec::new(), &None), "of {object:?}");
    (wish, object.reclaims())
}

/// Changes every field of a kind in each of the specs that name it, and returns the fields whose change nobody hears of. `reads` says what follows from
/// a spec, if it is one.
fn unheard<T: PartialEq>(kind: Kind, specs: &[Value], reads: impl Fn(&Value) -> Option<T>) -> Vec<String> {
    let mut unheard = Vec::new();
    for leaf in leaves_of(kind) {
        let named: Vec<&Value> = specs.iter().filter(|spec| spec.pointer(&leaf.pointer).is_some()).collect();
        assert!(!named.is_empty(), "no spec of this test names {}", leaf.pointer);
        for spec in named {
            let before = reads(spec).expect("the specs of this test are some");
            let after = leaf.others(spec.pointer(&leaf.pointer).unwrap()).into_iter().find_map(|other| {
                let mut changed = spec.clone();
                *changed.pointer_mut(&leaf.pointer).unwrap() = other;
                reads(&changed)
            });
            if after.is_none_or(|after| after == before) {
                unheard.push(leaf.pointer.clone());
            }
        }
    }
    let excepted = |pointer: &String| WITHOUT_A_VALUE.iter().any(|(field, _)| field == pointer);
    unheard.retain(|pointer| !excepted(pointer));
    unheard
}

/// An object of a kind with this spec, if it is one.
fn object<S: Subject>(name: &str, uid: &str, spec: &Value) -> Option<S> {
    let metadata = json!({"name": name, "namespace": "ml", "uid": uid, "generation": 1});
    let kind = S::KIND.as_str();
    let object = json!({"apiVersion": "sera.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    serde_json::from_value(object).ok()
}

fn with(mut spec: Value, sections: &Value) -> Value {
    merge(&mut spec, sections);
    spec
}

/// A teacher that the operator serves, of a model in a bucket.
fn served() -> Value {
    json!({"serve": {
        "engine": "vLLM", "image": "acme/vllm:1", "model": {"uri": "s3://models/GLM", "credentialsSecretRef": {"name": "models-secret"}}, "replicas": 2,
        "gpusPerReplica": 8, "nodesPerReplica": 2, "args": ["--a"], "env": [{"name": "A", "value": "b"}],
    }})
}

fn rehearsal() -> Value {
    json!({"rehearsal": {"shares": {"full": "0.5", "partial": "0.4", "miss": "0.1"}}})
}

#[test]
fn whichever_field_of_a_run_changes_something_else_is_planned_or_built() {
    let in_full = json!({"student": {"uri": "pvc://models/Qwen3-8B"}, "method": {"full": {}}, "gpusPerNode": 8});
    let built_in = json!({"enabled": true, "engine": "builtin", "api": ["OpenAI"]});
    let specs = [
        whole(),
        with(whole(), &json!({"teacher": served(), "training": in_full})),
        with(whole(), &json!({"teacher": rehearsal(), "serve": built_in, "dataset": {"toolCallFormat": "Hermes"}})),
    ];
    let unheard = unheard(Kind::Run, &specs, |spec| {
        let run: SpecializationRun = object("billing", "3f2c9a10-0000", spec)?;
        // What is said of rollouts is for its batches, of which it has noted one.
        let of_batch = follows(&child("3f2c9a10-0000"), &guide(spec));
        Some((follows(&run, &Guide::Nobody), of_batch))
    });
    assert_eq!(unheard, Vec::<String>::new(), "nobody hears of these");
}

#[test]
fn whichever_field_of_a_batch_changes_something_else_is_planned_or_built() {
    let mut own = whole();
    let (source, teacher, output) = (own["source"].take(), own["teacher"].take(), own["output"].take());
    let mut generation = own["generation"].take();
    let of_runs = ["acceptedTrajectories", "maxSamples", "batchSize", "parallelBatches"];
    generation.as_object_mut().unwrap().retain(|field, _| !of_runs.contains(&field.as_str()));
    let common = json!({"samples": {"from": 17, "count": 8}, "pods": pods(), "suspend": false, "retry": "again"});
    let sections = json!({"teacher": teacher, "generation": generation, "output": output});
    let alone = with(with(common.clone(), &sections), &json!({"source": source}));
    let of_snapshot = with(with(common.clone(), &sections), &json!({"snapshot": {"uri": "s3://acme/old"}}));
    // Where the run's Secrets go, the run alone says.
    let mut of_run = common.clone();
    of_run["pods"]["default"].as_object_mut().unwrap().retain(|field, _| field != "proxy" && field != "caSecretRef");
    let specs = [
        with(of_snapshot, &json!({"teacher": served()})),
        with(alone.clone(), &json!({"teacher": rehearsal()})),
        alone,
        with(of_run, &json!({"runRef": {"name": "billing"}})),
    ];
    // What its run says of pods holds where it says nothing itself.
    let run = guide(&with(whole(), &json!({"pods": null})));
    let unheard = unheard(Kind::Batch, &specs, |spec| {
        let batch: RolloutBatch = object("try-out", "77777777-0000", spec)?;
        Some(follows(&batch, if batch.awaited_run().is_some() { &run } else { &Guide::Nobody }))
    });
    assert_eq!(unheard, Vec::<String>::new(), "nobody hears of these");
}
