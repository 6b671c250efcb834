//! What a Job asks its queue for, as a digest: which edits make it another one.

use std::collections::BTreeMap;

use super::*;
use crate::build::requests;

/// A run whose pods are queued and which trains on two nodes, with these sections in the place of its own.
fn asked(sections: &Value) -> BTreeMap<Stage, Box<str>> {
    let mut spec = json!({
        "pods": {"default": {"queueName": "night"}, "evaluate": {"queueName": "noon"}},
        "training": {"student": {"uri": "builtin://tiny"}, "method": {"lora": {}}, "nodes": 2},
        "evaluation": {"enabled": true},
    });
    merge(&mut spec, sections);
    requests(&run(&spec).wish(&RunDefaults::default(), &Guide::Nobody).blueprint.unwrap())
}

/// The stages whose Jobs ask for something else with these sections.
fn changed(sections: &Value) -> Vec<Stage> {
    let (before, after) = (asked(&json!({})), asked(sections));
    before.keys().copied().filter(|stage| before.get(stage) != after.get(stage)).collect()
}

#[test]
fn what_a_job_asks_its_queue_for_changes_with_its_queue_and_its_pods_and_with_nothing_else() {
    let pods = |role: &str, settings: Value| {
        let mut pods = json!({"default": {"queueName": "night"}, "evaluate": {"queueName": "noon"}});
        pods[role] = settings;
        json!({ "pods": pods })
    };
    for (role, settings, stages) in [
        ("train", json!({"queueName": "gpu"}), vec![Stage::Training]),
        ("train", json!({"resources": {"limits": {"memory": "9Gi"}}}), vec![Stage::Training]),
        ("verify", json!({"nodeSelector": {"pool": "cpu"}}), vec![Stage::Verification]),
        ("serve", json!({"resources": {"limits": {"memory": "9Gi"}}}), vec![Stage::Serving, Stage::Evaluation]),
        ("teacher", json!({"resources": {"limits": {"memory": "9Gi"}}}), vec![]),
    ] {
        let found = changed(&pods(role, settings.clone()));
        assert!(
            found.len() == stages.len() && stages.iter().all(|stage| found.contains(stage)),
            "{settings}: {found:?}"
        );
    }
    let training = json!({"training": {"student": {"uri": "builtin://tiny"}, "method": {"lora": {}}, "nodes": 3}});
    assert_eq!(changed(&training), [Stage::Training]);
    assert_eq!(changed(&json!({"serve": {"gpusPerReplica": 4}})), [Stage::Evaluation]);
    for unrelated in [
        json!({"retry": "again"}),
        json!({"generation": {"acceptedTrajectories": 20, "parallelBatches": 3}}),
        json!({"ttl": {"afterSucceeded": "1h"}}),
    ] {
        assert_eq!(changed(&unrelated), [], "{unrelated}");
    }
}

#[test]
fn a_job_that_is_not_queued_asks_for_nothing() {
    assert_eq!(asked(&json!({"pods": {}})), BTreeMap::new());
    let only_one = asked(&json!({"pods": {"train": {"queueName": "gpu"}}}));
    assert_eq!(only_one.into_keys().collect::<Vec<_>>(), [Stage::Training]);
}

#[test]
fn what_the_rollouts_of_a_batch_ask_their_queue_for_is_what_its_run_says_of_them() {
    let asked = |memory: &str| {
        let limits = json!({"limits": {"memory": memory}});
        let generation = json!({"acceptedTrajectories": 10, "sandbox": {"resources": limits}});
        let spec = json!({"generation": generation, "pods": {"rollout": {"queueName": "night"}}});
        let child = batches::child("3f2c9a10-0000");
        child.wish(&RunDefaults::default(), &batches::guide(&spec)).intent.requests.unwrap()
    };
    let asked_first = asked("3Gi");
    assert_eq!(asked_first.keys().copied().collect::<Vec<_>>(), [Stage::Rollouts]);
    assert_eq!(asked_first, asked("3Gi"));
    assert_ne!(asked_first, asked("4Gi"));
}
