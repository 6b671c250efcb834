//! Controllers of others, which benches put beside ours, and those that ours relies on: built from the modules pinned in
//! `e2e/peers` when a bench or a test asks for them, and by nothing else. How they are run is whose business that is.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use serde::Deserialize;
use tokio::process::Command;

use super::programs::{self, Module, Program, ProgramError};
use super::{Cluster, ToolError};
use crate::progress::Progress;

/// A module, and the files in there that define kinds.
type Definitions = (&'static str, &'static [&'static str]);

/// Kubeflow Trainer's module, and that of the kind which it makes of each of its own.
const TRAINER: [Definitions; 2] = [
    (
        "github.com/kubeflow/trainer/v2",
        &[
            "manifests/base/crds/trainer.kubeflow.org_clustertrainingruntimes.yaml",
            "manifests/base/crds/trainer.kubeflow.org_trainingruntimes.yaml",
            "manifests/base/crds/trainer.kubeflow.org_trainjobs.yaml",
        ],
    ),
    ("sigs.k8s.io/jobset", &["config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml"]),
];
/// The module of `LeaderWorkerSet`; its controller does not start without the second of its kinds.
const LEADER_WORKER_SET: [Definitions; 1] = [(
    "sigs.k8s.io/lws",
    &[
        "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml",
        "config/crd/bases/disaggregatedset.x-k8s.io_disaggregatedsets.yaml",
    ],
)];

/// Why a controller of others cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It could not be built.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// `go` could not be run.
    #[error("cannot run go, which fetches modules")]
    Run(#[source] std::io::Error),
    /// The modules with its definitions cannot be had.
    #[error("`go mod download` in {folder} ended with {status}: {complaint}")]
    Download {
        /// The folder of the go.mod.
        folder: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        complaint: String,
    },
    /// What `go` says of a module cannot be read.
    #[error("`go mod download` says something of its modules that cannot be read")]
    Answer(#[from] serde_json::Error),
    /// A module was asked for, and nothing said of it.
    #[error("`go mod download` says nothing of {0}")]
    Missing(&'static str),
}

/// A controller of others.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its program.
    pub program: PathBuf,
    /// The version of its module.
    pub version: String,
    /// The files that define the kinds which it watches.
    pub definitions: Vec<PathBuf>,
}

impl Peer {
    /// Has a cluster know the kinds.
    pub async fn define_kinds(&self, cluster: &Cluster) -> Result<(), ToolError> {
        for command in [&["apply", "--server-side"][..], &["wait", "--for=condition=Established"]] {
            let files = self.definitions.iter().map(|file| format!("--filename={}", file.display()));
            cluster.kubectl(command.iter().map(ToString::to_string).chain(files)).await?;
        }
        Ok(())
    }
}

/// The controller of Kubeflow Trainer; built where it is not kept yet, which takes minutes.
pub async fn kubeflow_trainer(progress: &Progress) -> Result<Peer, PeerError> {
    peer(Program::Trainer, Module::KubeflowTrainer, &TRAINER, progress).await
}

/// The controller of `LeaderWorkerSet`; built where it is not kept yet, which takes minutes.
pub async fn leader_worker_set(progress: &Progress) -> Result<Peer, PeerError> {
    peer(Program::LeaderWorkerSet, Module::LeaderWorkerSet, &LEADER_WORKER_SET, progress).await
}

/// A program of a pinned module, whose version is that of the first of these, and the kinds that all of them define.
async fn peer(
    program: Program,
    pinned: Module,
    defined: &[Definitions],
    progress: &Progress,
) -> Result<Peer, PeerError> {
    let programs = programs::ensure(&[program], progress).await?;
    let names: Vec<&str> = defined.iter().map(|(name, _)| *name).collect();
    let modules = download(&pinned.folder(), &names).await?;
    let (mut versions, mut definitions) = (Vec::new(), Vec::new());
    for (name, files) in defined {
        let module = modules.iter().find(|module| module.path == *name).ok_or(PeerError::Missing(name))?;
        versions.push(module.version.clone());
        definitions.extend(module.files(files));
    }
    Ok(Peer {
        program: programs.get(program).unwrap_or(Path::new(program.name())).to_owned(),
        version: versions.into_iter().next().unwrap_or_default(),
        definitions,
    })
}

/// What `go mod download -json` says of a module.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    path: String,
    version: String,
    dir: PathBuf,
}

impl Downloaded {
    fn files(&self, names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(|name| self.dir.join(name)).collect()
    }
}

/// Has the modules of these names in go's cache, at the versions that are pinned in `folder`.
async fn download(folder: &Path, modules: &[&str]) -> Result<Vec<Downloaded>, PeerError> {
    let mut command = Command::new("go");
    command.args(["mod", "download", "-json"]).args(modules).current_dir(folder);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(PeerError::Run)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
        return Err(PeerError::Download { folder: folder.to_owned(), status: output.status, complaint });
    }
    Ok(serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect::<Result<_, _>>()?)
}
