//! What the programs of the control plane are told: etcd, the API server, the controller manager and the scheduler, set up
//! as in a real cluster, with the shortcuts named that speed up a boot. It starts nothing.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use super::folder::ClusterFolder;
use super::pki::{Authority, Identity, PkiError, api_server_names};

/// Where Services get their addresses from.
const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The first of them, which is the API server's own Service.
const API_SERVICE: &str = "10.96.0.1";
/// The address of the cluster's DNS.
pub(super) const DNS_SERVICE: &str = "10.96.0.10";
/// Where pods get their addresses from.
pub(super) const POD_RANGE: &str = "10.88.0.0/16";
/// The API server's port where it has a network of its own: the usual one.
pub(super) const API_PORT: u16 = 6443;

/// Ports for API servers on the machine's own loopback: below those that the kernel gives to outgoing connections (32768
/// on Linux), so that a port stays free while an API server is restarted, and below those of `NodePort` Services.
const LOOPBACK_PORTS: std::ops::Range<u16> = 20_000..30_000;

/// etcd's sockets, relative to the cluster's folder, where everything runs: no port is needed, and only who may enter the
/// folder may talk to etcd. etcd insists on something that looks like a port.
const ETCD_SOCKET: &str = "etcd.sock:0";
const ETCD_PEER_SOCKET: &str = "etcd-peer.sock:0";

/// Requests a second that our own components may make: a boot is a burst, and nobody else is there to be hurt.
const CLIENT_RATE: [&str; 2] = ["--kube-api-qps=500", "--kube-api-burst=1000"];

/// Names of the components, as in logs and in the fault kit.
pub(super) const ETCD: &str = "etcd";
pub(super) const API_SERVER: &str = "kube-apiserver";
pub(super) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(super) const SCHEDULER: &str = "kube-scheduler";

/// Where the API server is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

impl Endpoint {
    /// A port on the machine's loopback that is free now.
    pub(super) fn on_loopback() -> std::io::Result<Self> {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // Processes begin at different places, so that two that boot at once seldom want the same port.
        let offset = u16::try_from(std::process::id() % 9_973).unwrap_or_default();
        let candidates = (LOOPBACK_PORTS.start + offset..LOOPBACK_PORTS.end).chain(LOOPBACK_PORTS);
        for port in candidates {
            if TcpListener::bind((address, port)).is_ok() {
                return Ok(Self { address, port });
            }
        }
        Err(std::io::Error::other("no port from 20000 to 29999 is free on 127.0.0.1"))
    }

    pub(super) fn url(self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }
}

/// Makes the credentials of the control plane, and the kubeconfig of its administrator.
pub(super) fn issue(folder: &ClusterFolder, endpoint: Endpoint) -> Result<Authority, PkiError> {
    let authority = Authority::create(&folder.pki())?;
    let (server, cluster) = (endpoint.url(), format!("sera-{}", folder.name()));
    authority.issue(&Identity {
        file: "apiserver",
        user: "kube-apiserver",
        group: None,
        serves: api_server_names(endpoint.address, API_SERVICE),
    })?;
    authority.issue(&Identity::client(
        "apiserver-kubelet-client",
        "kube-apiserver-kubelet-client",
        Some("system:masters"),
    ))?;
    let administrator = Identity::client("admin", "kubernetes-admin", Some("system:masters"));
    authority.issue_kubeconfig(&administrator, &server, &cluster, &folder.kubeconfig())?;
    for user in [CONTROLLER_MANAGER, SCHEDULER] {
        let path = folder.pki().join(format!("{user}.kubeconfig"));
        authority.issue_kubeconfig(
            &Identity::client(user, &format!("system:{user}"), None),
            &server,
            &cluster,
            &path,
        )?;
    }
    Ok(authority)
}

/// etcd keeps its promises to the API server but not to the disk: what a power cut would lose was to be thrown away.
pub(super) fn etcd() -> Vec<String> {
    let (client, peer) = (format!("unix://{ETCD_SOCKET}"), format!("unix://{ETCD_PEER_SOCKET}"));
    arguments([
        "--data-dir=etcd",
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        &format!("--listen-peer-urls={peer}"),
        &format!("--initial-advertise-peer-urls={peer}"),
        &format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync",
        "--log-level=warn",
    ])
}

/// Whether etcd listens.
pub(super) fn etcd_listens(folder: &ClusterFolder) -> bool {
    std::os::unix::net::UnixStream::connect(folder.join(ETCD_SOCKET)).is_ok()
}

/// The API server, with the admission plugins and feature gates that a release of Kubernetes has on by default.
pub(super) fn api_server(endpoint: Endpoint) -> Vec<String> {
    let mut all = arguments([
        &format!("--etcd-servers=unix://{ETCD_SOCKET}"),
        &format!("--secure-port={}", endpoint.port),
        &format!("--bind-address={}", endpoint.address),
        &format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--anonymous-auth=true",
        "--client-ca-file=pki/ca.crt",
        "--tls-cert-file=pki/apiserver.crt",
        "--tls-private-key-file=pki/apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file=pki/sa.pub",
        "--service-account-signing-key-file=pki/sa.key",
        "--kubelet-client-certificate=pki/apiserver-kubelet-client.crt",
        "--kubelet-client-key=pki/apiserver-kubelet-client.key",
        // For logs and exec: the node's name means nothing to a resolver.
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
        // A killed cluster shall not linger for the minute that watches are given to end.
        "--shutdown-delay-duration=0s",
    ]);
    if endpoint.address.is_loopback() {
        // An address that only this machine has cannot be the endpoint of a Service.
        all.push("--endpoint-reconciler-type=none".to_owned());
    } else {
        all.push(format!("--advertise-address={}", endpoint.address));
    }
    all
}

/// The controller manager. It asks for nothing but work: its own port is off, and nobody else wants its lease.
pub(super) fn controller_manager() -> Vec<String> {
    let mut all = arguments([
        "--kubeconfig=pki/kube-controller-manager.kubeconfig",
        "--service-account-private-key-file=pki/sa.key",
        "--root-ca-file=pki/ca.crt",
        "--cluster-signing-cert-file=pki/ca.crt",
        "--cluster-signing-key-file=pki/ca.key",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
        &format!("--cluster-cidr={POD_RANGE}"),
        "--allocate-node-cidrs=false",
        "--concurrent-job-syncs=20",
        "--concurrent-gc-syncs=20",
        // A lost node is noticed after 20 s instead of 50: three missed renewals of its lease, and some patience.
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=20s",
    ]);
    all.extend(CLIENT_RATE.map(str::to_owned));
    all
}

/// The scheduler, likewise.
pub(super) fn scheduler() -> Vec<String> {
    let mut all = arguments(["--kubeconfig=pki/kube-scheduler.kubeconfig", "--leader-elect=false", "--secure-port=0"]);
    all.extend(CLIENT_RATE.map(str::to_owned));
    all
}

/// A command line's arguments, owned.
pub(super) fn arguments<const N: usize>(arguments: [&str; N]) -> Vec<String> {
    arguments.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_not_chosen() {
        let first = Endpoint::on_loopback().unwrap();
        let _held = TcpListener::bind((first.address, first.port)).unwrap();
        let second = Endpoint::on_loopback().unwrap();
        assert_ne!(first.port, second.port);
        assert!(LOOPBACK_PORTS.contains(&first.port) && LOOPBACK_PORTS.contains(&second.port));
    }
}
