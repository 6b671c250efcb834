//! A stand-in for scheduler, kubelet and the programs in its containers: it sets the status of a namespace's pods as those would, and has each pod's
//! work done in the model of the store. The Jobs and Deployments that the pods belong to are looked after by the real controller manager.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use sera_crds::contract::{ExitCode, Failure, FailureClass, Termination};
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};

use super::at_work::AtWork;
use super::course::{Course, lock};
use super::oracle::Found;
use super::persist::persistently;
use super::program::{Assignment, CONTAINER};
use super::random::Random;
use super::script::Fate;
use super::store::Store;

/// Keeps a pod that is being deleted until its program has ended, as a kubelet does.
const FINALIZER: &str = "sera.dev/chaos";

/// What a program says whose owner must change something.
const REFUSAL: &str = "the chaos runner has taken a Secret away: put it back";

/// The node of one run.
pub(super) struct Node {
    course: Arc<Course>,
    pods: Api<Pod>,
    store: Mutex<Store>,
    at_work: AtWork,
}

/// The pods that the node has seen.
#[derive(Default)]
struct Seen {
    lives: BTreeMap<String, AbortHandle>,
    leaving: Vec<String>,
}

impl Node {
    /// The node of a run, which asks the API server by itself.
    pub(super) fn new(course: Arc<Course>, client: Client) -> Arc<Self> {
        let pods = Api::namespaced(client, &course.namespace);
        let at_work = AtWork::new(Arc::clone(&course));
        Arc::new(Self { course, pods, store: Mutex::default(), at_work })
    }

    /// What the model of the store holds of the object with this uid.
    pub(super) fn found(&self, uid: &str) -> Option<Found> {
        lock(&self.store).of(uid)
    }

    /// Looks after pods for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>) -> Result<()> {
        let (mut seen, mut tasks) = (Seen::default(), JoinSet::new());
        let mut events =
            std::pin::pin!(watcher(self.pods.clone(), watcher::Config::default()).default_backoff().applied_objects());
        loop {
            let pod = match events.try_next().await {
                Ok(Some(pod)) => pod,
                Ok(None) => return Ok(()),
                // The API server is being restarted.
                Err(_) => continue,
            };
            while tasks.try_join_next().is_some() {}
            self.see(&mut seen, &mut tasks, pod);
        }
    }

    fn see(self: &Arc<Self>, seen: &mut Seen, tasks: &mut JoinSet<()>, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            if pod.finalizers().iter().any(|finalizer| finalizer == FINALIZER) && !seen.leaving.contains(&uid) {
                seen.leaving.push(uid.clone());
                if let Some(life) = seen.lives.get(&uid) {
                    life.abort();
                }
                tasks.spawn(Arc::clone(self).ends(pod));
            }
            return;
        }
        if !seen.lives.contains_key(&uid) {
            let number = seen.lives.len() as u64;
            let life = tasks.spawn(Arc::clone(self).lives(pod, number));
            seen.lives.insert(uid, life);
        }
    }

    /// The life of the pod that came as this number.
    async fn lives(self: Arc<Self>, pod: Pod, number: u64) {
        let mut random = Random::of(self.course.calls(), 100 + number);
        let name = pod.name_any();
        if !self.patch(&pod, &with_finalizer(&pod), false).await {
            return;
        }
        tokio::time::sleep(random.millis(20, 150)).await;
        let started = Timestamp::now();
        if !self.patch(&pod, &running(&pod, started), true).await {
            return;
        }
        let Some(assignment) = Assignment::of(&pod) else {
            if pod
                .metadata
                .annotations
                .as_ref()
                .is_some_and(|all| all.contains_key("batch.kubernetes.io/job-completion-index"))
            {
                self.course.wrong(format!("pod {name} of a Job is told what makes no sense"));
            }
            return;
        };
        self.at_work.takes_up(&assignment, &pod);
        let fate = self.course.script.fates.get(&number).copied().unwrap_or(Fate::Works);
        self.course.note(&format!("pod {number} ({name}): {fate:?}"));
        tokio::time::sleep(random.millis(20, 250)).await;
        let ended = match fate {
            Fate::Works | Fate::IsSilent => {
                let end = lock(&self.store).run(&assignment);
                let code = if end.wrong.is_some() { ExitCode::Internal.code() } else { ExitCode::Success.code() };
                if let Some(wrong) = end.wrong {
                    self.course.wrong(wrong);
                }
                ended(&pod, started, i32::from(code), &end.words.to_json(), None)
            }
            Fate::Refuses => {
                self.course.expects(REFUSAL);
                let code = i32::from(ExitCode::Configuration.code());
                ended(&pod, started, code, &Termination::failed(refusal()).to_json(), None)
            }
            Fate::Fails(code) => {
                lock(&self.store).begin(&assignment);
                ended(&pod, started, code, "", None)
            }
            Fate::IsEvicted => {
                lock(&self.store).begin(&assignment);
                ended(&pod, started, 137, "", Some("Evicted"))
            }
            Fate::IsDeleted => {
                lock(&self.store).begin(&assignment);
                self.delete(&pod).await;
                return;
            }
        };
        self.at_work.puts_down(&pod);
        self.patch(&pod, &ended, true).await;
        if fate == Fate::IsSilent {
            self.delete(&pod).await;
        }
    }

    /// A pod that is told to stop does so after a while, and is gone then.
    async fn ends(self: Arc<Self>, pod: Pod) {
        let mut random = Random::of(self.course.calls(), 99);
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        if phase == "Running" || phase == "Pending" {
            tokio::time::sleep(random.millis(0, 700)).await;
            let code = i32::from(ExitCode::Interrupted.code());
            if phase == "Running" {
                self.patch(&pod, &ended(&pod, Timestamp::now(), code, "", None), true).await;
            }
        }
        self.at_work.puts_down(&pod);
        self.patch(&pod, &without_finalizer(&pod), false).await;
    }

    /// Changes a pod, or its status; says whether it was still there.
    async fn patch(&self, pod: &Pod, change: &Value, status: bool) -> bool {
        let (name, parameters, patch) = (pod.name_any(), PatchParams::default(), Patch::Strategic(change));
        // What the API server of these minutes cannot do, it can do a little later.
        let done = persistently(|| async {
            if status {
                self.pods.patch_status(&name, &parameters, &patch).await
            } else {
                self.pods.patch(&name, &parameters, &patch).await
            }
        });
        done.await.is_ok()
    }

    async fn delete(&self, pod: &Pod) {
        // It may be gone already, which is all the same.
        let _ = self.pods.delete(&pod.name_any(), &DeleteParams::default()).await;
    }
}

fn refusal() -> Failure {
    Failure {
        class: FailureClass::Configuration,
        reason: "SecretMissing".to_owned(),
        field: None,
        message: REFUSAL.to_owned(),
    }
}

/// Of a pod with this uid alone: its namesake is another.
fn of(pod: &Pod, change: &Value) -> Value {
    let mut change = change.clone();
    change["metadata"]["uid"] = json!(pod.uid());
    change
}

fn with_finalizer(pod: &Pod) -> Value {
    of(pod, &json!({"metadata": {"finalizers": [FINALIZER]}}))
}

fn without_finalizer(pod: &Pod) -> Value {
    of(pod, &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}))
}

fn containers(pod: &Pod, state: impl Fn(&str) -> Value, ready: bool) -> Vec<Value> {
    let all = pod.spec.iter().flat_map(|spec| &spec.containers);
    all.map(|container| {
        let image = container.image.clone().unwrap_or_default();
        json!({
            "name": container.name, "image": image, "imageID": format!("{image}@sha256:{}", "0".repeat(64)),
            "restartCount": 0, "ready": ready, "started": ready, "state": state(&container.name),
        })
    })
    .collect()
}

fn running(pod: &Pod, since: Timestamp) -> Value {
    let state = |_: &str| json!({"running": {"startedAt": format!("{since:.0}")}});
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": format!("{since:.0}")});
    let conditions: Vec<Value> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition).into();
    of(
        pod,
        &json!({"status": {
            "phase": "Running", "startTime": format!("{since:.0}"), "conditions": conditions,
            "containerStatuses": containers(pod, state, true),
        }}),
    )
}

fn ended(pod: &Pod, since: Timestamp, code: i32, words: &str, disruption: Option<&str>) -> Value {
    let now = Timestamp::now();
    let state = |name: &str| {
        let said = if name == CONTAINER { words } else { "" };
        let reason = if code == 0 { "Completed" } else { "Error" };
        json!({"running": null, "terminated": {
            "exitCode": code, "reason": reason, "message": said,
            "startedAt": format!("{since:.0}"), "finishedAt": format!("{now:.0}"),
        }})
    };
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let mut conditions = vec![json!({"type": "Ready", "status": "False", "lastTransitionTime": format!("{now:.0}")})];
    let mut status = json!({"phase": phase, "containerStatuses": containers(pod, state, false)});
    if let Some(reason) = disruption {
        status["reason"] = json!(reason);
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
            "lastTransitionTime": format!("{now:.0}"),
        }));
    }
    status["conditions"] = json!(conditions);
    of(pod, &json!({"status": status}))
}
