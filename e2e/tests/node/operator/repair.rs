//! What a user gets wrong, or what breaks outside: it is said in words, and things go on once it is repaired.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use sera_crds::conditions::ConditionType;
use sera_crds::run::Phase;
use sera_crds::values::Stage;
use sera_e2e::git_server::{Access, Behaviour};
use serde_json::json;

use super::ground::{Ground, is_true, message, reason, status};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    a_missing_or_wrong_secret_stalls_the_run_by_the_fields_name_until_it_is_right,
    a_wrong_revision_stalls_the_run_until_it_is_edited,
    an_unreachable_host_is_tried_again_until_it_answers,
    a_suspended_run_starts_nothing_until_it_is_resumed,
];

async fn a_missing_or_wrong_secret_stalls_the_run_by_the_fields_name_until_it_is_right(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let access = Access::Basic { username: "ada".to_owned(), password: "s3cret-0f-ada".to_owned() };
    ground.git.set_access(access);
    ground.apply_run("billing", json!({"source": {"git": {"credentialsSecretRef": {"name": "git"}}}})).await?;
    let stalled = ground.until("billing", |status| is_true(status, ConditionType::Stalled)).await?;
    let said = message(status(&stalled)?, ConditionType::Stalled).to_owned();
    ensure!(said.contains("spec.source.git.credentialsSecretRef"), "it says {said:?}");

    let secret = |password: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "type": "kubernetes.io/basic-auth",
            "stringData": {"username": "ada", "password": password},
        })
    };
    // Another one's first: what is wrong with it is told, and not what it says.
    ground.space.apply(&secret("s3cret-0f-bob").to_string()).await?;
    let refused =
        ground.until("billing", |status| reason(status, ConditionType::Stalled) == Some("AuthenticationFailed"));
    let said = message(status(&refused.await?)?, ConditionType::Stalled).to_owned();
    ensure!(said.contains("spec.source.git.credentialsSecretRef") && !said.contains("s3cret"), "it says {said:?}");
    ground.space.apply(&secret("s3cret-0f-ada").to_string()).await?;
    let run = ground.until_snapshotted("billing").await?;
    let told = serde_json::to_string(&run)?;
    ensure!(!told.contains("s3cret-0f"), "a password is in the run's status");
    Ok(())
}

async fn a_wrong_revision_stalls_the_run_until_it_is_edited(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.apply_run("billing", json!({"source": {"git": {"revision": "mian"}}})).await?;
    let stalled = ground.until("billing", |status| is_true(status, ConditionType::Stalled)).await?;
    let said = message(status(&stalled)?, ConditionType::Stalled).to_owned();
    ensure!(said.contains("mian") && said.contains("spec.source.git.revision"), "it says {said:?}");
    ensure!(said.contains("main"), "it does not say what there is: {said:?}");

    ground.change_run("billing", json!({"source": {"git": {"revision": "main"}}})).await?;
    let run = ground.until_snapshotted("billing").await?;
    ensure!(status(&run)?.recent_failures.len() == 1, "{:?}", status(&run)?.recent_failures);
    Ok(())
}

async fn an_unreachable_host_is_tried_again_until_it_answers(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.git.set_behaviour(Behaviour::Drop);
    ground.apply_run("billing", json!({})).await?;
    let waiting = ground.until("billing", |status| !status.recent_failures.is_empty()).await?;
    let waiting = status(&waiting)?;
    ensure!(waiting.phase == Some(Phase::Running), "the phase is {:?}", waiting.phase);
    ensure!(is_true(waiting, ConditionType::Reconciling) && !is_true(waiting, ConditionType::Stalled), "{waiting:?}");
    let said = message(waiting, ConditionType::Snapshotted).to_owned();
    ensure!(said.contains(&ground.git.address().ip().to_string()), "it does not name the host: {said:?}");

    ground.git.set_behaviour(Behaviour::Serve);
    ground.until_snapshotted("billing").await?;
    Ok(())
}

async fn a_suspended_run_starts_nothing_until_it_is_resumed(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.apply_run("billing", json!({"suspend": true})).await?;
    ground.until("billing", |status| status.phase == Some(Phase::Suspended)).await?;
    ensure!(ground.jobs().await?.is_empty(), "a suspended run has a Job");

    // Suspended again in the middle of an attempt that cannot end by itself.
    ground.git.set_behaviour(Behaviour::Hang);
    ground.change_run("billing", json!({"suspend": false})).await?;
    ground.until("billing", |status| status.latest_attempts.iter().any(|attempt| attempt.job.is_some())).await?;
    ground.change_run("billing", json!({"suspend": true})).await?;
    ground.until("billing", |status| status.phase == Some(Phase::Suspended)).await?;
    ground.until_none::<Job>().await.context("the Job of a suspended run stays")?;

    ground.git.set_behaviour(Behaviour::Serve);
    ground.change_run("billing", json!({"suspend": false})).await?;
    let run = ground.until_snapshotted("billing").await?;
    ensure!(status(&run)?.attempts.get(&Stage::Snapshot) == Some(&2), "{:?}", status(&run)?.attempts);
    Ok(())
}
