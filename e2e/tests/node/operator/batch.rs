//! A batch on its own, from a repository to verdicts: what is made, what is counted, what a new threshold costs, and who is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use backon::{ConstantBuilder, Retryable};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use sera_crds::RolloutBatch;
use sera_crds::batch::BatchStatus;
use sera_crds::conditions::{self, ConditionType};
use sera_crds::run::Phase;
use sera_crds::values::Stage;
use sera_e2e::cluster::ToolError;
use serde_json::{Value, json};

use super::figures;
use super::ground::{Ground, STORE, made_for, modest, modest_slots};
use super::student::{STUDENT, lay_student};
use super::teacher::{self, Teacher};
use crate::company::Company;
use crate::house::{Space, Test, phase, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    a_lone_batch_is_verified_and_a_new_threshold_verifies_again_without_a_call,
    a_new_threshold_makes_no_call_that_the_teacher_itself_counts,
    a_batch_whose_time_is_over_makes_no_call_and_ends_with_what_it_has,
    a_teacher_that_the_operator_serves_is_asked_and_goes_when_nobody_asks_any_more,
    sandboxes_hold_no_secret_and_no_token,
];

/// A batch of six samples in two shards.
pub(super) fn manifest(ground: &Ground, name: &str) -> Value {
    json!({
        "apiVersion": "sera.dev/v1alpha1", "kind": "RolloutBatch", "metadata": {"name": name},
        "spec": {
            "source": {"git": {"url": ground.url()}, "commits": {"count": 1}},
            "teacher": {
                "rehearsal": {"shares": {"full": "0.6", "partial": "0.3", "miss": "0.1"}},
                "price": figures::price(),
            },
            "generation": {
                "shardSize": 3,
                "sandbox": {"slots": 2, "landlock": "BestEffort", "resources": modest_slots()},
                "verification": {"threshold": "0.5"},
            },
            "output": {"store": STORE},
            "pods": modest(),
            "samples": {"from": 0, "count": 6},
        },
    })
}

pub(super) fn is_done(status: &BatchStatus) -> bool {
    status.phase == Some(Phase::Succeeded) && conditions::is_true(&status.conditions, ConditionType::Verified)
}

async fn a_lone_batch_is_verified_and_a_new_threshold_verifies_again_without_a_call(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.space.apply(&manifest(&ground, "alone").to_string()).await?;
    let batch = ground.until_batch("alone", is_done).await?;
    let said = batch.status.clone().context("no status")?;
    let first = said.generation.clone().context("nothing was counted")?.totals;
    ensure!(first.attempted == 6, "{first:?}");
    ensure!(first.accepted > 0 && first.accepted == first.accepted_first + first.accepted_second, "{first:?}");
    ensure!(first.tokens > 0 && first.cost.is_some(), "{first:?}");
    ensure!(first.recall_histogram.iter().sum::<u64>() > 0 && first.recall.is_some(), "{first:?}");
    ensure!(said.teacher.as_deref() == Some("rehearsal"), "{:?}", said.teacher);
    ensure!(
        said.attempts == [(Stage::Snapshot, 1), (Stage::Rollouts, 1), (Stage::Verification, 1)].into(),
        "{:?}",
        said.attempts
    );

    ground.until_none::<Deployment>().await.context("the teacher stays")?;

    let batch = verify_harder(&ground, "alone").await?;
    let said = batch.status.context("no status")?;
    let again = said.generation.context("nothing was counted")?.totals;
    ensure!(again.accepted_second < first.accepted_second, "{first:?}, and then {again:?}");
    ensure!((again.tokens, &again.cost) == (first.tokens, &first.cost), "{first:?}, and then {again:?}");
    ensure!(
        said.attempts.get(&Stage::Rollouts) == Some(&1) && said.attempts.get(&Stage::Verification) == Some(&2),
        "{:?}",
        said.attempts
    );
    let teachers = ground.space.api::<Deployment>().list(&ListParams::default()).await?.items;
    ensure!(teachers.is_empty(), "a teacher was asked for");
    let uid = batch.metadata.uid.context("no uid")?;
    let listing = format!("ls /mnt/store/runs/{}/alone/{uid}/verified/alone | wc -l", ground.space.namespace);
    let verdicts = ground.in_store("look", &listing).await?;
    ensure!(verdicts.trim() == "2", "{verdicts} files of verdicts lie in the store");
    Ok(())
}

/// Asks for more of a batch that is done, and waits until it is verified anew.
async fn verify_harder(ground: &Ground, name: &str) -> Result<RolloutBatch> {
    let harder = Patch::Merge(json!({"spec": {"generation": {"verification": {"threshold": "1"}}}}));
    ground.space.api::<RolloutBatch>().patch(name, &PatchParams::default(), &harder).await?;
    ground.until_batch(name, is_done).await
}

/// What a batch says of its calls may be wrong; what the teacher says of them is not the operator's.
async fn a_new_threshold_makes_no_call_that_the_teacher_itself_counts(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let host = ground.space.cluster().await?.host_ip().context("pods cannot reach this machine")?;
    let teacher = Teacher::start(host).await?;
    let mut wanted = manifest(&ground, "counted");
    wanted["spec"]["teacher"] = json!({"endpoint": {"url": teacher.url(), "model": teacher::MODEL}});
    ground.space.apply(&wanted.to_string()).await?;
    let batch = ground.until_batch("counted", is_done).await?;
    let first = batch.status.and_then(|said| said.generation).context("nothing was counted")?.totals;
    let calls = teacher.calls().await?;
    // Six samples, and a first rollout takes a look, a change and two submits at least.
    ensure!(first.attempted == 6 && first.accepted_second > 0 && calls > 6 * 4, "{calls} calls for {first:?}");

    let batch = verify_harder(&ground, "counted").await?;
    let said = batch.status.context("no status")?;
    let again = said.generation.context("nothing was counted")?.totals;
    ensure!(said.attempts.get(&Stage::Verification) == Some(&2), "{:?}", said.attempts);
    ensure!(again.accepted_second < first.accepted_second, "{first:?}, and then {again:?}");
    let later = teacher.calls().await?;
    ensure!(later == calls, "{calls} calls until it was verified, and {later} when it was verified again");
    Ok(())
}

/// The teacher alone takes longer to start than the rollouts may take.
async fn a_batch_whose_time_is_over_makes_no_call_and_ends_with_what_it_has(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let mut wanted = manifest(&ground, "late");
    wanted["spec"]["generation"]["budget"] = json!({"maxDuration": "1s"});
    ground.space.apply(&wanted.to_string()).await?;
    let batch = ground.until_batch("late", is_done).await?;
    let totals = batch.status.and_then(|said| said.generation).context("nothing was counted")?.totals;
    ensure!((totals.attempted, totals.accepted, totals.tokens) == (6, 0, 0), "{totals:?}");
    ensure!(totals.rejected == [("Missing".to_owned(), 12)].into(), "{totals:?}");
    Ok(())
}

/// The label that the pods of a teacher have.
const OF_A_TEACHER: &str = "sera.dev/teacher";
/// How many samples are spread over two copies: that all go to one happens once in two thousand times.
const SPREAD: u64 = 12;

/// The model has random weights: it is asked, and what it says is of no use to anybody.
async fn a_teacher_that_the_operator_serves_is_asked_and_goes_when_nobody_asks_any_more(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(std::time::Duration::from_mins(6));
    lay_student(&ground).await?;
    let mut wanted = manifest(&ground, "served");
    wanted["spec"]["samples"]["count"] = json!(SPREAD);
    wanted["spec"]["generation"]["shardSize"] = json!(SPREAD);
    wanted["spec"]["teacher"] = json!({
        "serve": {"engine": "builtin", "model": {"uri": STUDENT}, "replicas": 2, "args": ["--max-batch=2"]},
        "contextLength": 8192, "sampling": {"maxOutputTokens": 256},
    });
    wanted["spec"]["generation"]["agent"] = json!({"maxSteps": 2, "maxOutputTokens": 256});
    ground.space.apply(&wanted.to_string()).await?;
    let mut answers = BTreeMap::new();
    let batch = tokio::select! {
        batch = ground.until_batch("served", is_done) => batch?,
        problem = follow_copies(&ground, &mut answers) => bail!("the copies cannot be followed: {problem:?}"),
    };
    ensure!(answers.len() == 2 && answers.values().all(|count| *count > 0.0), "not both were asked: {answers:?}");
    let said = batch.status.context("no status")?;
    let totals = said.generation.context("nothing was counted")?.totals;
    ensure!((totals.attempted, totals.accepted) == (SPREAD, 0), "{totals:?}");
    ensure!(totals.tokens > 0, "nobody asked it: {totals:?}");
    ensure!(said.teacher.as_deref() == Some(STUDENT), "{:?}", said.teacher);
    ground.until_none::<Deployment>().await.context("the teacher stays")
}

/// Notes how many answers each copy of a served teacher has given, for as long as it is polled.
async fn follow_copies(ground: &Ground, answers: &mut BTreeMap<String, f64>) -> Result<Infallible> {
    let pods = ground.space.api::<Pod>();
    loop {
        for pod in pods.list(&ListParams::default().labels(OF_A_TEACHER)).await?.items {
            let name = pod.name_any();
            // Through the API server: it reaches every pod.
            let path = format!("/api/v1/namespaces/{}/pods/{name}:8000/proxy/metrics", ground.space.namespace);
            let request = http::Request::get(path).body(Vec::new())?;
            // It does not listen yet, or is there no more.
            let Ok(metrics) = ground.space.client().request_text(request).await else { continue };
            let counted = metrics.lines().filter(|line| line.starts_with("sera_serving_requests_total{"));
            let counts = counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            answers.insert(name, counts.sum());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn sandboxes_hold_no_secret_and_no_token(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let mut wanted = manifest(&ground, "alone");
    wanted["spec"]["teacher"] = json!({"endpoint": {
        "url": "http://teacher.invalid/v1", "model": "nobody", "credentialsSecretRef": {"name": "teacher-key"},
    }});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "teacher-key"}, "stringData": {"apiKey": "s3cret-0f-the-teacher"},
    });
    ground.space.apply(&secret.to_string()).await?;
    ground.space.apply(&wanted.to_string()).await?;
    ground.until_batch("alone", |status| status.attempts.contains_key(&Stage::Rollouts)).await?;
    let of_rollouts = made_for(Stage::Rollouts);
    let pod = loop {
        if let Some(pod) = ground.space.api::<Pod>().list(&of_rollouts).await?.items.pop() {
            break pod;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let spec = pod.spec.context("a pod without a spec")?;
    ensure!(spec.automount_service_account_token == Some(false), "it would get a token");
    let volumes = spec.volumes.unwrap_or_default();
    ensure!(!serde_json::to_string(&volumes)?.contains("serviceAccountToken"), "a token is mounted");
    let secrets: Vec<&str> = volumes
        .iter()
        .filter(|volume| volume.secret.is_some() || volume.projected.is_some())
        .map(|volume| volume.name.as_str())
        .collect();
    ensure!(secrets.contains(&"teacher-credentials"), "{secrets:?}");
    let slots = spec.init_containers.unwrap_or_default();
    ensure!(slots.iter().filter(|slot| slot.restart_policy.as_deref() == Some("Always")).count() == 2, "{slots:?}");
    for slot in slots {
        let seen: Vec<String> = slot.volume_mounts.unwrap_or_default().into_iter().map(|mount| mount.name).collect();
        ensure!(
            !seen.iter().any(|name| secrets.contains(&name.as_str()) || name == "store"),
            "{} sees {seen:?}",
            slot.name
        );
        let variables: Vec<String> = slot.env.unwrap_or_default().into_iter().map(|variable| variable.name).collect();
        ensure!(variables == ["JOB_COMPLETION_INDEX"], "{} has variables of ours: {variables:?}", slot.name);
    }
    let jobs = ground.space.api::<Job>().list(&of_rollouts).await?;
    ensure!(!serde_json::to_string(&jobs.items)?.contains("s3cret-0f-the-teacher"), "the key stands in the Job");
    look_inside(&ground, &pod.metadata.name.context("a pod without a name")?).await
}

/// Looks for the key and for tokens where a command of the model could: in variables, in every process' that may be read, and in files.
const SEARCH: &str = "
    env
    cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'
    find / -xdev -name token -path '*serviceaccount*' 2>/dev/null
    find / -path /proc -prune -o -path /sys -prune -o -type f -size -64k -exec grep -l s3cret-0f-the {} + 2>/dev/null
    ls /etc/sera /mnt/store /var/run/secrets 2>&1
    echo looked";

async fn look_inside(ground: &Ground, pod: &str) -> Result<()> {
    ground.space.wait_for(pod, |pod: Option<&Pod>| phase(pod) == "Running").await?;
    for slot in ["slot-0", "slot-1"] {
        let namespace = ground.space.namespace.as_str();
        let within = ["exec", pod, "--namespace", namespace, "--container", slot, "--", "sh", "-c", SEARCH];
        let cluster = ground.space.cluster().await?;
        let search = async || cluster.kubectl(within).await;
        // A slot is wiped before each rollout, which ends whatever runs in its container: a search from outside as well.
        let was_killed = |error: &ToolError| error.to_string().contains("exit code 137");
        let often = ConstantBuilder::new().with_delay(Duration::from_secs(1)).with_max_times(20);
        let found = search.retry(often).when(was_killed).await?;
        ensure!(found.trim_end().ends_with("looked"), "the search of {slot} did not end: {found}");
        ensure!(!found.contains("s3cret-0f-the"), "{slot} can see the teacher's key: {found}");
        ensure!(!found.contains("/serviceaccount"), "{slot} can see a token: {found}");
        for mount in ["/etc/sera", "/mnt/store", "/var/run/secrets"] {
            ensure!(found.contains(&format!("'{mount}'")), "{slot} has {mount}: {found}");
        }
    }
    Ok(())
}
