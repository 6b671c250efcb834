//! What breaks on the node, each thing for real: a store that takes nothing more, an image that is nowhere, a teacher that fails, commands that take more
//! than there is, a training that gets too little. What is wrong is said in words, and where it can be repaired the run goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use k8s_openapi::api::core::v1::Pod;
use sera_crds::conditions::ConditionType;
use sera_crds::run::RunStatus;
use sera_crds::values::Stage;
use sera_e2e::cluster::{Room, volume_of};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::ground::{Ground, is_true, made_for, merge, message, reason, status};
use super::student::{STUDENT, lay_student};
use super::training::{TRAINING, changes};
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const AT_HOME: &[Test] =
    tests![Company::AtHome; a_store_that_cannot_be_written_or_is_full_is_named_until_there_is_room];
pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    an_image_that_is_nowhere_is_named,
    a_teacher_that_fails_is_named_until_it_answers,
    commands_that_fill_their_disk_or_their_memory_end_and_nothing_else_does,
    a_training_with_too_little_memory_says_how_much_to_set,
];

/// Writes 200 MB.
const FILLS: &str = "for part in $(seq 20); do head -c 10000000 /dev/zero >part-$part; done; sleep 60";
/// Takes 400 MB of memory a second: what is much quicker than a sandbox's looks on a busy machine is the kernel's to end.
const EATS: &str = r#"python3 -c 'import time; all = []
while True: all.append(b"x" * 4_000_000); time.sleep(0.01)'"#;
/// Too little for a snapshot, and enough for one.
const LITTLE: u64 = 8 << 10;
const ENOUGH: u64 = 64 << 20;

async fn a_store_that_cannot_be_written_or_is_full_is_named_until_there_is_room(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let cluster = ground.space.cluster().await?;
    let folder = volume_of(&ground.space.client(), &ground.space.namespace, "store").await?;
    cluster.make_room(&folder, Room::ReadOnly)?;
    ground.apply_run("billing", json!({})).await?;
    let unwritable = ground.until("billing", |status| has_failed(status, "StoreNotWritable")).await?;
    let said = last_failure(status(&unwritable)?)?;
    ensure!(said.contains("spec.output.store"), "it says {said:?}");

    cluster.make_room(&folder, Room::Bytes(LITTLE))?;
    ground.change_run("billing", json!({"retry": "1"})).await?;
    let full = ground.until("billing", |status| has_failed(status, "StoreFull")).await?;
    ensure!(!is_true(status(&full)?, ConditionType::Snapshotted), "{:?}", status(&full)?);

    cluster.make_room(&folder, Room::Bytes(ENOUGH))?;
    ground.change_run("billing", json!({"retry": "2"})).await?;
    ground.until_snapshotted("billing").await?;
    Ok(())
}

fn has_failed(status: &RunStatus, why: &str) -> bool {
    status.recent_failures.iter().any(|failure| failure.reason == why)
}

fn last_failure(status: &RunStatus) -> Result<String> {
    Ok(serde_json::to_string(status.recent_failures.last().context("nothing failed")?)?)
}

/// What a run wants whose rollouts are made here: a few, in pods that leave others room.
fn few(generation: Value) -> Value {
    let mut few = changes(json!({}));
    merge(&mut few["generation"], generation);
    few
}

async fn an_image_that_is_nowhere_is_named(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    ground.apply_run("billing", few(json!({"environment": {"image": "localhost/acme/nowhere:1"}}))).await?;
    let is_said = |status: &RunStatus| {
        let said = message(status, ConditionType::Generated);
        said.starts_with("batch billing-1: ") && said.contains("ImagePull") && said.contains("localhost/acme/nowhere:1")
    };
    ground.until("billing", is_said).await?;
    Ok(())
}

async fn a_teacher_that_fails_is_named_until_it_answers(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let host = ground.space.cluster().await?.host_ip().context("pods cannot reach this machine")?;
    let failing = Failing::start(SocketAddr::new(host, 0)).await?;
    let mut asks = few(json!({}));
    let endpoint = json!({"url": format!("http://{}/v1", failing.address), "model": "broken"});
    asks["teacher"] = json!({"rehearsal": null, "endpoint": endpoint});
    ground.apply_run("billing", asks).await?;
    let is_said = |status: &RunStatus| {
        message(status, ConditionType::Generated).ends_with("the teacher answers nobody: it answers with status 500")
    };
    let run = ground.until("billing", is_said).await?;
    ensure!(reason(status(&run)?, ConditionType::Reconciling) == Some("TeacherUnavailable"), "{:?}", status(&run)?);

    failing.recover();
    ground.until("billing", |status| reason(status, ConditionType::Reconciling) != Some("TeacherUnavailable")).await?;
    Ok(())
}

/// A teacher's server that answers everything with 500 until it has recovered, and then with one and the same useless word.
struct Failing {
    address: SocketAddr,
    has_recovered: Arc<AtomicBool>,
    _answering: JoinSet<()>,
}

impl Failing {
    async fn start(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let has_recovered = Arc::<AtomicBool>::default();
        let completions =
            Router::new().route("/v1/chat/completions", post(answer)).with_state(Arc::clone(&has_recovered));
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            let _ = axum::serve(listener, completions).await;
        });
        Ok(Self { address, has_recovered, _answering: answering })
    }

    fn recover(&self) {
        self.has_recovered.store(true, Ordering::Relaxed);
    }
}

/// Takes a whole request, and answers it.
async fn answer(State(is_well): State<Arc<AtomicBool>>, _: Bytes) -> Response {
    const WORD: &str = r#"data: {"choices": [{"delta": {"content": "hm"}, "finish_reason": "stop"}]}"#;
    if is_well.load(Ordering::Relaxed) {
        return ([(CONTENT_TYPE, "text/event-stream")], format!("{WORD}\n\ndata: [DONE]\n\n")).into_response();
    }
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn commands_that_fill_their_disk_or_their_memory_end_and_nothing_else_does(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?;
    let limits = json!({"memory": "1Gi", "ephemeral-storage": "64Mi"});
    let sandbox = json!({"slots": 2, "landlock": "BestEffort", "resources": {"limits": limits}});
    for (name, setup) in [("disk", FILLS), ("memory", EATS)] {
        ground.apply_run(name, few(json!({"environment": {"setup": setup}, "sandbox": sandbox}))).await?;
    }
    for (name, words) in [("disk", "wrote more than there is space for"), ("memory", "took more memory than there is")]
    {
        let run = ground.until(name, |status| is_true(status, ConditionType::Stalled)).await?;
        let said = message(status(&run)?, ConditionType::Stalled).to_owned();
        ensure!(said.starts_with(&format!("batch {name}-1: setup {words}")), "it says {said:?}");
    }
    for pod in ground.space.api::<Pod>().list(&made_for(Stage::Rollouts)).await? {
        let status = pod.status.unwrap_or_default();
        ensure!(status.reason.is_none(), "a pod was taken away: {status:?}");
        let again = status.init_container_statuses.into_iter().flatten().find(|slot| slot.restart_count > 0);
        ensure!(again.is_none(), "a slot's container ended: {again:?}");
    }
    Ok(())
}

async fn a_training_with_too_little_memory_says_how_much_to_set(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(TRAINING);
    lay_student(&ground).await?;
    let mut spec = few(json!({}));
    spec["training"]["student"] = json!({"uri": STUDENT});
    spec["pods"]["train"] =
        json!({"resources": {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"memory": "24Mi"}}});
    ground.apply_run("billing", spec).await?;
    let run = ground.until("billing", |status| is_true(status, ConditionType::Stalled)).await?;
    let said = message(status(&run)?, ConditionType::Stalled).to_owned();
    let expected =
        "spec.pods.train.resources.limits.memory: the program was killed at its memory limit of 24Mi: raise it";
    ensure!(said.starts_with(expected), "it says {said:?}");
    let enough = json!({"train": {"resources": {"limits": {"memory": "1Gi"}}}});
    ground.change_run("billing", json!({"pods": enough, "retry": "1"})).await?;
    ground.until("billing", |status| is_true(status, ConditionType::Ready)).await?;
    Ok(())
}
