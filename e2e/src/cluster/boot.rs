//! Booting: in which order the components start, and what is asked before the next one does. Nothing is slept for: a
//! component that ends, or does not become ready in time, fails the boot with the end of its log.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use nix::unistd::Uid;
use tokio::time::sleep;

use super::cgroups;
use super::component::{ComponentError, last_lines};
use super::control_plane::{self, API_PORT, API_SERVER, CONTROLLER_MANAGER, ETCD, Endpoint, SCHEDULER};
use super::embedded::Embedded;
use super::folder::{Claim, ClusterFolder, FolderError, Lifetime, NodeRecord, Record, Shape};
use super::health::{answers, is_api_ready, takes_pods};
use super::load::{ImageError, load_image};
use super::name::ClusterName;
use super::namespaces;
use super::node::config::{self, CONTAINERD, COREDNS, DNS_HEALTH_PORT, KUBELET, NODE_NAME, PROXY, PROXY_HEALTH_PORT};
use super::node::network::Network;
use super::node::{image, objects};
use super::pki::{Authority, PkiError};
use super::programs::{self, Program, ProgramError, Programs};
use super::teardown::{self, TeardownError};
use super::wait::POLL;
use crate::packages::{self, Package, PackageError};
use crate::progress::Progress;

/// How long a component may take to become ready: many times what it takes on a busy machine with two cores.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often a port that somebody else took first is chosen anew.
const PORT_ATTEMPTS: usize = 3;

/// What a node is made of that Debian ships.
const NODE_PACKAGES: [Package; 8] = [
    Package::new("containerd", "containerd"),
    Package::new("runc", "runc"),
    Package::new("containernetworking-plugins", "/usr/lib/cni/bridge"),
    Package::new("iptables", "iptables"),
    Package::new("iproute2", "ip"),
    Package::new("conntrack", "conntrack"),
    Package::new("mount", "mount"),
    image::BUSYBOX_PACKAGE,
];

/// Why a cluster did not come up.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A node needs root.
    #[error("a cluster with a node needs root: run as root, set KUBECONFIG, or make do with `--control-plane-only`")]
    NotRoot,
    /// A Debian package is missing.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A program is missing.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The cluster's folder could not be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Credentials could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A component could not be started.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// What an earlier cluster left could not be removed.
    #[error("cannot remove what an earlier cluster left")]
    Sweep(#[from] TeardownError),
    /// The ground that the cluster stands on could not be laid.
    #[error("cannot make {what}")]
    Ground {
        /// What was to be made.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A component ended while it was waited for.
    #[error("{component} ended during the boot; its last lines were:\n{lines}")]
    Ended {
        /// The component.
        component: String,
        /// The end of its log.
        lines: String,
    },
    /// A component did not become ready.
    #[error("{component} was not ready within {seconds} s; its last lines were:\n{lines}")]
    NotReady {
        /// The component.
        component: String,
        /// How long it was given.
        seconds: u64,
        /// The end of its log.
        lines: String,
    },
    /// The kubeconfig that was just written cannot be used.
    #[error("cannot use the new cluster's kubeconfig")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The API server refused something that every cluster has.
    #[error("the API server refused what the cluster starts with")]
    Api(#[from] kube::Error),
    /// An image could not be loaded.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What is to be booted.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: ClusterName,
    pub(super) shape: Shape,
    pub(super) lifetime: Lifetime,
}

/// Whether a node can be booted by this process.
pub(super) fn may_boot_a_node() -> bool {
    Uid::effective().is_root()
}

/// Boots a cluster; what was made is undone if that fails.
pub(super) async fn boot(plan: Plan, progress: &Progress) -> Result<(Embedded, Client), BootError> {
    let mut wanted = Program::CONTROL_PLANE.to_vec();
    if plan.shape == Shape::Node {
        if !may_boot_a_node() {
            return Err(BootError::NotRoot);
        }
        packages::ensure(&NODE_PACKAGES, progress).await?;
        wanted.extend(Program::NODE);
    }
    teardown::sweep()?;
    let programs = programs::ensure(&wanted, progress).await?;
    let node = (plan.shape == Shape::Node).then(|| NodeRecord {
        // The process id keeps clusters of the same name, in other state folders, apart.
        cgroup: format!("sera-{}-{}", plan.name, std::process::id()),
        network: None,
        init: None,
    });
    let claim = Claim::new_cluster(&plan.name)?;
    let (shape, lifetime) = (plan.shape, plan.lifetime);
    let record = Record { name: plan.name, shape, lifetime, server: None, ready: false, node, components: [].into() };
    let boot = Boot { cluster: Embedded::new(claim, record)?, programs, progress: progress.clone() };
    match shape {
        Shape::ControlPlane => boot.control_plane().await,
        Shape::Node => boot.with_node(lifetime).await,
    }
}

/// A boot under way.
struct Boot {
    cluster: Embedded,
    programs: Programs,
    progress: Progress,
}

impl Boot {
    async fn control_plane(self) -> Result<(Embedded, Client), BootError> {
        self.start(ETCD, Program::Etcd, control_plane::etcd())?;
        self.wait_for_etcd().await?;
        let client = self.api_server_on_loopback().await?;
        self.start(CONTROLLER_MANAGER, Program::ControllerManager, control_plane::controller_manager())?;
        self.wait_for_service_account(&client).await?;
        self.finish(client)
    }

    async fn with_node(mut self, lifetime: Lifetime) -> Result<(Embedded, Client), BootError> {
        let network = self.lay_ground(lifetime).await?;
        self.start(ETCD, Program::Etcd, control_plane::etcd())?;
        self.start_system(CONTAINERD, "containerd", vec!["--config=containerd/config.toml".to_owned()])?;
        let endpoint = Endpoint { address: network.node(), port: API_PORT };
        let authority = self.issue(endpoint)?;
        config::issue(self.folder(), &authority, endpoint, network.node())?;
        self.wait_for_etcd().await?;
        self.start(API_SERVER, Program::ApiServer, control_plane::api_server(endpoint))?;
        let (client, ()) = tokio::try_join!(self.wait_for_api_server(), self.load_first_images())?;

        self.start(CONTROLLER_MANAGER, Program::ControllerManager, control_plane::controller_manager())?;
        self.start(KUBELET, Program::Kubelet, config::kubelet_arguments(self.folder(), network))?;
        self.start(PROXY, Program::Proxy, config::proxy_arguments(network))?;
        self.start(SCHEDULER, Program::Scheduler, control_plane::scheduler())?;
        self.start(COREDNS, Program::CoreDns, vec!["-conf=Corefile".to_owned()])?;
        self.progress.step("waiting for the node");
        let objects = async { Ok(objects::apply(&client, self.folder(), network.node()).await?) };
        tokio::try_join!(objects, self.wait_for_service_account(&client), self.wait_for_node(&client, network))?;
        self.finish(client)
    }

    fn folder(&self) -> &ClusterFolder {
        self.cluster.folder()
    }

    fn start(&self, name: &str, program: Program, arguments: Vec<String>) -> Result<(), BootError> {
        let path = self.programs.get(program).unwrap_or(Path::new(program.name()));
        self.start_system(name, &path.to_string_lossy(), arguments)
    }

    fn start_system(&self, name: &str, program: &str, arguments: Vec<String>) -> Result<(), BootError> {
        self.progress.step(format!("starting {name}"));
        let command = std::iter::once(program.to_owned()).chain(arguments).collect();
        Ok(self.cluster.start(name, command)?)
    }

    /// The node's cgroup, namespaces, network and files, each recorded before it is made.
    async fn lay_ground(&mut self, lifetime: Lifetime) -> Result<Network, BootError> {
        self.progress.step("making the node's namespaces");
        let record = self.cluster.record();
        let cgroup = record.node.map(|node| node.cgroup).unwrap_or_default();
        cgroups::create(&cgroup).map_err(ground("the node's cgroup"))?;

        let mut keep: Vec<&Path> = self.programs.folders().into_iter().collect();
        keep.push(self.cluster.folder().root());
        let init = namespaces::create(self.cluster.folder().root(), &keep, lifetime);
        let init = init.map_err(ground("the node's namespaces"))?;
        self.cluster.set_lifeline(init.lifeline);
        self.update_node(|node| node.init = Some(init.process))?;
        let root = self.folder().root().to_owned();
        self.wait("init", || async { namespaces::is_ready(&root) }).await?;

        let network = Network::create(init.process, |number| {
            self.update_node(|node| node.network = Some(number)).map_err(NetworkError::Folder)
        });
        let network = network.map_err(|error| match error {
            NetworkError::Folder(error) => error.into(),
            NetworkError::Io(source) => BootError::Ground { what: "the node's network", source },
        })?;
        config::write(self.folder(), network, &cgroup).map_err(ground("the node's configuration"))?;
        objects::make_volume_folders(self.folder()).map_err(ground("the folders of volumes"))?;
        Ok(network)
    }

    fn update_node(&self, change: impl FnOnce(&mut NodeRecord)) -> Result<(), FolderError> {
        self.cluster.update(|record| {
            if let Some(node) = &mut record.node {
                change(node);
            }
        })
    }

    fn issue(&self, endpoint: Endpoint) -> Result<Authority, BootError> {
        self.cluster.update(|record| record.server = Some(endpoint.url()))?;
        Ok(control_plane::issue(self.folder(), endpoint)?)
    }

    /// The API server on a free port. Somebody may take the port between the look and the use: then another one.
    async fn api_server_on_loopback(&self) -> Result<Client, BootError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let endpoint = Endpoint::on_loopback().map_err(ground("an address for the API server"))?;
            self.issue(endpoint)?;
            self.start(API_SERVER, Program::ApiServer, control_plane::api_server(endpoint))?;
            match self.wait_for_api_server().await {
                Err(BootError::Ended { component, lines })
                    if component == API_SERVER
                        && lines.contains("address already in use")
                        && attempt < PORT_ATTEMPTS => {}
                result => return result,
            }
        }
    }

    async fn load_first_images(&self) -> Result<(), BootError> {
        let archive = self.folder().join("images.tar");
        image::write_archive(&archive).map_err(ground("the first images"))?;
        let socket = config::containerd_socket(self.folder());
        self.wait(CONTAINERD, || async { tokio::net::UnixStream::connect(&socket).await.is_ok() }).await?;
        load_image(self.folder(), &archive).await?;
        std::fs::remove_file(&archive).map_err(ground("room: the first images' archive"))
    }

    async fn wait_for_etcd(&self) -> Result<(), BootError> {
        self.wait(ETCD, || async { control_plane::etcd_listens(self.folder()) }).await
    }

    async fn wait_for_api_server(&self) -> Result<Client, BootError> {
        let client = client(&self.folder().kubeconfig()).await?;
        self.wait(API_SERVER, || is_api_ready(&client)).await?;
        Ok(client)
    }

    /// The default account of the default namespace: without it no pod is admitted, and the controller manager works as
    /// soon as it is there.
    async fn wait_for_service_account(&self, client: &Client) -> Result<(), BootError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        self.wait(CONTROLLER_MANAGER, || async { accounts.get("default").await.is_ok() }).await
    }

    async fn wait_for_node(&self, client: &Client, network: Network) -> Result<(), BootError> {
        let nodes: Api<Node> = Api::all(client.clone());
        self.wait(KUBELET, || async { nodes.get(NODE_NAME).await.is_ok_and(|node| takes_pods(&node)) }).await?;
        self.wait(PROXY, || answers(network.node(), PROXY_HEALTH_PORT, "/healthz")).await?;
        self.wait(COREDNS, || answers(network.node(), DNS_HEALTH_PORT, "/ready")).await
    }

    fn finish(self, client: Client) -> Result<(Embedded, Client), BootError> {
        self.fail_if_ended()?;
        self.cluster.update(|record| record.ready = true)?;
        Ok((self.cluster, client))
    }

    /// Asks until a component is ready.
    async fn wait<F: Future<Output = bool>>(
        &self,
        component: &str,
        mut ready: impl FnMut() -> F,
    ) -> Result<(), BootError> {
        let deadline = Instant::now() + READY_WITHIN;
        while !ready().await {
            self.fail_if_ended()?;
            if Instant::now() >= deadline {
                let lines = last_lines(self.folder(), component);
                let seconds = READY_WITHIN.as_secs();
                return Err(BootError::NotReady { component: component.to_owned(), seconds, lines });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    fn fail_if_ended(&self) -> Result<(), BootError> {
        match self.cluster.first_ended() {
            None => Ok(()),
            Some(component) => Err(BootError::Ended { lines: last_lines(self.folder(), &component), component }),
        }
    }
}

/// What can go wrong while a network is made: two modules have their say.
enum NetworkError {
    Folder(FolderError),
    Io(io::Error),
}

impl From<io::Error> for NetworkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn ground(what: &'static str) -> impl FnOnce(io::Error) -> BootError {
    move |source| BootError::Ground { what, source }
}

/// A client for a kubeconfig file.
pub(super) async fn client(kubeconfig: &Path) -> Result<Client, BootError> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
