//! The rules of a batch that span sections: its name, what of it cannot be changed, and that its status stays.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use kube::core::Rule;

use super::MAX_BATCH_NAME;
use crate::common::rule::{forbidden, kept_status, name_rule, unchanged};
use crate::run::{RUNS_OWN, roles};

/// Everything but `generation.verification`, `output.reclaimPolicy`, `pods`, `suspend` and `retry`.
const IMMUTABLE: [&str; 15] = [
    "runRef",
    "source",
    "snapshot",
    "teacher",
    "samples",
    "generation.shardSize",
    "generation.instancesPerFunction",
    "generation.bugKinds",
    "generation.seed",
    "generation.agent",
    "generation.environment",
    "generation.sandbox",
    "generation.filters",
    "generation.budget",
    "generation.startDeadline",
];

/// What of `output` cannot be changed; the section itself may come and go, for the sake of `reclaimPolicy`.
const OF_OUTPUT: [&str; 2] = ["store", "credentialsSecretRef"];

/// Every rule at the root of a batch.
pub(crate) fn root_rules() -> Vec<ValidationRule> {
    let mut rules = vec![name_rule("batch", MAX_BATCH_NAME), kept_status(), generation_stays()];
    rules.extend(IMMUTABLE.iter().map(|path| {
        let rule = unchanged(&format!("spec.{path}"));
        forbidden(rule, immutable(path), &format!(".spec.{path}"))
    }));
    rules.extend(OF_OUTPUT.map(output_stays));
    rules
}

/// A field of `output`, which is as absent where the whole section is.
fn output_stays(field: &str) -> ValidationRule {
    let there = |whose: &str| format!("(has({whose}.spec.output) && has({whose}.spec.output.{field}))");
    let (now, before) = (there("self"), there("oldSelf"));
    let rule = format!("{now} == {before} && (!{now} || self.spec.output.{field} == oldSelf.spec.output.{field})");
    forbidden(rule, immutable(&format!("output.{field}")), &format!(".spec.output.{field}"))
}

/// `generation` itself neither comes nor goes; its fields have rules of their own, because `verification` can be
/// changed.
fn generation_stays() -> ValidationRule {
    let rule = "has(self.spec.generation) == has(oldSelf.spec.generation)".to_owned();
    forbidden(rule, immutable("generation"), ".spec.generation")
}

/// A batch of a run is given the run's Secrets, and whoever may write a batch need not be one who may read these: they go where the run says. It is a
/// rule of the spec, so that the status of a batch that was made before it can still be written.
pub(super) fn way_out_is_the_runs() -> Rule {
    let says = |role: &str| {
        let fields = RUNS_OWN.map(|field| format!("has(self.pods.{role}.{field})")).join(" || ");
        format!("(has(self.pods.{role}) && ({fields}))")
    };
    let any = roles().map(says).collect::<Vec<_>>().join(" || ");
    Rule::new(format!("!has(self.runRef) || !has(self.pods) || !({any})"))
        .message("with runRef, a batch's pods take proxy and caSecretRef from its run: leave them out")
        .field_path(".pods")
}

fn immutable(path: &str) -> String {
    format!(
        "spec.{path} of a batch cannot be changed; only generation.verification, output.reclaimPolicy, pods, suspend and retry can"
    )
}
