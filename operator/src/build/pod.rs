//! The pod of a stage's program: the restricted Pod Security level, no token, no secret but as files that only the program reads, and whatever the
//! user may say about nodes, queues and resources.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference, PersistentVolumeClaimVolumeSource,
        PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource,
        SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use sera_crds::run::{PodSettings, Proxy};

use crate::names::PROGRAM_CONTAINER;

/// Where the repository's credentials are mounted.
pub(super) const GIT_MOUNT: &str = "/etc/sera/git";
/// Where the store's credentials are mounted.
pub(super) const STORE_CREDENTIALS_MOUNT: &str = "/etc/sera/store";
/// Where further certificate authorities are mounted.
const CA_MOUNT: &str = "/etc/sera/ca";
/// Where a claim is mounted, whole.
pub(super) const STORE_MOUNT: &str = "/mnt/store";
/// Where programs work; nothing else of the root file system can be written.
pub(super) const SCRATCH_MOUNT: &str = "/tmp/work";
/// Where a program leaves its last words for the kubelet.
pub(super) const TERMINATION_MESSAGE: &str = "/dev/termination-log";
/// The user and the group of every program, as in the images; files of volumes belong to the group.
const USER: i64 = 65_532;
/// Secrets are read by the group that [`USER`] is in, and by nobody else.
const SECRET_MODE: i32 = 0o440;
/// Hosts that are always reached without a proxy: the cluster's own.
const CLUSTER_HOSTS: [&str; 4] = ["localhost", "127.0.0.1", ".svc", ".cluster.local"];

/// What a snapshot's pod asks for where nobody says otherwise: git packs one repository on one or two cores, in memory that grows with its size.
pub(super) const SNAPSHOT_RESOURCES: DefaultResources =
    DefaultResources { cpu: "250m", memory: "256Mi", memory_limit: "4Gi" };

/// Resources that a program gets where nobody says otherwise. There is no CPU limit: throttling makes nothing cheaper.
#[derive(Debug, Clone, Copy)]
pub(super) struct DefaultResources {
    cpu: &'static str,
    memory: &'static str,
    memory_limit: &'static str,
}

/// A program and what it needs.
pub(super) struct Program<'a> {
    /// Its image.
    pub image: &'a str,
    /// Its arguments, without secrets.
    pub arguments: Vec<String>,
    /// What it reads and writes.
    pub mounts: Mounts<'a>,
    /// What it gets where nobody says otherwise.
    pub resources: DefaultResources,
}

/// The Secrets and the claim that a program sees, by name.
pub(super) struct Mounts<'a> {
    /// The repository's credentials.
    pub git: Option<&'a str>,
    /// The store's credentials.
    pub store: Option<&'a str>,
    /// The store itself, where it is a claim.
    pub claim: Option<&'a str>,
}

/// The template of a program's pods.
pub(super) fn template(
    program: &Program<'_>,
    settings: &PodSettings,
    labels: &BTreeMap<String, String>,
) -> PodTemplateSpec {
    let mut all_labels: BTreeMap<String, String> =
        settings.labels.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    all_labels.extend(labels.clone());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(all_labels),
            annotations: some_if_any(settings.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(program, settings)),
    }
}

fn spec(program: &Program<'_>, settings: &PodSettings) -> PodSpec {
    let node_selector = settings.node_selector.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    let pull_secrets =
        settings.image_pull_secrets.iter().map(|secret| LocalObjectReference { name: secret.name.to_string() });
    let (volumes, mounts) = storage(program, settings).into_iter().unzip();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        service_account_name: settings.service_account_name.as_ref().map(ToString::to_string),
        priority_class_name: settings.priority_class_name.as_ref().map(ToString::to_string),
        runtime_class_name: settings.runtime_class_name.as_ref().map(ToString::to_string),
        node_selector: some_if_any(node_selector),
        tolerations: (!settings.tolerations.is_empty()).then(|| settings.tolerations.clone()),
        affinity: settings.affinity.clone(),
        image_pull_secrets: (!settings.image_pull_secrets.is_empty()).then(|| pull_secrets.collect()),
        containers: vec![container(program, settings, mounts)],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn container(program: &Program<'_>, settings: &PodSettings, mounts: Vec<VolumeMount>) -> Container {
    let resources = settings.resources.clone().filter(|resources| !resources.is_empty());
    Container {
        name: PROGRAM_CONTAINER.to_owned(),
        image: Some(program.image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(program.arguments.clone()),
        env: Some(environment(settings)),
        resources: Some(resources.map_or_else(|| program.resources.requirements(), Into::into)),
        security_context: Some(container_security()),
        termination_message_path: Some(TERMINATION_MESSAGE.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// Every volume and where it is mounted. Secrets are optional: a pod whose Secret is missing starts all the same, and its program says which field
/// of the spec names it, which the kubelet cannot.
fn storage(program: &Program<'_>, settings: &PodSettings) -> Vec<(Volume, VolumeMount)> {
    let mut storage = vec![empty_dir("scratch", SCRATCH_MOUNT, EmptyDirVolumeSource::default())];
    let authority = settings.ca_secret_ref.as_ref().map(|secret| secret.name.as_str());
    for (name, secret, path) in [
        ("git-credentials", program.mounts.git, GIT_MOUNT),
        ("store-credentials", program.mounts.store, STORE_CREDENTIALS_MOUNT),
        ("authority", authority, CA_MOUNT),
    ] {
        storage.extend(secret.map(|secret| secret_files(name, secret, path)));
    }
    if let Some(claim) = program.mounts.claim {
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
        let volume = Volume { name: "store".to_owned(), persistent_volume_claim: Some(source), ..Volume::default() };
        storage.push((volume, mount("store", STORE_MOUNT, false)));
    }
    if let Some(size) = &settings.shm_size {
        let source = EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: Some(size.clone()) };
        storage.push(empty_dir("shm", "/dev/shm", source));
    }
    storage
}

fn empty_dir(name: &str, path: &str, source: EmptyDirVolumeSource) -> (Volume, VolumeMount) {
    (Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }, mount(name, path, false))
}

fn secret_files(name: &str, secret: &str, path: &str) -> (Volume, VolumeMount) {
    let source = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        optional: Some(true),
        default_mode: Some(SECRET_MODE),
        items: None,
    };
    (Volume { name: name.to_owned(), secret: Some(source), ..Volume::default() }, mount(name, path, true))
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn environment(settings: &PodSettings) -> Vec<EnvVar> {
    let mut variables = settings.proxy.as_ref().map(proxy_variables).unwrap_or_default();
    if settings.ca_secret_ref.is_some() {
        variables.push(("SERA_CA_CERTIFICATES".to_owned(), format!("{CA_MOUNT}/ca.crt")));
    }
    variables.into_iter().map(|(name, value)| EnvVar { name, value: Some(value), value_from: None }).collect()
}

/// The proxy in both spellings: curl (and so git) reads `http_proxy` in lower case only, most others read either.
fn proxy_variables(proxy: &Proxy) -> Vec<(String, String)> {
    let without: Vec<&str> = CLUSTER_HOSTS.into_iter().chain(proxy.no_proxy.iter().map(String::as_str)).collect();
    let values = [
        ("HTTP_PROXY", proxy.http.as_ref().map(ToString::to_string)),
        ("HTTPS_PROXY", proxy.https.as_ref().map(ToString::to_string)),
        ("NO_PROXY", (proxy.http.is_some() || proxy.https.is_some()).then(|| without.join(","))),
    ];
    let known = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value)]).collect()
}

impl DefaultResources {
    fn requirements(self) -> ResourceRequirements {
        let quantities = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect())
        };
        ResourceRequirements {
            requests: quantities(&[("cpu", self.cpu), ("memory", self.memory)]),
            limits: quantities(&[("memory", self.memory_limit)]),
            claims: None,
        }
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A claim with millions of files is not walked at every start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(runtime_default()),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

fn some_if_any<V>(map: BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    (!map.is_empty()).then_some(map)
}
