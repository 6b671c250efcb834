//! The chart with `watchNamespaces`, beside the one that serves the cluster: an account with Roles alone, and the real operator with its token.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::{Api, Client};
use sera_crds::RolloutBatch;
use sera_e2e::images::{Image, program};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Question, may};
use crate::house::{Chart, House, Manifests, NAMESPACE, texts};

/// How long what the operator or the API server does at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
const BATCH: &str = "tiny";

/// Who makes the Lease.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseOf {
    /// As where Helm installs it, and the operator may not.
    TheChart,
    /// As where Argo CD does, which leaves Leases out.
    TheOperator,
}

impl LeaseOf {
    /// What names are made of.
    const fn word(self) -> &'static str {
        match self {
            Self::TheChart => "theirs",
            Self::TheOperator => "own",
        }
    }
}

/// An installation that serves two namespaces of three.
pub(super) struct Narrow {
    /// The name of the account, of the Lease, and of everything else.
    pub(super) name: String,
    /// The namespaces that it serves.
    pub(super) served: [String; 2],
    /// One that it does not.
    pub(super) other: String,
    rendered: Manifests,
}

impl Narrow {
    /// Applies what the chart renders of it but for its pods, which no node would run here, and for what belongs to the cluster.
    pub(super) async fn install(house: &House, purpose: &str, lease: LeaseOf) -> Result<Self> {
        let purpose = format!("{purpose}-{}", lease.word());
        let name = format!("{purpose}-{}", std::process::id());
        let namespace = async |which: &str| house.namespace(&format!("{purpose}-{which}"), &json!({})).await;
        let (served, other) = ([namespace("one").await?, namespace("two").await?], namespace("other").await?);
        let values = json!({
            "watchNamespaces": served, "fullnameOverride": name, "commonLabels": {"installed-for": name},
            "leaderElection": {
                "leaseDuration": "4s", "renewDeadline": "3s", "retryPeriod": "1s",
                "createLease": lease == LeaseOf::TheOperator,
            },
        });
        let rendered = house.render(Chart::Operator, &values).await?;
        let kinds = ["ServiceAccount", "Role", "RoleBinding"];
        let kinds = kinds.into_iter().chain((lease == LeaseOf::TheChart).then_some("Lease"));
        let objects: Vec<&Value> = kinds.flat_map(|kind| rendered.of(kind)).collect();
        house.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects})).await?;
        Ok(Self { name, served, other, rendered })
    }

    /// Takes away what is in the namespace of the chart that serves the cluster; the other namespaces go as a whole.
    pub(super) async fn uninstall(&self, house: &House) -> Result<()> {
        let (within, ours) = (format!("--namespace={NAMESPACE}"), format!("--selector=installed-for={}", self.name));
        house.kubectl(&["delete", "serviceaccount,role,rolebinding", &within, &ours]).await?;
        house.kubectl(&["delete", "lease", &self.name, &within, "--ignore-not-found"]).await?;
        Ok(())
    }

    /// The API server sees rights a moment after it has stored them.
    pub(super) async fn until_its_rights_are_seen(&self, account: &Client) -> Result<()> {
        let list: Question = ("list", "batch", "jobs", "");
        until("its Roles are not seen", async || {
            Ok(may(account, &self.served[0], list).await? && may(account, &self.served[1], list).await?)
        })
        .await
    }

    /// Starts the operator as its pod would be, with the account's token.
    async fn start(&self, house: &House, folder: &TempDir) -> Result<Child> {
        let file = |name: &str| folder.path().join(name);
        let kubeconfig = file("kubeconfig");
        tokio::fs::write(&kubeconfig, house.kubeconfig_of_account(NAMESPACE, &self.name).await?).await?;
        for (name, content) in self.rendered.one("ConfigMap")?["data"].as_object().context("there are files")? {
            tokio::fs::write(file(name), content.as_str().context("a file")?).await?;
        }
        let arguments = &self.rendered.one("Deployment")?["spec"]["template"]["spec"]["containers"][0]["args"];
        let folder = format!("={}/", folder.path().display());
        let arguments = texts(arguments).into_iter().map(|argument| match argument {
            argument if argument.starts_with("--listen=") => "--listen=127.0.0.1:0".to_owned(),
            argument => argument.replace("=/etc/sera/", &folder),
        });
        let log = File::create(file("log"))?;
        let mut command = Command::new(program(Image::Operator)?);
        command.args(arguments).env("KUBECONFIG", &kubeconfig).env("POD_NAME", &self.name).env("POD_UID", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        command.spawn().context("the operator does not start")
    }
}

/// Waits until it is so.
pub(super) async fn until(complaint: &'static str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let waiting = async {
        while !is_so().await? {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, waiting).await.context(complaint)?
}

/// The operator with nothing but the chart's Roles does its work where it serves, is refused nothing, and leaves alone what is elsewhere.
pub(crate) async fn works_where_it_serves(house: &House) -> Result<()> {
    works_with(house, LeaseOf::TheChart).await
}

/// The same without a Lease of the chart: it makes its own.
pub(crate) async fn makes_its_lease(house: &House) -> Result<()> {
    works_with(house, LeaseOf::TheOperator).await
}

async fn works_with(house: &House, lease: LeaseOf) -> Result<()> {
    let narrow = Narrow::install(house, "narrow", lease).await?;
    let folder = TempDir::new()?;
    let mut operator = narrow.start(house, &folder).await?;
    let outcome = works(house, &narrow).await;
    operator.kill().await?;
    narrow.uninstall(house).await?;
    let log = tokio::fs::read_to_string(folder.path().join("log")).await?;
    outcome.with_context(|| log.clone())?;
    ensure!(!log.to_lowercase().contains("forbidden"), "it was refused something: {log}");
    Ok(())
}

async fn works(house: &House, narrow: &Narrow) -> Result<()> {
    let [one, two] = &narrow.served;
    for namespace in [one, two, &narrow.other] {
        house.apply(&batch(namespace)).await?;
    }
    for namespace in [one, two] {
        let jobs = Api::<Job>::namespaced(house.client(), namespace);
        let count = async || anyhow::Ok(jobs.list(&ListParams::default()).await?.items.len());
        until("no Job was made", async || Ok(count().await? == 1)).await?;
        let batches = Api::<RolloutBatch>::namespaced(house.client(), namespace);
        let suspended = Patch::Merge(json!({"spec": {"suspend": true}}));
        batches.patch(BATCH, &PatchParams::default(), &suspended).await?;
        until("the Job of a batch that is suspended stays", async || Ok(count().await? == 0)).await?;
    }
    let untouched = Api::<RolloutBatch>::namespaced(house.client(), &narrow.other).get(BATCH).await?;
    ensure!(untouched.status().is_none(), "a batch is worked on where it serves nobody: {:?}", untouched.status());
    Ok(())
}

fn batch(namespace: &str) -> Value {
    json!({
        "apiVersion": "sera.dev/v1alpha1", "kind": "RolloutBatch", "metadata": {"name": BATCH, "namespace": namespace},
        "spec": {
            "source": {"git": {"url": "builtin://rehearsal"}}, "teacher": {"rehearsal": {}}, "generation": {},
            "samples": {"count": 2}, "output": {"store": "pvc://sera"},
        },
    })
}
