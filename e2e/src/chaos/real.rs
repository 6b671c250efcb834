//! A real node's part in a trial: a claim for the store, a small student on it, and what befalls pods whose programs really work. What came of a run is
//! read from the folder behind the claim.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, EvictParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use nix::sys::signal::Signal;
use sera_crds::contract::{DatasetManifest, EvaluationReport, ModelManifest};
use sera_crds::values::GitUrl;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::at_work::AtWork;
use super::course::Course;
use super::field::{RUN, price};
use super::oracle::Found;
use super::persist::{make, persistently};
use super::program::{Assignment, CONTAINER};
use super::random::Random;
use super::script::Fate;
use crate::cluster::{Cluster, recycle, volume_of};
use crate::images::{self, Image};
use crate::progress::Progress;
use crate::small_student;

/// The claim of every trial's store, and where on it what lies.
const CLAIM: &str = "store";
const RUNS: &str = "runs";
const STUDENT: &str = "students/small";
/// How long a namespace is given to go away.
const GONE_WITHIN: Duration = Duration::from_mins(5);
const LOOK: Duration = Duration::from_secs(1);

/// What trials on a real node need, made once.
pub(super) struct Stock {
    images: Vec<String>,
    student: PathBuf,
}

impl Stock {
    /// Builds the images, and has the node take them.
    pub(super) async fn new(cluster: &Cluster) -> Result<Self> {
        let progress = Progress::console();
        let pods = [Image::Rollout, Image::Sandbox, Image::Environment, Image::Teacher, Image::Trainer];
        let mut flags = Vec::new();
        for archive in images::build(&pods, &progress).await? {
            progress.step(format!("loading {}", archive.reference));
            cluster.load_image(&archive.path).await?;
            let name = archive.image.name().trim_start_matches("sera-");
            flags.push(format!("--{name}-image={}", archive.reference));
        }
        Ok(Self { images: flags, student: images::builtin_student(&progress).await? })
    }

    /// The operator's flags that name them.
    pub(super) fn images(&self) -> Vec<String> {
        self.images.clone()
    }

    /// What is asked of a run: a repository that the images bring along, a few samples, a student that two ranks train in seconds, and two functions, of
    /// the one file in four that is set aside, on which it is compared.
    pub(super) fn spec() -> Value {
        let resources = json!({"resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}});
        let roles = ["snapshot", "rollout", "verify", "dataset", "teacher", "train", "evaluate", "serve"];
        let pods: serde_json::Map<String, Value> =
            roles.map(|role| (role.to_owned(), resources.clone())).into_iter().collect();
        json!({
            "source": {"git": {"url": GitUrl::REHEARSAL}, "commits": {"count": 1}, "heldOutFraction": "0.25"},
            "teacher": {
                "rehearsal": {"shares": {"full": "0.6", "partial": "0.3", "miss": "0.1"}},
                "sampling": {"maxOutputTokens": 512},
                "price": price(),
            },
            "generation": {
                "agent": {"maxSteps": 12, "maxOutputTokens": 256},
                "acceptedTrajectories": 6, "batchSize": 4, "shardSize": 2, "parallelBatches": 2, "maxSamples": 40,
                "sandbox": {"slots": 2, "landlock": "BestEffort"},
            },
            "dataset": {"contextLength": 4096, "minKeptRatio": "0", "evalFraction": "0", "firstRolloutShare": "0.5"},
            "training": {
                "student": {"uri": format!("pvc://{CLAIM}/{STUDENT}")}, "gpusPerNode": 0, "nodes": 2,
                "method": {"lora": {"rank": 4, "alpha": 8, "targetModules": ["q_proj", "v_proj"]}},
                "epochs": 4, "globalBatch": 2, "learningRate": "1e-3", "checkpointEvery": "1s",
            },
            "evaluation": {"samples": 2, "seeds": 1},
            "serve": {"engine": "builtin"},
            "output": {"store": format!("pvc://{CLAIM}/{RUNS}")},
            "pods": pods,
        })
    }

    /// Makes the claim in a namespace, and lays the student on it; returns the folder behind it.
    pub(super) async fn lay(&self, client: &Client, namespace: &str) -> Result<PathBuf> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        let claim = json!({
            "metadata": {"name": CLAIM},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let claim = serde_json::from_value(claim)?;
        make(|| async { claims.create(&PostParams::default(), &claim).await }).await.context("no claim can be made")?;
        let volume = volume_of(client, namespace, CLAIM).await?;
        let student = volume.join(STUDENT);
        tokio::fs::create_dir_all(&student).await?;
        for (name, content) in small_student::files()? {
            tokio::fs::write(student.join(name), content).await?;
        }
        for name in small_student::TOKENIZER {
            tokio::fs::copy(self.student.join(name), student.join(name)).await?;
        }
        Ok(volume)
    }
}

/// The part of the real node that one run sees.
pub(super) struct RealNode {
    course: Arc<Course>,
    pods: Api<Pod>,
    /// The folder behind the claim.
    volume: PathBuf,
    at_work: AtWork,
}

/// What is known of a pod that was seen.
struct Seen {
    fate: Fate,
    is_at_work: bool,
}

impl RealNode {
    /// The node of a run, whose store's claim has this folder.
    pub(super) fn new(course: Arc<Course>, client: Client, volume: PathBuf) -> Self {
        let pods = Api::namespaced(client, &course.namespace);
        let at_work = AtWork::new(Arc::clone(&course));
        Self { course, pods, volume, at_work }
    }

    /// Watches pods, and sees to it that each meets its fate.
    pub(super) async fn run(self: Arc<Self>) -> Result<()> {
        let (mut all, mut listed, mut harms) = (BTreeMap::new(), BTreeSet::new(), JoinSet::new());
        let mut events = std::pin::pin!(watcher(self.pods.clone(), watcher::Config::default()).default_backoff());
        loop {
            match events.try_next().await {
                Ok(Some(Event::Apply(pod))) => self.see(&mut all, &mut harms, pod),
                Ok(Some(Event::InitApply(pod))) => {
                    listed.extend(pod.uid());
                    self.see(&mut all, &mut harms, pod);
                }
                Ok(Some(Event::Delete(pod))) => self.at_work.puts_down(&pod),
                Ok(Some(Event::Init)) => listed.clear(),
                Ok(Some(Event::InitDone)) => self.at_work.are_all(&listed),
                Ok(None) => return Ok(()),
                // The API server is being restarted.
                Err(_) => {}
            }
            while harms.try_join_next().is_some() {}
        }
    }

    fn see(self: &Arc<Self>, all: &mut BTreeMap<String, Seen>, harms: &mut JoinSet<()>, pod: Pod) {
        let (name, number) = (pod.name_any(), all.len() as u64);
        let seen = all.entry(pod.uid().unwrap_or_default()).or_insert_with(|| {
            let fate = self.course.script.fates.get(&number).copied().unwrap_or(Fate::Works);
            self.course.note(&format!("pod {number} ({name}): {fate:?}"));
            Seen { fate, is_at_work: false }
        });
        let status = pod.status.clone().unwrap_or_default();
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            if std::mem::take(&mut seen.is_at_work) {
                self.at_work.puts_down(&pod);
                self.course.note(&format!("pod {name} has ended"));
                if seen.fate == Fate::IsSilent {
                    harms.spawn(Arc::clone(self).harm(pod, Fate::IsSilent, number));
                }
            }
            return;
        }
        let mut containers = status.container_statuses.iter().flatten();
        let works = containers.any(|container| {
            container.name == CONTAINER && container.state.as_ref().is_some_and(|state| state.running.is_some())
        });
        if works && !seen.is_at_work {
            seen.is_at_work = true;
            if let Some(assignment) = Assignment::of(&pod) {
                self.at_work.takes_up(&assignment, &pod);
            }
            if !matches!(seen.fate, Fate::Works | Fate::IsSilent) {
                harms.spawn(Arc::clone(self).harm(pod, seen.fate, number));
            }
        }
    }

    /// Does to a pod what its fate is. What is gone by then cannot be harmed, and the journal says so.
    async fn harm(self: Arc<Self>, pod: Pod, fate: Fate, number: u64) {
        let name = pod.name_any();
        if fate != Fate::IsSilent {
            tokio::time::sleep(Random::of(number, 100).millis(50, 1_500)).await;
        }
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let done = match fate {
            Fate::Works => Ok(()),
            Fate::Fails(_) => signal(&pod, Signal::SIGKILL),
            Fate::Refuses => signal(&pod, Signal::SIGTERM),
            Fate::IsEvicted => self.pods.evict(&name, &EvictParams::default()).await.map(drop).map_err(Into::into),
            Fate::IsDeleted | Fate::IsSilent => self.pods.delete(&name, &at_once).await.map(drop).map_err(Into::into),
        };
        match done {
            Ok(()) => self.course.note(&format!("pod {name} is harmed: {fate:?}")),
            Err(error) => self.course.note(&format!("pod {name} is not harmed ({fate:?}): {error:#}")),
        }
    }

    /// Takes the run's namespace apart when nobody needs it any more, and gives its volume back. Its pods would stay on the node, and kubelet would look
    /// after all of them; and a cluster has fewer volumes than there are calls to be killed at.
    pub(super) async fn leave(self: Arc<Self>, client: Client) {
        let name = &self.course.namespace;
        if let Err(error) = self.clear(&client).await {
            self.course.note(&format!("what namespace {name} has stays there: {error:#}"));
        }
    }

    async fn clear(&self, client: &Client) -> Result<()> {
        let (namespaces, name) = (Api::<Namespace>::all(client.clone()), &self.course.namespace);
        persistently(|| async { namespaces.delete(name, &DeleteParams::default()).await }).await?;
        let began = Instant::now();
        while persistently(|| async { namespaces.get_metadata_opt(name).await }).await?.is_some() {
            ensure!(began.elapsed() < GONE_WITHIN, "it is not gone after {GONE_WITHIN:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(recycle(client, &self.volume).await?)
    }

    /// What the store's folder holds of the run with this uid.
    pub(super) fn found(&self, uid: &str) -> Result<Option<Found>> {
        let folder = self.volume.join(RUNS).join(&self.course.namespace).join(RUN).join(uid);
        if !folder.is_dir() {
            return Ok(None);
        }
        let snapshot = written::<Value>(&folder.join("snapshot/manifest.json"))?;
        let dataset = written::<DatasetManifest>(&folder.join("dataset/manifest.json"))?;
        let model = written::<ModelManifest>(&folder.join("model/manifest.json"))?;
        let report = written::<EvaluationReport>(&folder.join("report/report.json"))?;
        let mut content = serde_json::Map::new();
        content.insert("snapshot".to_owned(), json!(snapshot.map(|(digest, _)| digest)));
        // The manifests themselves are others in each run: lineage names folders of pods, and a report counts what lost pods have asked.
        let lines = dataset.iter().flat_map(|(_, dataset)| [&dataset.train, &dataset.eval]);
        let weights = model.iter().flat_map(|(_, model)| model.files.iter().chain(&model.adapter));
        let tasks = report.iter().map(|(_, report)| &report.details);
        content.extend(lines.chain(weights).chain(tasks).map(|file| (file.name.clone(), json!(file.sha256))));
        Ok(Some(Found {
            samples: count_outcomes(&folder.join("rollouts"))?,
            content: content.into(),
            is_paid_again: true,
            dataset: dataset.map(|(digest, _)| digest),
            model: model.map(|(digest, _)| digest),
            report: report.map(|(digest, _)| digest),
        }))
    }
}

/// The digest of a file, and what it says; none where it is not there.
fn written<T: DeserializeOwned>(path: &Path) -> Result<Option<(String, T)>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let said =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not what it should be", path.display()))?;
    Ok(Some((hex::encode(Sha256::digest(&bytes)), said)))
}

/// How many samples of all batches in this folder have an end.
fn count_outcomes(rollouts: &Path) -> Result<usize> {
    let mut count = 0;
    for batch in std::fs::read_dir(rollouts)? {
        for sample in std::fs::read_dir(batch?.path())? {
            count += usize::from(sample?.path().join("outcome.json").is_file());
        }
    }
    Ok(count)
}

/// Sends a signal to the first process of a pod's program, which is one of this machine: a container's processes have its id in their cgroup's name.
fn signal(pod: &Pod, signal: Signal) -> Result<()> {
    let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).context("no containers")?;
    let container = status.iter().find(|container| container.name == CONTAINER).context("no such container")?;
    let id = container.container_id.as_deref().and_then(|id| id.split("://").nth(1)).context("no id yet")?;
    let processes = std::fs::read_dir("/proc")?.filter_map(Result::ok).filter_map(|process| {
        let number: i32 = process.file_name().to_string_lossy().parse().ok()?;
        let cgroup = std::fs::read_to_string(process.path().join("cgroup")).ok()?;
        cgroup.contains(id).then_some(number)
    });
    match processes.min() {
        Some(first) => Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), signal)?),
        None => bail!("none of its processes is there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_counted_once_it_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        for (sample, file) in [("b-1/0", "outcome.json"), ("b-1/1", "t1.json"), ("b-2/2", "outcome.json")] {
            let sample = folder.path().join(sample);
            std::fs::create_dir_all(&sample).unwrap();
            std::fs::write(sample.join(file), "{}").unwrap();
        }
        assert_eq!(count_outcomes(folder.path()).unwrap(), 2);
    }

    #[test]
    fn a_manifest_that_is_not_there_is_none_and_one_that_is_broken_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        assert!(written::<Value>(&path).unwrap().is_none());
        std::fs::write(&path, "{").unwrap();
        assert!(written::<Value>(&path).is_err());
    }
}
