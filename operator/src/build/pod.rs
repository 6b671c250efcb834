//! The pod of a stage's program: the restricted Pod Security level, no token, no secret but as files that only the program reads, and whatever the
//! user may say about nodes, queues and resources.

mod companions;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction, KeyToPath,
        LocalObjectReference, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
        ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretProjection, SecretVolumeSource,
        SecurityContext, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use sera_crds::run::{PodSettings, Proxy};

pub(super) use self::companions::{Companion, Fetch};
use super::sandboxes::Sandboxes;
use crate::names::PROGRAM_CONTAINER;

/// Where the repository's credentials are mounted.
pub(super) const GIT_MOUNT: &str = "/etc/sera/git";
/// Where the credentials for GitHub's API are mounted.
pub(super) const GITHUB_MOUNT: &str = "/etc/sera/github";
/// Where the store's credentials are mounted.
pub(super) const STORE_CREDENTIALS_MOUNT: &str = "/etc/sera/store";
/// Where the credentials for the student's bucket are mounted.
pub(super) const STUDENT_CREDENTIALS_MOUNT: &str = "/etc/sera/student";
/// Where the teacher's key is mounted, and the authorities of its certificate.
pub(super) const TEACHER_MOUNT: &str = "/etc/sera/teacher";
/// Where further certificate authorities are mounted.
const CA_MOUNT: &str = "/etc/sera/ca";
/// Where the store's claim is mounted, whole.
pub(super) const STORE_MOUNT: &str = "/mnt/store";
/// Where the claim is mounted that another's snapshot lies on.
pub(super) const SNAPSHOT_MOUNT: &str = "/mnt/snapshot";
/// Where the claim is mounted that the student lies on.
pub(super) const STUDENT_MOUNT: &str = "/mnt/student";
/// Where the store's claim is mounted for who serves the model; nothing is written there.
pub(super) const MODEL_MOUNT: &str = "/mnt/model";
/// Where a model is that was fetched for who serves it; nothing is written there by it.
pub(super) const FETCHED_MOUNT: &str = "/mnt/fetched";
/// Where programs work; nothing else of the root file system can be written.
pub(super) const SCRATCH_MOUNT: &str = "/tmp/work";
/// Where the driver finds a directory for each slot, with the slot's socket.
pub(super) const SLOTS_MOUNT: &str = "/run/sera/slots";
/// Where a program leaves its last words for the kubelet.
pub(super) const TERMINATION_MESSAGE: &str = "/dev/termination-log";
/// The termination message of whoever writes none: the end of its log, where it failed.
pub(super) const END_OF_LOG: &str = "FallbackToLogsOnError";
/// The user and the group of every program, as in the images; files of volumes belong to the group.
const USER: i64 = 65_532;
/// Secrets are read by the group that [`USER`] is in, and by nobody else.
const SECRET_MODE: i32 = 0o440;
/// The volume that a model is fetched to.
const FETCHED: &str = "fetched";
/// Hosts that are always reached without a proxy: the cluster's own.
const CLUSTER_HOSTS: [&str; 4] = ["localhost", "127.0.0.1", ".svc", ".cluster.local"];

/// What a snapshot's pod asks for where nobody says otherwise: git packs one repository on one or two cores, in memory that grows with its size.
pub(super) const SNAPSHOT_RESOURCES: DefaultResources =
    DefaultResources { cpu: "250m", memory: "256Mi", memory_limit: "4Gi" };
/// A driver waits for a teacher most of the time; its memory is that of the conversations it holds.
pub(super) const DRIVER_RESOURCES: DefaultResources =
    DefaultResources { cpu: "250m", memory: "256Mi", memory_limit: "2Gi" };
/// Counting reads every trajectory once, a few at a time.
pub(super) const COUNTING_RESOURCES: DefaultResources =
    DefaultResources { cpu: "500m", memory: "512Mi", memory_limit: "2Gi" };
/// A trainer on CPUs holds weights, gradients and the optimizer's state of a small model; what a large one needs, and its GPUs, is up to its owner.
pub(super) const TRAINER_RESOURCES: DefaultResources =
    DefaultResources { cpu: "1", memory: "2Gi", memory_limit: "64Gi" };
/// A slot runs a repository's own tools; those of a large one want more, which `generation.sandbox.resources` says.
pub(super) const SLOT_RESOURCES: DefaultResources =
    DefaultResources { cpu: "100m", memory: "256Mi", memory_limit: "2Gi" };
/// The rehearsal teacher is no model, and keeps the conversations of its clients.
pub(super) const TEACHER_RESOURCES: DefaultResources =
    DefaultResources { cpu: "100m", memory: "64Mi", memory_limit: "1Gi" };
/// A server of small models computes all the time that it is asked; its memory is that of the weights and of the conversations it holds.
pub(super) const SERVER_RESOURCES: DefaultResources =
    DefaultResources { cpu: "500m", memory: "1Gi", memory_limit: "32Gi" };
/// An engine on GPUs holds in the memory of its node what it reads of a model's files, and what its processes share; how much depends on the model.
pub(super) const ENGINE_RESOURCES: DefaultResources =
    DefaultResources { cpu: "2", memory: "8Gi", memory_limit: "512Gi" };
/// What copies files needs next to nothing, but for the index of a large tree.
pub(super) const SMALL_RESOURCES: DefaultResources =
    DefaultResources { cpu: "10m", memory: "16Mi", memory_limit: "256Mi" };

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
    /// What is executed, where that is not the image's own entry.
    pub command: Option<Vec<String>>,
    /// Its arguments, without secrets.
    pub arguments: Vec<String>,
    /// Its variables, without secrets.
    pub variables: Vec<EnvVar>,
    /// What it reads and writes.
    pub mounts: Mounts<'a>,
    /// What it gets where nobody says otherwise.
    pub resources: DefaultResources,
    /// Where it listens, where it does.
    pub port: Option<u16>,
    /// How it is known when it can be asked.
    pub readiness: Readiness,
    /// The sandboxes beside it.
    pub sandboxes: Option<Sandboxes>,
    /// The servers beside it.
    pub companions: Vec<Companion>,
    /// What brings its model from a bucket before it begins.
    pub fetch: Option<Fetch<'a>>,
}

/// How it is known that a program answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It is not: a stage's program ends, and says what came of it.
    Unasked,
    /// By `/health`.
    Asked,
    /// By `/health` too, which may take an hour at first, while a large model is loaded and compiled; afterwards one that does not answer is restarted.
    LoadsLong,
}

/// The Secrets and the claims that a program sees, by name.
#[derive(Default)]
pub(super) struct Mounts<'a> {
    /// The repository's credentials.
    pub git: Option<&'a str>,
    /// The credentials for GitHub's API.
    pub github: Option<&'a str>,
    /// The store's credentials.
    pub store: Option<&'a str>,
    /// The credentials for the student's bucket.
    pub student: Option<&'a str>,
    /// The teacher's key.
    pub teacher_key: Option<&'a str>,
    /// The authorities of the teacher's certificate.
    pub teacher_authority: Option<&'a str>,
    /// The store itself, where it is a claim.
    pub claim: Option<&'a str>,
    /// The claim that another's snapshot lies on; it is not written to.
    pub snapshot_claim: Option<&'a str>,
    /// The claim that the student lies on; it is not written to.
    pub student_claim: Option<&'a str>,
    /// The claim that the model lies on; it is not written to.
    pub model_claim: Option<&'a str>,
}

impl<'a> Program<'a> {
    /// A program that sees this much.
    pub(super) fn new(mounts: Mounts<'a>, resources: DefaultResources) -> Self {
        Self {
            image: "",
            command: None,
            arguments: Vec::new(),
            variables: Vec::new(),
            mounts,
            resources,
            port: None,
            readiness: Readiness::Unasked,
            sandboxes: None,
            companions: Vec::new(),
            fetch: None,
        }
    }
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
    let (mut volumes, mut mounts): (Vec<_>, Vec<_>) = storage(program, settings).into_iter().unzip();
    if let Some(sandboxes) = &program.sandboxes {
        volumes.extend(sandboxes.volumes.clone());
        mounts.extend(sandboxes.driver_mounts.clone());
    }
    volumes.extend(program.companions.iter().flat_map(|companion| companion.volumes.clone()));
    let companions = program.companions.iter().flat_map(|companion| companion.containers.clone());
    let fetching = program.fetch.as_ref().map(|fetch| fetch.container(program, settings));
    let (fetching, more) = fetching.unzip();
    volumes.extend(more.into_iter().flatten());
    let sandboxes = program.sandboxes.iter().flat_map(|sandboxes| sandboxes.containers.clone());
    // Sandboxes last: nothing before them may see a slot at work.
    let before: Vec<Container> = fetching.into_iter().chain(companions).chain(sandboxes).collect();
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
        init_containers: (!before.is_empty()).then_some(before),
        containers: vec![container(program, settings, mounts)],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn container(program: &Program<'_>, settings: &PodSettings, mounts: Vec<VolumeMount>) -> Container {
    let resources = settings.resources.clone().filter(|resources| !resources.is_empty());
    let mut variables = environment(settings);
    variables.extend(program.variables.clone());
    // A stage's program leaves its last words itself; a server's are the end of its log.
    let words = if program.readiness == Readiness::Unasked { "File" } else { END_OF_LOG };
    let loads_long = program.port.filter(|_| program.readiness == Readiness::LoadsLong);
    Container {
        name: PROGRAM_CONTAINER.to_owned(),
        image: Some(program.image.to_owned()),
        command: program.command.clone(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(program.arguments.clone()),
        env: Some(variables),
        ports: program.port.map(|port| {
            vec![ContainerPort {
                name: Some("http".to_owned()),
                container_port: port.into(),
                ..ContainerPort::default()
            }]
        }),
        readiness_probe: program
            .port
            .filter(|_| program.readiness != Readiness::Unasked)
            .map(|port| health(port, 2, 3)),
        startup_probe: loads_long.map(|port| health(port, 10, 360)),
        liveness_probe: loads_long.map(|port| health(port, 10, 6)),
        resources: Some(resources.map_or_else(|| program.resources.requirements(), Into::into)),
        security_context: Some(container_security()),
        termination_message_path: Some(TERMINATION_MESSAGE.to_owned()),
        termination_message_policy: Some(words.to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// Asked every so many seconds, and believed after so many failures in a row.
fn health(port: u16, period: i32, failures: i32) -> Probe {
    let get = HTTPGetAction {
        path: Some("/health".to_owned()),
        port: IntOrString::Int(port.into()),
        ..HTTPGetAction::default()
    };
    Probe {
        http_get: Some(get),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(period),
        ..Probe::default()
    }
}

/// Every volume and where it is mounted. Secrets are optional: a pod whose Secret is missing starts all the same, and its program says which field
/// of the spec names it, which the kubelet cannot.
fn storage(program: &Program<'_>, settings: &PodSettings) -> Vec<(Volume, VolumeMount)> {
    let mut storage = vec![empty_dir("scratch", SCRATCH_MOUNT, EmptyDirVolumeSource::default())];
    let mounts = &program.mounts;
    let authority = settings.ca_secret_ref.as_ref().map(|secret| secret.name.as_str());
    for (name, secret, path) in [
        ("git-credentials", mounts.git, GIT_MOUNT),
        ("github-credentials", mounts.github, GITHUB_MOUNT),
        ("store-credentials", mounts.store, STORE_CREDENTIALS_MOUNT),
        ("student-credentials", mounts.student, STUDENT_CREDENTIALS_MOUNT),
        ("authority", authority, CA_MOUNT),
    ] {
        storage.extend(secret.map(|secret| secret_files(name, secret, path)));
    }
    storage.extend(teacher_files(mounts));
    for (name, claim, path, read_only) in [
        ("store", mounts.claim, STORE_MOUNT, false),
        ("snapshot", mounts.snapshot_claim, SNAPSHOT_MOUNT, true),
        ("student", mounts.student_claim, STUDENT_MOUNT, true),
        ("model", mounts.model_claim, MODEL_MOUNT, true),
    ] {
        storage.extend(claim.map(|claim| claimed(name, claim, path, read_only)));
    }
    if program.fetch.is_some() {
        let (volume, _) = empty_dir(FETCHED, FETCHED_MOUNT, EmptyDirVolumeSource::default());
        storage.push((volume, mount(FETCHED, FETCHED_MOUNT, true)));
    }
    if let Some(size) = &settings.shm_size {
        let source = EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: Some(size.clone()) };
        storage.push(empty_dir("shm", "/dev/shm", source));
    }
    storage
}

/// The teacher's key and its certificate's authorities in one directory, from the two Secrets that they may be in.
fn teacher_files(mounts: &Mounts<'_>) -> Option<(Volume, VolumeMount)> {
    let key = mounts.teacher_key.map(|secret| (secret, "apiKey"));
    let authority = mounts.teacher_authority.map(|secret| (secret, "ca.crt"));
    let sources: Vec<VolumeProjection> = [key, authority]
        .into_iter()
        .flatten()
        .map(|(secret, file)| VolumeProjection {
            secret: Some(SecretProjection {
                name: secret.to_owned(),
                optional: Some(true),
                items: Some(vec![KeyToPath { key: file.to_owned(), path: file.to_owned(), mode: None }]),
            }),
            ..VolumeProjection::default()
        })
        .collect();
    let name = "teacher-credentials";
    (!sources.is_empty()).then(|| {
        let source = ProjectedVolumeSource { default_mode: Some(SECRET_MODE), sources: Some(sources) };
        let volume = Volume { name: name.to_owned(), projected: Some(source), ..Volume::default() };
        (volume, mount(name, TEACHER_MOUNT, true))
    })
}

fn claimed(name: &str, claim: &str, path: &str, read_only: bool) -> (Volume, VolumeMount) {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
    let volume = Volume { name: name.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() };
    (volume, mount(name, path, read_only))
}

pub(super) fn empty_dir(name: &str, path: &str, source: EmptyDirVolumeSource) -> (Volume, VolumeMount) {
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

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
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
    pub(super) fn requirements(self) -> ResourceRequirements {
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

pub(super) fn container_security() -> SecurityContext {
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
