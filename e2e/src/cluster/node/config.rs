//! What the programs of a node are told: containerd, the bridge plugin, kubelet, the proxy and CoreDNS. It starts nothing.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::network::Network;
use crate::cluster::control_plane::{DNS_SERVICE, Endpoint, POD_RANGE, arguments};
use crate::cluster::folder::ClusterFolder;
use crate::cluster::pki::{Authority, Identity, PkiError};

/// Names of the components, as in logs and in the fault kit.
pub(in crate::cluster) const CONTAINERD: &str = "containerd";
pub(in crate::cluster) const KUBELET: &str = "kubelet";
pub(in crate::cluster) const PROXY: &str = "kube-proxy";
pub(in crate::cluster) const COREDNS: &str = "coredns";

/// The node's name.
pub(in crate::cluster) const NODE_NAME: &str = "node";
/// The user that CoreDNS calls itself.
pub(in crate::cluster) const DNS_USER: &str = "system:coredns";
/// What holds a pod's namespaces.
pub(in crate::cluster) const PAUSE_IMAGE: &str = "localhost/pause:1";
/// Where the proxy says how it is.
pub(in crate::cluster) const PROXY_HEALTH_PORT: u16 = 10256;
/// Where CoreDNS says whether it answers.
pub(in crate::cluster) const DNS_HEALTH_PORT: u16 = 8181;

/// Pods that this node takes: each costs some megabytes and an address of its /24.
const MAX_PODS: u32 = 200;
/// Is there where the kernel shows iptables what a bridge carries (module `br_netfilter`).
const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// Files that kubelet asks to be able to open, unless the machine's limit is lower.
const MAX_OPEN_FILES: u64 = 1_000_000;

/// Makes the credentials of the node's programs.
pub(in crate::cluster) fn issue(
    folder: &ClusterFolder,
    authority: &Authority,
    endpoint: Endpoint,
    node: IpAddr,
) -> Result<(), PkiError> {
    let identities = [
        Identity {
            file: KUBELET,
            user: "system:node:node",
            group: Some("system:nodes"),
            serves: vec![NODE_NAME.to_owned(), node.to_string()],
        },
        Identity::client(PROXY, "system:kube-proxy", None),
        Identity::client(COREDNS, DNS_USER, None),
    ];
    for identity in identities {
        let path = folder.pki().join(format!("{}.kubeconfig", identity.file));
        authority.issue_kubeconfig(&identity, &endpoint.url(), "node", &path)?;
    }
    Ok(())
}

/// Writes the configuration files.
pub(in crate::cluster) fn write(folder: &ClusterFolder, network: Network, cgroup: &str) -> io::Result<()> {
    let files = [
        ("containerd/config.toml", containerd_toml(folder)),
        ("cni/10-pods.conflist", bridge(folder).to_string()),
        ("kubelet.yaml", kubelet(folder, cgroup).to_string()),
        ("Corefile", corefile(network)),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// containerd's socket.
pub(in crate::cluster) fn containerd_socket(folder: &ClusterFolder) -> PathBuf {
    folder.join("containerd/containerd.sock")
}

/// containerd, version 2 of its configuration: Debian 12 ships containerd 1.6, later ones still take it.
fn containerd_toml(folder: &ClusterFolder) -> String {
    let (root, socket) = (folder.root().display(), containerd_socket(folder));
    format!(
        r#"version = 2
root = "{root}/containerd/root"
state = "{root}/containerd/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Containers may keep the score they inherit where the machine does not let it be lowered.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{root}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#,
        socket = socket.display()
    )
}

/// One bridge for all pods of the node.
fn bridge(folder: &ClusterFolder) -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": folder.join("cni-addresses"),
                    "ranges": [[{"subnet": POD_RANGE}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// kubelet's configuration. JSON is YAML.
fn kubelet(folder: &ClusterFolder, cgroup: &str) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": folder.pki().join("ca.crt")}, "anonymous": {"enabled": false}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": folder.pki().join("kubelet.crt"),
        "tlsPrivateKeyFile": folder.pki().join("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", containerd_socket(folder).display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        // Kubernetes 1.35 still runs on version 1, when told that it is meant.
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "maxOpenFiles": open_files_limit().min(MAX_OPEN_FILES),
        "maxPods": MAX_PODS,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        // The machine's resolver is not reachable from the node's network.
        "resolvConf": "",
        "podLogsDir": folder.join("pod-logs"),
        "volumePluginDir": folder.join("kubelet-plugins"),
        "serializeImagePulls": false,
        // Images are loaded, and could not be had again: never collect them, and never evict for a disk that others fill.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        // A test waits for what kubelet notices and reports: more often than on a node among thousands.
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 12,
        "syncFrequency": "10s",
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    })
}

/// CoreDNS answers for the cluster alone: there is no way out of it.
fn corefile(network: Network) -> String {
    format!(
        "\
.:53 {{
    errors
    health {node}:8080
    ready {node}:{DNS_HEALTH_PORT}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig pki/coredns.kubeconfig
        ttl 5
    }}
    cache 5
}}
",
        node = network.node()
    )
}

/// kubelet's command line: what its configuration file cannot hold.
pub(in crate::cluster) fn kubelet_arguments(folder: &ClusterFolder, network: Network) -> Vec<String> {
    arguments([
        &format!("--config={}", folder.join("kubelet.yaml").display()),
        &format!("--kubeconfig={}", folder.pki().join("kubelet.kubeconfig").display()),
        &format!("--root-dir={}", folder.join("kubelet").display()),
        &format!("--hostname-override={NODE_NAME}"),
        &format!("--node-ip={}", network.node()),
    ])
}

/// The proxy's command line. Limits on connection tracking are the machine's, not a namespace's: left alone.
pub(in crate::cluster) fn proxy_arguments(network: Network) -> Vec<String> {
    let mut all = arguments([
        "--kubeconfig=pki/kube-proxy.kubeconfig",
        "--proxy-mode=iptables",
        &format!("--hostname-override={NODE_NAME}"),
        &format!("--cluster-cidr={POD_RANGE}"),
        &format!("--healthz-bind-address={}:{PROXY_HEALTH_PORT}", network.node()),
        &format!("--metrics-bind-address={}:10249", network.node()),
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        // The first rules at once, later ones soon after their Service: a node among thousands would save its breath.
        "--iptables-min-sync-period=100ms",
    ]);
    if !Path::new(BRIDGE_FILTER).exists() {
        // Answers between two pods of one bridge would pass by the rules that must undo the translation: lead them
        // through the node instead. Loading the module would change the machine.
        all.push("--masquerade-all".to_owned());
    }
    all
}

/// How many files a process may open at most: the hard limit of this one (proc(5), `limits`).
fn open_files_limit() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    // "unlimited" is no number, and as good as the largest.
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|hard| hard.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_is_read() {
        let limit = open_files_limit();
        assert!(limit >= 64, "{limit}");
    }
}
