//! A teacher whose copies are spread over nodes, by the real controller of `LeaderWorkerSet`; programs in the place of vLLM's processes meet each other
//! as those do. The controller is built for it, and so this is run only when it is asked for: `-- --ignored`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Service;
use kube::api::ListParams;
use sera_crds::batch::BatchStatus;
use sera_crds::conditions::{self, ConditionType};
use sera_e2e::cluster::leader_worker_set;
use sera_e2e::images::Image;
use sera_e2e::progress::Progress;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::batch::{is_done, manifest};
use super::ground::Ground;
use crate::company::Company;
use crate::house::{Space, Test, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Asked;
    a_teacher_over_nodes_waits_for_leader_worker_set_and_is_served_by_it_and_goes,
];

/// Where the stand-in lies, on the claim of the test's store, and where the teacher's pods see it.
const ENGINE: &str = "pvc://store/engines/GLM";
const ENGINE_MOUNT: &str = "/mnt/model/engines/GLM";

async fn a_teacher_over_nodes_waits_for_leader_worker_set_and_is_served_by_it_and_goes(space: Space) -> Result<()> {
    let ground = Ground::lay(space).await?.patient(Duration::from_mins(6));
    let url = ground.serve("acme/engine.git", &[("vllm", include_bytes!("vllm.py").to_vec())]).await?;
    let script = format!(
        "mkdir -p /mnt/store/engines
         git clone --quiet {url} /mnt/store/engines/GLM
         chmod +x /mnt/store/engines/GLM/vllm"
    );
    ground.in_store("lay-engine", &script).await?;
    ground.space.apply(&wanted(&ground).await?.to_string()).await?;

    let waiting = ground.until_batch("spread", |status| stalled(status).is_some()).await?;
    let said = stalled(&waiting.status.unwrap_or_default()).unwrap_or_default();
    ensure!(said.contains("this cluster has no LeaderWorkerSet"), "{said}");

    let controller = Controller::start(&ground).await?;
    let done = ground.until_batch("spread", is_done).await.with_context(|| controller.log())?;
    let totals = done.status.and_then(|status| status.generation).context("nothing was counted")?.totals;
    ensure!((totals.attempted, totals.accepted) == (1, 0) && totals.tokens > 0, "{totals:?}");
    let of_teacher = ListParams::default().labels("sera.dev/teacher");
    ground.until_no_pod(&of_teacher).await?;
    let left = ground.space.api::<Service>().list(&of_teacher).await?.items.len();
    ensure!(left == 0, "its Service is left");
    // It goes in the foreground, after its pods.
    let gone = ["wait", "--for=delete", "leaderworkersets", "--all", "--timeout=90s", "--namespace"];
    let gone = gone.into_iter().chain([ground.space.namespace.as_str()]);
    ground.space.cluster().await?.kubectl(gone).await.context("the LeaderWorkerSet is left")?;
    controller.forget(&ground).await
}

/// A batch of one sample, of a teacher whose only copy is spread over two nodes; this machine is both of them.
async fn wanted(ground: &Ground) -> Result<Value> {
    let mut wanted = manifest(ground, "spread");
    wanted["spec"]["samples"]["count"] = json!(1);
    wanted["spec"]["teacher"] = json!({
        "serve": {
            "engine": "vLLM", "model": {"uri": ENGINE}, "nodesPerReplica": 2, "gpusPerReplica": 0,
            "image": ground.image(Image::Environment).await?,
            "env": [{"name": "PATH", "value": format!("{ENGINE_MOUNT}:/usr/local/bin:/usr/bin:/bin")}],
        },
        "contextLength": 8192,
    });
    wanted["spec"]["generation"]["agent"] = json!({"maxSteps": 2});
    wanted["spec"]["pods"] = json!({"teacher": {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}}});
    Ok(wanted)
}

/// What a batch says it waits for its owner with.
fn stalled(status: &BatchStatus) -> Option<String> {
    let stalled = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Stalled.as_str());
    conditions::is_true(&status.conditions, ConditionType::Stalled).then(|| stalled.map(|said| said.message.clone()))?
}

/// The controller of `LeaderWorkerSet`, as a process of this machine; it ends with this.
struct Controller {
    folder: TempDir,
    _process: Child,
}

impl Controller {
    /// Has the cluster know its kinds and ask its webhooks, and runs it.
    async fn start(ground: &Ground) -> Result<Self> {
        let (cluster, folder) = (ground.space.cluster().await?, TempDir::new()?);
        let peer = leader_worker_set(&Progress::console()).await?;
        peer.define_kinds(cluster).await?;
        let host = cluster.host_ip().context("the API server cannot reach this machine")?.to_string();
        let certificate = rcgen::generate_simple_self_signed([host.clone()])?;
        std::fs::write(folder.path().join("tls.crt"), certificate.cert.pem())?;
        std::fs::write(folder.path().join("tls.key"), certificate.signing_key.serialize_pem())?;
        let [health, metrics, webhook] = [free_port().await?, free_port().await?, free_port().await?];
        let configuration = json!({
            "apiVersion": "config.lws.x-k8s.io/v1alpha1", "kind": "Configuration",
            "webhook": {"host": host, "port": webhook, "certDir": folder.path()},
            "health": {"healthProbeBindAddress": format!("127.0.0.1:{health}")},
            "metrics": {"bindAddress": format!("127.0.0.1:{metrics}")},
            "leaderElection": {"leaderElect": false},
            "internalCertManagement": {"enable": false},
        });
        let file = folder.path().join("configuration.yaml");
        std::fs::write(&file, configuration.to_string())?;
        let mut command = Command::new(&peer.program);
        command.arg(format!("--config={}", file.display())).env("KUBECONFIG", cluster.kubeconfig_path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(log_of(folder.path()))?);
        let controller = Self { _process: command.kill_on_drop(true).spawn()?, folder };
        controller.until_it_listens(&host, webhook).await?;
        let server = format!("https://{host}:{webhook}");
        cluster.apply(&webhooks(&server, &certificate.cert.pem(), &ground.space.namespace).to_string()).await?;
        Ok(controller)
    }

    async fn until_it_listens(&self, host: &str, port: u16) -> Result<()> {
        for _ in 0..300 {
            if tokio::net::TcpStream::connect((host, port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("the controller of LeaderWorkerSet does not listen:\n{}", self.log())
    }

    /// What it has said.
    fn log(&self) -> String {
        std::fs::read_to_string(log_of(self.folder.path())).unwrap_or_default()
    }

    /// Takes its webhooks away, which nobody will answer any more.
    async fn forget(self, ground: &Ground) -> Result<()> {
        let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
        ground.space.cluster().await?.kubectl(["delete", kinds, "lws"]).await?;
        Ok(())
    }
}

fn log_of(folder: &Path) -> std::path::PathBuf {
    folder.join("log")
}

async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

/// What the controller's own manifests register, as far as the kind that is used goes, and of pods those of one namespace.
fn webhooks(server: &str, certificate: &str, namespace: &str) -> Value {
    let hook = |name: &str, path: &str, rule: Value| {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            "clientConfig": {"url": format!("{server}{path}"), "caBundle": STANDARD.encode(certificate)},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [rule],
        })
    };
    let of_sets = || {
        json!({
            "apiGroups": ["leaderworkerset.x-k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": ["leaderworkersets"],
        })
    };
    let of_pods = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
    let (api, metadata) = ("admissionregistration.k8s.io/v1", json!({"name": "lws"}));
    let set = "leaderworkerset-x-k8s-io-v1-leaderworkerset";
    let changing = [
        hook("mleaderworkerset.kb.io", &format!("/mutate-{set}"), of_sets()),
        hook("mpod.kb.io", "/mutate--v1-pod", of_pods),
    ];
    let checking = [hook("vleaderworkerset.kb.io", &format!("/validate-{set}"), of_sets())];
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": api, "kind": "MutatingWebhookConfiguration", "metadata": metadata, "webhooks": changing},
        {"apiVersion": api, "kind": "ValidatingWebhookConfiguration", "metadata": metadata, "webhooks": checking},
    ]})
}
