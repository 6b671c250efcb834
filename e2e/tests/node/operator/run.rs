//! A run from a repository to a dataset, by the rehearsal teacher; and the same while the operator is upgraded, or is killed and pods are deleted at
//! random.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use sera_crds::conditions::ConditionType;
use sera_crds::run::{GenerationTotals, RunStatus};
use sera_crds::values::Stage;
use sera_crds::{RolloutBatch, SpecializationRun};
use sera_e2e::platform::{NAMESPACE, RELEASE};
use serde_json::{Value, json};

use super::ground::{Ground, is_true, made_for, message, reason, status};
use super::killed::kill_operators;
use super::lineage;
use super::self_test::set;
use super::training::folder;
use crate::company::Company;
use crate::house::{Space, Test, phase, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    a_run_makes_its_batches_and_a_dataset_whose_lineage_leads_to_patches_and_others_adopt_both,
];
pub(crate) const SHAKEN: &[Test] = tests![Company::Shaking;
    an_upgrade_in_the_middle_loses_nothing_and_whatever_is_killed_the_same_samples_are_accepted,
];

/// How long a run may take to its dataset beside those of other tests.
const TIME: Duration = Duration::from_mins(5);

/// A run of four-sample batches that wants eight trajectories.
fn changes() -> Value {
    json!({
        "source": {"commits": {"count": 1}},
        "generation": {
            "acceptedTrajectories": 8, "batchSize": 4, "shardSize": 2, "parallelBatches": 2, "maxSamples": 40,
            "budget": null,
            "sandbox": {"slots": 2, "landlock": "BestEffort"},
        },
        // This node has none, and so the run comes as far as its dataset, and waits.
        "training": {"gpusPerNode": 1},
    })
}

fn has_its_dataset(status: &RunStatus) -> bool {
    is_true(status, ConditionType::DatasetBuilt) && reason(status, ConditionType::Trained) == Some("Unschedulable")
}

fn counts(run: &SpecializationRun) -> Result<GenerationTotals> {
    Ok(status(run)?.generation.clone().context("nothing was counted")?.totals)
}

async fn a_run_makes_its_batches_and_a_dataset_whose_lineage_leads_to_patches_and_others_adopt_both(
    space: Space,
) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(TIME);
    ground.apply_run("billing", changes()).await?;
    let run = ground.until("billing", has_its_dataset).await?;
    let said = status(&run)?;
    let totals = counts(&run)?;
    ensure!((totals.accepted, totals.accepted_first, totals.accepted_second) == (8, 5, 3), "{totals:?}");
    let locked = [Stage::Snapshot, Stage::Generation, Stage::Rollouts, Stage::Dataset, Stage::Training];
    ensure!(said.locked_stages == locked, "{:?}", said.locked_stages);
    let waits_for = message(said, ConditionType::Trained);
    ensure!(waits_for.contains("nvidia.com/gpu"), "it does not say what it waits for: {waits_for}");
    let folded = said.generation.as_ref().and_then(|generation| generation.folded.clone()).context("no batch")?;
    ensure!(totals.attempted == u64::from(folded.samples), "{totals:?} of {folded:?}");
    let dataset = said.artifacts.as_ref().and_then(|artifacts| artifacts.dataset.clone()).context("no dataset")?;
    let script = format!(
        "cd {}
         sha256sum dataset/manifest.json
         cat dataset/train.jsonl dataset/eval.jsonl | wc -l
         ls rollouts",
        folder(&ground, &run)?
    );
    let seen = ground.in_store("look", &script).await?;
    ensure!(seen.contains(&dataset.sha256.to_string()), "the manifest's digest is another one: {seen}");
    ensure!(seen.lines().nth(1).map(str::trim) == Some("8"), "{seen}");
    ensure!(seen.contains("billing-1"), "{seen}");
    lineage::leads_back(&ground, &folder(&ground, &run)?, 8).await?;
    held_by_policies(&ground).await?;
    ground.until_events("billing", &["BatchFolded", "GenerationSucceeded", "DatasetSucceeded"]).await?;
    adopt_its_dataset(&ground, said).await?;
    adopt_its_rollouts(&ground, said).await
}

/// What a run wants that takes over what another has, through this stage.
fn adopting(earlier: &RunStatus, through: &str) -> Value {
    let mut changes = changes();
    changes["from"] = json!({"uri": earlier.store, "through": through});
    changes
}

fn dataset_of(status: &RunStatus) -> Result<String> {
    let artifacts = status.artifacts.as_ref().context("nothing was made")?;
    Ok(artifacts.dataset.as_ref().context("there is no dataset")?.sha256.to_string())
}

/// The very dataset, in another run's folder, and not a single call of a teacher.
async fn adopt_its_dataset(ground: &Ground, earlier: &RunStatus) -> Result<()> {
    ground.apply_run("second", adopting(earlier, "Dataset")).await?;
    let second = ground.until("second", has_its_dataset).await?;
    let said = status(&second)?;
    for about in [ConditionType::Snapshotted, ConditionType::Generated, ConditionType::DatasetBuilt] {
        ensure!(reason(said, about) == Some("Adopted"), "{about:?}: {:?}", reason(said, about));
    }
    ensure!(dataset_of(said)? == dataset_of(earlier)?, "{} is not {}", dataset_of(said)?, dataset_of(earlier)?);
    let totals = counts(&second)?;
    ensure!((totals.accepted, totals.tokens) == (8, 0), "{totals:?}");
    Ok(())
}

/// The rollouts, verified and made a dataset of by this run: the same trajectories, and not a single call of a teacher.
async fn adopt_its_rollouts(ground: &Ground, earlier: &RunStatus) -> Result<()> {
    ground.apply_run("third", adopting(earlier, "Generation")).await?;
    let third = ground.until("third", has_its_dataset).await?;
    let totals = counts(&third)?;
    ensure!((totals.accepted_first, totals.accepted_second, totals.tokens) == (5, 3, 0), "{totals:?}");
    let folded = |status: &RunStatus| status.generation.as_ref()?.folded.as_ref().map(|folded| folded.samples);
    ensure!(folded(status(&third)?) == folded(earlier), "{:?} and {:?}", folded(status(&third)?), folded(earlier));
    Ok(())
}

/// Whether every pod that was made is selected by a policy that rules both ways. Nothing here enforces one: that is the cluster's network's.
async fn held_by_policies(ground: &Ground) -> Result<()> {
    let policies: Api<NetworkPolicy> = ground.space.api();
    let policies = policies.list(&ListParams::default()).await?;
    let pods: Api<Pod> = ground.space.api();
    for pod in pods.list(&ListParams::default().labels("sera.dev/owner-uid")).await? {
        let labels = pod.labels();
        let selects = |policy: &&NetworkPolicy| {
            policy.spec.as_ref().is_some_and(|spec| {
                let selector = spec.pod_selector.clone().unwrap_or_default();
                let is_met = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
                is_met
                    && selector.match_expressions.iter().flatten().all(|wish| labels.contains_key(&wish.key))
                    && spec.policy_types.as_ref().is_some_and(|types| types.len() == 2)
            })
        };
        let held = policies.iter().filter(selects).count();
        ensure!(held == 1, "{held} policies hold {}, with the labels {labels:?}", pod.name_any());
    }
    Ok(())
}

/// How long the operator lives between two kills, in milliseconds. The sequence is fixed, so that a failure comes again.
const LIVES: [u64; 12] = [3_000, 800, 5_000, 200, 2_500, 7_000, 50, 1_500, 4_000, 600, 6_000, 2_000];

async fn an_upgrade_in_the_middle_loses_nothing_and_whatever_is_killed_the_same_samples_are_accepted(
    space: Space,
) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.apply_run("quiet", changes()).await?;
    let quiet = ground.until("quiet", has_its_dataset).await?;
    Box::pin(is_upgraded_and_loses_nothing(&ground, &quiet)).await?;
    ground.apply_run("shaken", changes()).await?;
    for (round, life) in LIVES.into_iter().enumerate() {
        tokio::time::sleep(Duration::from_millis(life)).await;
        kill_operators(&ground, round % 3 == 2).await.context("cannot kill the operator")?;
        if round % 2 == 0 {
            delete_a_driver(&ground).await?;
        }
    }
    let shaken = ground.until("shaken", has_its_dataset).await?;
    let of = |totals: GenerationTotals| {
        (totals.attempted, totals.accepted, totals.accepted_first, totals.accepted_second, totals.rejected)
    };
    let (expected, found) = (of(counts(&quiet)?), of(counts(&shaken)?));
    ensure!(expected == found, "undisturbed {expected:?}, and shaken {found:?}");
    has_the_lines_of(&ground, &shaken, &quiet).await
}

/// The chart is upgraded while rollouts are at work, and both operators are replaced. The run has what the quiet one has: the same lines from as many
/// calls, by as many attempts.
async fn is_upgraded_and_loses_nothing(ground: &Ground, quiet: &SpecializationRun) -> Result<()> {
    ground.apply_run("upgraded", changes()).await?;
    until_at_work(ground, Stage::Rollouts).await?;
    let before = leader(ground).await?;
    set(ground, &["--set-string=podAnnotations.upgraded=in-the-middle", "--wait", "--timeout=3m"]).await?;
    until_another_leads(ground, before.as_deref()).await?;
    let run = ground.until("upgraded", has_its_dataset).await?;
    let (said, expected) = (status(&run)?, status(quiet)?);
    ensure!(counts(&run)? == counts(quiet)?, "undisturbed {:?}, and upgraded {:?}", counts(quiet)?, counts(&run)?);
    ensure!(
        said.attempts == expected.attempts,
        "undisturbed {:?}, and upgraded {:?}",
        expected.attempts,
        said.attempts
    );
    ensure!(said.recent_failures.is_empty(), "{:?}", said.recent_failures);
    for batch in ground.space.api::<RolloutBatch>().list(&ListParams::default()).await?.items {
        let (name, attempts) = (batch.name_any(), batch.status.unwrap_or_default().attempts);
        ensure!(attempts.values().all(|number| *number == 1), "batch {name} took {attempts:?}");
    }
    has_the_lines_of(ground, &run, quiet).await
}

/// A line is called after its run and batch, which says where it stands, and is the same otherwise. What differs is shown message by message.
async fn has_the_lines_of(ground: &Ground, run: &SpecializationRun, quiet: &SpecializationRun) -> Result<()> {
    let lines = |run: &SpecializationRun| {
        let (name, folder) = (run.name_any(), folder(ground, run)?);
        anyhow::Ok(format!(
            "cat {folder}/dataset/train.jsonl {folder}/dataset/eval.jsonl | sed 's/\"{name}-/\"/' | sort | sed 's/}},/}},\\n/g'"
        ))
    };
    let script = format!(
        "{} > /tmp/undisturbed
         {} > /tmp/disturbed
         wc -l < /tmp/undisturbed
         diff /tmp/undisturbed /tmp/disturbed || [ $? -eq 1 ]",
        lines(quiet)?,
        lines(run)?
    );
    let name = run.name_any();
    let seen = ground.in_store(&format!("lines-of-{name}"), &script).await?;
    let (messages, differences) = seen.split_once('\n').unwrap_or((&seen, ""));
    ensure!(messages.trim().parse::<u32>()? > 8, "there are hardly any messages: {seen}");
    ensure!(differences.trim().is_empty(), "undisturbed, and then {name}:\n{differences}");
    Ok(())
}

/// A pod of a stage, once it is at work.
pub(super) async fn until_at_work(ground: &Ground, stage: Stage) -> Result<String> {
    let pods = ground.space.api::<Pod>();
    for _ in 0..600 {
        let found = pods.list(&made_for(stage)).await?.items;
        if let Some(pod) = found.iter().find(|pod| phase(Some(pod)) == "Running") {
            return Ok(pod.name_any());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("no pod of {stage} was at work within two minutes")
}

/// Who holds the Lease.
async fn leader(ground: &Ground) -> Result<Option<String>> {
    let leases: Api<Lease> = Api::namespaced(ground.space.client(), NAMESPACE);
    Ok(leases.get(RELEASE).await?.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty()))
}

async fn until_another_leads(ground: &Ground, before: Option<&str>) -> Result<()> {
    for _ in 0..150 {
        let now = leader(ground).await?;
        if now.is_some() && now.as_deref() != before {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("half a minute after the upgrade nobody leads but {before:?}")
}

/// Deletes a pod that drives rollouts, if there is one, without a warning.
async fn delete_a_driver(ground: &Ground) -> Result<()> {
    let pods = ground.space.api::<Pod>();
    let drivers = pods.list(&made_for(Stage::Rollouts)).await?;
    let Some(name) = drivers.items.into_iter().find_map(|pod| pod.metadata.name) else { return Ok(()) };
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    match pods.delete(&name, &now).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(refusal)) if refusal.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
