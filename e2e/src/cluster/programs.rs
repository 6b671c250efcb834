//! The programs of Kubernetes, etcd, CoreDNS and helm: built from the Go modules pinned in `e2e/cluster`, and kept in a
//! cache under the digest of everything that decides what comes out; so are those of others that benches and tests put
//! beside the operator, from `e2e/peers`. It does not run them.

mod module;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::paths::{PathError, cache_root};
use crate::progress::Progress;
use crate::unused::{self, Keep, is_digest_of};

pub(super) use module::Module;

/// How much of a failed build's output an error carries.
const LAST_LINES: usize = 12;
/// Hexadecimal digits of the digest that name a cache folder: 64 bits tell any two apart.
const DIGEST_LENGTH: usize = 16;
/// Which programs stay, of up to 500 MB a module: each change of a pin or of the toolchain makes new ones, and two branches with different pins, worked
/// on in turns, keep both.
const KEPT: Keep = Keep { within: Duration::from_hours(30 * 24), last: 0 };

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// No folder to keep programs in.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The Go toolchain is missing.
    #[error("go is needed to build Kubernetes once: install Go 1.26 or later (https://go.dev/dl), or set KUBECONFIG")]
    NoGo,
    /// `go` ran, but could not say what it is.
    #[error("`go env` failed: {0}")]
    GoEnvironment(String),
    /// The pinned module does not name a version that is needed.
    #[error("{path} names no version of {module}")]
    NoVersion {
        /// The go.mod that was read.
        path: PathBuf,
        /// The Go module whose version was wanted.
        module: &'static str,
    },
    /// The build failed.
    #[error("building {what} failed ({status}); the last lines were:\n{output}")]
    Build {
        /// The programs that were being built.
        what: String,
        /// How `go` ended.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// A file of the cache or of the sources could not be used.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A program that the embedded cluster runs, or a bench or a test beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    /// The DNS server.
    CoreDns,
    /// The store behind the API server.
    Etcd,
    /// The chart installer.
    Helm,
    /// The API server.
    ApiServer,
    /// The built-in controllers.
    ControllerManager,
    /// The command-line client.
    Kubectl,
    /// The node agent.
    Kubelet,
    /// Service addresses on the node.
    Proxy,
    /// The scheduler.
    Scheduler,
    /// The controller of Kubeflow Trainer.
    Trainer,
    /// The controller of `LeaderWorkerSet`.
    LeaderWorkerSet,
}

impl Program {
    /// What a cluster needs that has an API server and no node.
    pub(super) const CONTROL_PLANE: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Kubectl];
    /// What a node needs beside those.
    pub(super) const NODE: [Self; 4] = [Self::Scheduler, Self::Kubelet, Self::Proxy, Self::CoreDns];

    /// The program's file name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CoreDns => "coredns",
            Self::Etcd => "etcd",
            Self::Helm => "helm",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::Scheduler => "kube-scheduler",
            Self::Trainer => "trainer-controller-manager",
            Self::LeaderWorkerSet => "lws-manager",
        }
    }

    fn module(self) -> Module {
        match self {
            Self::CoreDns => Module::CoreDns,
            Self::Etcd => Module::Etcd,
            Self::Helm => Module::Helm,
            Self::Trainer => Module::KubeflowTrainer,
            Self::LeaderWorkerSet => Module::LeaderWorkerSet,
            _ => Module::Kubernetes,
        }
    }

    fn package(self) -> String {
        match self.module() {
            Module::CoreDns => ".".to_owned(),
            Module::Etcd => "go.etcd.io/etcd/server/v3".to_owned(),
            Module::Helm => "helm.sh/helm/v4/cmd/helm".to_owned(),
            Module::KubeflowTrainer => format!("github.com/kubeflow/trainer/v2/cmd/{}", self.name()),
            Module::LeaderWorkerSet => "sigs.k8s.io/lws/cmd".to_owned(),
            Module::Kubernetes => format!("k8s.io/kubernetes/cmd/{}", self.name()),
        }
    }
}

/// Where programs lie that are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Programs(BTreeMap<Program, PathBuf>);

impl Programs {
    /// The program's file, if it was asked for.
    pub(super) fn get(&self, program: Program) -> Option<&Path> {
        self.0.get(&program).map(PathBuf::as_path)
    }

    /// The folders they lie in, for a `PATH`.
    pub(super) fn folders(&self) -> BTreeSet<&Path> {
        self.0.values().filter_map(|file| file.parent()).collect()
    }
}

/// Makes sure of some programs: builds what the cache lacks, and waits where another process is building the same.
pub(super) async fn ensure(wanted: &[Program], progress: &Progress) -> Result<Programs, ProgramError> {
    let cache = cache_root()?.join("programs");
    let go = Toolchain::find().await?;
    let mut modules: BTreeMap<Module, Vec<Program>> = BTreeMap::new();
    for &program in wanted {
        modules.entry(program.module()).or_default().push(program);
    }
    let mut programs = Programs::default();
    for (module, wanted) in modules {
        let flags = module.linker_flags()?;
        let folder = cache.join(format!("{}-{}", module.name(), digest(module, &go, &flags)?));
        build_missing(module, &wanted, &folder, &flags, progress).await?;
        unused::mark_used(&folder);
        programs.0.extend(wanted.into_iter().map(|program| (program, folder.join(program.name()))));
    }
    unused::forget(&cache, KEPT, |name| is_digest_of(name, Module::ALL.iter().map(|one| one.name()), DIGEST_LENGTH));
    Ok(programs)
}

/// The Go toolchain, by what it says decides its output.
struct Toolchain {
    description: String,
}

impl Toolchain {
    async fn find() -> Result<Self, ProgramError> {
        let output = Command::new("go")
            .args(["env", "GOVERSION", "GOOS", "GOARCH"])
            .current_dir(Module::Kubernetes.folder())
            .output()
            .await;
        let output = match output {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ProgramError::NoGo),
            Err(error) => return Err(ProgramError::GoEnvironment(error.to_string())),
            Ok(output) => output,
        };
        if !output.status.success() {
            return Err(ProgramError::GoEnvironment(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(Self { description: String::from_utf8_lossy(&output.stdout).into_owned() })
    }
}

/// The digest of what decides a build: the pinned module, the toolchain and the flags.
fn digest(module: Module, go: &Toolchain, flags: &str) -> Result<String, ProgramError> {
    let folder = module.folder();
    let entries = fs::read_dir(&folder).map_err(|source| failed("list", &folder, source))?;
    let mut files = BTreeSet::new();
    for entry in entries {
        files.insert(entry.map_err(|source| failed("list", &folder, source))?.path());
    }
    let mut digest = Sha256::new();
    for file in files {
        let content = fs::read(&file).map_err(|source| failed("read", &file, source))?;
        digest.update(file.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default());
        digest.update(content.len().to_le_bytes());
        digest.update(content);
    }
    digest.update(&go.description);
    digest.update(flags);
    let mut digest = hex::encode(digest.finalize());
    digest.truncate(DIGEST_LENGTH);
    Ok(digest)
}

async fn build_missing(
    module: Module,
    wanted: &[Program],
    folder: &Path,
    flags: &str,
    progress: &Progress,
) -> Result<(), ProgramError> {
    if missing(wanted, folder).is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(|source| failed("make", folder, source))?;
    let _lock = lock(&folder.with_extension("lock"), module, progress).await?;
    // Another process may have built them while this one waited.
    let missing = missing(wanted, folder);
    if missing.is_empty() {
        return Ok(());
    }
    // Beside the cache, so that the rename that publishes a program stays on one file system.
    let workshop = tempfile::Builder::new().prefix(".build-").tempdir_in(folder);
    let workshop = workshop.map_err(|source| failed("make a folder in", folder, source))?;
    build(module, &missing, workshop.path(), flags, progress).await?;
    for program in missing {
        let (built, kept) = (workshop.path().join(program.name()), folder.join(program.name()));
        fs::rename(&built, &kept).map_err(|source| failed("rename", &built, source))?;
    }
    Ok(())
}

fn missing(wanted: &[Program], folder: &Path) -> Vec<Program> {
    wanted.iter().copied().filter(|program| !folder.join(program.name()).is_file()).collect()
}

/// Holds off a second builder of the same programs; the lock goes with the process that holds it.
async fn lock(path: &Path, module: Module, progress: &Progress) -> Result<File, ProgramError> {
    let file = File::create(path).map_err(|source| failed("make", path, source))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(source)) => return Err(failed("lock", path, source)),
    }
    progress.step(format!("{}: waiting for another build of the same", module.name()));
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    locked.map_err(io::Error::other).flatten().map_err(|source| failed("lock", path, source))
}

async fn build(
    module: Module,
    programs: &[Program],
    into: &Path,
    flags: &str,
    progress: &Progress,
) -> Result<(), ProgramError> {
    let what = programs.iter().map(|program| program.name()).collect::<Vec<_>>().join(", ");
    progress.step(format!("building {what} (once; minutes on a cold machine)"));
    let mut command = Command::new("go");
    // One program is written to a file, several to a folder: a package's own name is not always the program's.
    let target = if let [only] = programs { into.join(only.name()) } else { into.join("") };
    command.args(["build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", flags, "-o"]);
    command.arg(target).args(programs.iter().map(|program| program.package()));
    command.env("CGO_ENABLED", "0").current_dir(module.folder());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| failed("run", Path::new("go"), source))?;

    let mut last_lines = Vec::new();
    let mut packages = 0_usize;
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            packages += 1;
            progress.detail(format!("building {what}: {packages} packages, {line}"));
            if last_lines.len() == LAST_LINES {
                last_lines.remove(0);
            }
            last_lines.push(line);
        }
    }
    let status = child.wait().await.map_err(|source| failed("wait for", Path::new("go"), source))?;
    if status.success() { Ok(()) } else { Err(ProgramError::Build { what, status, output: last_lines.join("\n") }) }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> ProgramError {
    ProgramError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_changes_with_the_toolchain_and_the_flags() -> Result<(), ProgramError> {
        let (old, new) = (Toolchain { description: "go1.26.0".into() }, Toolchain { description: "go1.26.1".into() });
        let base = digest(Module::Etcd, &old, "-s")?;
        assert_eq!(base.len(), DIGEST_LENGTH);
        assert_eq!(base, digest(Module::Etcd, &old, "-s")?);
        assert_ne!(base, digest(Module::Etcd, &new, "-s")?);
        assert_ne!(base, digest(Module::Etcd, &old, "-w")?);
        assert_ne!(base, digest(Module::Helm, &old, "-s")?);
        Ok(())
    }
}
