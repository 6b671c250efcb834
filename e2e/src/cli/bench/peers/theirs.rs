//! The side of Kubeflow Trainer: objects of the kind `TrainJob` that are suspended, of one `TrainingRuntime`. Its webhooks are not configured, and the
//! controller of `JobSet` does not run: what Trainer makes of that kind stays as it is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use sera_e2e::cluster::{Cluster, Peer};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::side::Side;
use crate::cli::bench::operator::name_of;
use crate::cli::bench::process::{Place, Process, free_address};

/// What controller-runtime calls its certificates' folder, below the one for temporary files.
const CERTIFICATES: &str = "k8s-webhook-server/serving-certs";
/// The runtime that every `TrainJob` refers to.
const RUNTIME: &str = "torch";

/// The controller.
pub(super) struct Theirs {
    peer: Peer,
    qps: u32,
    /// Its folder for temporary files: its certificate, and its configuration.
    folder: TempDir,
}

impl Theirs {
    /// Has the cluster know its kinds, and gives it a certificate of its own, without which it does not start.
    pub(super) async fn prepare(cluster: &Cluster, peer: Peer, qps: u32) -> Result<Self> {
        peer.define_kinds(cluster).await?;
        let folder = tempfile::tempdir()?;
        let certificates = folder.path().join(CERTIFICATES);
        fs::create_dir_all(&certificates)?;
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::write(certificates.join("tls.crt"), certificate.cert.pem())?;
        fs::write(certificates.join("tls.key"), certificate.signing_key.serialize_pem())?;
        Ok(Self { peer, qps, folder })
    }
}

impl Side for Theirs {
    const NAMESPACE: &'static str = "theirs";

    fn kind(&self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk("trainer.kubeflow.org", "v1alpha1", "TrainJob"))
    }

    /// As its own `torch-distributed` is.
    fn ground(&self) -> String {
        let container = json!({"name": "node", "image": "localhost/torch:bench"});
        let labels = json!({"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"});
        let job = json!({"metadata": {"labels": labels}, "spec": {"template": {"spec": {"containers": [container]}}}});
        json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainingRuntime", "metadata": {"name": RUNTIME},
            "spec": {
                "mlPolicy": {"numNodes": 1, "torch": {}},
                "template": {"spec": {"replicatedJobs": [{"name": "node", "template": job}]}},
            },
        })
        .to_string()
    }

    fn object(&self, number: u32) -> serde_json::Value {
        json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": name_of(number)},
            "spec": {
                "suspend": true,
                "runtimeRef": {"kind": "TrainingRuntime", "name": RUNTIME},
                "trainer": {"numNodes": 1, "command": ["torchrun", "train.py"]},
            },
        })
    }

    fn is_seen(job: &DynamicObject) -> bool {
        let conditions = job.data["status"]["conditions"].as_array();
        conditions.is_some_and(|conditions| conditions.iter().any(|condition| condition["type"] == "Suspended"))
    }

    async fn start(&self, kubeconfig: &Path) -> Result<Process> {
        let [health, metrics, webhook] = [free_address().await?, free_address().await?, free_address().await?];
        let configuration = json!({
            "apiVersion": "config.trainer.kubeflow.org/v1alpha1", "kind": "Configuration",
            "health": {"healthProbeBindAddress": health.to_string()},
            "metrics": {"bindAddress": metrics.to_string(), "secureServing": false},
            "webhook": {"host": webhook.ip().to_string(), "port": webhook.port()},
            // As its manifests have it.
            "controller": {"groupKindConcurrency": {"TrainJob.trainer.kubeflow.org": 5}},
            "certManagement": {"enable": false},
            "clientConnection": {"qps": self.qps, "burst": self.qps},
        });
        let file = self.folder.path().join("configuration.yaml");
        fs::write(&file, configuration.to_string())?;
        let log = self.folder.path().join("log");
        let mut command = Command::new(&self.peer.program);
        command.arg(format!("--config={}", file.display())).arg("--zap-log-level=error");
        command.env("KUBECONFIG", kubeconfig).env("TMPDIR", self.folder.path());
        // It complains of each JobSet that its cache does not show yet, and tries again.
        command.stderr(fs::File::create(&log)?);
        let started = Process::run(command, Place { controller: "trainjob_controller", health, metrics }).await;
        started.with_context(|| fs::read_to_string(&log).unwrap_or_default())
    }
}
