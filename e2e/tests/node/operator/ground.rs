//! What the operator's tests stand on: the operator installed once, and for each test a store and a git server with a repository of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::BoxFuture;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::Resource;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::object::HasStatus;
use sera_crds::batch::BatchStatus;
use sera_crds::conditions::{self, ConditionType};
use sera_crds::run::RunStatus;
use sera_crds::values::Stage;
use sera_crds::{RolloutBatch, SpecializationRun};
use sera_e2e::git_server::{GitServer, GitServerConfig};
use sera_e2e::images::{self, Image, ImageArchive};
use sera_e2e::platform;
use sera_e2e::progress::Progress;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::house::{PATIENCE, Space, phase};

/// The claim of every test's store, and the folder in it.
pub(super) const STORE: &str = "pvc://store/runs";
/// The repository of every test, as the git server names it.
const REPOSITORY: &str = "acme/billing.git";
/// When the repository's commits were made: three months apart, so that two of them are a year's snapshots.
const COMMIT_DATES: [&str; 3] = ["2026-01-10T09:00:00Z", "2026-04-10T09:00:00Z", "2026-07-10T09:00:00Z"];

/// A namespace with a store, and a git server that the namespace's pods reach.
pub(super) struct Ground {
    pub(super) space: Space,
    pub(super) git: GitServer,
    folder: TempDir,
    /// How long anything is waited for.
    patience: Duration,
}

impl Ground {
    /// Installs the operator, if this is the first test that needs it, and prepares the namespace.
    pub(super) async fn lay(space: Space) -> Result<Self> {
        image_of(&space, Image::Rollout).await?;
        restrict(&space).await?;
        space.apply(CLAIM).await?;
        let folder = TempDir::new()?;
        let root = folder.path().join("served");
        make_repository(folder.path(), &root.join(REPOSITORY)).await?;
        let host = space.cluster().await?.host_ip().context("pods cannot reach this machine")?;
        let git =
            GitServer::start(GitServerConfig { address: SocketAddr::new(host, 0), ..GitServerConfig::new(root) })?;
        Ok(Self { space, git, folder, patience: PATIENCE })
    }

    /// The same, with another patience.
    pub(super) fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// An image of ours, by the name that it has on the node.
    pub(super) async fn image(&self, image: Image) -> Result<&'static str> {
        image_of(&self.space, image).await
    }

    /// The repository's URL.
    pub(super) fn url(&self) -> String {
        self.git.url(REPOSITORY)
    }

    /// Serves one more repository, with these files in it, and returns its URL.
    pub(super) async fn serve(&self, repository: &str, files: &[(&str, Vec<u8>)]) -> Result<String> {
        let work = self.folder.path().join(repository.replace('/', "-"));
        let bare = self.folder.path().join("served").join(repository);
        for folder in [&work, &bare] {
            tokio::fs::create_dir_all(folder).await?;
        }
        git(&work, &["init", "--quiet", "--initial-branch=main"], None).await?;
        for (name, content) in files {
            tokio::fs::write(work.join(name), content).await?;
        }
        git(&work, &["add", "--all"], None).await?;
        git(&work, &["commit", "--quiet", "--message", "files"], None).await?;
        git(&bare, &["clone", "--quiet", "--bare", &work.display().to_string(), "."], None).await?;
        Ok(self.git.url(repository))
    }

    /// What `git` says of the repository.
    pub(super) async fn git(&self, arguments: &[&str]) -> Result<String> {
        git(&self.folder.path().join("served").join(REPOSITORY), arguments, None).await
    }

    /// Applies a run that takes two commits of the repository and may spend nothing after that, with `changes` merged over its spec.
    pub(super) async fn apply_run(&self, name: &str, changes: Value) -> Result<()> {
        self.space.apply(&self.run(name, changes).to_string()).await
    }

    /// The manifest of such a run.
    pub(super) fn run(&self, name: &str, changes: Value) -> Value {
        let mut run = json!({
            "apiVersion": "sera.dev/v1alpha1",
            "kind": "SpecializationRun",
            "metadata": {"name": name},
            "spec": {
                "source": {"git": {"url": self.url()}, "commits": {"count": 2}},
                "teacher": {"rehearsal": {"shares": {"full": "0.6", "partial": "0.3", "miss": "0.1"}}},
                "generation": {
                    "acceptedTrajectories": 16, "budget": {"maxTotalTokens": 1}, "sandbox": {"resources": modest_slots()},
                },
                "training": {"student": {"uri": "builtin://tiny"}, "gpusPerNode": 0},
                "output": {"store": STORE},
                "pods": modest(),
            },
        });
        merge(&mut run["spec"], changes);
        run
    }

    /// Changes a run's spec by a merge patch, as `kubectl edit` would.
    pub(super) async fn change_run(&self, name: &str, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        Box::pin(self.space.api::<SpecializationRun>().patch(name, &PatchParams::default(), &patch)).await?;
        Ok(())
    }

    /// Waits until the run's status, made for its newest spec, is as it should be.
    pub(super) fn until<'a>(
        &'a self,
        name: &'a str,
        wish: impl Fn(&RunStatus) -> bool + Send + Sync + 'static,
    ) -> BoxFuture<'a, Result<SpecializationRun>> {
        self.until_status(name, |status: &RunStatus| status.observed_generation, wish)
    }

    /// Waits until the run's snapshot is in the store, and the run has found that it may spend nothing.
    pub(super) async fn until_snapshotted(&self, name: &str) -> Result<SpecializationRun> {
        self.until(name, |status| {
            is_true(status, ConditionType::Snapshotted)
                && reason(status, ConditionType::Stalled) == Some("BudgetExhausted")
        })
        .await
    }

    /// Waits likewise for a batch.
    pub(super) fn until_batch<'a>(
        &'a self,
        name: &'a str,
        wish: impl Fn(&BatchStatus) -> bool + Send + Sync + 'static,
    ) -> BoxFuture<'a, Result<RolloutBatch>> {
        self.until_status(name, |status: &BatchStatus| status.observed_generation, wish)
    }

    /// Boxed, since a run is a large value.
    fn until_status<'a, K>(
        &'a self,
        name: &'a str,
        observed: fn(&K::Status) -> Option<i64>,
        wish: impl Fn(&K::Status) -> bool + Send + Sync + 'static,
    ) -> BoxFuture<'a, Result<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + HasStatus,
        K: Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
        K::Status: Serialize,
    {
        let is_so = move |object: Option<&K>| {
            let status =
                object.and_then(|object| object.status().filter(|status| observed(status) == object.meta().generation));
            status.is_some_and(&wish)
        };
        let seen = self.space.wait_within(self.patience, name, is_so);
        Box::pin(async move {
            let Err(error) = seen.await else { return Ok(self.space.api::<K>().get(name).await?) };
            let last = self.space.api::<K>().get_opt(name).await?;
            let status = last.as_ref().and_then(HasStatus::status);
            Err(error.context(format!("its status was {}", serde_json::to_string_pretty(&status)?)))
        })
    }

    /// Waits until the namespace has no object of a kind, for as long as it takes to delete a few.
    pub(super) async fn until_none<K>(&self) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let objects = self.space.api::<K>();
        for _ in 0..100 {
            if objects.list(&ListParams::default()).await?.items.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let left = objects.list(&ListParams::default()).await?.items.len();
        ensure!(left == 0, "{left} are left of kind {}", K::kind(&()));
        Ok(())
    }

    /// Waits until none of these pods holds a place any more; what has ended may lie about.
    pub(super) async fn until_no_pod(&self, these: &ListParams) -> Result<()> {
        let pods = self.space.api::<Pod>();
        for _ in 0..300 {
            if pods.list(these).await?.items.iter().all(|pod| matches!(phase(Some(pod)), "Succeeded" | "Failed")) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("there is still a pod of {:?}", these.label_selector);
    }

    /// Every Job of the namespace, by uid.
    pub(super) async fn jobs(&self) -> Result<BTreeSet<String>> {
        let jobs = self.space.api::<Job>().list(&ListParams::default()).await?;
        Ok(jobs.items.into_iter().filter_map(|job| job.metadata.uid).collect())
    }

    /// Waits until there are Events about the object for these reasons; they are written beside the status, and a moment later.
    pub(super) async fn until_events(&self, name: &str, expected: &[&str]) -> Result<()> {
        let about =
            |event: &Event| event.regarding.as_ref().is_some_and(|regarding| regarding.name.as_deref() == Some(name));
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            let events = self.space.api::<Event>().list(&ListParams::default()).await?;
            seen = events.items.into_iter().filter(about).filter_map(|event| event.reason).collect();
            if expected.iter().all(|reason| seen.contains(*reason)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("not all Events {expected:?} are among {seen:?}")
    }

    /// What a shell script prints in a pod that has the store mounted at /mnt/store, and git.
    pub(super) async fn in_store(&self, pod: &str, script: &str) -> Result<String> {
        let image = self.image(Image::Rollout).await?;
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "look",
                    "image": image,
                    "command": ["sh", "-euc", script],
                    "env": [{"name": "HOME", "value": "/tmp"}],
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "store", "mountPath": "/mnt/store"}],
                }],
                "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": "store"}}],
            },
        });
        self.space.apply(&manifest.to_string()).await?;
        self.space.output_of(pod).await
    }
}

/// Pods that ask for so little that those of several tests fit on a node of two processors: none waits until another's has gone.
pub(super) fn modest() -> Value {
    json!({"default": {"resources": modest_slots()}})
}

/// Slots likewise.
pub(super) fn modest_slots() -> Value {
    json!({"requests": {"cpu": "10m", "memory": "64Mi"}})
}

/// Whether a condition is True.
pub(super) fn is_true(status: &RunStatus, about: ConditionType) -> bool {
    conditions::is_true(&status.conditions, about)
}

/// The reason of a condition that is there.
pub(super) fn reason(status: &RunStatus, about: ConditionType) -> Option<&str> {
    conditions::get(&status.conditions, about).map(|condition| condition.reason.as_str())
}

/// The message of a condition; empty where it is not there.
pub(super) fn message(status: &RunStatus, about: ConditionType) -> &str {
    conditions::get(&status.conditions, about).map_or("", |condition| condition.message.as_str())
}

/// The status of a run that has one.
pub(super) fn status(run: &SpecializationRun) -> Result<&RunStatus> {
    run.status.as_ref().context("the run has no status")
}

/// The claim that every test's store is on.
pub(super) const CLAIM: &str = r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: store}
spec:
  accessModes: [ReadWriteMany]
  resources: {requests: {storage: 1Gi}}
";

/// An image of ours, by the name that it has on the node, once the operator is installed.
async fn image_of(space: &Space, image: Image) -> Result<&'static str> {
    static ARCHIVES: OnceCell<Vec<ImageArchive>> = OnceCell::const_new();
    let install = || async {
        let progress = Progress::console();
        let archives = images::build(&Image::ALL, &progress).await?;
        // The machines of tests may have no Landlock. A run that asks for GPUs is to come as far as its training, which then waits for them.
        let settings = ["--set=replicas=2", "--set=test.landlock=BestEffort", "--set=images.trainer.gpus=true"];
        let settings = settings.map(str::to_owned);
        platform::install(space.cluster().await?, &archives, &settings, &progress).await?;
        anyhow::Ok(archives)
    };
    let archives = ARCHIVES.get_or_try_init(install).await?;
    let archive = archives.iter().find(|archive| archive.image == image);
    Ok(archive.with_context(|| format!("no image {} was built", image.name()))?.reference.as_str())
}

/// Has the namespace refuse every pod that is not restricted, as a careful platform team does.
async fn restrict(space: &Space) -> Result<()> {
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<Namespace> = Api::all(space.client());
    namespaces.patch(&space.namespace, &PatchParams::default(), &Patch::Merge(labels)).await?;
    Ok(())
}

/// How many functions each of the repository's files has, and how many files there are: enough for the samples of every test.
const FUNCTIONS: [usize; 6] = [8, 8, 8, 8, 8, 8];

/// A bare repository of a few dated commits, on `main`.
async fn make_repository(folder: &Path, bare: &Path) -> Result<()> {
    let work = folder.join("work");
    tokio::fs::create_dir_all(work.join("src")).await?;
    tokio::fs::create_dir_all(bare).await?;
    git(&work, &["init", "--quiet", "--initial-branch=main"], None).await?;
    for (number, date) in COMMIT_DATES.iter().enumerate() {
        let code = format!("def total(prices):\n    return sum(prices[{number}:])\n");
        tokio::fs::write(work.join("src/billing.py"), code).await?;
        for (file, functions) in FUNCTIONS.into_iter().enumerate() {
            let code: Vec<String> = (0..functions).map(|function| a_function(file, function)).collect();
            tokio::fs::write(work.join(format!("src/part_{file}.py")), code.join("\n\n")).await?;
        }
        git(&work, &["add", "--all"], None).await?;
        git(&work, &["commit", "--quiet", "--message", &format!("commit {number}")], Some(date)).await?;
    }
    git(bare, &["clone", "--quiet", "--bare", &work.display().to_string(), "."], None).await?;
    Ok(())
}

/// A function with something in it to be changed: a default, a comparison, a message.
fn a_function(file: usize, function: usize) -> String {
    let limit = file * 10 + function + 1;
    format!(
        "def rule_{file}_{function}(amount, limit={limit}):\n    if amount > limit:\n        raise ValueError(\"amount is above {limit}\")\n    \
         total = amount * {limit}\n    return total\n"
    )
}

async fn git(folder: &Path, arguments: &[&str], date: Option<&str>) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "user.name=Ada", "-c", "user.email=ada@acme.test"]).args(arguments);
    if let Some(date) = date {
        command.env("GIT_AUTHOR_DATE", date).env("GIT_COMMITTER_DATE", date);
    }
    let output = command.output().await.context("cannot run git")?;
    ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// RFC 7396, JSON merge patch.
pub(super) fn merge(target: &mut Value, changes: Value) {
    match changes {
        Value::Object(changes) if target.is_object() => {
            for (key, change) in changes {
                merge(&mut target[key], change);
            }
        }
        change => *target = change,
    }
}

/// Picks what was made for a stage.
pub(super) fn made_for(stage: Stage) -> ListParams {
    ListParams::default().labels(&format!("sera.dev/stage={stage}"))
}
