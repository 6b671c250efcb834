//! The rules of a batch that span sections: its name, what of it cannot be changed, and that its status stays.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

use super::MAX_BATCH_NAME;
use crate::common::rule::{forbidden, kept_status, name_rule, unchanged};

/// Everything but `generation.verification`, `pods`, `suspend` and `retry`.
const IMMUTABLE: [&str; 16] = [
    "runRef",
    "source",
    "snapshot",
    "teacher",
    "output",
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

/// Every rule at the root of a batch.
pub(crate) fn root_rules() -> Vec<ValidationRule> {
    let mut rules = vec![name_rule("batch", MAX_BATCH_NAME), kept_status(), generation_stays()];
    rules.extend(IMMUTABLE.iter().map(|path| {
        let rule = unchanged(&format!("spec.{path}"));
        forbidden(rule, immutable(path), &format!(".spec.{path}"))
    }));
    rules
}

/// `generation` itself neither comes nor goes; its fields have rules of their own, because `verification` can be
/// changed.
fn generation_stays() -> ValidationRule {
    let rule = "has(self.spec.generation) == has(oldSelf.spec.generation)".to_owned();
    forbidden(rule, immutable("generation"), ".spec.generation")
}

fn immutable(path: &str) -> String {
    format!("spec.{path} of a batch cannot be changed; only generation.verification, pods, suspend and retry can")
}
