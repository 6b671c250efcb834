//! Pods that a real API server does not take, in its own words: status says what refuses them, the field and what to do while it is tried again, and things
//! go on once that is put right.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::DeleteParams;
use sera_crds::conditions::ConditionType;
use serde_json::{Value, json};

use super::ground::{Ground, message, reason, status};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    a_class_or_an_account_that_is_not_there_is_named_with_its_field_until_the_run_is_edited,
    a_quota_is_named_with_what_to_ask_for_until_there_is_room,
];

async fn a_class_or_an_account_that_is_not_there_is_named_with_its_field_until_the_run_is_edited(
    space: Space,
) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let cases = [
        ("runtime", "runtimeClassName", "RuntimeClassMissing"),
        ("priority", "priorityClassName", "PriorityClassMissing"),
        ("account", "serviceAccountName", "ServiceAccountMissing"),
    ];
    for (run, field, _) in cases {
        ground.apply_run(run, json!({"pods": {"snapshot": {field: "nowhere"}}})).await?;
    }
    for (run, field, expected) in cases {
        refuses(&ground, run, expected, &[field, "nowhere", "create it, or name another"]).await?;
        ground.change_run(run, json!({"pods": {"snapshot": {field: null}}})).await?;
        ground.until_snapshotted(run).await?;
    }
    Ok(())
}

async fn a_quota_is_named_with_what_to_ask_for_until_there_is_room(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let quota = |name: &str, hard: Value| json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}});
    ground.space.apply(&quota("little", json!({"requests.memory": "1Mi"})).to_string()).await?;
    ground.apply_run("billing", json!({})).await?;
    let words = ["exceeded quota: little", "requests.memory", "spec.pods.snapshot.resources"];
    refuses(&ground, "billing", "QuotaExceeded", &words).await?;
    ground.space.api::<ResourceQuota>().delete("little", &DeleteParams::default()).await?;
    ground.until_snapshotted("billing").await?;

    // What nobody's pods say, a quota may ask for.
    ground.space.apply(&quota("exact", json!({"limits.cpu": "2"})).to_string()).await?;
    ground.apply_run("vague", json!({})).await?;
    refuses(&ground, "vague", "QuotaExceeded", &["must specify", "limits.cpu", "spec.pods.snapshot.resources"]).await?;
    let said = json!({"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}});
    ground.change_run("vague", json!({"pods": {"snapshot": {"resources": said}}})).await?;
    ground.until_snapshotted("vague").await.map(drop)
}

/// Waits until the run says this reason, in words that have all of these in them.
async fn refuses(ground: &Ground, run: &str, expected: &str, words: &[&str]) -> Result<()> {
    let about = ConditionType::Reconciling;
    let owned = expected.to_owned();
    let waiting = ground.until(run, move |status| reason(status, about) == Some(owned.as_str())).await?;
    let told = message(status(&waiting)?, about);
    for word in words {
        ensure!(told.contains(word), "{run} does not say {word:?}: {told}");
    }
    Ok(())
}
