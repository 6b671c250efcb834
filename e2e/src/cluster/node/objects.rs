//! What a cluster with a node holds from the start: the Service of its DNS and what CoreDNS may read, and the storage class
//! with volumes that several pods can share.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::config::{COREDNS, DNS_USER};
use crate::cluster::control_plane::DNS_SERVICE;
use crate::cluster::folder::ClusterFolder;

/// The storage class, which is the default one: volumes that many pods, on this one node, mount at once.
pub const STORAGE_CLASS: &str = "sera-shared";
/// Volumes made ahead. A claim takes one for good: what was written stays for whoever looks afterwards.
const VOLUMES: usize = 64;
/// What each says it holds; nothing enforces it.
const VOLUME_SIZE: &str = "20Gi";
/// Requests under way at once.
const AT_ONCE: usize = 16;
/// Who owns the fields that are applied.
const MANAGER: &str = "sera-e2e";

/// Applies all of it.
pub(in crate::cluster) async fn apply(
    client: &Client,
    folder: &ClusterFolder,
    node: IpAddr,
) -> Result<(), kube::Error> {
    let mut all = dns(node);
    all.push(storage_class());
    all.extend((1..=VOLUMES).map(|number| volume(folder, number)));
    stream::iter(all).map(|object| apply_one(client, object)).buffer_unordered(AT_ONCE).try_collect().await
}

/// Makes the volumes' folders, open to every user that a pod may run as.
pub(in crate::cluster) fn make_volume_folders(folder: &ClusterFolder) -> io::Result<()> {
    for number in 1..=VOLUMES {
        let path = folder.join(&format!("volumes/{number:02}"));
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    }
    Ok(())
}

async fn apply_one(client: &Client, object: Value) -> Result<(), kube::Error> {
    let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.patch(&object.name_any(), &PatchParams::apply(MANAGER), &Patch::Apply(&object)).await.map(|_| ())
}

/// CoreDNS is a process of the node, so its Service has no selector and its endpoint is written down.
fn dns(node: IpAddr) -> Vec<Value> {
    let ports = |target: bool| {
        ["UDP", "TCP"].map(|protocol| {
            let mut port =
                json!({"name": format!("dns-{}", protocol.to_lowercase()), "port": 53, "protocol": protocol});
            if target {
                port["targetPort"] = json!(53);
            }
            port
        })
    };
    vec![
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": DNS_SERVICE, "ports": ports(true)},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns", "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": MANAGER},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [node]}],
            "ports": ports(false),
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": COREDNS},
            "rules": [
                {"apiGroups": [""], "resources": ["namespaces", "pods", "services"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": COREDNS},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": COREDNS},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DNS_USER}],
        }),
    ]
}

fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
    })
}

fn volume(folder: &ClusterFolder, number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": format!("shared-{number:02}")},
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": folder.join(&format!("volumes/{number:02}")), "type": "Directory"},
        },
    })
}
