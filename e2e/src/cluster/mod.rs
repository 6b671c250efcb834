//! A real Kubernetes for tests and the demo: the one in KUBECONFIG, else one booted here from pinned programs. This file is
//! what others use; how a cluster comes to be is in the modules below.

mod boot;
mod cgroups;
mod component;
mod control_plane;
mod embedded;
mod folder;
mod foreign;
mod health;
mod load;
mod machine;
mod name;
mod namespaces;
mod node;
mod ours;
mod peers;
mod pki;
mod process;
mod programs;
mod standing;
mod teardown;
mod tools;
mod volumes;
mod wait;

use std::ffi::OsStr;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::Client;
use tokio::sync::OnceCell;

use self::boot::Plan;
use self::embedded::Embedded;
use self::folder::{ClusterFolder, Lifetime};
use self::foreign::{Foreign, kubeconfig_variable};
use self::node::network::Network;
use self::programs::Program;
use crate::paths;
use crate::progress::Progress;

pub use self::boot::BootError;
pub use self::component::{Component, ComponentError};
pub use self::folder::{FolderError, Shape};
pub use self::foreign::{ForeignError, kubeconfig_is_set};
pub use self::load::ImageError;
pub use self::machine::{Leftovers, Machine};
pub use self::name::ClusterName;
pub use self::node::{BUSYBOX_IMAGE, STORAGE_CLASS};
pub use self::peers::{Peer, PeerError, kubeflow_trainer, leader_worker_set};
pub use self::pki::PkiError;
pub(crate) use self::process::on_path;
pub use self::programs::ProgramError;
pub use self::standing::{State, Summary, down, list};
pub use self::teardown::{TeardownError, last_words, wait_if_ending};
pub use self::tools::ToolError;
pub use self::volumes::{Room, VolumeError, recycle, volume_of};

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// None could be booted.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The one in KUBECONFIG cannot be used.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// It runs nothing.
    #[error("cluster {0} has a control plane only: `cargo e2e down --name {0}`, then bring it up with a node")]
    NoNode(ClusterName),
    /// It did not come up, or not yet.
    #[error("cluster {0} is not up: `cargo e2e status` says how it is doing")]
    NotUp(ClusterName),
}

/// A Kubernetes that answers. One that was booted here ends when this value is dropped, or this process ends.
pub struct Cluster {
    client: Client,
    kind: Kind,
    kubectl: OnceCell<PathBuf>,
    helm: OnceCell<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    Embedded(Embedded),
    Foreign(Foreign),
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cluster").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster in KUBECONFIG, else a new control plane: objects are stored, admitted and looked after by the built-in
    /// controllers, but nothing runs. Needs no root.
    pub async fn control_plane() -> Result<Self, ClusterError> {
        Self::find_or_boot(Shape::ControlPlane).await
    }

    /// The cluster in KUBECONFIG, else a new one with a node, where containers run. Needs root.
    pub async fn with_node() -> Result<Self, ClusterError> {
        Self::find_or_boot(Shape::Node).await
    }

    /// Whether [`with_node`](Self::with_node) has a chance: there is a KUBECONFIG, or this process is root.
    pub fn node_is_possible() -> bool {
        kubeconfig_is_set() || boot::may_boot_a_node()
    }

    async fn find_or_boot(shape: Shape) -> Result<Self, ClusterError> {
        static BOOTED: AtomicUsize = AtomicUsize::new(1);
        if let Some(cluster) = Self::in_kubeconfig(shape).await? {
            return Ok(cluster);
        }
        let name = ClusterName::of_this_process(BOOTED.fetch_add(1, Ordering::Relaxed));
        let plan = Plan { name, shape, lifetime: Lifetime::Owner };
        let (cluster, client) = boot::boot(plan, &Progress::slow_only()).await?;
        Ok(Self::new(client, Kind::Embedded(cluster)))
    }

    /// The cluster in KUBECONFIG, if that is set: one of ours, or somebody else's.
    async fn in_kubeconfig(shape: Shape) -> Result<Option<Self>, ClusterError> {
        let Some(variable) = kubeconfig_variable() else { return Ok(None) };
        let (foreign, client) = Foreign::connect(&variable).await?;
        let Some(folder) = ClusterFolder::of_kubeconfig(foreign.kubeconfig()) else {
            return Ok(Some(Self::new(client, Kind::Foreign(foreign))));
        };
        let name = folder.name().parse().map_err(BootError::from)?;
        Self::find(name, Some(shape)).await.map(Some)
    }

    fn new(client: Client, kind: Kind) -> Self {
        Self { client, kind, kubectl: OnceCell::new(), helm: OnceCell::new() }
    }

    /// Whether it was booted by this crate (and not found in KUBECONFIG).
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Embedded(_))
    }

    /// Its name, if it is ours.
    pub fn name(&self) -> Option<String> {
        self.embedded().ok().map(|cluster| cluster.folder().name())
    }

    /// The variable by which a process of this machine belongs to the cluster and goes with it, whatever becomes of this process; none of a foreign one.
    pub fn mark(&self) -> Option<(&'static str, PathBuf)> {
        self.embedded().ok().map(|cluster| (process::MARK, cluster.folder().root().to_owned()))
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The kubeconfig's file.
    pub fn kubeconfig_path(&self) -> PathBuf {
        match &self.kind {
            Kind::Embedded(cluster) => cluster.folder().kubeconfig(),
            Kind::Foreign(cluster) => cluster.kubeconfig().to_owned(),
        }
    }

    /// Runs kubectl; what it printed is the result.
    pub async fn kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String, ToolError> {
        self.run(self.kubectl_path().await?, arguments, &[]).await
    }

    /// Runs `kubectl apply` on manifests (YAML or JSON, any number of documents).
    pub async fn apply(&self, manifests: &str) -> Result<String, ToolError> {
        self.run(self.kubectl_path().await?, ["apply", "--filename=-"], manifests.as_bytes()).await
    }

    /// Runs `kubectl apply` likewise, for manifests that name no namespace.
    pub async fn apply_in(&self, namespace: &str, manifests: &str) -> Result<String, ToolError> {
        let arguments = ["apply", "--namespace", namespace, "--filename=-"];
        self.run(self.kubectl_path().await?, arguments, manifests.as_bytes()).await
    }

    /// Runs helm; what it printed is the result.
    pub async fn helm<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String, ToolError> {
        self.run(self.helm_path().await?, arguments, &[]).await
    }

    async fn run<S: AsRef<OsStr>>(
        &self,
        tool: &Path,
        arguments: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<String, ToolError> {
        tools::run(tool, &self.kubeconfig_path(), arguments, input).await
    }

    async fn kubectl_path(&self) -> Result<&Path, ProgramError> {
        Ok(self.kubectl.get_or_try_init(|| self.tool_path(Program::Kubectl)).await?)
    }

    async fn helm_path(&self) -> Result<&Path, ProgramError> {
        Ok(self.helm.get_or_try_init(|| self.tool_path(Program::Helm)).await?)
    }

    /// Where a tool lies: ours beside a cluster of ours, the user's own beside the user's.
    async fn tool_path(&self, program: Program) -> Result<PathBuf, ProgramError> {
        match &self.kind {
            Kind::Foreign(_) => Ok(PathBuf::from(program.name())),
            Kind::Embedded(_) => {
                let programs = programs::ensure(&[program], &Progress::slow_only()).await?;
                Ok(programs.get(program).unwrap_or(Path::new(program.name())).to_owned())
            }
        }
    }

    /// Makes an image of a `docker-archive` or OCI archive available to pods (with `imagePullPolicy: IfNotPresent`).
    pub async fn load_image(&self, archive: &Path) -> Result<(), ImageError> {
        match &self.kind {
            Kind::Foreign(cluster) => cluster.load_image(archive).await,
            Kind::Embedded(cluster) if cluster.record().shape == Shape::Node => {
                load::load_image(cluster.folder(), archive).await
            }
            Kind::Embedded(_) => Err(ImageError::NoNode),
        }
    }

    /// Makes sure of [`BUSYBOX_IMAGE`], which test pods run: a cluster of ours has it from the start.
    pub async fn load_busybox(&self) -> Result<(), ImageError> {
        match &self.kind {
            Kind::Embedded(_) => Ok(()),
            Kind::Foreign(cluster) => cluster.load_busybox().await,
        }
    }

    /// The node's address, as this machine reaches it (for `NodePort` Services).
    pub fn node_ip(&self) -> Option<IpAddr> {
        self.network().map(Network::node)
    }

    /// This machine's address, as pods reach it: servers of a test listen there, or on all addresses.
    pub fn host_ip(&self) -> Option<IpAddr> {
        match &self.kind {
            Kind::Embedded(_) => self.network().map(Network::host),
            Kind::Foreign(cluster) => cluster.host_ip(),
        }
    }

    fn network(&self) -> Option<Network> {
        match &self.kind {
            Kind::Embedded(cluster) => cluster.record().node?.network.map(Network::numbered),
            Kind::Foreign(_) => None,
        }
    }

    /// The end of a component's log.
    pub fn logs(&self, component: &str) -> Result<String, ComponentError> {
        Ok(self.component(component)?.last_lines())
    }

    /// All components, by name.
    pub fn components(&self) -> Result<Vec<Component<'_>>, ComponentError> {
        Ok(self.embedded()?.components())
    }

    /// The folders of kubectl, of helm and, where it has been built, of the plugin of kubectl, for a `PATH`.
    pub async fn tool_folders(&self) -> Result<Vec<PathBuf>, ProgramError> {
        let plugin = paths::program("kubectl-sera").ok();
        let tools = [Some(self.kubectl_path().await?), Some(self.helm_path().await?), plugin.as_deref()];
        Ok(tools.into_iter().flatten().filter_map(Path::parent).map(Path::to_owned).collect())
    }

    /// A component, to be killed, stopped and restarted: `etcd`, `kube-apiserver`, `kube-controller-manager`, and with a
    /// node `kube-scheduler`, `kubelet`, `kube-proxy`, `containerd`, `coredns`.
    pub fn component(&self, name: &str) -> Result<Component<'_>, ComponentError> {
        self.embedded()?.component(name)
    }

    /// Freezes kubelet for a while.
    pub async fn pause_kubelet(&self, duration: Duration) -> Result<(), ComponentError> {
        let kubelet = self.component(node::config::KUBELET)?;
        kubelet.stop()?;
        tokio::time::sleep(duration).await;
        kubelet.cont()
    }

    /// Whether the API server says that it is ready.
    pub async fn is_ready(&self) -> bool {
        health::is_api_ready(&self.client).await
    }

    /// Takes it down and says what went wrong, where dropping it would only print that. A cluster that this process did
    /// not boot stays.
    pub async fn down(self) -> Result<(), TeardownError> {
        match self.kind {
            Kind::Foreign(_) => Ok(()),
            Kind::Embedded(mut cluster) => {
                let down = tokio::task::spawn_blocking(move || cluster.take_down());
                down.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            }
        }
    }

    fn embedded(&self) -> Result<&Embedded, ComponentError> {
        match &self.kind {
            Kind::Embedded(cluster) => Ok(cluster),
            Kind::Foreign(_) => Err(ComponentError::Foreign),
        }
    }
}
