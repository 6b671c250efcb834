//! A run as tests of pages and tables see it.

use sera_crds::SpecializationRun;
use serde_json::{Value, json};

/// A run of three changes, with this status.
pub(super) fn run(status: &Value) -> SpecializationRun {
    let object = json!({
        "apiVersion": "sera.dev/v1alpha1", "kind": "SpecializationRun",
        "metadata": {"name": "billing", "namespace": "ml", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "source": {"git": {"url": "https://example.org/a.git"}},
            "teacher": {"endpoint": {"url": "https://teacher.example/v1", "model": "GLM-4.6"}},
            "generation": {"acceptedTrajectories": 8000, "budget": {"maxCost": "200"}},
            "training": {"student": {"uri": "builtin://tiny"}}, "output": {"store": "s3://acme/sera"},
        },
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}
